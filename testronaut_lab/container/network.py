"""Makes and removes the network of an installation or of a session with internet: a bridge of its own, without neighbours.

`execution/reap.py` finds networks of dead processes by their labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import docker.errors

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.faults import translated

_IN_USE = (403, 409, 500)  # how Docker (403) and versions of Podman refuse to remove a network with containers on it


def create_network(engine: Engine, name: str, labels: Mapping[str, str]) -> str:
    """Create a bridge network of that name; returns its id."""
    with translated(f"creating network {name}"):
        made = engine.client.api.create_network(name, driver="bridge", check_duplicate=True, labels=dict(labels))
    return str(made["Id"])


def remove_network(engine: Engine, name: str) -> None:
    """Remove a network by name or id. No-op if there is none.

    An engine refuses with «has active endpoints» if another container is on the network, or if it has not yet noticed that a
    container is gone. Then all containers are disconnected first.
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
                with suppress(docker.errors.APIError):  # it has just left by itself
                    api.disconnect_container_from_network(container, name, force=True)
            api.remove_network(name)


@contextmanager
def install_network(engine: Engine, name: str, labels: Mapping[str, str]) -> Iterator[str]:
    """Make a bridge network for the time of the `with`; yields its id. Its containers must be gone before the end."""
    network_id = create_network(engine, name, labels)
    try:
        yield network_id
    finally:
        remove_network(engine, network_id)
