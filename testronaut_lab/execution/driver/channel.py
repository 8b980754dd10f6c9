"""The FIFOs and files in a session's run directory, through which the host and the session's shells talk.

The host makes everything; the container sees the directory read-only, but for `end/`, where the shell makes its reports, and
which no step can list. A FIFO is made under a name that nobody can guess and loses it once the shell holds it. What is said over
them is in `fast/`; the plain driver needs the files alone.
"""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from testronaut_lab.errors import CaptureError

REPORTS = "end"


# Nobody lists such a folder, not even a step whose user is its owner, as an ordinary user's is; the mount keeps it so.
_UNLISTED = 0o311


class Channel:
    """Raises CaptureError for what the file system refuses."""

    def __init__(self, run_dir: Path) -> None:
        self.path = str(run_dir)
        with _ChannelErrors("preparing the run directory", self.path):
            # its owner opens it before it is sealed, see `execution/directory.py`
            self._keeper = os.open(f"{self.path}/keeper", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.chmod(self.path, _UNLISTED)  # names in it are secrets
            os.mkdir(self.reports)
            os.chmod(self.reports, 0o733)
            self.put("empty", b"")
        self._held: list[int] = []

    @property
    def reports(self) -> str:
        return f"{self.path}/{REPORTS}"

    def close(self) -> None:
        if self._keeper >= 0:
            os.close(self._keeper)
            self._keeper = -1
        while self._held:
            os.close(self._held.pop())

    def reap(self, *, lazy: bool = False) -> None:
        """Let the container's first process wait for its children that have ended; `lazy`: from now on only when it is told."""
        with (
            _ChannelErrors("telling the container's first process", self.path),
            suppress(BlockingIOError),
        ):  # it was, often enough
            os.write(self._keeper, b"lazy\n" if lazy else b"\n")

    def fifo(self, name: str, mode: int, flags: int) -> int:
        """Make a FIFO and open it before it gets its mode, which keeps an ordinary user from opening it for both directions."""
        with _ChannelErrors(f"making the FIFO {name}", self.path):
            path = f"{self.path}/{name}"
            os.mkfifo(path, 0o600)
            fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
            os.chmod(path, mode)
            return fd

    def hold(self, name: str) -> None:
        """Make a FIFO that keeps its name and is never written to: who reads it waits until `close`."""
        self._held.append(self.fifo(name, 0o444, os.O_RDWR))

    def gate(self, name: str) -> None:
        """Make a FIFO that nobody has open: who opens it to read waits for a writer."""
        with _ChannelErrors(f"making the FIFO {name}", self.path):
            os.mkfifo(f"{self.path}/{name}", 0o600)
            os.chmod(f"{self.path}/{name}", 0o644)

    def open_gate(self, name: str) -> int:
        """The write end, for who waits. It never sees an end, since the read end is held here too."""
        with _ChannelErrors(f"opening the FIFO {name}", self.path):
            return os.open(f"{self.path}/{name}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def forget(self, name: str) -> None:
        """Take a FIFO's name away; whoever holds it keeps it, and nobody can open it anew but a process of our own user."""
        with _ChannelErrors(f"removing {name}", self.path), suppress(FileNotFoundError):
            os.chmod(f"{self.path}/{name}", 0o600)
            os.unlink(f"{self.path}/{name}")

    def remove(self, name: str) -> None:
        """Remove a file's name."""
        with _ChannelErrors(f"removing {name}", self.path), suppress(FileNotFoundError):
            os.unlink(f"{self.path}/{name}")

    def folder(self, name: str) -> None:
        """Make a folder that can be entered and not be listed."""
        with _ChannelErrors(f"making {name}", self.path):
            os.mkdir(f"{self.path}/{name}")
            os.chmod(f"{self.path}/{name}", _UNLISTED)

    def put_text(self, name: str, text: bytes) -> None:
        """Write a new file. It is never written again: a job of the step that read it may hold it open."""
        with _ChannelErrors(f"writing {name} for a step", self.path):
            fd = os.open(f"{self.path}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
            try:
                os.fchmod(fd, 0o444)  # whatever the umask is
                at = 0
                while at < len(text):
                    at += os.write(fd, text[at:])
            finally:
                os.close(fd)

    def put(self, name: str, text: bytes) -> None:
        """Write a file whole; a shell that still reads the one before keeps that."""
        with _ChannelErrors(f"writing {name} for a step", self.path):
            draft = os.open(f"{self.path}/draft", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o444)
            try:
                os.fchmod(draft, 0o444)  # whatever the umask is
                view = memoryview(text)
                while view:
                    view = view[os.write(draft, view) :]
            finally:
                os.close(draft)
            os.rename(f"{self.path}/draft", f"{self.path}/{name}")


class _ChannelErrors:
    """A `with` of these costs a third of what `contextlib` takes, and each step has seven."""

    __slots__ = ("_directory", "_what")

    def __init__(self, what: str, directory: str) -> None:
        self._what = what
        self._directory = directory

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if isinstance(error, OSError):
            hint = f"df -h {shlex.quote(self._directory)}"
            raise CaptureError(f"{self._what} in {self._directory}: {error}", hint=hint) from error
