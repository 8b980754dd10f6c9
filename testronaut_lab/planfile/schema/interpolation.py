"""Fills `${{matrix.KEY}}` in for one cell while the plan is read.

In text, the value stands as it is written. Where the reference is the whole text, a number stays a number. In a regex, the
value is escaped. Scripts get the values as variables, never as pasted text. `grammar/matrix.py` makes the cells. Values that
steps save are known only at run time: `model/substitution.py` fills them in.
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

# What a text is decides how a reference in it is filled in. `content` is a file's text: without a matrix, `${{` means nothing
# there. `nothing` allows no reference.
Holds = Literal["text", "regex", "template", "content", "script", "nothing"]


@dataclass(frozen=True, slots=True)
class CellValue:
    """A value of a matrix. Two values are equal if they are written the same."""

    text: str
    value: str | int | float | bool = field(compare=False)


WrittenCell = Mapping[str, CellValue]


@dataclass(frozen=True)
class Matrix:
    cells: tuple[WrittenCell, ...]

    @cached_property
    def values(self) -> Mapping[str, frozenset[str]]:
        """Return every key that any cell has, with its values."""
        keys = dict.fromkeys(key for cell in self.cells for key in cell)
        return {key: frozenset(cell[key].text for cell in self.cells if key in cell) for key in keys}


def as_cell(written: WrittenCell) -> Cell:
    return tuple((key, value.text) for key, value in written.items())


def variable(key: str) -> str:
    """Return the name of the environment variable that holds the value in every step."""
    return f"MATRIX_{key.upper()}"


def names_key(name: str) -> bool:
    """Whether the name between the braces means a key of the matrix, not a saved value."""
    return name.startswith(_PREFIX)


def keys_named(text: str) -> Iterator[str]:
    return (name.removeprefix(_PREFIX) for name in references(text) if names_key(name))


def varying(tree: Node) -> frozenset[int]:
    """Return the ids of the lists and tables that hold a reference to the matrix at any depth, in values or keys."""
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
class Interpolator:
    """Fills in one cell of a matrix. Both fields are None for a plan without one. Raises ValueError with the whole message."""

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
        """Return the value if `text` is one reference and nothing else, otherwise None."""
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
                raise ValueError(f"`{_shown(key)}` cannot stand here: this text is the same in all cells")
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
