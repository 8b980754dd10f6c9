"""Captured text with the colours that it asks for, and no other terminal sequence.

Only SGR sequences on a whitelist have an effect, and only where they cannot hide text: hues, bold, dim, italic, underline.
Backgrounds are ignored; black and white become the colours of the page. `safe_text` makes every other sequence visible. Where
bytes matter more than looks, as in a diff, only `safe_text` is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from rich.text import Text

from testronaut_lab.safetext import safe_text

# The eight colours by number. Black becomes grey; white has no hue.
HUES = ("grey", "red", "green", "yellow", "blue", "magenta", "cyan", None)
ANSI: Mapping[str, str] = {hue: hue for hue in HUES if hue is not None} | {"grey": "bright_black"}

_SGR = re.compile(r"\x1b\[([0-9;]{0,60})m")
_ON = {1: {"bold"}, 2: {"dim"}, 3: {"italic"}, 4: {"underline"}}
_OFF = {22: {"bold", "dim"}, 23: {"italic"}, 24: {"underline"}}
_BACKGROUNDS = frozenset((*range(40, 48), 49, *range(100, 108)))


@dataclass(frozen=True, slots=True)
class Look:
    """How a piece of text looks. `hue` is one of `HUES`; None is the default colour. `marks` are bold, dim, italic, underline."""

    hue: str | None = None
    marks: frozenset[str] = frozenset()


PLAIN = Look()


def styled(text: str) -> list[tuple[str, Look]]:
    """Split `text` into pieces that are safe to show, each with its look. An unknown sequence stays visible."""
    pieces: list[tuple[str, Look]] = []
    look, begin = PLAIN, 0
    for found in _SGR.finditer(text):
        after = _next_look(look, found[1])
        if after is None:
            continue  # it stays in the text; `safe_text` makes it visible
        if found.start() > begin:
            pieces.append((safe_text(text[begin : found.start()]), look))
        look, begin = after, found.end()
    if begin < len(text):
        pieces.append((safe_text(text[begin:]), look))
    return pieces


def styled_text(text: str, palette: Mapping[str, str] = ANSI) -> Text:
    """Return `text` for rich and Textual, never parsed as markup. `palette` gives the colour of each hue."""
    return Text.assemble(*((piece, rich_style(look, palette)) for piece, look in styled(text)))


def rich_style(look: Look, palette: Mapping[str, str]) -> str:
    return " ".join([*sorted(look.marks), *([] if look.hue is None else [palette[look.hue]])])


def _next_look(look: Look, parameters: str) -> Look | None:
    """Return the look after one sequence; None if it holds anything that is not on the whitelist."""
    numbers = [int(number or 0) for number in parameters.split(";")]
    while numbers:
        number = numbers.pop(0)
        if number == 0:
            look = PLAIN
        elif number in _ON:
            look = replace(look, marks=look.marks | _ON[number])
        elif number in _OFF:
            look = replace(look, marks=look.marks - _OFF[number])
        elif 30 <= number <= 37 or 90 <= number <= 97:
            look = replace(look, hue=HUES[number % 10])
        elif number == 39:
            look = replace(look, hue=None)
        elif number in (38, 48):
            colour = _extended(numbers)
            if colour is None:
                return None
            look = replace(look, hue=_nearest(colour)) if number == 38 else look
        elif number not in _BACKGROUNDS:
            return None
    return look


def _extended(numbers: list[int]) -> tuple[int, int, int] | None:
    """Remove the parameters behind 38 or 48 from the front and return their colour: `5;N` of the 256, or `2;R;G;B`."""
    kind = numbers.pop(0) if numbers else 0
    count = {5: 1, 2: 3}.get(kind, 0)
    values = numbers[:count]
    del numbers[:count]
    if not count or len(values) < count or max(values) > 255:
        return None
    return (values[0], values[1], values[2]) if kind == 2 else _of_256(values[0])


def _of_256(number: int) -> tuple[int, int, int]:
    """Return an xterm colour by number: the sixteen, the cube of 6 × 6 × 6, the greys."""
    if number < 16:
        level = 255 if number > 8 else 128
        red, green, blue = (level if number & bit else 0 for bit in (1, 2, 4))
        return red, green, blue
    if number >= 232:
        return (8 + 10 * (number - 232),) * 3
    red, green, blue = ((number - 16) // step % 6 * 51 for step in (36, 6, 1))
    return red, green, blue


def _nearest(colour: tuple[int, int, int]) -> str | None:
    """Return the hue of a colour: which of red, green and blue stand out. Without any, a dark colour is grey; a light one has
    no hue.
    """
    high, low = max(colour), min(colour)
    if high - low < 48:
        return "grey" if high < 160 else None
    middle = (high + low) / 2
    return HUES[sum(bit for bit, value in zip((1, 2, 4), colour, strict=True) if value > middle)]
