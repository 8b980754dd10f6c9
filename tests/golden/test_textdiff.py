"""Diffs for people: their exact text, and their bounds in size and time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testronaut_lab.golden.textdiff import MAX_COLUMNS, MAX_SHOWN, common_prefix, diff, diff_if_useful, excerpt


def test_same_bytes_have_no_diff() -> None:
    assert diff(b"a\n", b"a\n") is None


def test_changed_line_stands_between_its_neighbours() -> None:
    assert diff(b"one\ntwo\nthree\n", b"one\n2\nthree\n") == "@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"


def test_added_line_is_numbered_as_diff_does() -> None:
    assert diff(b"", b"new\n") == "@@ -0,0 +1 @@\n+new\n"


def test_carriage_return_is_visible() -> None:
    assert diff(b"a\n", b"a\r\n") == "@@ -1 +1 @@\n-a\n+a␍\n"


def test_blanks_at_the_end_and_tabs_are_visible() -> None:
    assert diff(b"a b\n", b"a\tb  \n") == "@@ -1 +1 @@\n-a b\n+a␉b··\n"


def test_missing_final_newline_is_told() -> None:
    assert diff(b"a\n", b"a") == "@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file\n"


def test_bytes_that_look_alike_are_told_apart_by_offset() -> None:
    shown = diff(b"\\xff\n", b"\xff\n")
    assert shown is not None
    assert "byte 0 is the first to differ: 5c expected, ff found" in shown


def test_binary_is_shown_in_hex_from_the_first_difference() -> None:
    assert diff(b"A" * 16 + b"\0\1", b"A" * 16 + b"\0\2") == (
        "@@ byte 17 is the first to differ: 01 expected, 02 found (18 bytes expected, 18 found) @@\n"
        "-00000010  00 01                                            |..|\n"
        "+00000010  00 02                                            |..|\n"
    )


def test_small_change_in_a_huge_text_is_found_exactly() -> None:
    lines = [b"line %d\n" % number for number in range(200_000)]
    changed = [*lines[:150_000], b"other\n", *lines[150_001:]]
    shown = diff(b"".join(lines), b"".join(changed))
    assert shown is not None
    assert shown.startswith("@@ -149998,7 +149998,7 @@\n line 149997\n")
    assert "-line 150000\n+other\n" in shown


def test_two_huge_texts_that_differ_everywhere_show_the_first_difference_quickly() -> None:
    expected = b"same\n" + b"".join(b"a %d\n" % number for number in range(100_000))
    actual = b"same\n" + b"".join(b"b %d\n" % number for number in range(100_000))
    began = time.monotonic()
    shown = diff(expected, actual)
    assert time.monotonic() - began < 5
    assert shown is not None
    assert shown.startswith("@@ line 2 is the first to differ; too many lines differ to compare them all @@\n same\n-a 0\n")


def test_long_diff_is_cut_and_says_how_much() -> None:
    shown = diff(b"", b"x\n" * 1000)
    assert shown is not None
    assert len(shown.splitlines()) == MAX_SHOWN + 1
    assert shown.endswith("… 801 more lines of this diff are left out\n")


def test_long_line_is_cut_around_its_difference() -> None:
    shown = diff("é".encode() * 50_000 + b"1\n", "é".encode() * 50_000 + b"2\n")
    assert shown is not None
    assert "é1\n" in shown
    assert "é2\n" in shown
    assert len(shown) < 3 * MAX_COLUMNS


def test_single_lines_that_differ_visibly_need_no_diff() -> None:
    assert diff_if_useful(b"1\n", b"2\n") is None


def test_single_lines_that_differ_invisibly_get_a_diff() -> None:
    for actual in (b"a", b"a \n", b"a\t\n", b"a\r\n", "a\u200b\n".encode()):
        assert diff_if_useful(b"a\n", actual) is not None


def test_excerpt_keeps_a_window_and_counts_the_rest() -> None:
    data = b"x" * 5000 + b"HERE" + b"y" * 5000
    shown = excerpt(data, 5000)
    assert shown.startswith("… 4000 bytes … xxx")
    assert shown.endswith("yyy … 4004 bytes …")
    assert "HERE" in shown


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_common_prefix_is_where_bytes_begin_to_differ(left: bytes, right: bytes) -> None:
    at = common_prefix(left, right)
    assert left[:at] == right[:at]
    assert at == min(len(left), len(right)) or left[at] != right[at]


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_diff_is_there_exactly_when_bytes_differ(expected: bytes, actual: bytes) -> None:
    assert (diff(expected, actual) is None) == (expected == actual)


@given(st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n"]), max_size=30), st.lists(st.sampled_from([b"a\n", b"b\n"]), max_size=30))
def test_diff_names_at_least_as_many_lines_as_the_lengths_differ_by(expected: list[bytes], actual: list[bytes]) -> None:
    shown = diff(b"".join(expected), b"".join(actual)) or ""
    minus, plus = (sum(line.startswith(sign) for line in shown.splitlines()) for sign in "-+")
    assert plus - minus == len(actual) - len(expected)


TEN_MIB = 10 * 2**20


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (b"a\n" * (TEN_MIB // 2), b"b\n" * (TEN_MIB // 2)),
        (b"\n" * TEN_MIB, b"\n" * (TEN_MIB - 5) + b"x\n"),
        (b"\xff" * TEN_MIB, b"\xfe" * TEN_MIB),
        (b"a" * TEN_MIB, b"a" * (TEN_MIB - 1) + b"b"),
        (b"", b"line\n" * (TEN_MIB // 5)),
        (b"\0" * TEN_MIB, b"\0" * (TEN_MIB - 1) + b"1"),
    ],
    ids=["all lines", "empty lines", "not UTF-8", "one line", "new", "binary"],
)
def test_ten_mebibytes_take_less_than_two_seconds(expected: bytes, actual: bytes) -> None:
    began = time.process_time()
    told = diff(expected, actual)
    assert time.process_time() - began < 2.0
    assert told is not None and len(told) < 300 * 1000
