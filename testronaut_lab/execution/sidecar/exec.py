"""A command in an exec of its own, apart from the session's shell: as the same user, with its directory and environment.

What the command does to its environment stays with it. How it is talked to is in `terminal.py`, how one is kept going beside
the steps in `background.py`.
"""

from __future__ import annotations

import os
import secrets
import select
import shlex
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from testronaut_lab.capture.stream import BlobSink, StreamCapture
from testronaut_lab.container.protocol import Attached, AttachedTerminal, Container
from testronaut_lab.errors import CaptureError, ErrorKind, SessionLost
from testronaut_lab.execution.driver.fast.driver import FastDriver
from testronaut_lab.execution.driver.fast.shell import ended_by, was_killed
from testronaut_lab.execution.driver.outcome import ShellEnd
from testronaut_lab.execution.driver.script import RUN_DIR, UMASK, Bounds, Command, quote
from testronaut_lab.model.interaction import Tty
from testronaut_lab.model.result import ErrorInfo, ExitKind, Mismatch

_START_S = 60.0
_ASK_S = 60.0
_EXIT_S = 2.0
_ENVIRONMENT_BYTES = 4 * 1024 * 1024
_ARGUMENT_BYTES = 100 * 1024  # Linux takes 128 KiB in one argument

# The engine gives an exec the image's variables too; those that the session's shell has are sourced after this.
FORGET = (
    "set -f; for n in $(export -p); do n=${n%%=*}; case $n in '' | [0-9]* | *[!A-Za-z0-9_]*) ;; *) unset \"$n\" ;; esac; done; "
    "set +f; unset n"
)


@dataclass(frozen=True, slots=True)
class ApartEnd(ShellEnd):
    """How a command apart ended. `screen` is what its terminal showed, `mismatches` what was expected of it meanwhile."""

    screen: str | None = None
    mismatches: tuple[Mismatch, ...] = ()


@dataclass(frozen=True, slots=True)
class ShellEnvironment:
    """The session's shell at one moment: its exported environment as shell text, its directory, and how asking for it ended."""

    environment: bytes
    cwd: str
    end: ShellEnd

    @property
    def problem(self) -> ErrorInfo | None:
        """Why a command cannot be started in them."""
        if self.end.error is not None or (self.end.kind is ExitKind.EXITED and self.end.code == 0):
            return self.end.error
        return ErrorInfo(ErrorKind.SESSION_LOST, "the session's shell could not tell its environment")


@dataclass(slots=True)
class Running:
    """A command apart that has begun. `pid` is its number in the container, and that of its process session.

    `early` is what came of its streams together with the word that it begins; `files` are removed with `Launcher.clear`.
    `pidfd` is of its process, None where that cannot be seen.
    """

    attached: Attached
    pid: int
    files: tuple[Path, ...]
    early: list[tuple[int, bytes]] = field(default_factory=list)
    pidfd: int | None = None


class NotStarted(Exception):
    """The command did not begin; the text says why, as the shell does."""


