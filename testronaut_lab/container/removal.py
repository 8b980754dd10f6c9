"""Removes a container at once, running or not.

Docker kills a container whose removal is forced. Podman stops it, which is a TERM and ten seconds of waiting, because our
keepers ignore TERM. So it is killed first.
"""

from __future__ import annotations

import docker.errors

from testronaut_lab.container.engine import Engine

_REMOVED_S = 30.0  # how long the one who removes it may take


def remove_container(engine: Engine, container: str) -> None:
    """Remove it, by id or name, with its volumes; one that is gone is fine. Raises what docker's client raises."""
    api = engine.client.api
    try:
        api.kill(container)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError:
        pass  # it does not run, mostly; the removal tells of what is wrong with it
    try:
        api.remove_container(container, force=True, v=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.status_code != 409:
            raise
        _until_gone(engine, container)  # somebody else is removing it at this moment


def _until_gone(engine: Engine, container: str) -> None:
    """What it held, such as its place in a network, is free only then."""
    try:
        engine.client.api.wait(container, timeout=engine.pace.deadline_s(_REMOVED_S), condition="removed")
    except docker.errors.NotFound:
        return
