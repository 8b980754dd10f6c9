"""Kinds that are made of other kinds: lists, maps with free keys, alternatives. Tables with known keys are in `table.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from testronaut_lab.planfile.schema.fields import Field, Reading, Refused, Schema, Text, found
from testronaut_lab.planfile.schema.problems import below
from testronaut_lab.planfile.schema.tree import ListNode, Node, ScalarNode, TableNode


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of one kind; read as a tuple."""

    item: Field
    at_least: int = 0

    @property
    def words(self) -> str:
        return "a list"

    def read(self, node: Node, at: str, reading: Reading) -> tuple[object, ...]:
        if not isinstance(node, ListNode):
            raise reading.refuse(node, at, f"expected a list of {self.item.words}, found {found(node)}")
        if len(node.items) < self.at_least:
            raise reading.refuse(node, at, f"expected at least {self.at_least}, found an empty list")
        return tuple(read_all([(each, below(at, i), self.item) for i, each in enumerate(node.items)], reading))

    def schema(self, definitions: dict[str, JsonValue], /) -> Schema:
        minimum: Schema = {"minItems": self.at_least} if self.at_least else {}
        return {"type": "array", "items": self.item.schema(definitions), **minimum}


@dataclass(frozen=True, slots=True)
class MapOf:
    """A table whose keys the writer of the plan chooses; read as a dict."""

    key: Text
    value: Field
    at_least: int = 0

    @property
    def words(self) -> str:
        return "a table"

    def read(self, node: Node, at: str, reading: Reading) -> dict[object, object]:
        if not isinstance(node, TableNode):
            raise reading.refuse(node, at, f"expected a table of {self.key.words}: {self.value.words}, found {found(node)}")
        if len(node.entries) < self.at_least:
            raise reading.refuse(node, at, f"expected at least {self.at_least} entry, found none")
        keys = [(ScalarNode(node.keys[key], key), below(at, key), self.key) for key in node.entries]
        values = [(value, below(at, key), self.value) for key, value in node.entries.items()]
        both = read_all([*keys, *values], reading)
        if len(set(both[: len(keys)])) < len(keys):
            raise reading.refuse(node, at, "with the values of the matrix, two keys are the same")
        return dict(zip(both[: len(keys)], both[len(keys) :], strict=True))

    def schema(self, definitions: dict[str, JsonValue], /) -> Schema:
        names: Schema = {"propertyNames": self.key.schema(definitions)} if self.key.shape else {}
        minimum: Schema = {"minProperties": self.at_least} if self.at_least else {}
        return {"type": "object", **names, **minimum, "additionalProperties": self.value.schema(definitions)}


@dataclass(frozen=True, slots=True)
class Either:
    """One of several kinds. The type of the node selects the kind, so an error message is about the kind that was meant."""

    text: Field | None = None
    number: Field | None = None
    flag: Field | None = None
    items: Field | None = None
    table: Field | None = None

    @property
    def words(self) -> str:
        *others, last = (kind.words for kind in self._kinds())
        return f"{', '.join(others)} or {last}" if others else last

    def read(self, node: Node, at: str, reading: Reading) -> object:
        value = reading.scalar(node, at)
        kind = self._kind_for(value) or (self.text if value is not node else None)
        if kind is None:
            raise reading.refuse(node, at, f"expected {self.words}, found {found(node)}")
        return kind.read(node, at, reading)

    def schema(self, definitions: dict[str, JsonValue], /) -> Schema:
        return {"anyOf": [kind.schema(definitions) for kind in self._kinds()]}

    def _kinds(self) -> list[Field]:
        return [kind for kind in (self.text, self.number, self.flag, self.items, self.table) if kind is not None]

    def _kind_for(self, node: Node) -> Field | None:
        match node:
            case ListNode():
                return self.items
            case TableNode():
                return self.table
            case ScalarNode(value=str()):
                return self.text
            case ScalarNode(value=bool()):
                return self.flag
            case ScalarNode(value=int() | float()):
                return self.number
        return None


@dataclass(frozen=True, slots=True)
class Converted:
    """A kind whose value `convert` turns into another one. A ValueError of `convert` becomes a problem at this place."""

    kind: Field
    convert: Callable[..., object]

    @property
    def words(self) -> str:
        return self.kind.words

    def read(self, node: Node, at: str, reading: Reading) -> object:
        value = self.kind.read(node, at, reading)
        try:
            return self.convert(value)
        except ValueError as error:
            raise reading.refuse(node, at, str(error)) from error

    def schema(self, definitions: dict[str, JsonValue], /) -> Schema:
        return self.kind.schema(definitions)


def read_all(parts: Sequence[tuple[Node, str, Field]], reading: Reading) -> list[object]:
    """Read every part, even after a refusal, so that all problems are found. Raises Refused at the end if there was one."""
    values: list[object] = []
    refused: Refused | None = None
    for node, at, kind in parts:
        try:
            values.append(reading.read(kind, node, at))
        except Refused as error:
            refused = error
    if refused is not None:
        raise refused
    return values
