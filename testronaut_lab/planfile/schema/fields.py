"""The kinds of single values that may stand in a plan: the pieces that `grammar/plan.py` is made of.

A kind reads a node into a value and adds every problem that it finds. It also writes its own JSON Schema, so that the reader
and the schema cannot drift apart. Lists and maps are in `containers.py`, tables with known keys in `table.py`. What needs
several values (ids, defaults, references) is checked in `planfile/resolve.py`.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeGuard

from pydantic import JsonValue

from testronaut_lab.model.number import ExactNumber
from testronaut_lab.planfile.schema.interpolation import Holds, Interpolator, keys_named, typed
from testronaut_lab.planfile.schema.problems import Problems, below
from testronaut_lab.planfile.schema.tree import ListNode, Node, ScalarNode, TableNode, Value

Schema = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of one plan, for the cell of its matrix that `filler` holds. Paths in the plan are relative to `folder`.

    `varying` has the ids of nodes that depend on the cell. `known` keeps the values of all other nodes from cell to cell.
    """

    folder: Path
    problems: Problems
    filler: Interpolator = field(default_factory=Interpolator)
    varying: frozenset[int] = frozenset()
    known: dict[tuple[int, int], object] = field(default_factory=dict)

    def read(self, kind: Field, node: Node, at: str) -> object:
        """Like `kind.read`, but reads a node that does not vary only once. Raises Refused."""
        if self.filler.cell is None or isinstance(node, ScalarNode) or id(node) in self.varying:
            return kind.read(node, at, self)
        key = (id(node), id(kind))  # both objects live while the plan is read, so no id is reused
        if key not in self.known:
            self.known[key] = kind.read(node, at, self)
        return self.known[key]

    def text(self, node: ScalarNode, at: str, holds: Holds) -> str:
        """Return the text of a text node with its references filled in. Raises Refused."""
        try:
            whole = self.filler.value(str(node.value)) if holds == "text" else None
            return self.filler.text(str(node.value), holds) if whole is None else whole.text
        except ValueError as error:
            raise self.refuse(node, at, str(error)) from error

    def scalar(self, node: Node, at: str) -> Node:
        """Return the node, with a value of any type in place of a text that is one reference and nothing else. Raises Refused."""
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str) or not any(keys_named(node.value)):
            return node
        try:
            whole = self.filler.value(node.value)
        except ValueError as error:
            raise self.refuse(node, at, str(error)) from error
        return node if whole is None else typed(node, whole)

    def refuse(self, node: Node, at: str, message: str) -> Refused:
        self.problems.add(node.place, at, message)
        return Refused()


class Refused(Exception):
    """There is no value, and the problem is already added. The reader catches it and goes on with the next value."""


class Field(Protocol):
    """What may stand at a place. `words` says what it accepts, and stands behind "expected" in messages."""

    @property
    def words(self) -> str: ...

    def read(self, node: Node, at: str, reading: Reading) -> object:
        """Return the value. Raises only Refused, after all problems were added."""
        ...

    def schema(self, definitions: dict[str, JsonValue], /) -> Schema: ...


def _as_is(value: str) -> object:
    return value


@dataclass(frozen=True, slots=True)
class Text:
    """Text that `convert` accepts. For other text, `convert` raises ValueError with the whole message."""

    words: str = "text"
    convert: Callable[[str], object] = _as_is
    shape: Schema = field(default_factory=dict)
    holds: Holds = "text"

    def read(self, node: Node, at: str, reading: Reading) -> object:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            quoted = "; write it in quotes" if isinstance(node, ScalarNode) and node.value is not None else ""
            raise reading.refuse(node, at, f"expected {self.words}, found {found(node)}{quoted}")
        text = reading.text(node, at, self.holds)
        try:
            return self.convert(text)
        except ValueError as error:
            raise reading.refuse(node, at, str(error)) from error

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        shape: Schema = {"type": "string", **self.shape}
        return or_reference(shape) if self.holds != "nothing" and self.shape.keys() & {"enum", "pattern"} else shape


def choice(*names: str) -> Text:
    """Make the kind of text that is one of a few words."""
    words = f"{', '.join(names[:-1])} or {names[-1]}" if names[1:] else names[0]

    def convert(value: str) -> str:
        if value not in names:
            raise ValueError(f"expected {words}, found {value!r}")
        return value

    return Text(words, convert, {"enum": list(names)})


@dataclass(frozen=True, slots=True)
class PlanPath:
    """The path of an existing file, relative to the plan; read as an absolute path.

    `folders` allows a folder too. `anywhere` allows an absolute path too.
    """

    words: str = "a path relative to the plan"
    folders: bool = False
    anywhere: bool = False

    def read(self, node: Node, at: str, reading: Reading) -> Path:
        return self.find(str(Text(self.words).read(node, at, reading)), node, at, reading)

    def find(self, text: str, node: Node, at: str, reading: Reading) -> Path:
        """Return the path that `text` names; `node` is where it stands. Raises Refused."""
        if not text or "\0" in text or (text.startswith("/") and not self.anywhere):
            raise reading.refuse(node, at, f"expected {self.words}, found {text!r}")
        path = reading.folder / text
        try:
            is_there = path.is_file() or (self.folders and path.is_dir())
        except OSError as error:
            raise reading.refuse(node, at, f"cannot look at {path}: {error.strerror}") from error
        if not is_there:
            what = "file or folder" if self.folders else "file"
            where = "here" if self.anywhere else "beside the plan"
            other = _what_is_at(path)
            message = f"expected a {what}, {text!r} is {other}" if other else f"there is no {what} {text!r} {where}"
            raise reading.refuse(node, at, message)
        return path.resolve()

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        return {"type": "string", "description": self.words}


