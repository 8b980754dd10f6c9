"""Matchers of a screen, whose lines are kept without the blanks at their ends."""

from __future__ import annotations

import pytest

from testronaut_lab.model.expect import TextExpect
from testronaut_lab.model.screentext import shows, unmet

SCREEN = "name?\n  secret\nlast line\n"


@pytest.mark.parametrize(
    "expect",
    [
        TextExpect(contains=("name? ", "secret   ", "last line", "name? \n  secret", "name?\n  sec")),
        TextExpect(matches=r"name\? $"),
        TextExpect(matches=r"(?m)name\? $"),
        TextExpect(matches=r"name\?\s+\n"),
        TextExpect(not_contains=("secret x", " name", "last  line")),
        TextExpect(equals="name? \n  secret\nlast line\n"),
        TextExpect(lines=3, empty=False),
    ],
)
def test_what_a_screen_shows_is_found(expect: TextExpect) -> None:
    if expect.matches == r"name\? $":
        assert shows(expect, "name?\n")  # the end of the text
    else:
        assert unmet(expect, SCREEN) == TextExpect()


@pytest.mark.parametrize(
    "expect",
    [
        TextExpect(contains=("x ",)),
        TextExpect(contains=("name? \nsecret",)),
        TextExpect(not_contains=("secret ",)),
        TextExpect(not_contains=("name? ",)),
        TextExpect(not_contains=("secret  \nlast",)),
        TextExpect(matches="secret +last"),
        TextExpect(equals="name?\n"),
    ],
)
def test_what_a_screen_does_not_show_is_not_met(expect: TextExpect) -> None:
    assert unmet(expect, SCREEN) == expect


def test_an_empty_screen_holds_nothing() -> None:
    assert not shows(TextExpect(contains=(" ",)), "")
    assert shows(TextExpect(not_contains=(" ",), empty=True), "")
