"""How a command ended: what the shell's records and the container's counters make of it, and what a session is told.

Reading them is `watch.py`'s business, going on after them is `shell.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from testronaut_lab.execution.driver.records import Record
from testronaut_lab.model.result import Captured, ErrorInfo, ExitKind, ShellState

# By the word that a shell says it with: why it could not run a step as it was asked to, see driver.sh.
REFUSED = {
    "cwd": ErrorInfo(
        "UsageError",
        "the step's `cwd` is no directory in the container",
        "create the directory in an earlier step or in `files:`",
    ),
    "loop": ErrorInfo(
        "UsageError",
        "`break` or `continue` stands outside of any loop of the step: what followed it was not run",
        "end a script with `return` or `exit`",
    ),
    "streams": ErrorInfo(
        "CaptureError",
        "the session's shell cannot open or close the streams of a step: nothing is known of what the step did or wrote",
        "leave the shell its file descriptors (`ulimit -n` in a subshell: `( ulimit -n 5; … )`) and its builtins",
    ),
}


@dataclass(frozen=True, slots=True)
class ShellEnd:
    """How a command ended. `code` is the shell's, None when there is none; `error` says what is in doubt."""

    kind: ExitKind
    code: int | None
    stdout: Captured
    stderr: Captured
    duration_s: float
    cwd: str
    state: ShellState
    left_behind: tuple[str, ...] = ()
    error: ErrorInfo | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Over:
    """A step that runs no more. `record` is None when nobody told of its shell's end, `was_ended` says that we brought it about.

    `is_orphan`: the step killed who would have told, and then its shell ended, nobody knows how.
    """

    kind: ExitKind
    record: Record | None
    duration_s: float
    is_forged: bool
    was_ended: bool = False
    is_orphan: bool = False

    @property
    def by_itself(self) -> bool:
        return self.record is not None and self.record.tag == "S"

    @property
    def is_parking(self) -> bool:
        """Whether the shell went on to fork a copy of itself, if it was told to: `script.run_line` has the same condition."""
        if self.record is None or self.is_forged or not self.by_itself:
            return False
        return self.record.words[3] == "-" and self.record.words[4].startswith("-,")

    @property
    def is_plain(self) -> bool:
        """Whether it ended as most do, and its shell goes on without anything having to be mended first."""
        return self.by_itself and self.kind is ExitKind.EXITED and not self.is_forged

    @property
    def code(self) -> int | None:
        """The shell's exit status; None for a step that we ended because of what it did."""
        if self.kind not in (ExitKind.EXITED, ExitKind.OOM, ExitKind.PIDS_LIMIT) or (self.was_ended and not self.is_forged):
            return None
        if self.is_orphan:
            return None
        if self.record is None:
            return 137  # every shell was killed, and only SIGKILL does that
        return int(self.record.words[1 if self.by_itself else 0])
