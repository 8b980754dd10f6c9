"""The `matrix` of a plan: reads it, makes its cells, and reads the keys that refer to it, `when` and `per`.

A plan is read once for each cell; `schema/interpolation.py` fills in the values of the cell.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from testronaut_lab.model.cells import Cell, bracketed, folder_name
from testronaut_lab.model.substitution import references
from testronaut_lab.planfile.grammar.types import VARIABLE
from testronaut_lab.planfile.schema.containers import ListOf, MapOf
from testronaut_lab.planfile.schema.fields import Reading, Refused, Schema, found, scalars
from testronaut_lab.planfile.schema.interpolation import CellValue, Matrix, WrittenCell, as_cell, keys_named, variable
from testronaut_lab.planfile.schema.problems import below, did_you_mean
from testronaut_lab.planfile.schema.tree import ListNode, Node, ScalarNode, TableNode

MAX_CELLS: Final = 256
_INCLUDE, _EXCLUDE = "include", "exclude"
_ABOUT = (
    "the plan is run once for each cell, which is one combination of a value of each key: `${{matrix.KEY}}` is the value, in "
    "scripts $MATRIX_KEY"
)
_ABOUT_INCLUDE = (
    "each entry is added to every cell that it can be added to without changing a value of the keys above; where there is none, "
    "it is a cell of its own"
)
_ABOUT_EXCLUDE = "a cell that has all the values of an entry is left out, before `include` is looked at"


@dataclass(frozen=True, slots=True)
class Scalar:
    """Text, a number, true or false, kept as it is written."""

    words: str = "text, a number, true or false"

    def read(self, node: Node, at: str, reading: Reading) -> CellValue:
        if not isinstance(node, ScalarNode) or node.value is None:
            raise reading.refuse(node, at, f"expected {self.words}, found {found(node)}")
        text = _written(node)
        if any(references(text)):
            raise reading.refuse(node, at, "a value of the matrix cannot be a reference")
        if "\0" in text:
            raise reading.refuse(node, at, "a NUL byte cannot stand here")
        return CellValue(text, node.value)

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        return {"type": ["string", "number", "boolean"]}


_VALUES: Final = ListOf(Scalar(), at_least=1)
_ENTRIES: Final = ListOf(MapOf(VARIABLE, Scalar(), at_least=1))


def _written(node: ScalarNode) -> str:
    if node.text is not None:
        return node.text
    return str(node.value).lower() if isinstance(node.value, bool) else str(node.value)


class MatrixTable:
    """The kind of the key `matrix`, for the schema. `read_matrix` makes the cells before anything else is read."""

    words = "a table of keys and lists of their values"

    def read(self, node: Node, at: str, reading: Reading) -> None:
        """No-op: `read_matrix` has validated this key."""

    def schema(self, definitions: dict[str, JsonValue], /) -> Schema:
        entries = _ENTRIES.schema(definitions)
        return {
            "type": "object",
            "minProperties": 1,
            "description": _ABOUT,
            "propertyNames": VARIABLE.schema(definitions),
            "properties": {
                _INCLUDE: {**entries, "description": _ABOUT_INCLUDE},
                _EXCLUDE: {**entries, "description": _ABOUT_EXCLUDE},
            },
            "additionalProperties": _VALUES.schema(definitions),
        }


MATRIX: Final = MatrixTable()


@dataclass(frozen=True, slots=True)
class When:
    """Lists of values by key. A cell matches if it has one of the values of every key."""

    words: str = "a table of keys of the matrix: lists of their values"

    def read(self, node: Node, at: str, reading: Reading) -> Mapping[str, frozenset[str]]:
        wanted = MapOf(VARIABLE, _VALUES, at_least=1).read(node, at, reading)
        assert isinstance(node, TableNode)
        clean = [_is_known(ScalarNode(node.keys[key], key), below(at, key), reading) for key in node.entries]
        if all(clean):
            clean += [_is_value(key, each, path, reading) for key, each, path in _listed(node, at)]
        if not all(clean):
            raise Refused
        return {str(key): frozenset(value.text for value in _values(values)) for key, values in wanted.items()}

    def schema(self, definitions: dict[str, JsonValue], /) -> Schema:
        shape = MapOf(VARIABLE, _VALUES, at_least=1).schema(definitions)
        return {**shape, "description": "only in cells that have one of the values of each key"}


WHEN: Final = When()


@dataclass(frozen=True, slots=True)
class Per:
    """A list of keys of the matrix."""

    words: str = "a list of keys of the matrix"

    def read(self, node: Node, at: str, reading: Reading) -> tuple[str, ...]:
        keys = ListOf(VARIABLE).read(node, at, reading)
        assert isinstance(node, ListNode)
        clean = [_is_known(each, below(at, i), reading) for i, each in enumerate(node.items)]
        if not all(clean):
            raise Refused
        assert reading.filler.matrix is not None or not keys
        for key in map(str, keys):
            _check_folders(key, sorted(reading.filler.matrix.values[key] if reading.filler.matrix else ()), node, at, reading)
        return tuple(map(str, keys))

    def schema(self, definitions: dict[str, JsonValue], /) -> Schema:
        return {**ListOf(VARIABLE).schema(definitions), "description": "one golden for each value of these keys of the matrix"}


PER: Final = Per()


def holds(when: Mapping[str, frozenset[str]], cell: Cell) -> bool:
    values = dict(cell)
    return all(values.get(key) in wanted for key, wanted in when.items())


def _is_known(node: Node, at: str, reading: Reading) -> bool:
    """Whether the node names a key of the matrix. Adds a problem if not."""
    key = str(node.value) if isinstance(node, ScalarNode) else ""
    matrix = reading.filler.matrix
    if matrix is None:
        reading.problems.add(node.place, at, f"there is no key {key!r}: this plan has no `matrix`")
    elif key not in matrix.values:
        reading.problems.add(node.place, at, f"the matrix has no key {key!r}{did_you_mean(key, matrix.values)}")
    return matrix is not None and key in matrix.values


def _is_value(key: str, node: ScalarNode, at: str, reading: Reading) -> bool:
    assert reading.filler.matrix is not None
    known, text = reading.filler.matrix.values[key], _written(node)
    if text not in known:
        reading.problems.add(node.place, at, f"no cell has the {key} {text!r}{did_you_mean(text, known)}")
    return text in known


def _check_folders(key: str, values: Sequence[str], node: Node, at: str, reading: Reading) -> None:
    """Check that no two values differ only in case: each is part of a folder's name. Raises Refused."""
    first: dict[str, str] = {}
    for value in values:
        other = first.setdefault(folder_name("", ((key, value),)).lower(), value)
        if other != value:
            raise reading.refuse(node, at, f"the values {other!r} and {value!r} of {key!r} would be one folder on some systems")


