"""What a terminal shows: the bytes that a program wrote to it, rendered by pyte into lines of text.

pyte takes well-formed output of well-behaved programs; what it would fail or hang on is kept from it here. Everything a
program asks of its terminal (where the cursor is, what it is) is answered.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Mapping

import pyte
from pyte import modes
from wcwidth import wcwidth

_MAX_MARKS = 8  # on one character; more than that is no writing, and each costs a pass over those before
_UNFINISHED = re.compile(r"\x1b(?:\[[\x20-\x3f]{0,200})?\Z")
_ODD_SEQUENCE = re.compile(r"\x1b\[[\x20-\x3f]*(?:[\x18\x1a]|(?=[^\x00-\x7e]))")
_ODD_CONTROL = re.compile(r"[\x01-\x06\x10-\x1a\x1c-\x1f]")
_CONTROLS_ABOVE_ASCII = frozenset("\x9b\x9c\x9d")
_ALTERNATE = frozenset({47, 1047, 1049})
_CURSOR_KEYS = 1 << 5  # DECCKM, private mode 1, as pyte keeps it

# How many numbers each sequence takes, and which take the private form (with a question mark).
_MOST = {"cursor_position": 2, "set_margins": 2, "select_graphic_rendition": 99, "set_mode": 99, "reset_mode": 99}
_SEQUENCES = {name: _MOST.get(name, 1) for name in set(pyte.Stream.csi.values())}
_PRIVATE = frozenset({"set_mode", "reset_mode", "erase_in_display", "erase_in_line"})
_HOW = {"erase_in_display": (0, 1, 2, 3), "erase_in_line": (0, 1, 2), "clear_tab_stop": (0, 3)}
# Lines that scroll by without a control between them: pyte takes five seconds for a megabyte of them.
_SEQUENCE_OR_PLAIN_TEXT = re.compile(r"\x1b(?:\[[\x20-\x3f]*[\x40-\x7e]|[^\[])|([^\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]+)")
_LONG = 4096


_Rows = dict[int, dict[int, pyte.screens.Char]]


class Screen:
    """A terminal's screen. `answers` collects what the terminal itself says to the program."""

    def __init__(self, cols: int, rows: int) -> None:
        self.answers = bytearray()
        self._screen = _Emulated(cols, rows, self.answers)
        self._stream = pyte.Stream()
        self._stream.attach(_Tolerant(self._screen))  # type: ignore[arg-type]
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def feed(self, data: bytes) -> None:
        """Take in what was written, in any pieces."""
        text = self._held + self._decoder.decode(data)
        unfinished = _UNFINISHED.search(text)
        self._held = unfinished[0] if unfinished else ""
        text = _digestible(text[: len(text) - len(self._held)])
        done = 0
        for piece in _SEQUENCE_OR_PLAIN_TEXT.finditer(text):
            plain: str | None = piece[1]
            if plain is not None and len(plain) >= _LONG:
                self._stream.feed(text[done : piece.start()])  # it may set margins, within which lines scroll
                self._stream.feed(self._last_lines(plain) if self._screen.margins is None else plain)
                done = piece.end()
        self._stream.feed(text[done:])

    def resize(self, cols: int, rows: int) -> None:
        self._screen.resize(lines=rows, columns=cols)

    @property
    def wants_application_keys(self) -> bool:
        return _CURSOR_KEYS in self._screen.mode

    def text(self) -> str:
        """The lines as they stand, each without the blanks at its end, down to the last one that is not blank."""
        screen = self._screen
        lines = ["".join(screen.buffer[y][x].data for x in range(screen.columns)).rstrip() for y in range(screen.lines)]
        while lines and not lines[-1]:
            lines.pop()
        return "".join(f"{line}\n" for line in lines)

    def _last_lines(self, plain: str) -> str:
        """Of a long text what stays to be seen; more lines than the screen has, so that all that stood there scrolls off."""
        lines = plain.split("\r\n")
        keep = 2 * self._screen.lines
        return plain if len(lines) <= keep + 1 else "\r" + "\r\n".join(lines[-keep - 1 :])


