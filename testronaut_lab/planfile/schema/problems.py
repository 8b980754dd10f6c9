"""Collects what is wrong with a plan, so that one message shows everything that has to be mended."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from testronaut_lab.errors import UsageError

_SHOWN = 20
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where something is written. `line` counts from 1; it is 0 for a tree made in Python."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Problems:
    """Collects problems. `raise_if_any` makes one UsageError of them, sorted by line."""

    def __init__(self) -> None:
        self._messages: dict[tuple[Position, str], None] = {}

    def add(self, place: Position, at: str, message: str) -> None:
        """Add a problem. `at` is the key path; it is empty for the whole plan."""
        self._messages[place, f"{place}: {at}: {message}" if at else f"{place}: {message}"] = None

    @property
    def found(self) -> bool:
        return bool(self._messages)

    def gather(self, parts: Mapping[str, Problems]) -> None:
        """Add the problems of the readings for several cells, by the cell's name.

        A problem that not all readings have says in which cell it is.
        """
        names: dict[tuple[Position, str], list[str]] = {}
        for name, part in parts.items():
            for entry in part._messages:
                names.setdefault(entry, []).append(name)
        for (place, message), where in names.items():
            more = f" and {len(where) - 1} more" if len(where) > 1 else ""
            only = "" if len(where) == len(parts) else f" (in the cell {where[0]}{more})"
            self._messages[place, message + only] = None

    def raise_if_any(self) -> None:
        if not self._messages:
            return
        lines = [message for _, message in sorted(self._messages, key=lambda entry: entry[0])]
        if len(lines) > _SHOWN:
            lines = [*lines[:_SHOWN], f"… and {len(lines) - _SHOWN} more"]
        raise UsageError("\n".join(lines), hint="testronaut-lab schema plan")


def below(at: str, key: str | int) -> str:
    """Return the key path of an entry: `cases[0].steps`, or `files["a b"]` for a key that is no plain word."""
    if isinstance(key, int):
        return f"{at}[{key}]"
    if not _PLAIN_KEY.fullmatch(key):
        return f"{at}[{json.dumps(key, ensure_ascii=not key.isprintable())}]"
    return f"{at}.{key}" if at else key


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message: `; did you mean 'contains'?`, or a list of all `known` names if none is near."""
    names = sorted(known)
    if near := _close(name, names):
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(names)}" if names else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the name in `known` that is most like `name`, or the first one. `known` must not be empty."""
    names = sorted(known)
    return (_close(name, names) or names)[0]


def _close(name: str, names: list[str]) -> list[str]:
    return difflib.get_close_matches(name.lower(), names, n=1)
