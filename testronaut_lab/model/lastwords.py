"""The last lines of a program within an error message: adds them, and takes them out again where the reader sees them anyway."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

_INTRO: Final = "; its last words:"
_MOST_SHOWN: Final = 300


def with_last_words(how: str, lines: Sequence[str]) -> str:
    """Return how a program ended, and below it the last lines that it wrote."""
    return f"{how}{_INTRO}\n  " + "\n  ".join(map(_shortened, lines or ("(nothing)",)))


def without_said(message: str, said: Iterable[str]) -> str:
    """Return the message without its last words that are among the lines `said`, which the reader can see."""
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
    """Cut the middle out of a very long line, such as a list of hundreds of versions."""
    return line if len(line) <= _MOST_SHOWN else f"{line[: _MOST_SHOWN * 2 // 3]} … {line[-_MOST_SHOWN // 3 :]}"
