"""SHA-256 of a stream, off the thread that reads it once there is much of it: hashing is what costs most there."""

from __future__ import annotations

import hashlib
import threading
from collections import deque

INLINE_BYTES = 256 * 1024
_MOST_WAITING = 4


class Digest:
    """Pieces in order. A piece of 256 KiB and more is hashed on a thread, which ends whenever nothing waits for it.

    At most four pieces wait; whoever brings a fifth waits too.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._waiting: deque[bytes | bytearray] = deque()
        self._changed = threading.Condition()
        self._is_working = False

    def update(self, piece: bytes | bytearray) -> None:
        """The piece must not be changed any more."""
        with self._changed:
            if self._is_working or len(piece) >= INLINE_BYTES:
                self._changed.wait_for(lambda: len(self._waiting) < _MOST_WAITING)
                self._waiting.append(piece)
                if not self._is_working:
                    self._is_working = True
                    threading.Thread(target=self._work, name="stream-digest", daemon=True).start()
                return
        self._hash.update(piece)

    def hexdigest(self) -> str:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_working)
        return self._hash.hexdigest()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._is_working = False
                    self._changed.notify_all()
                    return
                piece = self._waiting.popleft()
                self._changed.notify_all()
            self._hash.update(piece)