def _what_is_at(path: Path) -> str | None:
    """Say what is at `path`, for a message; None where nothing is."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    kinds = ((stat.S_ISLNK, "a link to nothing of that kind"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"))
    return next((words for is_one, words in kinds if is_one(mode)), "a socket or a device")


@dataclass(frozen=True, slots=True)
class Number:
    words: str
    minimum: float
    maximum: float
    whole: bool = True

    def read(self, node: Node, at: str, reading: Reading) -> int | float:
        node = reading.scalar(node, at)
        value = node.value if isinstance(node, ScalarNode) else None
        if not is_number(value) or (self.whole and not isinstance(value, int)):
            raise reading.refuse(node, at, f"expected {self.words}, found {found(node)}")
        if not self.minimum <= value <= self.maximum:
            raise reading.refuse(
                node, at, f"expected {self.words} from {_digits(self.minimum)} to {_digits(self.maximum)}, found {value}"
            )
        return value if self.whole else float(value)

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        return or_reference({"type": "integer" if self.whole else "number", "minimum": self.minimum, "maximum": self.maximum})


def _digits(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


@dataclass(frozen=True, slots=True)
class Measure:
    """A number, or text of a number and a unit."""

    words: str
    parse: Callable[..., float]
    pattern: str
    whole: bool

    def read(self, node: Node, at: str, reading: Reading) -> float:
        node = reading.scalar(node, at)
        value = node.value if isinstance(node, ScalarNode) else None
        if isinstance(node, ScalarNode) and isinstance(value, str):
            value = reading.text(node, at, "text")
        try:
            if isinstance(value, str) or (is_number(value) and not (self.whole and isinstance(value, float))):
                return self.parse(value)
        except ValueError as error:
            raise reading.refuse(node, at, f"{error}, found {found(node)}") from error
        raise reading.refuse(node, at, f"expected {self.words}, found {found(node)}")

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        number: Schema = {"type": "integer" if self.whole else "number", "exclusiveMinimum": 0}
        return {"anyOf": [{"type": "string", "pattern": f"^(?:{self.pattern})$"}, number, REFERENCE_SHAPE]}


@dataclass(frozen=True, slots=True)
class Flag:
    words: str = "true or false"

    def read(self, node: Node, at: str, reading: Reading) -> bool:
        node = reading.scalar(node, at)
        if not isinstance(node, ScalarNode) or not isinstance(node.value, bool):
            raise reading.refuse(node, at, f"expected {self.words}, found {found(node)}")
        return node.value

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        return or_reference({"type": "boolean"})


@dataclass(frozen=True, slots=True)
class AnyJson:
    words: str = "any value"

    def read(self, node: Node, at: str, reading: Reading) -> JsonValue:
        return plain(self._filled(node, at, reading))

    def _filled(self, node: Node, at: str, reading: Reading) -> Node:
        match reading.scalar(node, at):
            case ListNode(place, items):
                return ListNode(place, tuple(self._filled(item, below(at, i), reading) for i, item in enumerate(items)))
            case TableNode(place, entries, keys):
                return TableNode(place, {key: self._filled(each, below(at, key), reading) for key, each in entries.items()}, keys)
            case ScalarNode(place, str()) as text:
                return ScalarNode(place, reading.text(text, at, "text"))
            case ScalarNode(place, float(), str() as written):
                return ScalarNode(place, self._number(written, node, at, reading))
            case scalar:
                return scalar

    @staticmethod
    def _number(written: str, node: Node, at: str, reading: Reading) -> ExactNumber:
        try:
            return ExactNumber(written)
        except ValueError as error:
            raise reading.refuse(node, at, str(error)) from error

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        return {}


# Where a number, a flag or text of a certain form is expected, a reference to the matrix may stand too.
REFERENCE_SHAPE: Final[Schema] = {"type": "string", "pattern": r"\$\{\{\s*matrix\."}


def or_reference(shape: Schema) -> Schema:
    return {"anyOf": [shape, REFERENCE_SHAPE]}


def scalars(node: Node, at: str) -> Iterator[tuple[ScalarNode, str, bool]]:
    """Yield every single value in a tree, its key path, and whether it is a key. A key comes as text, at the path of its
    value.
    """
    match node:
        case ScalarNode():
            yield node, at, False
        case ListNode():
            for i, item in enumerate(node.items):
                yield from scalars(item, below(at, i))
        case TableNode():
            for key, value in node.entries.items():
                yield ScalarNode(node.keys[key], key), below(at, key), True
                yield from scalars(value, below(at, key))


def is_number(value: Value) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain(node: Node) -> JsonValue:
    """Return the node as plain Python values."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [plain(item) for item in node.items]
        case TableNode():
            return {key: plain(value) for key, value in node.entries.items()}


def found(node: Node) -> str:
    """Say what the node is, for a message."""
    match node:
        case ListNode():
            return "a list"
        case TableNode():
            return "a table"
        case ScalarNode(value=None):
            return "nothing"
        case ScalarNode(value=bool() as flag):
            return str(flag).lower()
        case ScalarNode(value=str() as text):
            return repr(text if len(text) <= 40 else text[:40] + "…")
        case ScalarNode(value=number):
            return f"the number {number}"
