"""Makes foreign text safe to show: characters that a terminal acts on, or that a reader cannot see, become visible escapes.

Everything from a container goes through `safe_text` on its way to a screen. Stored text stays raw. Markup is another matter:
pass even safe text as `rich.text.Text`, never as markup.
"""

from __future__ import annotations

import re

_RANGES = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 except tab and newline, DEL, C1
    "\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"  # format characters
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # zero width, bidi, line separators, BOM
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
    "\ud800-\udfff"  # surrogates
    "\ue000-\uf8ff\U000f0000-\U0010ffff"  # private use
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u3164\uffa0\U000e0100-\U000e01ef"  # invisible characters
)
MAX_LINE_CHARACTERS = 4096
_UNSAFE = re.compile(f"[{_RANGES}]")
_UNSAFE_ASCII = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def safe_text(text: str) -> str:
    """Escape every control, bidi, format, invisible and private-use character as `\\r`, `\\xNN`, `\\uNNNN` or `\\UNNNNNNNN`.

    Newline and tab stay. Not reversible: a backslash in `text` is kept as it is.
    """
    unsafe = _UNSAFE_ASCII if text.isascii() else _UNSAFE
    return unsafe.sub(_escape, text)


def safe_line(text: str, limit: int | None = None) -> str:
    """Return one line for a list: the first line with content, with an ellipsis where something is left out."""
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    shown = safe_text(lines[0][: MAX_LINE_CHARACTERS + 1]).replace("\t", " ").strip() + (" …" if len(lines) > 1 else "")
    limit = MAX_LINE_CHARACTERS if limit is None else limit
    return shown if len(shown) <= limit else shown[: max(limit - 1, 0)] + "…"


def clipped(text: str) -> str:
    """Cut each line of `text` after 4096 characters, and say how many are left out. The result is not yet safe to show."""
    if len(text) <= MAX_LINE_CHARACTERS:
        return text
    return "\n".join(map(_clipped_line, text.split("\n")))


def safe_json(document: bytes) -> bytes:
    """Escape unsafe characters in a JSON document as `\\uNNNN`. The document reads back as the same value."""
    if document.isascii() and b"\x7f" not in document:
        return document  # JSON always escapes characters below a space
    return _UNSAFE.sub(_escape_json, document.decode()).encode()


def _clipped_line(line: str) -> str:
    more = len(line) - MAX_LINE_CHARACTERS
    return line if more <= 0 else f"{line[:MAX_LINE_CHARACTERS]}… {more} more characters"


def _escape_json(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == 0x0D:
        return r"\r"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
