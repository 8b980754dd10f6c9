"""The network of an installation or of a session with internet: a bridge of its own, so that no neighbour is in reach from it.

Networks that a dead process left behind are found by their labels, like containers (`execution/reap.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import docker.errors

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.faults import translated

_IN_USE = (403, 409, 500)  # Docker's status and those of Podmans for a network with containers on it


def create_network(engine: Engine, name: str, labels: Mapping[str, str]) -> str:
    """A bridge network of that name; gives its id."""
    with translated(f"creating network {name}"):
        made = engine.client.api.create_network(name, driver="bridge", check_duplicate=True, labels=dict(labels))
    return str(made["Id"])


def remove_network(engine: Engine, name: str) -> None:
    """Remove it by name or id; one that is not there is fine.

    An engine that says «has active endpoints» has not got over the end of a container that is gone, or somebody else's is on it:
    what is on it is taken off it first.
    """
    api = engine.client.api
    with translated(f"removing network {name}"), suppress(docker.errors.NotFound):
        try:
            api.remove_network(name)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code not in _IN_USE:
                raise
            for container in api.inspect_network(name).get("Containers") or {}:
                with suppress(docker.errors.APIError):  # it went by itself
                    api.disconnect_container_from_network(container, name, force=True)
            api.remove_network(name)


@contextmanager
def install_network(engine: Engine, name: str, labels: Mapping[str, str]) -> Iterator[str]:
    """A bridge network that exists inside the `with`; gives its id. Containers on it must be gone before its end."""
    network_id = create_network(engine, name, labels)
    try:
        yield network_id
    finally:
        remove_network(engine, network_id)
