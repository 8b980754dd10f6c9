"""Names the characters in which two texts differ that look the same on a screen.

Examples: a no-break space, a letter of another script, an accented letter as one character or as two, an escape character and
the four characters `\\x1b`. Differences that the eye sees are for `golden/textdiff.py`.
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
    """Name the characters at `at`, where two texts begin to differ; None if the eye sees the difference."""
    while at and (_is_mark(expected, at) or _is_mark(actual, at)):
        at -= 1  # a combining mark belongs to the letter before it
    left, right = _cluster(expected, at), _cluster(actual, at)
    if left == right or not any(map(_is_special, left + right)):
        return None
    return f"expected {_named(left)}, found {_named(right)}"


def look_alike(wanted: str, text: str) -> str | None:
    """Name the characters because of which `text` only seems to contain `wanted`; None if it does not even seem so."""
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
    """A character and the combining marks behind it."""
    end = at + 1
    while end < len(text) and end <= at + _MAX_MARKS and _is_mark(text, end):
        end += 1
    return text[at:end]


def _is_mark(text: str, at: int) -> bool:
    return at < len(text) and unicodedata.combining(text[at]) != 0


def _is_special(char: str) -> bool:
    """Whether the eye may miss the character. Tabs and carriage returns do not count: the diff marks them."""
    return char not in "\n\r\t" and (not char.isascii() or not char.isprintable())


def _folded(text: str) -> str:
    """The text as a reader sees it: one kind of blank, no invisible characters, compatible forms of a character made equal."""
    plain = unicodedata.normalize("NFKC", text.replace("\\x1b", "\x1b").replace("\\e", "\x1b").replace("\\033", "\x1b"))
    return "".join(
        " " if unicodedata.category(char) == "Zs" else "" if unicodedata.category(char) == "Cf" else char for char in plain
    )
