"""The session's two output FIFOs, from the host's side: read during steps, exchanged where somebody else still holds them.

The shell writes to one pair for its whole life. While nobody but the shell holds it, draining it behind a step's end is exact,
however often the shell has duplicated it. Where a job holds it at a step's end, the shell gets a new pair: what still comes by
the old one is that step's late output, unless the shell itself holds a duplicate of it: then it is the running step's.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass

from testronaut_lab.capture.stream import StreamCapture

Identity = tuple[int, int]

_PIPE_BYTES = 1024 * 1024
_READ_BYTES = 1024 * 1024
_FULL_PIPE_BYTES = 64 * 1024


class Fifo:
    """One FIFO's read end. `identity` is its device and inode, `name` what it is called in the run directory."""

    __slots__ = ("fd", "identity", "is_wide", "name")

    def __init__(self, name: str, fd: int) -> None:
        info = os.fstat(fd)
        self.name = name
        self.fd = fd
        self.identity = (info.st_dev, info.st_ino)
        self.is_wide = False

    def read(self, into: Sink) -> bool:
        """Take what is there, in one piece; whether there was anything."""
        try:
            if self.is_wide and (poured := into.pour(self.fd)) is not None:
                return bool(poured)
            data = os.read(self.fd, _READ_BYTES if self.is_wide else _FULL_PIPE_BYTES)
        except BlockingIOError:
            return False
        if len(data) >= _FULL_PIPE_BYTES and not self.is_wide:
            self._widen()
        if data:
            into.feed(data)
        return bool(data)

    def drain(self, into: Sink) -> None:
        while self.read(into):
            pass

    def _widen(self) -> None:
        self.is_wide = True
        try:
            fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except PermissionError:
            return  # an unprivileged user has a budget for this; it is only faster


@dataclass(frozen=True, slots=True)
class Pair:
    out: Fifo
    err: Fifo

    @property
    def both(self) -> tuple[Fifo, Fifo]:
        return self.out, self.err

    def close(self) -> None:
        for fifo in self.both:
            os.close(fifo.fd)

    @property
    def identities(self) -> frozenset[tuple[int, int]]:
        return frozenset((self.out.identity, self.err.identity))


class Sink:
    """Where a stream's bytes go: into a capture, with the words of ours cut out that a shell's trace or messages repeat.

    `cut` are pieces that nobody else can write, since each has a random part. `cut_line` is the end of a line which a trace
    shows once, at the beginning: it goes with what stands before it. `renamed` is what a file of ours is to be called. A line
    with `refused` in it says that the shell could not make its report; then it `was_refused`.
    """

    def __init__(self, capture: StreamCapture | None = None) -> None:
        self._capture = capture
        self.words = bytearray()
        self.cut: tuple[bytes, ...] = ()
        self.cut_line: bytes | None = None
        self.renamed: tuple[bytes, bytes] | None = None
        self.refused: bytes | None = None
        self.was_refused = False
        self._held = b""

    @property
    def over_limit(self) -> bool:
        return self._capture is not None and self._capture.over_limit

    def pour(self, fd: int) -> int | None:
        return self._capture.pour(fd) if self._capture is not None and not self._held and self.cut_line is None else None

    def feed(self, data: bytes) -> None:
        data, self._held = self._held + data, b""
        for needle in self.cut:  # first, since `set -v` shows that line as it was sent, too
            data = data.replace(needle, b"")
        if self.cut_line is not None:
            data = self._without_line(data)
        if self.renamed is not None:
            data = data.replace(*self.renamed)
        if self.refused is not None and self.refused in data:
            self.was_refused = True
            data = b"".join(line for line in data.splitlines(keepends=True) if self.refused not in line)
        needles = [*self.cut, *([self.renamed[0]] if self.renamed else [])]
        keep = max((_beginning(data, needle) for needle in needles), default=0)
        self._held, data = data[len(data) - keep :] + self._held, data[: len(data) - keep]
        self._pass_on(data)

    def flush(self) -> None:
        """No more comes: what looked like the beginning of our words was none."""
        held, self._held = self._held, b""
        self._pass_on(held)

    def _pass_on(self, data: bytes) -> None:
        if not data:
            return
        if self._capture is None:
            self.words += data
        else:
            self._capture.feed(data)

    def _without_line(self, data: bytes) -> bytes:
        """A shell may write one line in pieces, so that the last one is held until it is whole."""
        assert self.cut_line is not None
        at = data.find(self.cut_line)
        if at >= 0:
            data = data[: data.rfind(b"\n", 0, at) + 1] + data[at + len(self.cut_line) :]
            self.cut_line = None
            return data
        whole = data.rfind(b"\n") + 1
        self._held = data[whole:]
        return data[:whole]


def _beginning(data: bytes, needle: bytes) -> int:
    """How many of the last bytes may be the needle's first."""
    at = data.find(needle[:1], max(0, len(data) - len(needle) + 1))
    while at >= 0:
        if needle.startswith(data[at:]):
            return len(data) - at
        at = data.find(needle[:1], at + 1)
    return 0
