"""Lists and removes the containers and networks on the engine that have a session's name.

`execution/reap.py` decides which of them are dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import docker.errors

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.faults import translate, translated
from testronaut_lab.container.manager import remove_by_name
from testronaut_lab.container.network import remove_network
from testronaut_lab.container.owner import NAME_PREFIX, Label, session_in
from testronaut_lab.errors import SessionLost

# The exit status of `security.keeper`. A container that somebody stops or kills ends with 137.
_KEEPER_ENDED = 0


class LeftOverKind(Enum):
    CONTAINER = "container"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class LeftOver:
    """A container or network with a session's name. `label` is None if an older version made it.

    `keeper_ended`: the container's keeper ended by itself, because its owner was gone.
    """

    kind: LeftOverKind
    id: str
    name: str
    label: Label | None
    runs: bool = False
    keeper_ended: bool = False

    @property
    def session(self) -> str:
        return self.label.session if self.label is not None else session_in(self.name) or ""

    @property
    def reason(self) -> str:
        """Why only its owner removes it, and what the user can do."""
        remove = f"docker rm -f {self.name}" if self.kind is LeftOverKind.CONTAINER else f"docker network rm {self.name}"
        if self.label is None:
            return f"made by an older version, which did not say whose it is; if it is nobody's: {remove}"
        if self.kind is LeftOverKind.CONTAINER and self.runs:
            return "of another owner, who may be alive; it ends by itself some time after its owner"
        return f"of another owner, who may be alive; if it is nobody's: {remove}"

    def __str__(self) -> str:
        return f"{self.kind.value} {self.name}"


def left_overs(engine: Engine) -> list[LeftOver]:
    """List them, containers first. Raises EngineError if the engine does not list them."""
    with translated("looking for what was left behind"):
        return _left_overs(engine)


def remove(engine: Engine, found: LeftOver) -> None:
    """Remove it, running or not. No-op if it is gone. Raises EngineError."""
    if found.kind is LeftOverKind.CONTAINER:
        remove_by_name(engine, found.id)
        return
    remove_network(engine, found.id)


def _left_overs(engine: Engine) -> list[LeftOver]:
    api = engine.client.api
    networks = [
        LeftOver(LeftOverKind.NETWORK, each["Id"], each["Name"], Label.read(each.get("Labels")))
        for each in api.networks(names=[NAME_PREFIX])
        if session_in(each["Name"])
    ]
    by_name = {each.name: each.label for each in networks}
    containers = []
    for each in api.containers(all=True, filters={"name": NAME_PREFIX}):
        for name in (name.removeprefix("/") for name in each["Names"]):
            if session_in(name):
                # an install container has no labels, because they would get into its image; its network has them
                label = Label.read(each.get("Labels")) or by_name.get(name)
                runs = each["State"] not in ("exited", "created", "dead")
                ended = each["State"] == "exited" and label is not None and _keeper_ended(engine, each["Id"])
                containers.append(LeftOver(LeftOverKind.CONTAINER, each["Id"], name, label, runs, ended))
    return [*sorted(containers, key=_by_name), *sorted(networks, key=_by_name)]


def _by_name(found: LeftOver) -> str:
    return found.name


def _keeper_ended(engine: Engine, container_id: str) -> bool:
    try:
        state = engine.client.api.inspect_container(container_id)["State"]
    except docker.errors.APIError as error:
        if isinstance(translate(error, "looking for what was left behind"), SessionLost):
            return False  # its owner has just removed it; Podman may report that as status 500
        raise
    return bool(state["Status"] == "exited" and state["ExitCode"] == _KEEPER_ENDED and not state.get("Error"))
