"""Removes a container at once, running or not.

A forced removal kills the container in Docker. Podman sends TERM and waits ten seconds, because our keepers ignore TERM. So we
kill the container first.
"""

from __future__ import annotations

import time

import docker.errors

from testronaut_lab.container.engine.connect import Engine

_REMOVED_S = 30.0  # how long we wait while another process removes it
_PATIENCE_S = 10.0
_PAUSE_S = 0.2


def remove_container(engine: Engine, container: str) -> None:
    """Remove a container by id or name, with its volumes. No-op if it is gone. Raises what docker's client raises.

    If the engine fails, this tries again for some seconds: on a busy machine Podman's runtime cannot delete a container that has
    just died.
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
                return _until_gone(engine, container)  # another process is just removing it
            if error.status_code < 500 or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_S)


def _kill(api: docker.APIClient, container: str) -> None:
    """Kill it and wait for its end: the engine's runtime may fail to delete a container that is still dying."""
    state = api.inspect_container(container)["State"]
    if not state["Running"]:
        return
    try:
        if state["Paused"]:
            api.unpause(container)
        api.kill(container)
        api.wait(container)
    except docker.errors.APIError as error:
        if error.status_code != 409:  # it has just stopped
            raise


def _until_gone(engine: Engine, container: str) -> None:
    """Wait until it is removed: only then its resources, such as its place in a network, are free."""
    try:
        engine.client.api.wait(container, timeout=engine.pace.deadline_s(_REMOVED_S), condition="removed")
    except docker.errors.NotFound:
        return
