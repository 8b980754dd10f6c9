"""A plan as a tree of nodes that know their lines, and the limits of such a tree (depth, size, numbers).

`syntax.py` reads text into the tree; `grammar/plan.py` says what the tree must look like.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from testronaut_lab.model.number import WRITTEN
from testronaut_lab.planfile.schema.problems import Position, Problems, below

MAX_DEPTH: Final = 32
MAX_NODES: Final = 100_000
MAX_DIGITS: Final = 400

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A single value. `text` is how a number, true or false is written; None if it was made in Python."""

    place: Position
    value: Value
    text: str | None = None


@dataclass(frozen=True, slots=True)
class ListNode:
    place: Position
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class TableNode:
    """A table. `keys` has the place of each key; the key may be on an earlier line than its value."""

    place: Position
    entries: Mapping[str, Node]
    keys: Mapping[str, Position]


Node = ScalarNode | ListNode | TableNode


@dataclass(slots=True)
class _Frame:
    place: Position
    is_table: bool
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Position] = field(default_factory=dict)
    key: str | None = None

    def node(self) -> Node:
        return TableNode(self.place, self.entries, self.keys) if self.is_table else ListNode(self.place, tuple(self.items))

    @property
    def here(self) -> str | int | None:
        return self.key if self.is_table else len(self.items)


class TreeBuilder:
    """Builds the tree from a sequence of scalars, openings and closings, and enforces the limits."""

    def __init__(self, file: str, problems: Problems) -> None:
        self.root: Node | None = None
        self._file = file
        self._problems = problems
        self._frames: list[_Frame] = []
        self._count = 0

    @property
    def wants_key(self) -> bool:
        return bool(self._frames) and self._frames[-1].is_table and self._frames[-1].key is None

    def problem(self, line: int, message: str) -> None:
        at = ""
        for frame in self._frames:
            at = at if frame.here is None else below(at, frame.here)
        self._problems.add(Position(self._file, line), at, message)

    def stop(self, line: int, message: str) -> None:
        """Add a problem and raise UsageError with all problems so far. For text that makes it pointless to read on."""
        self.problem(line, message)
        self._problems.raise_if_any()

    def open(self, line: int, *, is_table: bool) -> None:
        if self.wants_key:
            self.stop(line, "a key must be text")
        self._bounded(line)
        self._frames.append(_Frame(Position(self._file, line), is_table))
        if len(self._frames) > MAX_DEPTH:
            self.stop(line, f"nested deeper than {MAX_DEPTH} levels")

    def close(self) -> None:
        self._place(self._frames.pop().node())

    def scalar(self, value: Value, line: int, text: str | None = None) -> None:
        """Add a single value. `text` is how it is written; None if it was made in Python."""
        self._bounded(line)
        if self.wants_key:
            self._take_key(value, line)
        else:
            written = text if isinstance(value, int | float) else None
            self._place(ScalarNode(Position(self._file, line), self._checked(value, line, written), written))

    def finish(self) -> Node:
        self._problems.raise_if_any()
        return self.root or ScalarNode(Position(self._file, 1), None)

    def _bounded(self, line: int) -> None:
        self._count += 1
        if self._count > MAX_NODES:
            self.stop(line, f"more than {MAX_NODES} values")

    def _take_key(self, value: Value, line: int) -> None:
        frame = self._frames[-1]
        if not isinstance(value, str):
            self.problem(line, "a key must be text; write it in quotes")
        key = frame.key = str(self._checked(value, line))
        if key in frame.keys:
            first = frame.keys[key].line
            self.problem(
                line, f"the key {key!r} is here for the second time" + (f"; the first is in line {first}" if first else "")
            )
        frame.keys.setdefault(key, Position(self._file, line))

    def _checked(self, value: Value, line: int, written: str | None = None) -> Value:
        # A JSON expectation compares the number as it is written, so one that overflows a float is fine.
        too_large = written is not None and WRITTEN.fullmatch(written)
        if isinstance(value, float) and not math.isfinite(value) and not too_large:
            self.problem(line, "a number that is not finite")
            return None
        if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
            self.problem(line, f"a number of more than {MAX_DIGITS} digits")
            return None
        if isinstance(value, str) and not _is_unicode(value):
            self.problem(line, "half a surrogate pair is not valid text")
            return ""
        return value

    def _place(self, node: Node) -> None:
        if not self._frames:
            self.root = node
            return
        frame = self._frames[-1]
        if frame.is_table:
            frame.entries[frame.key or ""] = node
            frame.key = None
        else:
            frame.items.append(node)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
