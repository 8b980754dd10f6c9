"""Shows a person how two byte strings differ: a unified diff for text, rows of hex for binary data.

Characters that the eye misses are made visible: a carriage return is ␍, a tab ␉, a blank at the end of a line ·. A missing
newline at the end gets the line that `diff` prints. `testronaut_lab/safetext.py` escapes control characters for a terminal.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from testronaut_lab.golden.lookalike import spelled_out

MAX_LINES = 2000  # difflib is quadratic: if more lines differ, only the first difference is shown
MAX_SHOWN = 200
MAX_COLUMNS = 400
WINDOW_CHARS = 2000
_WINDOW_BYTES = 8 * MAX_COLUMNS  # how much of a long line is decoded on either side of the first difference
_CONTEXT = 3
_NO_NEWLINE = "\\ No newline at end of file"


def diff(expected: bytes, actual: bytes) -> str | None:
    """Return the diff, `-` for expected and `+` for actual; None if both are equal. Bounded in size and time on any input."""
    if expected == actual:
        return None
    if b"\0" in expected or b"\0" in actual:
        return _hex_diff(expected, actual)
    lines = list(_line_diff(expected, actual))
    if len(lines) > MAX_SHOWN:
        lines[MAX_SHOWN:] = [f"… {len(lines) - MAX_SHOWN} more lines of this diff are left out"]
    removed, added = ([line[1:] for line in lines if line[0] == sign] for sign in "-+")
    if removed == added and expected.endswith(b"\n") == actual.endswith(b"\n"):
        lines.append(_first_difference(expected, actual))
    elif (spelled := _spelled_out(expected, actual)) is not None:
        lines.append(spelled)
    return "\n".join(lines) + "\n"


def diff_if_useful(expected: bytes, actual: bytes) -> str | None:
    """Return the diff; None for two single lines whose difference is plain when one stands above the other."""
    ends_alike = expected.endswith(b"\n") == actual.endswith(b"\n")
    lines = [_text(data.removesuffix(b"\n") if ends_alike else data) for data in (expected, actual)]
    plain = all(line.isprintable() and not line.endswith(" ") for line in lines)
    return None if plain and _spelled_out(expected, actual) is None else diff(expected, actual)


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
    while low < high:  # bisect over slices: comparing slices is one memcmp, a loop over bytes is slow
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def visible(text: str) -> str:
    """Make carriage returns, tabs and trailing blanks of a line visible."""
    marked = text.replace("\r", "␍").replace("\t", "␉")
    return re.sub(r" +(?=␍?$)", lambda match: "·" * len(match[0]), marked)


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def _lines(data: bytes) -> list[bytes]:
    """Lines with their newline; only `\\n` ends one."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def _line_diff(expected: bytes, actual: bytes) -> Iterable[str]:
    """Yield the lines of the diff.

    The common start and end are removed before any text is split into lines, so that a small change in a huge text stays cheap:
    10 MiB of the shortest lines take 0.1 s.
    """
    first = expected.rfind(b"\n", 0, common_prefix(expected, actual)) + 1
    tail = _shared_tail(expected[first:], actual[first:])
    start = _back(expected, first, _CONTEXT)
    ends = [_forth(data, len(data) - tail, _CONTEXT) for data in (expected, actual)]
    parts = [data[start:end] for data, end in zip((expected, actual), ends, strict=True)]
    begins = expected.count(b"\n", 0, start)
    at = common_prefix(expected[first:], actual[first:])
    too_many = sum(part.count(b"\n") for part in parts) > 2 * MAX_LINES
    if too_many:
        line = begins + expected.count(b"\n", start, first) + 1
        yield f"@@ line {line} is the first to differ; too many lines differ to compare them all @@"
        parts = [part[: _forth(part, 0, 2 * _CONTEXT + 4)] for part in parts]
    left, right = map(_lines, parts)
    for group in difflib.SequenceMatcher(None, left, right, autojunk=True).get_grouped_opcodes(_CONTEXT):
        if not too_many:
            (_, i1, _, j1, _), (_, _, i2, _, j2) = group[0], group[-1]
            yield f"@@ -{_span(begins + i1, begins + i2)} +{_span(begins + j1, begins + j2)} @@"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from _signed(" ", left[i1:i2], at)
            else:
                yield from _signed("-", left[i1:i2], at)
                yield from _signed("+", right[j1:j2], at)


def _shared_tail(left: bytes, right: bytes) -> int:
    """The size in bytes of the whole lines that both share at the end."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[len(left) - middle :] == right[len(right) - middle :]:
            low = middle
        else:
            high = middle - 1
    if all(len(data) == low or data[len(data) - low - 1 : len(data) - low] == b"\n" for data in (left, right)):
        return low
    newline = left.find(b"\n", len(left) - low)
    return 0 if newline < 0 else len(left) - newline - 1


def _back(data: bytes, at: int, lines: int) -> int:
    """The offset of the line that begins `lines` lines before the line at offset `at`."""
    for _ in range(lines):
        if at == 0:
            break
        at = data.rfind(b"\n", 0, at - 1) + 1
    return at


def _forth(data: bytes, at: int, lines: int) -> int:
    """The offset at which the next `lines` lines after `at` end."""
    for _ in range(lines):
        newline = data.find(b"\n", at)
        if newline < 0:
            return len(data)
        at = newline + 1
    return at


def _signed(sign: str, lines: Iterable[bytes], at: int) -> Iterable[str]:
    for line in lines:
        yield sign + _cut(line.removesuffix(b"\n"), at)
        if not line.endswith(b"\n"):
            yield _NO_NEWLINE


def _span(start: int, stop: int) -> str:
    """A range of lines as in a unified diff: counted from 1; an empty range names the line before it."""
    length = stop - start
    return str(start + 1) if length == 1 else f"{start + 1 if length else start},{length}"


def _cut(line: bytes, at: int) -> str:
    """The line as text. A long line is cut around byte `at`, the column of the first difference."""
    at = min(at, len(line))
    low, high = max(0, at - _WINDOW_BYTES), at + _WINDOW_BYTES
    text, column = visible(_text(line[low:high])), len(_text(line[low:at]))
    if len(text) <= MAX_COLUMNS and len(line) <= high and not low:
        return text
    start = max(0, min(column - MAX_COLUMNS // 4, len(text) - MAX_COLUMNS))
    shown = text[start : start + MAX_COLUMNS]
    return ("…" if start or low else "") + shown + ("…" if start + len(shown) < len(text) or high < len(line) else "")


def _spelled_out(expected: bytes, actual: bytes) -> str | None:
    """Name the first differing characters, with their line number; None if the eye sees the difference."""
    at = common_prefix(expected, actual)
    start = max(expected.rfind(b"\n", 0, at) + 1, at - _WINDOW_BYTES)
    left, right = (_text(data[start : at + _WINDOW_BYTES]) for data in (expected, actual))
    column = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    spelled, newline = spelled_out(left, right, column), b"\n"
    return None if spelled is None else f"@@ line {expected.count(newline, 0, at) + 1}: {spelled} @@"


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