class _Emulated(pyte.Screen):
    """pyte's screen, with the second buffer that full-screen programs draw in, and with answers."""

    def __init__(self, cols: int, rows: int, answers: bytearray) -> None:
        self._answers = answers
        self._main: tuple[_Rows, int, int] | None = None
        super().__init__(cols, rows)

    def write_process_input(self, data: str) -> None:
        self._answers += data.encode()

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        """Terminals scroll only as far as the cursor needs; pyte drops as many lines from the top as the screen loses."""
        lines, columns = lines or self.lines, columns or self.columns
        if lines < self.lines:
            rows, self.cursor.y = _scrolled(self.buffer, self.cursor.y, lines)
            self._show(rows)
            if self._main is not None:
                hidden, x, y = self._main
                hidden, y = _scrolled(hidden, y, lines)
                self._main = (hidden, x, y)
            self.lines = lines
        super().resize(lines, columns)
        self.set_margins()
        self.cursor.x = min(self.cursor.x, self.columns - 1)
        self.dirty.update(range(self.lines))

    def set_mode(self, *numbers: int, **flags: bool) -> None:
        if flags.get("private") and _ALTERNATE & set(numbers) and self._main is None:
            self._main = ({y: dict(line) for y, line in self.buffer.items()}, self.cursor.x, self.cursor.y)
            self.erase_in_display(2)
        super().set_mode(*_known(numbers, flags), **flags)

    def reset_mode(self, *numbers: int, **flags: bool) -> None:
        if flags.get("private") and _ALTERNATE & set(numbers) and self._main is not None:
            lines, x, y = self._main
            self._main = None
            self._show(lines)
            self.cursor.x, self.cursor.y = min(x, self.columns - 1), min(y, self.lines - 1)
        super().reset_mode(*_known(numbers, flags), **flags)

    def _show(self, rows: _Rows) -> None:
        self.buffer.clear()
        for number, row in rows.items():
            self.buffer[number].update(row)


def _scrolled(rows: Mapping[int, Mapping[int, pyte.screens.Char]], cursor_y: int, lines: int) -> tuple[_Rows, int]:
    """The rows that a screen of so many lines keeps, its cursor among them, and where that is then."""
    gone = max(cursor_y - lines + 1, 0)
    return {y - gone: dict(row) for y, row in rows.items() if gone <= y < gone + lines}, cursor_y - gone


def _known(numbers: tuple[int, ...], flags: dict[str, bool]) -> tuple[int, ...]:
    """Without the mode of 132 columns, which terminals of today ignore too."""
    return tuple(number for number in numbers if not (flags.get("private") and number << 5 == modes.DECCOLM))


class _Tolerant:
    """Stands before a screen and leaves out of each sequence what pyte's methods cannot be called with."""

    def __init__(self, screen: _Emulated) -> None:
        self._screen = screen

    def __getattr__(self, name: str) -> Callable[..., object]:
        method: Callable[..., object] = getattr(self._screen, name)
        if name not in _SEQUENCES:
            return method
        most = _SEQUENCES[name]

        def call(*numbers: int, private: bool = False) -> None:
            if numbers and numbers[0] not in _HOW.get(name, numbers):
                return
            if not private:
                method(*numbers[:most])
            elif name in _PRIVATE:
                method(*numbers[:most], private=True)

        return call


def _digestible(text: str) -> str:
    """Without what makes pyte stop in the middle of a text, fail, or take for ever."""
    text = _ODD_CONTROL.sub("", _ODD_SEQUENCE.sub("", text))
    if text.isascii():
        return text
    kept: list[str] = []
    marks = 0
    for char in text:
        if char <= "\x7f" or char in _CONTROLS_ABOVE_ASCII or wcwidth(char) > 0:
            marks = 0
        elif unicodedata.combining(char) and marks < _MAX_MARKS:
            marks += 1
        else:
            continue
        kept.append(char)
    return "".join(kept)
