"""The matchers of one text, for `expect.stdout`, `expect.stderr` and each of `expect.files`.

Matchers judge raw bytes; only regular expressions see decoded text. `judge/expect.py` gets the bytes and checks that they are
complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from testronaut_lab.golden.lookalike import look_alike
from testronaut_lab.golden.textdiff import common_prefix, diff_if_useful, excerpt
from testronaut_lab.judge.jsonvalue import compact, first_difference, parse_json
from testronaut_lab.model import jsonpath
from testronaut_lab.model.plan import TextExpect
from testronaut_lab.model.result import Mismatch

_MAX_SEEMING_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Subject:
    """The bytes to judge. `aspect` is their key in the plan, `path` the file that they come from, if any."""

    aspect: str
    data: bytes
    path: str | None = None

    def mismatch(self, key: str, expected: str, actual: str, diff: str | None = None) -> Mismatch:
        return Mismatch(f"{self.aspect}.{key}", expected, actual, self.path, diff)


def check_text(expect: TextExpect, subject: Subject) -> Iterator[Mismatch]:
    """Yield a mismatch for every matcher of `expect` that does not hold, in the order of the schema."""
    yield from _equals(expect, subject)
    yield from _contains(expect, subject)
    yield from _matches(expect, subject)
    yield from _json(expect, subject)
    yield from _json_path(expect, subject)
    yield from _lines(expect, subject)
    yield from _empty(expect, subject)
    yield from _file(expect, subject)


def _equals(expect: TextExpect, subject: Subject) -> Iterator[Mismatch]:
    if expect.equals is not None:
        yield from _same_bytes("equals", expect.equals.encode(errors="surrogatepass"), subject)


def _same_bytes(key: str, expected: bytes, subject: Subject) -> Iterator[Mismatch]:
    if expected == subject.data:
        return
    at = common_prefix(expected, subject.data)
    yield subject.mismatch(key, excerpt(expected, at), excerpt(subject.data, at), diff_if_useful(expected, subject.data))


def _contains(expect: TextExpect, subject: Subject) -> Iterator[Mismatch]:
    for wanted in expect.contains:
        if wanted.encode(errors="surrogatepass") not in subject.data:
            yield subject.mismatch("contains", wanted, f"{_seeming(wanted, subject)}{excerpt(subject.data)}")
    for unwanted in expect.not_contains:
        at = subject.data.find(unwanted.encode(errors="surrogatepass"))
        if at >= 0:
            yield subject.mismatch("not_contains", f"not {unwanted}", excerpt(subject.data, at))


def _seeming(wanted: str, subject: Subject) -> str:
    """A prefix that names the look-alike characters, if the text only seems to contain `wanted`; else empty."""
    if len(subject.data) > _MAX_SEEMING_BYTES:
        return ""
    alike = look_alike(wanted, subject.data.decode(errors="backslashreplace"))
    return "" if alike is None else f"what looks like it is there, written with {alike}: "


def _matches(expect: TextExpect, subject: Subject) -> Iterator[Mismatch]:
    if expect.matches is not None and not re.search(expect.matches, subject.data.decode(errors="backslashreplace")):
        yield subject.mismatch("matches", f"a match of {expect.matches}", excerpt(subject.data))


def _json(expect: TextExpect, subject: Subject) -> Iterator[Mismatch]:
    if not expect.has_json:
        return
    try:
        found = first_difference(expect.json, parse_json(subject.data))
    except ValueError as error:
        yield subject.mismatch("json", "JSON", f"{error}: {excerpt(subject.data)}")
        return
    if found:
        path, expected, actual = found
        yield subject.mismatch("json", f"{path}: {_short(expected)}", f"{path}: {_short(actual)}")


def _json_path(expect: TextExpect, subject: Subject) -> Iterator[Mismatch]:
    if not expect.json_path:
        return
    try:
        tree = parse_json(subject.data)
        for path, expected in expect.json_path.items():
            try:
                found = first_difference(expected, jsonpath.lookup(tree, path), path.removesuffix("."))
            except LookupError:
                found = (path, compact(expected), "nothing there")
            if found:
                yield subject.mismatch("json_path", f"{found[0]}: {_short(found[1])}", f"{found[0]}: {_short(found[2])}")
    except ValueError as error:
        yield subject.mismatch("json_path", "JSON", f"{error}: {excerpt(subject.data)}")


def _lines(expect: TextExpect, subject: Subject) -> Iterator[Mismatch]:
    """Check the number of lines. A last line without a newline counts."""
    count = subject.data.count(b"\n") + (not subject.data.endswith(b"\n") and subject.data != b"")
    if expect.lines is not None and count != expect.lines:
        yield subject.mismatch("lines", _count(expect.lines), f"{_count(count)}: {excerpt(subject.data)}")


def _empty(expect: TextExpect, subject: Subject) -> Iterator[Mismatch]:
    if expect.empty is True and subject.data:
        yield subject.mismatch("empty", "nothing", f"{len(subject.data)} bytes: {excerpt(subject.data)}")
    if expect.empty is False and not subject.data:
        yield subject.mismatch("empty", "at least one byte", "nothing")


def _file(expect: TextExpect, subject: Subject) -> Iterator[Mismatch]:
    if expect.file is None:
        return
    try:
        expected = expect.file.read_bytes()
    except OSError as error:
        yield subject.mismatch("file", f"the bytes of {expect.file}", f"that file could not be read: {error.strerror}")
        return
    yield from _same_bytes("file", expected, subject)


def _count(lines: int) -> str:
    return f"{lines} line" if lines == 1 else f"{lines} lines"


def _short(text: str) -> str:
    return excerpt(text.encode())
