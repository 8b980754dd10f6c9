"""A stream as a terminal would show it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testronaut_lab.capture.processor import as_shown, with_newlines, without_sequences
from testronaut_lab.execution.sidecar.screen import Screen


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("abc\rX", "Xbc"),
        ("abc\r\x1b[KX", "X"),
        ("abc\b\b\x1b[KX", "aX"),
        ("abc\r\x1b[2KX", "X"),
        ("abcd\b\b\x1b[1KX", "  Xd"),
        ("世界\rab", "ab界"),
        ("世界\ra", "a 界"),
        ("ab\r世", "世"),
        ("a世b\r\tc", "a世b    c"),
        ("e\u0301x\rf", "fx"),
        ("ab\r\x1b[31mc\x1b[0m", "\x1b[31mcb\x1b[0m"),
        ("50%\r", "50%"),
        ("\b\b\ra", "a"),
    ],
)
def test_a_line_that_was_written_over_is_what_a_terminal_shows(line: str, shown: str) -> None:
    assert as_shown(line) == (shown, 1)


def test_a_carriage_return_at_the_end_of_a_line_writes_nothing_over() -> None:
    assert as_shown("a\r\nb\r\r\n") == ("a\r\nb\r\n", 1)


def test_lines_that_were_not_written_over_are_not_touched() -> None:
    assert as_shown("trailing  \x1b[K\n1\r2  \n") == ("trailing  \x1b[K\n2\n", 1)


@given(st.text(st.sampled_from("ab \t\r\b"), max_size=60))
def test_it_agrees_with_a_terminal(line: str) -> None:
    screen = Screen(200, 2)
    screen.feed(line.encode())
    assert as_shown(line + "\r")[0].rstrip() == screen.text().split("\n")[0].rstrip()


def test_a_sequence_that_is_cut_short_leaves_nothing_that_could_become_one() -> None:
    assert without_sequences("\x1b[\x1b[0mm \x1b\x1b[0m[0m \x1b]0;x\x1b[1m") == ("m [0m ", 6)


def test_sequences_of_many_kinds_are_counted() -> None:
    assert without_sequences("\x1bPq#0\x1b\\a\x1b=b\x1b7c\x1b[?25h\x1b[38:5:1md") == ("abcd", 5)


def test_many_carriage_returns_before_a_newline_are_one_line_end() -> None:
    assert with_newlines("a\r\r\nb\rc\r") == ("a\nb\rc\r", 1)
