"""Takes back the last steps of a session: which there are, and what has to come back: files, shell, programs beside it.

A moment is noted before each step; the shell's own way back is `driver/fast/rewind.py`, that of files `restore.py`. Whoever made
the session makes another one where its shell cannot be had back.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from testronaut_lab.capture.file_capture import Snapshot, diff
from testronaut_lab.capture.stream import BlobSink, StreamCapture
from testronaut_lab.errors import EngineError, UsageError
from testronaut_lab.execution.context import WORKSPACE, StepRequest
from testronaut_lab.execution.driver.fast.driver import FastDriver
from testronaut_lab.execution.driver.fast.rewind import Checkpoint, CopyGone, Rewound
from testronaut_lab.execution.driver.script import Bounds, Command, quote
from testronaut_lab.execution.sidecar.exec import FORGET
from testronaut_lab.execution.sidecar.steps import Beside
from testronaut_lab.execution.undo.cache import UndoCache
from testronaut_lab.execution.undo.restore import Restored, Restorer
from testronaut_lab.model.events import Body, StepsUndone
from testronaut_lab.model.files import path_bytes, path_text
from testronaut_lab.model.result import ExitKind, StepResult
from testronaut_lab.model.undo import UndoHow, UndoResult

_NAMED = 5
_SHELL_TIMEOUT_S = 60.0
_ENVIRONMENT_BYTES = 4 * 1024 * 1024

# In memory and not captured: told only where there is something. The driver's own directory is nobody's, nor what Podman makes.
_UNSEEN = (
    r"\command set +f; for d in /run /var/tmp /dev/shm; do for f in $d/* $d/.[!.]* $d/..?*; do "
    r"case $f in /run/lab | /run/.containerenv | /run/secrets) ;; *) "
    r'if \command [ -e "$f" ] || \command [ -h "$f" ]; then \command echo $d; break; fi ;; esac; done; done'
)


# Sees all files anew, as nobody's changes.
Look = Callable[[], Mapping[str, Snapshot]]


class FreshContainerNeeded(Exception):
    """The shell cannot be had back; the text says why. The session is to be succeeded by one in a new container."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A session right before a step. `trees` and `modes` are by where a directory is mounted.

    `exported` is shell text for a shell that was not parked, or is not any more.
    """

    trees: Mapping[str, Snapshot]
    modes: Mapping[str, int]
    shell: Checkpoint
    programs: frozenset[str]
    exported: bytes | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A step that can be undone; `root` are the paths that it changed in the root file system."""

    request: StepRequest
    before: Moment
    root: tuple[str, ...]


@dataclass(slots=True)
class History:
    """What outlives a session's container: its last steps, and the content of the files before them."""

    levels: int
    keep: UndoCache
    done: deque[Done] = field(default_factory=deque)
    root: set[str] = field(default_factory=set)  # what this container's steps before those changed in the root file system


