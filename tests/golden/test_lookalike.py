"""Texts that look alike and differ: the differing characters are named."""

from __future__ import annotations

import pytest

from testronaut_lab.golden.lookalike import look_alike
from testronaut_lab.golden.textdiff import diff, diff_if_useful
from testronaut_lab.judge.text import Subject, check_text
from testronaut_lab.model.expect import TextExpect

ALIKE = [
    ("a b", "a\xa0b", "expected U+0020 SPACE, found U+00A0 NO-BREAK SPACE"),
    (
        "caf\xe9",
        "cafe\u0301",
        "expected U+00E9 LATIN SMALL LETTER E WITH ACUTE, found U+0065 LATIN SMALL LETTER E and U+0301 COMBINING ACUTE ACCENT",
    ),
    (
        "cafe",
        "cafe\u0301",
        "expected U+0065 LATIN SMALL LETTER E, found U+0065 LATIN SMALL LETTER E and U+0301 COMBINING ACUTE ACCENT",
    ),
    ("paypal", "p\u0430ypal", "expected U+0061 LATIN SMALL LETTER A, found U+0430 CYRILLIC SMALL LETTER A"),
    ("\x1b[31m", "\\x1b[31m", "expected U+001B ESCAPE, found U+005C REVERSE SOLIDUS"),
    ("ab", "a\u200bb", "expected U+0062 LATIN SMALL LETTER B, found U+200B ZERO WIDTH SPACE"),
    ("a-b", "a\u2010b", "expected U+002D HYPHEN-MINUS, found U+2010 HYPHEN"),
]


@pytest.mark.parametrize(("expected", "actual", "said"), ALIKE)
def test_what_differs_is_spelled_out(expected: str, actual: str, said: str) -> None:
    for before in ("", "first\n"):
        told = diff(f"{before}{expected}\n".encode(), f"{before}{actual}\n".encode())
        assert told is not None and told.endswith(f"@@ line {2 if before else 1}: {said} @@\n")
    assert said in (diff_if_useful(expected.encode(), actual.encode()) or "")


def test_a_difference_that_can_be_seen_is_not_spelled_out() -> None:
    assert diff_if_useful(b"one\n", b"two\n") is None
    assert "U+" not in (diff(b"one\nx\n", b"two\nx\n") or "")


def test_what_seems_to_be_contained_is_said_with_what_keeps_it_from_being() -> None:
    (mismatch,) = check_text(TextExpect(contains=("a b",)), Subject("stdout", "x a\xa0b y".encode()))
    assert mismatch.actual == "what looks like it is there, written with U+00A0 NO-BREAK SPACE: x a\xa0b y"
    (mismatch,) = check_text(TextExpect(contains=("a b",)), Subject("stdout", b"nothing"))
    assert mismatch.actual == "nothing"


@pytest.mark.parametrize(("wanted", "text"), [("a", "b"), ("a", "a"), ("", "x")])
def test_what_does_not_even_seem_so_is_not_said(wanted: str, text: str) -> None:
    assert look_alike(wanted, text) is None
