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
from functools import partial
from pathlib import Path

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.faults import is_refusal
from testronaut_lab.container.left_overs import LeftOver, left_overs, remove
from testronaut_lab.container.owner import Owner, known_folder_id
from testronaut_lab.errors import CaptureError, EngineError, LabError
from testronaut_lab.execution.directory import Lease, abandoned, lease_of, remove_session, sessions_root


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
    found = left_overs(engine)
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
        failure = _failure(partial(remove, engine, each))
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


def _failure(removal: Callable[[], None]) -> list[LabError]:
    """Why one thing could not be removed, if it could not. An engine that does not even refuse is gone, which is raised."""
    try:
        removal()
    except EngineError as error:
        if not is_refusal(error):
            raise
        return [error]
    except CaptureError as error:
        return [error]
    return []