class Undoing:
    """The undoing of one session in one container. From the session's thread only."""

    def __init__(
        self,
        history: History,
        driver: FastDriver,
        beside: Beside,
        blobs: BlobSink,
        trees: Mapping[str, Path],
        emit: Callable[[Body], object],
    ) -> None:
        self.history = history
        self._emit = emit
        self._now: Moment | None = None
        self._notes: list[str] = []  # of what was asked, for the next result
        self._driver = driver
        self._beside = beside
        self._blobs = blobs
        self._trees = trees
        why_not = f"not kept: more than {history.keep.limits.file_bytes // 1024**2} MiB, or too much together"
        self._restorers = {target: Restorer(root, history.keep.path, why_not) for target, root in trees.items()}
        history.keep.in_use = self._in_use

    def before(self, seen: Mapping[str, Snapshot]) -> Moment:
        """The moment before a step; `seen` is what the last scans saw."""
        history = self.history
        shell = self._driver.rewinder.checkpoint()
        modes = {target: _mode(seen.get(target), root) for target, root in self._trees.items()}
        exported = self._ask_exported() if shell.copy is None else None
        self._now = Moment(dict(seen), modes, shell, self._beside.names, exported)
        history.keep.recent.clear()
        return self._now

    def after(self, request: StepRequest, before: Moment, result: StepResult) -> None:
        """The step is over."""
        history = self.history
        root = tuple(change.path for change in result.outside if not self._is_ours(change.path))
        self.make_room()
        history.done.append(Done(request, before, root))

    def make_room(self) -> None:
        """Forget the step that cannot be undone any more once the one that runs is. Its copy ends while files are looked at."""
        done = self.history.done
        if len(done) >= self.history.levels:
            self.history.root.update(done.popleft().root)
            moments = [each.before.shell for each in done] + ([] if self._now is None else [self._now.shell])
            self._driver.rewinder.keep_only(moments)

    def take_notes(self) -> list[str]:
        """What asking the shell has brought to light since the last call."""
        notes, self._notes = list(dict.fromkeys(self._notes)), []
        return notes

    def check(self, steps: int) -> None:
        """Raises UsageError where so many steps cannot be undone."""
        there = len(self.history.done)
        if there == 0:
            raise UsageError(f"undoing {_count(steps)}: no step has been run that can be undone")
        if steps > there:
            can = "the last step" if there == 1 else f"the last {there} steps"
            raise UsageError(f"undoing {_count(steps)}: only {can} can be undone", hint=f"undo({there})")

    def undo(self, steps: int, look: Look) -> UndoResult:
        """Undo the last steps; `look` is called to have the files seen anew.

        Raises FreshContainerNeeded before or after anything was done, CaptureError and SessionLost when the session must
        not go on.
        """
        undone, moment = self._undone(steps)
        if any(done.root for done in undone):
            raise FreshContainerNeeded("the undone steps had changed the root file system")
        notes = self._notes_of_programs(moment)
        held = self._driver.rewinder.loses_files(moment.shell)
        restored: list[str] = []
        try:
            rewound = self._driver.rewinder.rewind(moment.shell, lambda: restored.extend(self._restore(moment, look)))
        except CopyGone as gone:
            raise FreshContainerNeeded(str(gone)) from None
        notes += _notes_of_jobs(rewound)
        notes += ["the file descriptors that the shell held open are closed, with any locks on them"] if held else []
        notes += [*restored, *self._notes_of_unseen()]
        return self._finish(undone, UndoHow.SHELL, notes)

    def undo_afresh(self, steps: int, look: Look, why: str) -> UndoResult:
        """The same in the new container of a session that succeeded the one that `FreshContainerNeeded` was raised in."""
        undone, moment = self._undone(steps)
        notes = [
            f"{why}: a new shell in a new container has the directory and the exported variables from then, and nothing else"
        ]
        lost = sorted(self.history.root.union(*(done.root for done in list(self.history.done)[: -len(undone)])))
        if lost:
            notes.append(f"changes of the root file system by earlier steps are gone too: {_names(lost)}")
        notes += [f"{name} is gone, and does not come back" for name in sorted({*moment.programs, *moment.shell.jobs.values()})]
        notes += self._restore(moment, look)
        notes += self._take_up(moment)
        self.history.root.clear()
        for i, done in enumerate(self.history.done):
            self.history.done[i] = replace(done, root=())
        return self._finish(undone, UndoHow.CONTAINER, notes)

    def pack(self) -> History:
        """The history for a session that succeeds this one: what the shells had exported is asked for while they are there."""
        for i, done in enumerate(self.history.done):
            before = done.before
            exported = before.exported or self._driver.rewinder.exported(before.shell)
            shell = replace(before.shell, copy=None, why_none="the shell from then has ended with its container")
            self.history.done[i] = replace(done, before=replace(before, shell=shell, exported=exported))
        return self.history

    def _undone(self, steps: int) -> tuple[Sequence[Done], Moment]:
        self.check(steps)
        undone = list(self.history.done)[-steps:]
        return undone, undone[0].before

    def _finish(self, undone: Sequence[Done], how: UndoHow, notes: list[str]) -> UndoResult:
        for _ in undone:
            self.history.done.pop()
        first = undone[0].request
        nodeids = tuple(done.request.nodeid for done in undone)
        notes += self.take_notes()
        self._emit(StepsUndone(first.plan, first.case, nodeids, how, tuple(notes)))
        return UndoResult(tuple(done.request.id for done in undone), how, tuple(notes))

    # Files

    def _restore(self, moment: Moment, look: Look) -> list[str]:
        lost: dict[str, str] = {}
        copies: list[str] = []
        for target, done in self._restore_trees(moment, look).items():
            lost |= {_shown(target, path): reason for path, reason in done.lost.items()}
            copies += (_shown(target, path) for path in done.copies)
        notes = [f"not restored: {_names([f'{path} ({reason})' for path, reason in sorted(lost.items())])}"] if lost else []
        return notes + ([f"hard links came back as files of their own: {_names(sorted(copies))}"] if copies else [])

    def _restore_trees(self, moment: Moment, look: Look) -> dict[str, Restored]:
        now = look()
        while any(restorer.unlock(now[target]) for target, restorer in self._restorers.items()):
            now = look()
        restored = {
            target: restorer.restore(now[target], moment.trees[target], moment.modes[target])
            for target, restorer in self._restorers.items()
        }
        after = look()
        for target, done in restored.items():
            for change in diff(moment.trees[target], after[target]):
                done.lost.setdefault(os.fsdecode(path_bytes(change.path)), "it could not be made what it was")
        return restored

    def _in_use(self) -> set[str]:
        moments = [done.before for done in self.history.done] + ([] if self._now is None else [self._now])
        snapshots = [snapshot for moment in moments for snapshot in moment.trees.values()]
        return {entry.sha256 for snapshot in snapshots for entry in snapshot.entries.values() if entry.sha256 is not None}

    def _is_ours(self, path: str) -> bool:
        return any(path.startswith(f"{target}/") for target in self._trees)

    # Programs and shells

    def _notes_of_programs(self, moment: Moment) -> list[str]:
        names = self._beside.names
        notes = [f"ended the background program {name}" for name in sorted(names - moment.programs)]
        for name in names - moment.programs:
            self._beside.end(name)
        return notes + [f"the background program {name} was stopped and does not come back" for name in moment.programs - names]

    def _notes_of_unseen(self) -> list[str]:
        found = self._ask(_UNSEEN).split()
        return [f"not undone: what is in {' and '.join(found)}, which is in memory and not captured"] if found else []

    def _take_up(self, moment: Moment) -> list[str]:
        """Give the new shell what the old one had exported, and its directory."""
        environment = (moment.exported or b"").decode(errors="surrogateescape")
        restore = f"{FORGET}\n{environment}\n" if environment else ""
        where = quote(moment.shell.cwd)
        gone = self._ask(f"{restore}\\command cd -- {where} 2>/dev/null || \\command echo gone", isolated=False)
        notes = [] if environment else ["what the shell had exported is not known any more"]
        return notes + ([f"the shell's directory {path_text(os.fsencode(moment.shell.cwd))} is gone"] if gone.strip() else [])

    def _ask_exported(self) -> bytes | None:
        text = self._ask(r"\command export -p")
        return text.encode(errors="surrogateescape") or None

    def _ask(self, script: str, *, isolated: bool = True) -> str:
        """What a script of ours says in the session's shell; empty if it cannot."""
        out, err = StreamCapture(self._blobs, _ENVIRONMENT_BYTES), StreamCapture(self._blobs, 0)
        command = Command("undo", script, isolated=isolated)
        try:
            end = self._driver.run(command, out, err, Bounds(_SHELL_TIMEOUT_S, output_limit=False))
        except EngineError:
            return ""  # whatever is done next with the session meets it too, and says so
        self._notes += end.notes
        if end.kind is not ExitKind.EXITED or end.error is not None:
            return ""
        return end.stdout.read().decode(errors="surrogateescape")


def _mode(seen: Snapshot | None, root: Path) -> int:
    return stat.S_IMODE(root.stat().st_mode) if seen is None or seen.root_mode is None else seen.root_mode


def _notes_of_jobs(rewound: Rewound) -> list[str]:
    notes = [f"ended what the undone steps had left running: {_names(rewound.ended)}"] if rewound.ended else []
    notes += [f"no longer runs, and does not come back: {_names(rewound.missed)}"] if rewound.missed else []
    goes_on = f"goes on, unknown to the shell's `jobs`, `wait` and `fg`: {_names(rewound.jobs)}"
    return notes + ([goes_on] if rewound.jobs else [])


def _names(names: Iterable[str]) -> str:
    """The first few, and how many more."""
    listed = list(names)
    more = len(listed) - _NAMED
    return ", ".join(listed[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _shown(target: str, path: str) -> str:
    text = path_text(os.fsencode(path))
    return text if target == WORKSPACE else f"{target}/{text}"


def _count(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"
