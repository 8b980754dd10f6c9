"""Runs a program of the host with a deadline, and passes on its lines as they come: package managers, mmdebstrap.

No shell is involved. `privilege` gives root without a password, or says that there is none.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from testronaut_lab.model.lastwords import with_last_words

_KEPT_LINES = 15
_TERM_GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended: its exit status (negative: a signal) and the last lines it wrote."""

    code: int
    last_lines: tuple[str, ...]
    timed_out: bool = False

    @property
    def ok(self) -> bool:
        return self.code == 0 and not self.timed_out

    def describe(self, timeout_s: float) -> str:
        """How it ended, with its last lines, for an error message."""
        how = f"it took longer than {timeout_s:.0f} s" if self.timed_out else f"it exited with status {self.code}"
        return with_last_words(how, self.last_lines)


class LineSplitter:
    """Passes on whole lines from bytes that arrive in any pieces. A carriage return ends a line, too."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data.replace(b"\r", b"\n")).split(b"\n")
        for line in lines:
            if line.strip():
                self._on_line(line.decode(errors="backslashreplace").rstrip())

    def end(self) -> None:
        self.feed(b"\n")


def privilege() -> tuple[str, ...] | None:
    """The prefix for a command that needs root: empty for root, sudo if it asks for no password, else None."""
    if os.geteuid() == 0:
        return ()
    if shutil.which("sudo") is None:
        return None
    try:
        asked = subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return None
    return ("sudo", "-n") if asked.returncode == 0 else None


def as_root(command: str) -> str:
    """The command as this user types it to run it as root. Root may have no sudo."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def run_logged(
    argv: Sequence[str],
    on_line: Callable[[str], None],
    *,
    timeout_s: float,
    stdout: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Finished:
    """Run a program and pass on each line that it writes. With `stdout`, only stderr is passed on, and stdout goes there.

    At the deadline its process group gets TERM, and KILL 10 s later. Raises FileNotFoundError if the program does not exist.
    """
    last_lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def on_each(line: str) -> None:
        last_lines.append(line)
        on_line(line)

    with subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.STDOUT if stdout is None else subprocess.PIPE,
        env=None if env is None else dict(env),
        cwd=cwd,
        start_new_session=True,
    ) as process:
        pipe = process.stdout if stdout is None else process.stderr
        assert pipe is not None
        ended = False
        try:
            ended = _read_lines(pipe, LineSplitter(on_each), time.monotonic() + timeout_s)
        finally:
            # on an interrupt, too: nobody reads any more, and Popen's exit would wait for the program
            if not ended:
                _end_group(process)
        return Finished(process.wait(), tuple(last_lines), timed_out=not ended)


def _read_lines(pipe: IO[bytes], lines: LineSplitter, deadline: float) -> bool:
    """Whether the pipe ended before the deadline."""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            data = os.read(pipe.fileno(), 65536)
            if not data:
                lines.end()
                return True
            lines.feed(data)
            if time.monotonic() > deadline:
                break
    lines.end()
    return False


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for signum in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signum)
            process.wait(_TERM_GRACE_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
        except PermissionError:  # it runs under sudo, which passes on TERM and ends with its command
            process.wait(_TERM_GRACE_S)
        return
