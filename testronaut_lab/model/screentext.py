"""Matchers over the text of a terminal's screen, whose lines have no trailing blanks.

On a screen, blanks fill each line to the edge, whoever wrote them. So a text or pattern that ends in a blank (`name? `) also
matches at the end of a line. And a text that must not be there is found even if its trailing blank is left out of the screen's
text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from testronaut_lab.model.expect import TextExpect

_TO_THE_EDGE = 1000  # no terminal of ours is wider


def shows(expect: TextExpect, screen: str) -> bool:
    """Whether a screen holds everything expected. A screen has no JSON and no file."""
    return unmet(expect, screen) == TextExpect()


def unmet(expect: TextExpect, screen: str) -> TextExpect:
    """Return the matchers that do not hold."""
    return TextExpect(
        equals=None if expect.equals is None or _stripped(expect.equals) == screen else expect.equals,
        contains=tuple(text for text in expect.contains if not _holds(text, screen)),
        not_contains=tuple(text for text in expect.not_contains if _holds(text, screen)),
        matches=None if expect.matches is None or _is_found(expect.matches, screen) else expect.matches,
        lines=None if expect.lines is None or expect.lines == len(screen.splitlines()) else expect.lines,
        empty=None if expect.empty is None or expect.empty == (screen == "") else expect.empty,
    )


def _holds(text: str, screen: str) -> bool:
    return text in screen or (" " in text and screen != "" and _with_blanks(text).search(screen) is not None)


@lru_cache(maxsize=256)
def _with_blanks(text: str) -> re.Pattern[str]:
    """Match trailing blanks in a line of the text in the middle of a screen line, or anything after its end."""
    *lines, last = text.split("\n")
    parts = [re.escape(line.rstrip(" ")) + " *" for line in lines]
    body = last.rstrip(" ")
    blanks = len(last) - len(body)
    # at the end of a line, fewer blanks are enough
    tail = f"(?: {{{blanks}}}| {{0,{blanks}}}$)" if blanks else ""
    return re.compile("\n".join([*parts, re.escape(body) + tail]), re.MULTILINE)


def _is_found(pattern: str, screen: str) -> bool:
    """Search in the text as it is, with one blank after each line, and with blanks to the edge."""
    return any(re.search(pattern, text) for text in _padded(screen))


def _padded(screen: str) -> Iterator[str]:
    yield screen
    lines = screen.split("\n")
    yield " \n".join(lines)
    yield "\n".join(line.ljust(_TO_THE_EDGE) for line in lines[:-1]) + "\n" if len(lines) > 1 else screen


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip(" ") for line in text.split("\n"))
