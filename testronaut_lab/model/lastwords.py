"""The end of what a program wrote, within a message: put there for those who see nothing else, left out just below it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

_INTRO: Final = "; its last words:"
_MOST_SHOWN: Final = 300


def with_last_words(how: str, lines: Sequence[str]) -> str:
    """How a program ended, and below it the last lines that it wrote."""
    return f"{how}{_INTRO}\n  " + "\n  ".join(map(_shortened, lines or ("(nothing)",)))


def without_said(message: str, said: Iterable[str]) -> str:
    """The message without those of its last words that are among the lines `said`, for where these can be seen."""
    seen = {_shortened(line).strip() for line in said}
    kept: list[str] = []
    among_words = False
    for line in message.split("\n"):
        if among_words and line.startswith(" ") and line.strip() in seen:
            kept[-1] = kept[-1].removesuffix(_INTRO)
            continue
        among_words = (among_words and line.startswith(" ")) or line.endswith(_INTRO)
        kept.append(line)
    return "\n".join(kept)


def _shortened(line: str) -> str:
    """A list of hundreds of versions without its middle."""
    return line if len(line) <= _MOST_SHOWN else f"{line[: _MOST_SHOWN * 2 // 3]} … {line[-_MOST_SHOWN // 3 :]}"