class Launcher:
    """Starts commands apart in one session; from the session's thread only."""

    def __init__(self, container: Container, driver: FastDriver, run_dir: Path, blobs: BlobSink) -> None:
        self._container = container
        self._driver = driver
        self._dir = run_dir
        self._blobs = blobs
        self._count = 0

    def shell_environment(self, command: Command) -> ShellEnvironment:
        """What the command will find: the shell's exports with the command's own over them, and the directory.

        Raises SessionLost.
        """
        ask = Command(
            command.nodeid, r"\command export -p", env=command.env, cwd=command.cwd, exports=command.exports, isolated=True
        )
        environment = StreamCapture(self._blobs, _ENVIRONMENT_BYTES)
        bounds = Bounds(self._container.patience_s(_ASK_S), output_limit=False)
        end = self._driver.run(ask, environment, StreamCapture(self._blobs, 0), bounds)
        return ShellEnvironment(end.stdout.read(), end.cwd if command.cwd is None else command.cwd, end)

    def start(self, command: Command, found: ShellEnvironment) -> Running:
        """Start it with its streams attached. Raises NotStarted, EngineError, CaptureError."""
        return self._start(command, found, None)

    def start_in_terminal(self, command: Command, found: ShellEnvironment, tty: Tty) -> tuple[Running, AttachedTerminal]:
        """Start it in a terminal of its own, which has its size before the command begins. Raises as `start` does."""
        running = self._start(command, found, tty)
        return running, running.attached  # type: ignore[return-value]

    def clear(self, running: Running) -> None:
        """Forget a command that has ended."""
        running.attached.close()
        if running.pidfd is not None:
            os.close(running.pidfd)
            running.pidfd = None
        for path in running.files:
            path.unlink(missing_ok=True)

    def exit_code(self, attached: Attached) -> int | None:
        """How it ended once its streams have, waiting a little for the engine to know; None if it still runs.

        Raises SessionLost if it ended because its container did.
        """
        deadline = time.monotonic() + self._container.patience_s(_EXIT_S)
        while (code := self._container.exit_code(attached)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        state = self._container.state()
        if not state.running:
            raise SessionLost(f"the session's container is gone: {state.describe()}")
        return code

    @staticmethod
    def was_killed(running: Running) -> bool | None:
        """Whether a signal ended its process, which has ended; None if nobody can tell: the engine tells 137 for both."""
        return None if running.pidfd is None else was_killed(ended_by(running.pidfd))

    def _start(self, command: Command, found: ShellEnvironment, tty: Tty | None) -> Running:
        self._count += 1
        nonce = secrets.token_hex(8)
        files = self._put(command, found, tty, nonce)
        spec = self._driver.spec
        hello = f"umask {UMASK}; printf '%s\\n' \"$$\"; IFS= read -r x; . {RUN_DIR}/{files[0].name}"
        argv = [spec.shell, "-c", hello, spec.shell]
        attach = self._container.attach if tty is None else self._container.attach_terminal
        attached = attach(argv, user=spec.user, env={}, cwd="/")
        with ExitStack() as undo:
            undo.callback(attached.close)
            reader = _Handshake(attached, self._container.patience_s(_START_S))
            pid = reader.line()
            if not pid.isdigit():
                raise NotStarted(f"starting a shell for the command: {pid}")
            if tty is not None:
                self._container.resize(attached, tty.cols, tty.rows)  # type: ignore[arg-type]
            pidfd = self._in_hand(int(pid))
            if pidfd is not None:
                undo.callback(os.close, pidfd)
            attached.write(b"\n")
            reader.until(nonce)
            undo.pop_all()
        return Running(attached, int(pid), files, reader.rest, pidfd)

    def _in_hand(self, inner: int) -> int | None:
        pid = self._driver.others.find(inner)
        try:
            return None if pid is None else os.pidfd_open(pid)
        except ProcessLookupError:
            return None

    def _put(self, command: Command, found: ShellEnvironment, tty: Tty | None, nonce: str) -> tuple[Path, ...]:
        name = f"apart.{self._count}"
        script = (command.run or "").encode(errors="surrogateescape")
        contents = {name: _boot(command, found, tty, nonce, name, self._driver.spec.shell)}
        if len(script) > _ARGUMENT_BYTES:
            contents[f"{name}.sh"] = script + b"\n"
        if tty is None and command.stdin:
            contents[f"{name}.in"] = command.stdin
        for each, content in contents.items():
            try:
                (self._dir / each).write_bytes(content)
                os.chmod(self._dir / each, 0o444)
            except OSError as error:
                raise CaptureError(
                    f"writing {each} in {self._dir}: {error}", hint=f"df -h {shlex.quote(str(self._dir))}"
                ) from error
        return tuple(self._dir / each for each in contents)


class _Handshake:
    """Reads lines from a command's stdout up to a mark; what its shell says on stderr before that is why it failed."""

    def __init__(self, attached: Attached, timeout_s: float) -> None:
        self._attached = attached
        self._buffer = b""
        self._words = b""
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self.rest: list[tuple[int, bytes]] = []

    def line(self) -> str:
        while b"\n" not in self._buffer:
            self._read()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.strip().decode(errors="backslashreplace")

    def until(self, mark: str) -> None:
        said: list[str] = []
        try:
            while (line := self.line()) != mark:
                said.append(line)
        except NotStarted as error:
            raise NotStarted(" ".join(word for word in (*said, str(error)) if word)) from None
        self.rest = [(1, self._buffer)] if self._buffer else []
        self.rest += [(2, self._words)] if self._words else []

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._attached.fileno(), select.POLLIN)
        if not poll.poll(max(int((self._deadline - time.monotonic()) * 1000), 0)):
            raise SessionLost(f"a command of the session did not start within {self._timeout_s:g} s")
        try:
            for stream, data in self._attached.read():
                if stream == 1:
                    self._buffer += data
                else:
                    self._words += data
        except EOFError:
            raise NotStarted((self._buffer + self._words).decode(errors="backslashreplace").strip()) from None


def _boot(command: Command, found: ShellEnvironment, tty: Tty | None, nonce: str, name: str, shell: str) -> bytes:
    """What the exec's shell sources: it takes the session's environment and directory, says the mark, and becomes the command."""
    lines = [f"__lab_sh=$(command -v {shell})", FORGET, f"cd -- {quote(found.cwd)} || exit", "unset OLDPWD"]
    after: list[str] = []
    if tty is None:
        after.append(f"exec <{RUN_DIR}/{name}.in" if command.stdin else "exec </dev/null")
    else:
        # the terminal's own size counts, which a program would not ask for where these are set
        after += [f"unset {each}" for each in ("COLUMNS", "LINES") if each not in command.env]
        after += [f"export TERM={quote(tty.term)}"] if "TERM" not in command.env else []
    after += [f"printf '%s\\n' {nonce}", f"exec {_words(command, name)}"]
    head, tail = ("\n".join(part).encode(errors="surrogateescape") + b"\n" for part in (lines, after))
    return head + found.environment + b"\n" + tail


def _words(command: Command, name: str) -> str:
    if command.argv is not None:
        return " ".join(quote(word) for word in command.argv)
    script = command.run or ""
    if len(script.encode(errors="surrogateescape")) > _ARGUMENT_BYTES:
        return f'"$__lab_sh" {RUN_DIR}/{name}.sh'
    # by -c a shell becomes the last program of its script, which so gets the signals itself
    return f'"$__lab_sh" -c {quote(script)} "$__lab_sh"'
