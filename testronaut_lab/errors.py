"""Every error that leaves this package, and the exit statuses they map to.

    LabError              70  (only when raised bare: our own bug)
    ├── StepFailed         1  a step with `check=True` did not succeed
    ├── UsageError         2  the plan or the command line is wrong
    ├── EngineError        3  the engine could not be reached or failed
    │   ├── SessionLost    3  the container went away underneath a session
    │   └── FilesUnseen    3  the engine answers, but sees other files than this process
    ├── InstallError       4  a tool could not be installed or verified
    ├── CaptureError       5  what happened could not be captured or stored faithfully
    └── Cancelled          0  somebody stopped the run; its exit status is 130 or 143

A failing command, a timeout, an OOM kill and a mismatch are data in a result, never one of these.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum


class ExitStatus(IntEnum):
    """The exit statuses of the command line. `worst()` decides when several apply."""

    OK = 0
    FAILED = 1
    USAGE = 2
    ENGINE = 3
    INSTALL = 4
    CAPTURE = 5
    BUG = 70
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_STATUS_MEANING: dict[ExitStatus, str] = {
    ExitStatus.OK: "all passed",
    ExitStatus.FAILED: "a step failed or mismatched, a golden is missing, an expected failure passed",
    ExitStatus.USAGE: "the plan or the command line is wrong, nothing was selected",
    ExitStatus.ENGINE: "the engine could not be reached or failed",
    ExitStatus.INSTALL: "a tool could not be installed",
    ExitStatus.CAPTURE: "what happened could not be captured or stored faithfully",
    ExitStatus.BUG: "our own bug; the message says what to report",
    ExitStatus.INTERRUPTED: "interrupted (SIGINT)",
    ExitStatus.TERMINATED: "terminated (SIGTERM)",
}

_PRECEDENCE = (
    ExitStatus.INTERRUPTED,
    ExitStatus.TERMINATED,
    ExitStatus.BUG,
    ExitStatus.CAPTURE,
    ExitStatus.ENGINE,
    ExitStatus.INSTALL,
    ExitStatus.USAGE,
    ExitStatus.FAILED,
)


def worst(statuses: Iterable[ExitStatus]) -> ExitStatus:
    """Return the exit status to report when several things went wrong: the first in the order of precedence."""
    seen = set(statuses)
    return next((status for status in _PRECEDENCE if status in seen), ExitStatus.OK)


class ErrorKind(StrEnum):
    """What an error in a result is. The value is what `--json` and the store call it, `exit_status` what it leads to."""

    BUG = "LabError", ExitStatus.BUG
    STEP_FAILED = "StepFailed", ExitStatus.FAILED
    USAGE = "UsageError", ExitStatus.USAGE
    ENGINE = "EngineError", ExitStatus.ENGINE
    SESSION_LOST = "SessionLost", ExitStatus.ENGINE
    FILES_UNSEEN = "FilesUnseen", ExitStatus.ENGINE
    NO_ENGINE = "NoEngine", ExitStatus.ENGINE
    PROCESSES_UNSEEN = "ProcessesUnseen", ExitStatus.ENGINE
    INSTALL = "InstallError", ExitStatus.INSTALL
    CAPTURE = "CaptureError", ExitStatus.CAPTURE
    WATCH_FAILED = "WatchFailed", ExitStatus.CAPTURE
    TAMPERED = "Tampered", ExitStatus.CAPTURE  # something in the container pretended to be a part of ours
    CANCELLED = "Cancelled", ExitStatus.OK  # the interruption has a status of its own, 130 or 143
    INTERRUPTED = "Interrupted", ExitStatus.OK  # the run was cut off, which a reader of what is stored finds out
    CASE_TIMEOUT = "CaseTimeout", ExitStatus.FAILED
    NOT_AS_EXPECTED = "NotAsExpected", ExitStatus.FAILED  # an expected failure, but of something else than the case's own steps
    NOT_RECOVERED = "NotRecovered", ExitStatus.FAILED  # every step of the last attempt was skipped

    exit_status: ExitStatus

    def __new__(cls, value: str, exit_status: ExitStatus = ExitStatus.BUG) -> ErrorKind:
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.exit_status = exit_status
        return kind


class LabError(Exception):
    """An error: what was attempted, on what, and what happened. `hint` is a command to type, or None."""

    kind = ErrorKind.BUG

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def exit_status(self) -> ExitStatus:
        return self.kind.exit_status

    def __str__(self) -> str:
        """Return text that is safe to show: tracebacks, pytest and logs print it as it is. `message` stays raw."""
        from testronaut_lab.safetext import safe_text  # imported late: only a shown error needs it

        return safe_text(f"{self.message}\nhint: {self.hint}" if self.hint else self.message)


class StepFailed(LabError):
    """Raised only by `check=True` and `check()`. Everywhere else a failed step is data."""

    kind = ErrorKind.STEP_FAILED


class UsageError(LabError):
    """The plan, the configuration or the command line is wrong; nothing was run."""

    kind = ErrorKind.USAGE


class EngineError(LabError):
    """The engine could not be reached, or did not do what it was asked."""

    kind = ErrorKind.ENGINE


class SessionLost(EngineError):
    """The container or its engine went away underneath a session."""

    kind = ErrorKind.SESSION_LOST


class FilesUnseen(EngineError):
    """The engine sees other files than this process: one of them is in a container or on another machine."""

    kind = ErrorKind.FILES_UNSEEN

    def __init__(self, what: str, missing: str) -> None:
        super().__init__(
            f"{what}: the engine cannot see our files: {missing} is here and not there; one of both is in a container or on "
            "another machine",
            hint="give the container one folder at the same path on both sides (docs/job-container.md): `docker run "
            "-v /var/run/docker.sock:/var/run/docker.sock -v /srv/lab:/srv/lab -e TESTRONAUT_LAB_SESSIONS=/srv/lab IMAGE`",
        )


class InstallError(LabError):
    """A tool could not be installed. `fault` is the kind of failure: "no such package", "the network failed" …; may be empty."""

    kind = ErrorKind.INSTALL

    def __init__(self, message: str, *, hint: str | None = None, fault: str = "") -> None:
        super().__init__(message, hint=hint)
        self.fault = fault


class CaptureError(LabError):
    """What happened could not be captured or stored faithfully."""

    kind = ErrorKind.CAPTURE


class Cancelled(LabError):
    kind = ErrorKind.CANCELLED
