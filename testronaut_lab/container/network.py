"""The network of an installation or of a session with internet: a bridge of its own, so that no neighbour is in reach from it.

Networks that a dead process left behind are found by their labels, like containers (`reap.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import docker.errors

from testronaut_lab.container.engine import Engine
from testronaut_lab.container.faults import translated


def create_network(engine: Engine, name: str, labels: Mapping[str, str]) -> str:
    """A bridge network of that name; gives its id."""
    with translated(f"creating network {name}"):
        made = engine.client.api.create_network(name, driver="bridge", check_duplicate=True, labels=dict(labels))
    return str(made["Id"])


def remove_network(engine: Engine, name: str) -> None:
    """Remove it by name or id; one that is not there is fine. Containers on it must be gone."""
    with translated(f"removing network {name}"):
        try:
            engine.client.api.remove_network(name)
        except docker.errors.NotFound:
            return


@contextmanager
def install_network(engine: Engine, name: str, labels: Mapping[str, str]) -> Iterator[str]:
    """A bridge network that exists inside the `with`; gives its id. Containers on it must be gone before its end."""
    network_id = create_network(engine, name, labels)
    try:
        yield network_id
    finally:
        remove_network(engine, network_id)
