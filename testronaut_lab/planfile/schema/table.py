"""A table of a plan whose keys are known: which keys may stand, which must, which exclude each other.

Maps with free keys are in `containers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from testronaut_lab.planfile.schema.containers import read_all
from testronaut_lab.planfile.schema.fields import Field, Reading, Refused, Schema, found
from testronaut_lab.planfile.schema.problems import below, did_you_mean
from testronaut_lab.planfile.schema.tree import Node, ScalarNode, TableNode


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a `Table`. `name` is the argument of `build`; None means the key itself."""

    kind: Field
    name: str | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with known keys. `build` is called with the keys that are there; its ValueError becomes a problem of the table.

    Keys in a group of `exactly_one` or `at_most_one` exclude each other.
    """

    name: str
    keys: Mapping[str, Field | Key]
    build: Callable[..., object] = dict
    exactly_one: Sequence[Sequence[str]] = ()
    at_most_one: Sequence[Sequence[str]] = ()
    at_least: int = 0
    words: str = "a table"

    def read(self, node: Node, at: str, reading: Reading) -> object:
        if not isinstance(node, TableNode):
            raise reading.refuse(node, at, f"expected {self.words}, found {found(node)}")
        clean = self._check_names(node, at, reading)
        fields = [self._field(key) for key in node.entries if key in self.keys]
        known = [(value, below(at, key)) for key, value in node.entries.items() if key in self.keys]
        values = read_all([(value, path, key.kind) for (value, path), key in zip(known, fields, strict=True)], reading)
        if not clean:
            raise Refused
        try:
            return self.build(**{str(key.name): value for key, value in zip(fields, values, strict=True)})
        except ValueError as error:
            raise reading.refuse(node, at, str(error)) from error

    def _field(self, key: str) -> Key:
        entry = self.keys[key]
        return Key(entry.kind, entry.name or key, entry.required) if isinstance(entry, Key) else Key(entry, key)

    def _check_names(self, node: TableNode, at: str, reading: Reading) -> bool:
        """Whether the keys can stand together. Adds a problem for each that cannot."""
        complaints = [*self._unknown(node, at), *self._grouped(node), *self._missing(node)]
        for place_node, path, message in complaints:
            reading.problems.add(place_node.place, path or at, message)
        return not complaints

    def _unknown(self, node: TableNode, at: str) -> list[tuple[Node, str, str]]:
        complaints: list[tuple[Node, str, str]] = []
        for key in node.entries:
            if key not in self.keys:
                message = f"unknown key {key!r}{did_you_mean(key, self.keys)}"
                complaints.append((ScalarNode(node.keys[key], key), below(at, key), message))
        return complaints

    def _grouped(self, node: TableNode) -> list[tuple[Node, str, str]]:
        complaints: list[tuple[Node, str, str]] = []
        for group in (*self.exactly_one, *self.at_most_one):
            there = [key for key in group if key in node.entries]
            if len(there) > 1:
                complaints.append((node, "", f"{' and '.join(map(repr, there))} exclude each other"))
            elif not there and group in self.exactly_one:
                complaints.append((node, "", f"expected one of the keys {', '.join(map(repr, group))}"))
        return complaints

    def _missing(self, node: TableNode) -> list[tuple[Node, str, str]]:
        required = [key for key, entry in self.keys.items() if isinstance(entry, Key) and entry.required]
        complaints = [(node, "", f"the key {key!r} is missing") for key in required if key not in node.entries]
        if len(node.entries) < self.at_least:
            complaints.append((node, "", f"expected at least one of the keys {', '.join(self.keys)}"))
        return list(complaints)

    def schema(self, definitions: dict[str, JsonValue], /) -> Schema:
        if self.name not in definitions:
            definitions[self.name] = {}
            definitions[self.name] = self._definition(definitions)
        return {"$ref": f"#/$defs/{self.name}"}

    def _definition(self, definitions: dict[str, JsonValue]) -> Schema:
        keys = {key: self._field(key) for key in self.keys}
        schema: Schema = {
            "type": "object",
            "properties": {key: each.kind.schema(definitions) for key, each in keys.items()},
            "additionalProperties": False,
        }
        if required := [key for key, each in keys.items() if each.required]:
            schema["required"] = list(required)
        if self.at_least:
            schema["minProperties"] = self.at_least
        groups: list[JsonValue] = [_one_of(group, required=True) for group in self.exactly_one]
        groups += [_one_of(group, required=False) for group in self.at_most_one]
        return {**schema, "allOf": groups} if groups else schema


def _one_of(group: Sequence[str], *, required: bool) -> Schema:
    singles: list[JsonValue] = [{"required": [key]} for key in group]
    none: list[JsonValue] = [] if required else [{"not": {"anyOf": list(singles)}}]
    return {"oneOf": [*singles, *none]}
