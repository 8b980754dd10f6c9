"""Texts that look alike and are not: what differs, spelled out by the names that Unicode has for it.

A no-break space, another script's letter, a letter and its accent as one character or as two, an escape and the four characters
that people write for it: on a screen, and in most diffs, both sides are the same.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_CONTROLS: Final = (
    "NULL", "START OF HEADING", "START OF TEXT", "END OF TEXT", "END OF TRANSMISSION", "ENQUIRY", "ACKNOWLEDGE", "BELL",
    "BACKSPACE", "CHARACTER TABULATION", "LINE FEED", "LINE TABULATION", "FORM FEED", "CARRIAGE RETURN", "SHIFT OUT", "SHIFT IN",
    "DATA LINK ESCAPE", "DEVICE CONTROL ONE", "DEVICE CONTROL TWO", "DEVICE CONTROL THREE", "DEVICE CONTROL FOUR",
    "NEGATIVE ACKNOWLEDGE", "SYNCHRONOUS IDLE", "END OF TRANSMISSION BLOCK", "CANCEL", "END OF MEDIUM", "SUBSTITUTE", "ESCAPE",
    "INFORMATION SEPARATOR FOUR", "INFORMATION SEPARATOR THREE", "INFORMATION SEPARATOR TWO", "INFORMATION SEPARATOR ONE",
)  # fmt: skip
_MAX_MARKS = 3
_MAX_NAMES = 5


def spelled_out(expected: str, actual: str, at: int) -> str | None:
    """What stands in each of two texts at the offset where they begin to differ, if that cannot be seen; else None."""
    while at and (_is_mark(expected, at) or _is_mark(actual, at)):
        at -= 1  # a mark belongs to the letter before it
    left, right = _cluster(expected, at), _cluster(actual, at)
    if left == right or not any(map(_is_special, left + right)):
        return None
    return f"expected {_named(left)}, found {_named(right)}"


def look_alike(wanted: str, text: str) -> str | None:
    """Which characters of a text keep it from holding what seems to be in it; None if it does not even seem so."""
    if wanted in text or _folded(wanted) not in _folded(text):
        return None
    special = list(dict.fromkeys(char for char in text if _is_special(char) and char not in wanted))
    special = special or list(dict.fromkeys(char for char in wanted if _is_special(char)))
    return ", ".join(map(name, special[:_MAX_NAMES])) or None


def name(char: str) -> str:
    """`U+00A0 NO-BREAK SPACE`."""
    code = ord(char)
    control = _CONTROLS[code] if code < len(_CONTROLS) else "DELETE" if code == 0x7F else "a control or unnamed character"
    return f"U+{code:04X} {unicodedata.name(char, control)}"


def _named(cluster: str) -> str:
    return " and ".join(map(name, cluster)) or "the end"


def _cluster(text: str, at: int) -> str:
    """A character and the marks on it."""
    end = at + 1
    while end < len(text) and end <= at + _MAX_MARKS and _is_mark(text, end):
        end += 1
    return text[at:end]


def _is_mark(text: str, at: int) -> bool:
    return at < len(text) and unicodedata.combining(text[at]) != 0


def _is_special(char: str) -> bool:
    """What a diff does not mark already, as it does a tab and a carriage return."""
    return char not in "\n\r\t" and (not char.isascii() or not char.isprintable())


def _folded(text: str) -> str:
    """As a reader takes it: all blanks alike, nothing that is not seen, a character and its compatible forms the same."""
    plain = unicodedata.normalize("NFKC", text.replace("\\x1b", "\x1b").replace("\\e", "\x1b").replace("\\033", "\x1b"))
    return "".join(
        " " if unicodedata.category(char) == "Zs" else "" if unicodedata.category(char) == "Cf" else char for char in plain
    )
