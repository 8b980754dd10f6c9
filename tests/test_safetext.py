"""Foreign text on a screen: nothing is left that a terminal acts on or a reader cannot see."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testronaut_lab.safetext import safe_line, safe_text

UNSAFE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def unsafe(text: str) -> list[str]:
    return [char for char in text if unicodedata.category(char) in UNSAFE and char not in "\n\t"]


def test_no_unsafe_character_of_all_there_are_is_left():
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert unsafe(safe_text(everything)) == []


@given(st.text(st.characters(categories=["Cc", "Cf", "Cs", "Co", "Zl", "Zp", "L", "N"])))
def test_no_unsafe_character_is_left_in_any_text(text):
    assert unsafe(safe_text(text)) == []


@given(st.text(st.characters(categories=["L", "N", "P", "Zs", "Sm"]).filter(lambda c: c not in "\u115f\u1160\u3164\uffa0")))
def test_what_can_be_read_stays_as_it_is(text):
    assert safe_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("50%\r100%", r"50%\r100%"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\x7f", r"\x7f"),
        ("é\u202egpj.exe", r"é\u202egpj.exe"),
        ("\u200b\ufeff\u2028", r"\u200b\ufeff\u2028"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("\u3164", r"\u3164"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
        ("naïve 漢字 ❤\ufe0f", "naïve 漢字 ❤\ufe0f"),
    ],
)
def test_each_attack_becomes_visible(text, shown):
    assert safe_text(text) == shown


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("jq .", None, "jq ."),
        ("\n  cd x\n  ls\n", None, "cd x …"),
        ("a\tb", None, "a b"),
        ("", 5, ""),
        ("abcdef", 5, "abcd…"),
        ("abcde", 5, "abcde"),
        ("x\x1b[2J", None, r"x\x1b[2J"),
    ],
)
def test_a_line_of_a_list_is_one_line(text, limit, shown):
    assert safe_line(text, limit) == shown
