"""Captures one stream of one step: exact bytes in bounded memory. If there are too many, the start and the end are kept.

Small streams stay in memory; large ones go to a spool file, which becomes a blob. The session's thread feeds it. `execution/`
decides what happens to a step with too much output; `chunks.py` records times and passes output on live.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import BinaryIO, Protocol

from testronaut_lab.capture.chunks import ChunkTimes, Tell, Teller
from testronaut_lab.capture.digest import Digest
from testronaut_lab.errors import CaptureError
from testronaut_lab.model.result import Captured

INLINE_BYTES = 16 * 1024
_SPILL_BYTES = 1024 * 1024
_DIRECT_BYTES = 64 * 1024  # from this size on, joining pieces costs more than writing each of them
_TAIL_BYTES = 64 * 1024
_POUR_BYTES = 1024 * 1024


class BlobSink(Protocol):
    """Stores large content. `adopt` takes over a finished spool file and returns its new path."""

    def new_spool(self) -> Path: ...

    def adopt(self, spool: Path, sha256: str) -> Path: ...


class Blobs(BlobSink, Protocol):
    """A sink that can also return its content."""

    def read(self, sha256: str) -> bytes:
        """Raises CaptureError if the content is gone or damaged."""
        ...


class StreamCapture:
    """Takes the bytes of a stream in pieces. It keeps the first `limit_bytes`, and the last 64 KiB of the rest.

    `started` is the start of the step on the monotonic clock; the default is now. `tell` gets the output live.
    """

    def __init__(self, blobs: BlobSink, limit_bytes: int, tell: Tell | None = None, started: float | None = None) -> None:
        self._blobs = blobs
        self._limit = limit_bytes
        self._started = time.monotonic() if started is None else started
        self._teller = None if tell is None else Teller(tell)
        self._times = ChunkTimes()
        self._head = bytearray()
        self._tail = bytearray()
        self._spool: Path | None = None
        self._file: BinaryIO | None = None
        self._digest = Digest()
        self._kept = 0
        self._seen = 0
        self._pours = True

    @property
    def over_limit(self) -> bool:
        return self._seen > self._limit

    @property
    def seen_bytes(self) -> int:
        """The number of bytes fed, kept or not."""
        return self._seen

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises CaptureError if a large stream cannot be written to disk."""
        elapsed_s = time.monotonic() - self._started
        if self._seen == self._kept:
            self._times.add(elapsed_s, self._seen)
        self._seen += len(data)
        if self._teller is not None:
            self._teller.feed(data, elapsed_s)
        room = self._limit - self._kept
        if room > 0:
            self._keep(data[:room] if len(data) > room else data)
        if len(data) > room:
            self._tail += data[max(room, 0) :]
            del self._tail[:-_TAIL_BYTES]

    def pour(self, pipe: int) -> int | None:
        """Move up to 1 MiB from a pipe into the spool file without a copy in our memory. Returns the size, 0 at the pipe's end.

        Returns None if the caller must read the pipe and `feed`: there is no file yet, or the limit is near. Raises
        BlockingIOError if the pipe is empty, CaptureError if the disk is full.
        """
        if not self._can_pour():
            return None
        if self._head:
            full, self._head = self._head, bytearray()
            self._write_out(full)
        assert self._file is not None
        fd, offset = self._file.fileno(), self._kept
        try:
            size = os.splice(pipe, fd, _POUR_BYTES, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno == errno.EINVAL:  # the file system does not support splice
                self._pours = False
                return None
            raise self._unwritten(error) from error
        if size:
            self._poured(fd, offset, size)
        return size

    def _can_pour(self) -> bool:
        is_told = self._teller is not None and not self._teller.is_bulk
        return self._pours and self._file is not None and not is_told and self._limit - self._kept >= _POUR_BYTES

    def _poured(self, fd: int, offset: int, size_bytes: int) -> None:
        elapsed_s = time.monotonic() - self._started
        self._times.add(elapsed_s, self._seen)
        self._seen += size_bytes
        self._kept += size_bytes
        self._digest.extend(fd, offset, size_bytes)
        if self._teller is not None:
            self._teller.passed(size_bytes, elapsed_s, self._last)

    def _last(self, size_bytes: int) -> bytes:
        assert self._file is not None
        return os.pread(self._file.fileno(), size_bytes, self._kept - size_bytes)

    def finish(self, *, open_: bool) -> Captured:
        """Return the captured stream. `open_`: a process still holds its other end. Call once."""
        if not self._seen:
            return Captured(open=open_)
        if self._teller is not None:
            self._teller.finish(time.monotonic() - self._started)
        dropped = self._seen - self._kept - len(self._tail)
        if self._tail:
            self._keep(bytes(self._tail))
        chunks = self._times.chunks
        if self._kept <= INLINE_BYTES:
            self._digest.update(self._head)
            return Captured(self._kept, self._digest.hexdigest(), bytes(self._head), dropped > 0, dropped, open_, chunks=chunks)
        path, sha = self._to_blob()
        return Captured(self._kept, sha, None, dropped > 0, dropped, open_, str(path), chunks)

    def _keep(self, data: bytes) -> None:
        self._kept += len(data)
        if not self._head and (len(data) > _SPILL_BYTES // 2 or (self._file is not None and len(data) >= _DIRECT_BYTES)):
            self._write_out(data)
            return
        self._head += data
        if len(self._head) > _SPILL_BYTES:
            full, self._head = self._head, bytearray()
            self._write_out(full)

    def _write_out(self, data: bytes | bytearray) -> None:
        """Write to the spool file. Callers collect large pieces first, because a small write costs as much as a large one."""
        if self._file is None:
            try:
                self._spool = self._blobs.new_spool()
                self._file = open(self._spool, "w+b", buffering=0)
            except OSError as error:
                raise CaptureError(f"opening a file for a large stream: {error}", hint="df -h .") from error
        self._digest.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> CaptureError:
        return CaptureError(f"writing a large stream to {self._spool}: {error}", hint="df -h .")

    def _to_blob(self) -> tuple[Path, str]:
        self._write_out(self._head)
        self._head = bytearray()
        assert self._file is not None and self._spool is not None
        try:
            sha = self._digest.hexdigest()
        except OSError as error:
            raise CaptureError(f"reading a large stream back from {self._spool}: {error}", hint="df -h .") from error
        self._file.close()
        return self._blobs.adopt(self._spool, sha), sha
