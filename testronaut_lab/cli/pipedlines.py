"""Reads lines from a pipe without ever delaying a signal.

If a signal arrives just before a blocking `read`, Python calls its handler only after the read returns. On a pipe that nobody
writes to, that is never. So this module reads only when there is something to read.
"""

from __future__ import annotations

import os
import select

_LOOK_S = 0.2
_READ_BYTES = 64 * 1024


class PipedLines:
    """The lines of a file descriptor. A signal handler runs at most 0.2 s late; what it raises comes out of `read`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""
        self._has_ended = False

    def read(self) -> str | None:
        """Return the next line without its newline; None at the end. Bytes that are not UTF-8 become lone surrogates."""
        while b"\n" not in self._rest and not self._has_ended:
            if select.select([self._fd], [], [], _LOOK_S)[0]:
                data = os.read(self._fd, _READ_BYTES)
                self._rest += data
                self._has_ended = not data
        if not self._rest:
            return None
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="surrogateescape")
