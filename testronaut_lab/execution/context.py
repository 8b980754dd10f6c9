"""What a step is asked to be and where a session takes place, as data."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from testronaut_lab.errors import UsageError
from testronaut_lab.model.interaction import Interaction, Ready, Tty
from testronaut_lab.model.result import Phase

WORKSPACE = "/workspace"
MAX_TIMEOUT_S = 24 * 3600
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_PROGRAM = re.compile(r"[a-z0-9_-]{1,100}")

# The same in every step unless the plan says otherwise; nothing of the host leaks.
FIXED_ENVIRONMENT: Mapping[str, str] = {"LANG": "C.UTF-8", "TZ": "UTC", "COLUMNS": "80", "TERM": "dumb", "TMPDIR": "/tmp"}


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class StepRequest:
    """One step to run. `run` is a script for the session's shell, `argv` exact arguments; the other one is None.

    `env` and `cwd` (relative to the workspace, or absolute in the container) end with the step, `exports` stay in the
    session. `timeout_s` None means the session's own limit. `is_unwanted` is asked while the step runs: an interruption
    that came before it began must end it too. The rest is as in a `model.plan.Step`.
    """

    id: str
    nodeid: str
    run: str | None = None
    argv: tuple[str, ...] | None = None
    phase: Phase = Phase.STEPS
    stdin: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    timeout_s: float | None = None
    exports: Mapping[str, str] = field(default_factory=dict)
    plan: int = 0
    case: str = "session"
    attempt: int = 1
    tty: Tty | None = None
    interact: tuple[Interaction, ...] = ()
    background: str | None = None
    ready: Ready | None = None
    stop: str | None = None
    signal: Mapping[str, str] = field(default_factory=dict)
    merge: bool = False
    is_unwanted: Callable[[], bool] = field(default=_never, compare=False, repr=False)

    @property
    def command(self) -> str:
        """The step as one would type it, or as it stands in a plan if it runs nothing."""
        if self.stop is not None:
            return f"stop: {self.stop}"
        if self.signal:
            return f"signal: {{{', '.join(f'{name}: {signal}' for name, signal in self.signal.items())}}}"
        return self.run if self.run is not None else shlex.join(self.argv or ())

    @property
    def script(self) -> str | None:
        """What a result has as its `run`; None beside `argv`."""
        return None if self.argv is not None else self.command

    def validate(self) -> None:
        """Raises UsageError for what no shell or program can be given; a loaded plan's steps have been through this."""
        words = {"id": (self.id,), "run": (self.run or "",), "argv": self.argv or (), "cwd": (self.cwd or "",)}
        for field_name, texts in words.items():
            for text in texts:
                _check_text(f"step {self.id}: `{field_name}`", text)
        check_environment(f"step {self.id}: `env`", self.env)
        if self.argv is not None and not (self.argv and self.argv[0]):
            raise UsageError(f"step {self.id}: `argv` needs a program as its first word")
        if self.timeout_s is not None and not 0 < self.timeout_s <= MAX_TIMEOUT_S:
            bounds = f"above 0 and at most {MAX_TIMEOUT_S} seconds"
            raise UsageError(f"step {self.id}: `timeout` must be {bounds}, not {self.timeout_s}")


def check_together(asked: StepRequest) -> None:
    """Raises UsageError for parts of a step that exclude each other, or of which one needs another, as a plan does."""
    whats = [name for name in ("run", "argv", "stop") if getattr(asked, name) is not None] + ["signal"] * bool(asked.signal)
    if len(whats) != 1:
        raise UsageError("a step is a command, or `stop`, or `signal`, and one of them only")
    if asked.interact and asked.tty is None:
        raise UsageError("`interact` needs a terminal", hint="tty=True")
    if asked.stdin and asked.tty is not None:
        raise UsageError("`stdin` and `tty` exclude each other: a terminal is its own input", hint="interact=[SendText(…)]")
    if asked.merge and asked.tty is not None:
        raise UsageError("`merge` and `tty` exclude each other: a terminal has one stream anyway")
    if asked.ready is not None and asked.background is None:
        raise UsageError("`ready` needs a program in the background", hint="background='NAME'")
    if asked.background is not None and (asked.tty is not None or asked.merge):
        raise UsageError("`background` excludes `tty` and `merge`")
    for name in filter(None, (asked.background, asked.stop, *asked.signal)):
        if not _PROGRAM.fullmatch(name):
            raise UsageError(f"{name!r} is no name for a background program", hint="a-z, 0-9, - and _ only")
    extra = [key for key in ("stdin", "env", "cwd", "background", "merge", "tty") if getattr(asked, key)]
    if whats[0] in ("stop", "signal") and extra:
        raise UsageError(f"`{whats[0]}` runs nothing, so it excludes `{extra[0]}`")


def check_environment(where: str, env: Mapping[str, str]) -> None:
    """Raises UsageError for a name that no shell knows and a value that no program can be given."""
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name):
            raise UsageError(f"{where}: {name!r} is no variable's name", hint="letters, digits and _ only")
        _check_text(where, value)


def _check_text(where: str, text: str) -> None:
    if "\0" in text:
        raise UsageError(f"{where} holds a NUL byte")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise UsageError(f"{where} holds half a surrogate pair, which is no text") from error


@dataclass(frozen=True, slots=True)
class SessionPlace:
    """A session's directories on the host, and the (uid, gid) that files in them must be given, None for the caller's own."""

    run: Path
    workspace: Path
    home: Path
    tmp: Path
    home_target: str
    owner: tuple[int, int] | None
    undo: Path  # not mounted, made when it is needed: what undo may need of the files


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """`timeout_s` for a step that names none, `output_bytes` for each stream of a step, the rest for workspace, home and /tmp."""

    timeout_s: float = 60.0
    output_bytes: int = 10 * 1024 * 1024
    workspace_bytes: int = 1024 * 1024 * 1024
    files: int = 10_000
