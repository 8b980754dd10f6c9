"""What both drivers are given: a command, the session's shell, and how long the command may take. Data only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from testronaut_lab.model.result import ExitKind

RUN_DIR = "/run/lab"
UMASK = "022"  # a container's first process has this on every engine, an exec of Docker 29 has none
FIRST_CHECK_S = 0.02
CHECK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Command:
    """One command for the session's shell: `run` is a script, `argv` exact arguments; the other one is None.

    `env` and `cwd` end with the command; `exports` stay. With `isolated` nothing the script does to the shell stays, with
    `merge` its stderr goes where its stdout goes.
    """

    nodeid: str
    run: str | None = None
    argv: tuple[str, ...] | None = None
    stdin: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    exports: Mapping[str, str] = field(default_factory=dict)
    isolated: bool = False
    merge: bool = False

    @property
    def leaves_shell(self) -> bool:
        """Whether it leaves the shell as it was, so that a copy from before is as good as a new one."""
        return (self.argv is not None or self.isolated) and not self.exports


@dataclass(frozen=True, slots=True)
class ShellSpec:
    """The session's shell: which program, as whom (UID:GID), with what environment, starting where."""

    shell: str
    user: str
    env: Mapping[str, str]
    cwd: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a command may take, and what is asked after 20 ms, then every 100 ms, whether it has gone too far otherwise."""

    timeout_s: float
    check: Callable[[], ExitKind | None] = lambda: None
    output_limit: bool = True


def quote(text: str) -> str:
    """One shell word, whatever is in it (no NUL)."""
    return "'" + text.replace("'", "'\\''") + "'"


def one_line(text: str) -> str:
    return text.replace("\n", " ")
