"""Reads single keys from a terminal and returns their names. The caller decides what a key means."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from types import TracebackType

RESIZED = "resized"
END = "end"

_ESCAPE_S = 0.05  # the bytes of a sequence come together; a lone escape key is followed by nothing
_LOOK_S = 0.2
_NAMES = {
    b"[A": "up", b"OA": "up", b"[B": "down", b"OB": "down", b"[5~": "page up", b"[6~": "page down",
    b"[H": "home", b"OH": "home", b"[1~": "home", b"[F": "end of text", b"OF": "end of text", b"[4~": "end of text",
}  # fmt: skip


class Keyboard:
    """A context manager. While it is open, keys come one at a time and are not echoed; ctrl+c still interrupts.

    Keys that were typed before it opened are dropped: they were not meant for the present screen.
    """

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._fd)
        self._size = os.get_terminal_size(sys.stdout.fileno())

    def __enter__(self) -> Keyboard:
        tty.setcbreak(self._fd, termios.TCSAFLUSH)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        termios.tcsetattr(self._fd, termios.TCSAFLUSH, self._before)

    def read(self) -> str:
        """Return the next key: a character, `escape`, `up`, `page down` …; RESIZED after a resize, END if the terminal is gone.

        A sequence without a name is `unknown`, so that no part of it is taken for a key.
        """
        while not self._waits(_LOOK_S):
            size = os.get_terminal_size(sys.stdout.fileno())
            if size != self._size:
                self._size = size
                return RESIZED
        byte = os.read(self._fd, 1)
        if byte == b"\x1b":
            return self._sequence()
        return byte.decode("ascii", "replace") if byte else END

    def _sequence(self) -> str:
        """Read what follows an escape: `[` with parameters and a final letter, `O` and a letter, or one key pressed with alt."""
        if not self._waits(_ESCAPE_S):
            return "escape"
        read = os.read(self._fd, 1)
        while read[:1] in (b"[", b"O") and (len(read) == 1 or (read[:1] == b"[" and not 0x40 <= read[-1] <= 0x7E)):
            if not self._waits(_ESCAPE_S):
                break
            read += os.read(self._fd, 1)
        return _NAMES.get(read, "unknown")

    def _waits(self, seconds: float) -> bool:
        return bool(select.select([self._fd], [], [], seconds)[0])
