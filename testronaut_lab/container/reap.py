"""Removes what dead owners left on the engine and in the sessions folder, and only what it can prove to be dead.

Somebody else's session looks just like a dead one of ours: a job container with the same paths, another user, another machine on
the same engine. So a session is dead in these cases only, and everything else is left alone:

* its lease file (the same one, by its inode) lies in our folder and nobody holds it, and its machine is this boot, or its
  container does not run;
* its owner has our folder's id, its directory is gone, and its process is known to be gone: it had our boot and our pid
  namespace, or another boot and the container does not run;
* its keeper has ended because its owner was gone for too long (`security.keeper`): this is the only one that may be another's.

A session has its lease before it has a container, and the lease is looked at after the containers are listed, so one that is
being made is never taken for dead.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

import docker.errors

from testronaut_lab.container.engine import Engine
from testronaut_lab.container.faults import translated
from testronaut_lab.container.manager import remove_by_name
from testronaut_lab.container.network import remove_network
from testronaut_lab.container.owner import NAME_PREFIX, Label, Owner, known_folder_id, session_in
from testronaut_lab.container.sessiondir import Lease, abandoned, lease_of, remove_session, sessions_root
from testronaut_lab.errors import CaptureError, EngineError, LabError

# `security.keeper` ends with this; a container that somebody stops or kills ends with 137.
_KEEPER_ENDED = 0


class Kind(Enum):
    CONTAINER = "container"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class LeftOver:
    """Something on the engine that is named as a session's. `label` is None for what an older version made."""

    kind: Kind
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
        """Why nobody but its owner removes it, and what can be done."""
        remove = f"docker rm -f {self.name}" if self.kind is Kind.CONTAINER else f"docker network rm {self.name}"
        if self.label is None:
            return f"made by an older version, which did not say whose it is; if it is nobody's: {remove}"
        if self.kind is Kind.CONTAINER and self.runs:
            return "of another owner, who may be alive; it ends by itself some time after its owner"
        return f"of another owner, who may be alive; if it is nobody's: {remove}"

    def __str__(self) -> str:
        return f"{self.kind.value} {self.name}"


@dataclass(frozen=True, slots=True)
class Reaped:
    """The names of what was removed, and what may be a session's of somebody who is dead, which nothing proves.

    `failures` are of what is dead and could not be removed: whoever came to work does not have to care.
    """

    removed: tuple[str, ...]
    left_alone: tuple[LeftOver, ...]
    failures: tuple[LabError, ...] = ()


def reap(engine: Engine, root: Path | None = None, *, kept: bool = False) -> Reaped:
    """Remove the containers, networks and directories of sessions that are proved dead; with `kept` also those left on purpose.

    Raises EngineError where the engine does not tell what there is, or goes away meanwhile, CaptureError where the folder cannot
    be read.
    """
    root = root or sessions_root()
    with translated("looking for what was left behind"):
        found = _left_overs(engine)
    try:
        judge = _Judge(root, kept=kept)
    except OSError as error:
        raise CaptureError(
            f"looking whose the sessions folder {root} is: {error}", hint=f"ls -la {shlex.quote(str(root))}"
        ) from error
    dead = [each for each in found if judge.is_dead(each)]
    ended = {(each.label.owner, each.session) for each in dead if each.label is not None and each.keeper_ended}
    dead += [each for each in found if each not in dead and each.label and (each.label.owner, each.session) in ended]
    removed, failures = _remove_each(engine, dead)
    stays = [each for each in found if each not in removed]
    needed = {each.session for each in stays}
    for path in abandoned(root, kept=kept):
        if path.name not in needed:
            failures += _failure(partial(remove_session, path))
    unproven = [each for each in stays if each not in dead and not judge.is_ours_and_alive(each)]
    return Reaped(tuple(each.name for each in removed), tuple(unproven), tuple(failures))


