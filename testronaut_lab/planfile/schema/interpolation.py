"""`${{matrix.KEY}}` in a plan, filled in for one cell while the plan is read.

A value is put into text as it is written; where the reference is all there is, a number stays a number. In a regex it stands
for itself. Scripts get the values as variables, never as pasted text. Which cells there are is found in `grammar/matrix.py`; the
values that steps save, which are known only when they run, are `model/substitution.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from testronaut_lab.model.cells import Cell
from testronaut_lab.model.substitution import REFERENCE, references
from testronaut_lab.planfile.schema.problems import did_you_mean
from testronaut_lab.planfile.schema.tree import ListNode, Node, ScalarNode, TableNode, Value

_PREFIX = "matrix."

# What a text is, which decides what becomes of a reference in it: `content` is a file's, where without a matrix `${{` is
# nothing of ours, and in `nothing` there is no place for one.
Holds = Literal["text", "regex", "template", "content", "script", "nothing"]


@dataclass(frozen=True, slots=True)
class CellValue:
    """A value of a matrix. Two are the same if they are written the same."""

    text: str
    value: str | int | float | bool = field(compare=False)


WrittenCell = Mapping[str, CellValue]


@dataclass(frozen=True)
class Matrix:
    cells: tuple[WrittenCell, ...]

    @cached_property
    def values(self) -> Mapping[str, frozenset[str]]:
        """Every key that any cell has, and the values it has there."""
        keys = dict.fromkeys(key for cell in self.cells for key in cell)
        return {key: frozenset(cell[key].text for cell in self.cells if key in cell) for key in keys}


def as_cell(written: WrittenCell) -> Cell:
    return tuple((key, value.text) for key, value in written.items())


def variable(key: str) -> str:
    """The name of the environment variable that has the value in every step."""
    return f"MATRIX_{key.upper()}"


def names_key(name: str) -> bool:
    """Whether what stands between the braces is meant as a key of the matrix, and not as a saved value."""
    return name.startswith(_PREFIX)


def keys_named(text: str) -> Iterator[str]:
    return (name.removeprefix(_PREFIX) for name in references(text) if names_key(name))


def varying(tree: Node) -> frozenset[int]:
    """The ids of the lists and tables in which a reference to the matrix stands anywhere, in keys too."""
    found: set[int] = set()
    _gather(tree, found)
    return frozenset(found)


def _gather(node: Node, found: set[int]) -> bool:
    match node:
        case ScalarNode(value=value):
            return isinstance(value, str) and any(keys_named(value))
        case ListNode(items=items):
            varies = [_gather(item, found) for item in items]
        case TableNode(entries=entries):
            varies = [_gather(each, found) or any(keys_named(key)) for key, each in entries.items()]
    if any(varies):
        found.add(id(node))
    return any(varies)


@dataclass(frozen=True, slots=True)
class Filler:
    """Fills in one cell of a matrix; both are None for a plan without one. Raises ValueError with the whole message."""

    matrix: Matrix | None = None
    cell: WrittenCell | None = None

    def text(self, text: str, holds: Holds) -> str:
        if not any(keys_named(text)) or (self.matrix is None and holds in ("content", "script")):
            return text
        filled = REFERENCE.sub(lambda match: self._piece(match, holds), text)
        if holds != "content" and list(references(filled)) != [name for name in references(text) if not names_key(name)]:
            raise ValueError(f"with its values, {text!r} would be another reference")
        return filled

    def value(self, text: str) -> CellValue | None:
        """The value itself where `text` is one reference and nothing else; otherwise None."""
        match = REFERENCE.fullmatch(text)
        if match is None or not names_key(match[1]) or len(list(references(text))) != 1:
            return None
        return self._value(match[1].removeprefix(_PREFIX))

    def _piece(self, match: re.Match[str], holds: Holds) -> str:
        if not names_key(match[1]):
            return match[0]
        key = match[1].removeprefix(_PREFIX)
        value = self._value(key, ", or `source: FILE` for a text that holds it" if holds == "content" else "")
        match holds:
            case "script":
                raise ValueError(f"`{_shown(key)}` cannot stand in a script; its value is in ${variable(key)}")
            case "nothing":
                raise ValueError(f"`{_shown(key)}` cannot stand here: what does is the same in all cells")
            case "regex":
                return re.escape(value.text)
            case "template":
                return value.text.replace("\\", "\\\\")
            case "text" | "content":
                return value.text

    def _value(self, key: str, advice: str = "") -> CellValue:
        if self.matrix is None or self.cell is None:
            raise ValueError(f"`{_shown(key)}` has no value: this plan has no `matrix`")
        if key not in self.matrix.values:
            raise ValueError(f"the matrix has no key {key!r}{did_you_mean(key, self.matrix.values)}{advice}")
        if key not in self.cell:
            raise ValueError(f"`{_shown(key)}` has no value in this cell")
        return self.cell[key]


def typed(node: ScalarNode, value: CellValue) -> ScalarNode:
    kept: Value = value.value
    return ScalarNode(node.place, kept, value.text)


def _shown(key: str) -> str:
    return f"${{{{{_PREFIX}{key}}}}}"
