"""Computes the SHA-256 of a stream. Large pieces are hashed on another thread, because hashing costs most of the reading."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from dataclasses import dataclass

INLINE_BYTES = 256 * 1024
_MOST_WAITING = 4
_READ_BYTES = 256 * 1024  # fits the processor's cache, so the data is still there when it is hashed


@dataclass(slots=True)
class _Stretch:
    """A part of an open file."""

    fd: int
    offset: int
    size_bytes: int


class Digest:
    """Hashes pieces in order. Pieces of 256 KiB and more are hashed on a thread, which ends when no piece waits.

    At most four pieces wait; `update` blocks at a fifth. Parts of a file (`extend`) take no memory, so any number may wait.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._waiting: deque[bytes | bytearray | _Stretch] = deque()
        self._changed = threading.Condition()
        self._is_working = False
        self._failure: OSError | None = None

    def update(self, piece: bytes | bytearray) -> None:
        """Add a piece. The caller must not change the piece afterwards."""
        with self._changed:
            if self._is_working or len(piece) >= INLINE_BYTES:
                self._changed.wait_for(lambda: len(self._waiting) < _MOST_WAITING)
                self._wait_for_thread(piece)
                return
        self._hash.update(piece)

    def extend(self, fd: int, offset: int, size_bytes: int) -> None:
        """Add a part of an open file. The part must not change, and the file must stay open until `hexdigest`."""
        with self._changed:
            last = self._waiting[-1] if self._waiting else None
            if isinstance(last, _Stretch) and (last.fd, last.offset + last.size_bytes) == (fd, offset):
                last.size_bytes += size_bytes
            else:
                self._wait_for_thread(_Stretch(fd, offset, size_bytes))

    def hexdigest(self) -> str:
        """Wait for the thread and return the digest. Raises OSError if a file could not be read."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_working)
        if self._failure is not None:
            raise self._failure
        return self._hash.hexdigest()

    def _wait_for_thread(self, piece: bytes | bytearray | _Stretch) -> None:
        self._waiting.append(piece)
        if not self._is_working:
            self._is_working = True
            threading.Thread(target=self._work, name="stream-digest", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._is_working = False
                    self._changed.notify_all()
                    return
                piece = self._waiting.popleft()
                self._changed.notify_all()
            if isinstance(piece, _Stretch):
                self._read(piece)
            else:
                self._hash.update(piece)

    def _read(self, stretch: _Stretch) -> None:
        buffer = memoryview(bytearray(min(_READ_BYTES, stretch.size_bytes)))
        at, end = stretch.offset, stretch.offset + stretch.size_bytes
        try:
            while at < end:
                size = os.preadv(stretch.fd, [buffer[: end - at]], at)
                if not size:
                    raise OSError(f"a file ends {end - at} bytes before the end of what was written to it")
                self._hash.update(buffer[:size])
                at += size
        except OSError as error:
            self._failure = error
