"""How a command ended, as both drivers tell it, and why one could not be run as it was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from testronaut_lab.errors import ErrorKind
from testronaut_lab.model.result import Captured, ErrorInfo, ExitKind, ShellState

# Why a step could not be run as it was asked for.
REFUSED = {
    "cwd": ErrorInfo(
        ErrorKind.USAGE,
        "the step's `cwd` is no directory in the container",
        "create the directory in an earlier step or in `files:`",
    ),
    "streams": ErrorInfo(
        ErrorKind.CAPTURE,
        "the session's shell cannot open or close the streams of a step: nothing is known of what the step did or wrote",
        "leave the shell its file descriptors (`ulimit -n` in a subshell: `( ulimit -n 5; … )`) and its builtins",
    ),
}


TAMPERED = ErrorInfo(ErrorKind.TAMPERED, "something in the container made a report in the name of the session's shell")


@dataclass(frozen=True, slots=True)
class ShellEnd:
    """How a command ended. `code` is the shell's, None when there is none; `error` says what is in doubt.

    `pids` are the numbers of processes that the command can have named (`$$`, `$!`), as far as the shell told them.
    `by_signal`: whether a `code` above 128 says that a signal ended the command, as shells tell it; None if nobody can tell.
    """

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
    pids: tuple[int, ...] = ()
    by_signal: bool | None = True
