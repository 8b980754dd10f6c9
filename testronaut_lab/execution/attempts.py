"""The attempts of a step that is run again until it holds: what is said of those that failed, and the pause between two.

Which verdicts call for another attempt is decided in `case.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from testronaut_lab.model.result import Mismatch

_LOOK_EVERY_S = 0.02
_MAX_NOTES = 10
_MAX_LENGTH = 80


class Attempts:
    """Collects why attempts failed; those that failed in a row for one reason become one note."""

    def __init__(self) -> None:
        self._reasons: list[tuple[int, int, str]] = []  # first and last attempt, why
        self._said: tuple[str, ...] = ()

    def failed(self, number: int, mismatches: Sequence[Mismatch]) -> None:
        """The first mismatch stands for all of them."""
        why = _in_words(mismatches)
        if self._reasons and self._reasons[-1][2] == why:
            self._reasons[-1] = (self._reasons[-1][0], number, why)
        else:
            self._reasons.append((number, number, why))

    def say(self, note: str) -> None:
        self._said += (note,)

    def notes(self) -> tuple[str, ...]:
        """In order; of many reasons the last ones."""
        left_out = len(self._reasons) - _MAX_NOTES
        before = (f"{left_out} earlier reasons of failed attempts are left out",) if left_out > 0 else ()
        return (*before, *(_note(*reason) for reason in self._reasons[-_MAX_NOTES:]), *self._said)


def paused(delay_s: float, stopped: Callable[[], bool]) -> bool:
    """Wait so long; False, within 20 ms, if somebody says stop."""
    end = time.monotonic() + delay_s
    while not stopped():
        left_s = end - time.monotonic()
        if left_s <= 0:
            return True
        time.sleep(min(left_s, _LOOK_EVERY_S))
    return False


def _note(first: int, last: int, why: str) -> str:
    which = f"attempt {first}" if first == last else f"attempts {first} to {last}"
    return f"{which} failed: {why}"


def _in_words(mismatches: Sequence[Mismatch]) -> str:
    if not mismatches:
        return "no reason was recorded"
    first = mismatches[0]
    more = f", and {len(mismatches) - 1} more" if mismatches[1:] else ""
    return f"{first.aspect}: expected {_short(first.expected)}, got {_short(first.actual)}{more}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_LENGTH else line[:_MAX_LENGTH] + "…"