def _listed(node: TableNode, at: str) -> Iterator[tuple[str, ScalarNode, str]]:
    for key, each in node.entries.items():
        for i, item in enumerate(each.items if isinstance(each, ListNode) else ()):
            if isinstance(item, ScalarNode):
                yield key, item, below(below(at, key), i)


def read_matrix(plan: Node, reading: Reading) -> Matrix | None:
    """Return the matrix of a plan; None for a plan without one. Raises Refused after the problems were added."""
    node = plan.entries.get("matrix") if isinstance(plan, TableNode) else None
    if node is None:
        return None
    if not isinstance(node, TableNode) or not node.entries:
        what = "an empty table" if isinstance(node, TableNode) else found(node)
        raise reading.refuse(node, "matrix", f"expected {MATRIX.words}, found {what}")
    assert isinstance(plan, TableNode)
    matrix = Matrix(_Expansion(node, reading).cells())
    _check_used(plan, node, matrix, reading)
    return matrix


class _Expansion:
    """Makes the cells of a written matrix. Every method raises Refused for a matrix that cannot be."""

    def __init__(self, node: TableNode, reading: Reading) -> None:
        self._node = node
        self._reading = reading
        self._read_all()

    def _read_all(self) -> None:
        self._axes: dict[str, tuple[CellValue, ...]] = {}
        self._entries: dict[str, list[WrittenCell]] = {_INCLUDE: [], _EXCLUDE: []}
        refused = False
        for key, node in self._node.entries.items():
            at = below("matrix", key)
            try:
                if key in self._entries:
                    self._entries[key] = [_cell(each) for each in _ENTRIES.read(node, at, self._reading)]
                else:
                    VARIABLE.read(ScalarNode(self._node.keys[key], key), at, self._reading)
                    self._axes[key] = self._distinct(_values(_VALUES.read(node, at, self._reading)), node, at)
            except Refused:
                refused = True
        if refused:
            raise Refused
        self._check_names()

    def cells(self) -> tuple[WrittenCell, ...]:
        count = 1
        for values in self._axes.values():
            count *= len(values)
            self._check_count(count)
        product = [dict(zip(self._axes, values, strict=True)) for values in itertools.product(*self._axes.values())]
        left = self._without_excluded(product if self._axes else [])
        cells = self._with_included(left)
        self._check_count(len(cells))
        if not cells:
            raise self._refuse(self._node, "matrix", "no cell is left")
        return tuple(cells)

    def _without_excluded(self, product: list[dict[str, CellValue]]) -> list[dict[str, CellValue]]:
        excluded: set[int] = set()
        for i, entry in enumerate(self._entries[_EXCLUDE]):
            hit = {j for j, cell in enumerate(product) if entry.items() <= cell.items()}
            if not hit:
                self._complain_of_exclude(entry, i)
            excluded |= hit
        return [cell for j, cell in enumerate(product) if j not in excluded]

    def _with_included(self, left: list[dict[str, CellValue]]) -> list[dict[str, CellValue]]:
        """Add the `include` entries. An entry may extend or change what another entry added, but not a value of the product."""
        cells = [dict(cell) for cell in left]
        for i, entry in enumerate(self._entries[_INCLUDE]):
            fitting = [
                cell
                for cell, own in zip(cells, left, strict=False)
                if all(own.get(key, value) == value for key, value in entry.items())
            ]
            if not fitting:
                fitting = [{}]
                cells.append(fitting[0])
            elif all(entry.items() <= cell.items() for cell in fitting):
                raise self._refuse_entry(_INCLUDE, i, f"{_named(entry)} is in every cell already that it could be added to")
            for cell in fitting:
                cell.update(entry)
            if any(one == other for one, other in itertools.combinations(cells[len(left) :], 2)):
                raise self._refuse_entry(_INCLUDE, i, f"the cell {_named(entry)} is there already")
        return cells

    def _complain_of_exclude(self, entry: WrittenCell, i: int) -> None:
        for key, value in entry.items():
            if key not in self._axes:
                raise self._refuse_entry(_EXCLUDE, i, f"the matrix has no key {key!r}{did_you_mean(key, self._axes)}")
            known = [each.text for each in self._axes[key]]
            if value not in self._axes[key]:
                raise self._refuse_entry(_EXCLUDE, i, f"no cell has the {key} {value.text!r}{did_you_mean(value.text, known)}")
        raise self._refuse_entry(_EXCLUDE, i, f"no cell is {_named(entry)}")

    def _distinct(self, values: Sequence[CellValue], node: Node, at: str) -> tuple[CellValue, ...]:
        for i, value in enumerate(values):
            if value in values[:i]:
                place = node.items[i] if isinstance(node, ListNode) else node
                raise self._refuse(place, below(at, i), f"the value {value.text!r} is here for the second time")
        return tuple(values)

    def _check_names(self) -> None:
        """Refuse two keys that differ only in case: they would be one variable and, on some systems, one folder of goldens."""
        first: dict[str, str] = {}
        for key in (*self._axes, *(key for entry in self._entries[_INCLUDE] for key in entry)):
            other = first.setdefault(variable(key), key)
            if other != key:
                raise self._refuse(self._node, "matrix", f"the keys {other!r} and {key!r} would both be ${variable(key)}")

    def _check_count(self, count: int) -> None:
        if count > MAX_CELLS:
            raise self._refuse(self._node, "matrix", f"a matrix has at most {MAX_CELLS} cells; this one has more")

    def _refuse_entry(self, kind: str, i: int, message: str) -> Refused:
        entries = self._node.entries[kind]
        node = entries.items[i] if isinstance(entries, ListNode) else entries
        return self._refuse(node, below(below("matrix", kind), i), message)

    def _refuse(self, node: Node, at: str, message: str) -> Refused:
        return self._reading.refuse(node, at, message)