def _remove_each(engine: Engine, dead: list[LeftOver]) -> tuple[list[LeftOver], list[LabError]]:
    """What was removed, and why the others were not."""
    removed, failures = [], []
    for each in dead:
        failure = _failure(partial(_remove, engine, each))
        failures += failure
        if not failure:
            removed.append(each)
    return removed, failures


class _Judge:
    """Decides for one sessions folder what is dead."""

    def __init__(self, root: Path, *, kept: bool) -> None:
        self._root = root
        self._kept = kept
        self._me = Owner.here(root) if known_folder_id(root) is not None else None

    def is_dead(self, found: LeftOver) -> bool:
        if found.keeper_ended:
            return True
        label = found.label
        if label is None:
            return self._is_old_and_dead(found)
        if self._me is None or label.owner.folder != self._me.folder:
            return False
        match lease_of(self._root / label.session, label.lease):
            case Lease.FREE:
                return label.owner.boot == self._me.boot or not found.runs
            case Lease.KEPT:
                return self._kept
            case Lease.HELD | Lease.HIDDEN:
                return False
            case Lease.ABSENT:
                return self._is_process_gone(label.owner, self._me, runs=found.runs)

    def is_ours_and_alive(self, found: LeftOver) -> bool:
        """Nothing to tell of: a session of this folder that somebody works with or wants to look at."""
        if found.label is None or self._me is None or found.label.owner.folder != self._me.folder:
            return False
        return lease_of(self._root / found.label.session, found.label.lease) in (Lease.HELD, Lease.KEPT)

    def _is_old_and_dead(self, found: LeftOver) -> bool:
        """What an older version made has no labels to be told by: its directory in our folder is the only proof."""
        match lease_of(self._root / found.session):
            case Lease.FREE:
                return True
            case Lease.KEPT:
                return self._kept
            case _:
                return False

    @staticmethod
    def _is_process_gone(owner: Owner, me: Owner, *, runs: bool) -> bool:
        if owner.boot != me.boot:
            return not runs
        if not owner.shares_processes_with(me):
            return False
        return owner.process == me.process or not owner.is_running()  # of ours the directory would be here


def _left_overs(engine: Engine) -> list[LeftOver]:
    api = engine.client.api
    networks = [
        LeftOver(Kind.NETWORK, each["Id"], each["Name"], Label.read(each.get("Labels")))
        for each in api.networks(names=[NAME_PREFIX])
        if session_in(each["Name"])
    ]
    by_name = {each.name: each.label for each in networks}
    containers = []
    for each in api.containers(all=True, filters={"name": NAME_PREFIX}):
        for name in (name.removeprefix("/") for name in each["Names"]):
            if session_in(name):
                # an install container has no labels, which would go into the image made of it: its network has them
                label = Label.read(each.get("Labels")) or by_name.get(name)
                runs = each["State"] not in ("exited", "created", "dead")
                ended = each["State"] == "exited" and label is not None and _keeper_ended(engine, each["Id"])
                containers.append(LeftOver(Kind.CONTAINER, each["Id"], name, label, runs, ended))
    return [*sorted(containers, key=_by_name), *sorted(networks, key=_by_name)]


def _by_name(found: LeftOver) -> str:
    return found.name


def _keeper_ended(engine: Engine, container_id: str) -> bool:
    try:
        state = engine.client.api.inspect_container(container_id)["State"]
    except docker.errors.NotFound:
        return False
    return bool(state["Status"] == "exited" and state["ExitCode"] == _KEEPER_ENDED and not state.get("Error"))


def _failure(remove: Callable[[], None]) -> list[LabError]:
    """Why one thing could not be removed, if it could not. An engine that does not even refuse is gone, which is raised."""
    try:
        remove()
    except EngineError as error:
        if not isinstance(error.__cause__, docker.errors.APIError):
            raise
        return [error]
    except CaptureError as error:
        return [error]
    return []


def _remove(engine: Engine, found: LeftOver) -> None:
    if found.kind is Kind.CONTAINER:
        remove_by_name(engine, found.id)
        return
    remove_network(engine, found.id)
