"""Captured text in the tool's own colours: what is taken from SGR, and that nothing of it can hide text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from testronaut_lab.report.text.styled import ANSI, Look, styled, styled_text
from testronaut_lab.safetext import MAX_LINE_CHARACTERS, clipped, safe_json, safe_line, safe_text


def look(hue: str | None = None, *marks: str) -> Look:
    return Look(hue, frozenset(marks))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("31", look("red")),
        ("", look()),
        ("0", look()),
        ("1;32", look("green", "bold")),
        ("2;3;4", look(None, "dim", "italic", "underline")),
        ("1;22", look()),
        ("31;39", look()),
        ("94", look("blue")),
        ("30", look("grey")),
        ("37", look()),
        ("97", look()),
        ("41;33", look("yellow")),
        ("33;48;5;9", look("yellow")),
        ("38;5;196", look("red")),
        ("38;5;8", look("grey")),
        ("38;5;232", look("grey")),
        ("38;5;255", look()),
        ("38;2;0;200;200", look("cyan")),
        ("38;2;0;0;0", look("grey")),
        ("38;2;255;255;255;1", look(None, "bold")),
    ],
)
def test_hues_and_marks_are_taken(parameters: str, expected: Look) -> None:
    assert styled(f"\x1b[{parameters}mx") == [("x", expected)]


@pytest.mark.parametrize("parameters", ["8", "5", "7", "31;8", "38", "38;5", "38;5;256", "38;2;1;2", "38;7;1", "9999", "1;;8"])
def test_a_sequence_with_anything_else_in_it_is_shown_as_a_whole(parameters: str) -> None:
    assert styled(f"\x1b[{parameters}mx") == [(rf"\x1b[{parameters}mx", look())]


@pytest.mark.parametrize("sequence", ["\x1b[2J", "\x1b]0;t\x07", "\x9b31m", "\x1b[31:1m", "\x1b[?31m", "\x1b[" + "1;" * 40 + "m"])
def test_what_is_no_plain_sgr_is_shown(sequence: str) -> None:
    assert styled(sequence) == [(safe_text(sequence), look())]


def test_pieces_keep_their_order_and_looks() -> None:
    assert styled("a\x1b[31mb\x1b[1mc\x1b[0md") == [("a", look()), ("b", look("red")), ("c", look("red", "bold")), ("d", look())]


def test_text_for_rich_is_no_markup() -> None:
    text = styled_text("\x1b[35m[bold]x[/nope]")
    assert (text.plain, [str(span.style) for span in text.spans]) == ("[bold]x[/nope]", ["magenta"])


@given(st.text(st.sampled_from("\x1b[;m0138259x\n\x9b")))
def test_no_sequence_whatever_leaves_a_control_character(text: str) -> None:
    shown = "".join(piece for piece, _ in styled(text))
    assert shown == safe_text(shown)
    assert isinstance(styled_text(text, ANSI), Text)


def test_a_line_that_is_too_long_says_how_much_is_left_out() -> None:
    shown = clipped("a\n" + "x" * (MAX_LINE_CHARACTERS + 7) + "\nb")
    assert shown == "a\n" + "x" * MAX_LINE_CHARACTERS + "… 7 more characters\nb"


def test_a_line_of_a_list_has_an_end_without_a_limit_too() -> None:
    assert len(safe_line("\x1b" * 10_000_000)) == MAX_LINE_CHARACTERS


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_reads_back_as_it_was_and_holds_nothing_unsafe(text: str) -> None:
    import orjson

    document = safe_json(orjson.dumps([text]))
    assert orjson.loads(document) == [text]
    assert safe_text(document.decode()) == document.decode()
