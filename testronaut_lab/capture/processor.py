"""Rewrites text as a terminal would show it: line ends, control sequences, lines that are written over.

Pure functions from text to text, each with a count of what it did. Captured bytes are never changed. `golden/normalize.py`
decides which function is applied, and in which order.
"""

from __future__ import annotations

import re
import unicodedata

# A terminal drops a cut or malformed sequence, and so do we. Otherwise its rest could begin a new sequence: a label such as
# `[TMP#1]` behind `ESC` did.
_SEQUENCE = re.compile(
    r"""\x1b(?:
        \[ [ -?]* [@-~]?                                    # CSI: colours, cursor
      | \] [^\x07\x1b]* (?: \x07 | \x1b\\ | (?=\x1b) )       # OSC: titles, links, clipboard
      | [PX^_] [^\x1b]* (?: \x1b\\ | (?=\x1b) )              # DCS, SOS, PM, APC
      | [ -/]* (?: [0-OQ-WYZ\\`-~] | (?=\x1b) )              # the others, such as character sets
    )""",
    re.VERBOSE,
)
_CRLF = re.compile(r"(?<!\r)\r+\n")
_WRITTEN_OVER = re.compile(r"[\r\b]")
_ERASE = re.compile(r"\x1b\[([012]?)K")
_TAB = 8


def without_sequences(text: str) -> tuple[str, int]:
    """Return the text without control sequences, and their number. An ESC that begins no sequence stays."""
    return _SEQUENCE.subn("", text)


def with_newlines(text: str) -> tuple[str, int]:
    """Replace every CR LF by LF, and CR CR LF too, which a terminal makes of CR LF. Other carriage returns stay."""
    return _CRLF.subn("\n", text)


def as_shown(text: str) -> tuple[str, int]:
    """Replace lines written over by carriage returns or backspaces by their final look; return the text and their number.

    Sequences that erase within a line take effect, and blanks at the end of such a line are dropped. Moves to other lines have
    no effect. A CR LF stays.
    """
    if not _WRITTEN_OVER.search(text):
        return text, 0
    lines = text.split("\n")
    count = 0
    for i, line in enumerate(lines):
        end = "\r" if line.endswith("\r") and i < len(lines) - 1 else ""
        body = line.removesuffix(end)
        if _WRITTEN_OVER.search(body):
            lines[i] = _shown(body) + end
            count += 1
    return "\n".join(lines), count


def _shown(line: str) -> str:
    if line.isascii() and "\x1b" not in line and "\b" not in line and "\t" not in line:
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        return shown.rstrip(" ")
    row = _Row()
    at = 0
    while at < len(line):
        sequence = _SEQUENCE.match(line, at)
        if sequence is not None:
            row.sequence(sequence[0])
            at = sequence.end()
        else:
            row.put(line[at])
            at += 1
    return row.text()


class _Row:
    """One line of a terminal, without a right margin. A wide character takes two cells, the second one empty."""

    def __init__(self) -> None:
        self._cells: list[str] = []
        self._cursor = 0
        self._unseen = ""  # sequences and controls before the next character

    def put(self, char: str) -> None:
        if char == "\r":
            self._cursor = 0
        elif char == "\b":
            self._cursor = max(self._cursor - 1, 0)
        elif char == "\t":
            self._cursor = (self._cursor // _TAB + 1) * _TAB
        elif unicodedata.category(char) in ("Mn", "Me", "Cf") and self._cursor:
            self._cells[self._fill(self._cursor) - 1] += char
        elif unicodedata.category(char) == "Cc":
            self._unseen += char
        else:
            self._write(char)

    def sequence(self, sequence: str) -> None:
        erase = _ERASE.fullmatch(sequence)
        if erase is None:
            self._unseen += sequence
            return
        if erase[1] in ("", "0"):
            del self._cells[self._cursor :]
        else:
            end = len(self._cells) if erase[1] == "2" else min(self._cursor + 1, len(self._cells))
            self._cells[:end] = [" "] * end

    def text(self) -> str:
        return ("".join(self._cells) + self._unseen).rstrip(" ")

    def _write(self, char: str) -> None:
        wide = unicodedata.east_asian_width(char) in ("W", "F")
        end = self._cursor + (2 if wide else 1)
        self._fill(end)
        if self._cells[self._cursor] == "" and self._cursor:
            self._cells[self._cursor - 1] = " "
        if end < len(self._cells) and self._cells[end] == "":
            self._cells[end] = " "
        self._cells[self._cursor : end] = [self._unseen + char, ""][: end - self._cursor]
        self._cursor, self._unseen = end, ""

    def _fill(self, length: int) -> int:
        self._cells += [" "] * (length - len(self._cells))
        return length