def _named(entry: WrittenCell) -> str:
    return bracketed(as_cell(entry))


def _cell(entry: object) -> WrittenCell:
    assert isinstance(entry, dict)
    return entry


def _values(values: object) -> tuple[CellValue, ...]:
    assert isinstance(values, tuple)
    return values


def _check_used(plan: TableNode, node: TableNode, matrix: Matrix, reading: Reading) -> None:
    """Refuse a key that nothing uses: its cells would run the same thing under different names."""
    used = _used(plan)
    unused = [key for key in matrix.values if key not in used]
    for key in unused:
        own = key in node.keys
        ways = f"`${{{{matrix.{key}}}}}`, `when` or ${variable(key)}"
        reading.problems.add(
            node.keys[key] if own else node.place,
            below("matrix", key if own else _INCLUDE),
            f"the key {key!r} is used nowhere: no {ways}",
        )
    if unused:
        raise Refused


def _used(plan: TableNode) -> set[str]:
    used: set[str] = set()
    variables: set[str] = set()
    for key, value in plan.entries.items():
        for scalar, path, is_key in scalars(value, key) if key != "matrix" else ():
            text = str(scalar.value)
            used |= set(keys_named(text))
            variables |= set(re.findall(r"MATRIX_[A-Z0-9_]+", text))
            if is_key and (when := re.search(r"\.when\.(\w+)\Z", path)):
                used.add(when[1])
    return used | {name for name in _all_keys(plan) if variable(name) in variables}


def _all_keys(plan: TableNode) -> Iterator[str]:
    matrix = plan.entries["matrix"]
    for scalar, _, is_key in scalars(matrix, "matrix"):
        if is_key:
            yield str(scalar.value)
