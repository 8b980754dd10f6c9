"""Removes a container at once, running or not.

Docker kills a container whose removal is forced. Podman stops it, which is a TERM and ten seconds of waiting, because our
keepers ignore TERM. So it is killed first.
"""

from __future__ import annotations

import time

import docker.errors

from testronaut_lab.container.engine.connect import Engine

_REMOVED_S = 30.0  # how long the one who removes it may take
_PATIENCE_S = 10.0
_PAUSE_S = 0.2


def remove_container(engine: Engine, container: str) -> None:
    """Remove it, by id or name, with its volumes; one that is gone is fine. Raises what docker's client raises.

    An engine that fails at it is asked again for some seconds: on a busy machine Podman's runtime cannot delete yet what died
    this moment.
    """
    api = engine.client.api
    deadline = time.monotonic() + engine.pace.deadline_s(_PATIENCE_S)
    while True:
        try:
            _kill(api, container)
            api.remove_container(container, force=True, v=True)
            return
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code == 409:
                return _until_gone(engine, container)  # somebody else is removing it at this moment
            if error.status_code < 500 or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_S)


def _kill(api: docker.APIClient, container: str) -> None:
    """Kill it and wait for its end: removed while it dies, it is one that the engine's runtime may not be ready to delete."""
    state = api.inspect_container(container)["State"]
    if not state["Running"]:
        return
    try:
        if state["Paused"]:
            api.unpause(container)
        api.kill(container)
        api.wait(container)
    except docker.errors.APIError as error:
        if error.status_code != 409:  # it has stopped meanwhile
            raise


def _until_gone(engine: Engine, container: str) -> None:
    """What it held, such as its place in a network, is free only then."""
    try:
        engine.client.api.wait(container, timeout=engine.pace.deadline_s(_REMOVED_S), condition="removed")
    except docker.errors.NotFound:
        return
