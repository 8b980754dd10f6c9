"""Differences between two byte strings that a person can read: a unified diff for text, rows of hex for what is none.

What the eye misses is made visible: a carriage return is ␍, a tab ␉, a blank at the end of a line ·, and a missing newline
at the end is told as `diff` does. Escaping control characters for a terminal is left to `report/safe.py`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

MAX_LINES = 2000  # difflib is quadratic: on more differing lines than these only the first difference is shown
MAX_SHOWN = 200
MAX_COLUMNS = 400
WINDOW_CHARS = 2000
_CONTEXT = 3
_NO_NEWLINE = "\\ No newline at end of file"


def diff(expected: bytes, actual: bytes) -> str | None:
    """What differs, `-` for expected and `+` for actual; None if nothing does. Bounded in size and time on any input."""
    if expected == actual:
        return None
    if b"\0" in expected or b"\0" in actual:
        return _hex_diff(expected, actual)
    lines = list(_line_diff(_lines(expected), _lines(actual)))
    if len(lines) > MAX_SHOWN:
        lines[MAX_SHOWN:] = [f"… {len(lines) - MAX_SHOWN} more lines of this diff are left out"]
    removed, added = ([line[1:] for line in lines if line[0] == sign] for sign in "-+")
    if removed == added and expected.endswith(b"\n") == actual.endswith(b"\n"):
        lines.append(_first_difference(expected, actual))
    return "\n".join(lines) + "\n"


def diff_if_useful(expected: bytes, actual: bytes) -> str | None:
    """The diff, unless the two are single lines whose difference can be seen when they stand one above the other."""
    ends_alike = expected.endswith(b"\n") == actual.endswith(b"\n")
    lines = [_text(data.removesuffix(b"\n") if ends_alike else data) for data in (expected, actual)]
    plain = all(line.isprintable() and not line.endswith(" ") for line in lines)
    return None if plain else diff(expected, actual)


def excerpt(data: bytes, around: int = 0) -> str:
    """`data` as text, cut to about 2000 characters around the byte offset `around`."""
    start = max(0, around - WINDOW_CHARS // 2) if len(data) > WINDOW_CHARS else 0
    shown = data[start : start + WINDOW_CHARS]
    before = f"… {start} bytes … " if start else ""
    rest = len(data) - start - len(shown)
    return before + _text(shown) + (f" … {rest} bytes …" if rest else "")


def common_prefix(left: bytes, right: bytes) -> int:
    """The offset of the first byte that differs."""
    low, high = 0, min(len(left), len(right))
    while low < high:  # bisecting over slices: comparing them is one memcmp, looping over bytes is not
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def visible(text: str) -> str:
    """One line with what the eye misses made visible."""
    marked = text.replace("\r", "␍").replace("\t", "␉")
    return re.sub(r" +(?=␍?$)", lambda match: "·" * len(match[0]), marked)


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def _lines(data: bytes) -> list[bytes]:
    """Lines with their newline; only `\\n` ends one."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def _line_diff(expected: Sequence[bytes], actual: Sequence[bytes]) -> Iterable[str]:
    """The diff's lines. What both share at either end is put aside first, so a small change in a huge text stays cheap."""
    head = _shared(expected, actual)
    tail = _shared(expected[head:][::-1], actual[head:][::-1])
    start = max(0, head - _CONTEXT)
    left, right = (lines[start : len(lines) - max(0, tail - _CONTEXT)] for lines in (expected, actual))
    column = _column(expected[head:], actual[head:])
    if len(left) + len(right) > 2 * MAX_LINES:
        yield f"@@ line {head + 1} is the first to differ; too many lines differ to compare them all @@"
        left, right = left[: 2 * _CONTEXT + 4], right[: 2 * _CONTEXT + 4]
        start = -1
    for group in difflib.SequenceMatcher(None, left, right, autojunk=True).get_grouped_opcodes(_CONTEXT):
        if start >= 0:
            (_, i1, _, j1, _), (_, _, i2, _, j2) = group[0], group[-1]
            yield f"@@ -{_span(start + i1, start + i2)} +{_span(start + j1, start + j2)} @@"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from _signed(" ", left[i1:i2], column)
            else:
                yield from _signed("-", left[i1:i2], column)
                yield from _signed("+", right[j1:j2], column)


def _shared(left: Sequence[bytes], right: Sequence[bytes]) -> int:
    """How many lines at the beginning are the same."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(left), len(right)))


def _signed(sign: str, lines: Iterable[bytes], column: int) -> Iterable[str]:
    for line in lines:
        yield sign + _cut(visible(_text(line.removesuffix(b"\n"))), column)
        if not line.endswith(b"\n"):
            yield _NO_NEWLINE


def _span(start: int, stop: int) -> str:
    """Lines as a unified diff counts them: from 1, and an empty span names the line before it."""
    length = stop - start
    return str(start + 1) if length == 1 else f"{start + 1 if length else start},{length}"


def _column(expected: Sequence[bytes], actual: Sequence[bytes]) -> int:
    """Where in the first pair of differing lines the difference is, so that a long line is cut around it."""
    return len(_text(expected[0][: common_prefix(expected[0], actual[0])])) if expected and actual else 0


def _cut(line: str, column: int) -> str:
    if len(line) <= MAX_COLUMNS:
        return line
    start = max(0, min(column - MAX_COLUMNS // 4, len(line) - MAX_COLUMNS))
    shown = line[start : start + MAX_COLUMNS]
    return ("…" if start else "") + shown + ("…" if start + len(shown) < len(line) else "")


def _hex_diff(expected: bytes, actual: bytes) -> str:
    offset = common_prefix(expected, actual) // 16 * 16
    rows = [_first_difference(expected, actual)]
    for sign, data in (("-", expected), ("+", actual)):
        rows += [sign + _hex_row(data, at) for at in range(offset, min(offset + 64, len(data)), 16)]
    return "\n".join(rows) + "\n"


def _hex_row(data: bytes, offset: int) -> str:
    row = data[offset : offset + 16]
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
    return f"{offset:08x}  {row.hex(' '):<47}  |{text}|"


def _first_difference(expected: bytes, actual: bytes) -> str:
    at = common_prefix(expected, actual)
    expected_byte, actual_byte = (f"{data[at]:02x}" if at < len(data) else "the end" for data in (expected, actual))
    return (
        f"@@ byte {at} is the first to differ: {expected_byte} expected, {actual_byte} found"
        f" ({len(expected)} bytes expected, {len(actual)} found) @@"
    )
