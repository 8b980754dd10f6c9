"""One stream of one step: bounded memory, exact bytes, the last ones kept when there are too many.

Feeding is on the session's thread; what is done about too much output is `execution/`'s business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from testronaut_lab.errors import CaptureError
from testronaut_lab.model.result import Captured

INLINE_BYTES = 16 * 1024
_SPILL_BYTES = 1024 * 1024
_TAIL_BYTES = 64 * 1024


class BlobSink(Protocol):
    """Where large content goes. `adopt` takes a finished spool file over and returns where it is now."""

    def new_spool(self) -> Path: ...

    def adopt(self, spool: Path, sha256: str) -> Path: ...


class StreamCapture:
    """Takes the bytes of a stream in pieces. `limit_bytes` are kept from the start, then the last 64 KiB before the end."""

    def __init__(self, blobs: BlobSink, limit_bytes: int, on_chunk: Callable[[bytes], None] | None = None) -> None:
        self._blobs = blobs
        self._limit = limit_bytes
        self._on_chunk = on_chunk
        self._head = bytearray()
        self._tail = bytearray()
        self._spool: Path | None = None
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._kept = 0
        self._seen = 0

    @property
    def over_limit(self) -> bool:
        return self._seen > self._limit

    @property
    def seen_bytes(self) -> int:
        """All that was fed, kept or not."""
        return self._seen

    def feed(self, data: bytes) -> None:
        """Raises CaptureError when a large stream cannot be written to disk."""
        self._seen += len(data)
        if self._on_chunk is not None:
            self._on_chunk(data)
        room = self._limit - self._kept
        if room > 0:
            self._keep(data[:room] if len(data) > room else data)
        if len(data) > room:
            self._tail += data[max(room, 0) :]
            del self._tail[:-_TAIL_BYTES]

    def finish(self, *, open_: bool) -> Captured:
        """The stream as captured; `open_` says that a process still holds it. Call once."""
        dropped = self._seen - self._kept - len(self._tail)
        if self._tail:
            self._keep(bytes(self._tail))
        sha = self._hash.hexdigest()
        if self._kept <= INLINE_BYTES:
            return Captured(self._kept, sha, bytes(self._head), dropped > 0, dropped, open_)
        path = self._to_blob(sha)
        return Captured(self._kept, sha, None, dropped > 0, dropped, open_, str(path))

    def _keep(self, data: bytes) -> None:
        self._kept += len(data)
        self._hash.update(data)
        if self._file is None:
            self._head += data
            if len(self._head) > _SPILL_BYTES:
                self._spill()
        else:
            self._write(self._file, data)

    def _spill(self) -> None:
        try:
            self._spool = self._blobs.new_spool()
            self._file = open(self._spool, "wb", buffering=0)
        except OSError as error:
            raise CaptureError(f"opening a file for a large stream: {error}", hint="df -h .") from error
        self._write(self._file, self._head)
        self._head = bytearray()

    def _write(self, file: BinaryIO, data: bytes | bytearray) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[file.write(view) :]
        except OSError as error:
            raise CaptureError(f"writing a large stream to {self._spool}: {error}", hint="df -h .") from error

    def _to_blob(self, sha: str) -> Path:
        if self._file is None:
            self._spill()
        assert self._file is not None and self._spool is not None
        self._file.close()
        return self._blobs.adopt(self._spool, sha)
