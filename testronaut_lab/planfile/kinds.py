"""What may stand at a place of a plan: the pieces that `grammar.py` is made of. Here are those of single values.

A kind reads a node into a value, adding every problem it finds, and writes the JSON Schema of itself; so that the two cannot
drift apart. Lists and maps are in `composite.py`, tables with known keys in `table.py`; what no single value can tell (ids,
defaults, references) is left to `resolve.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeGuard

from pydantic import JsonValue

from testronaut_lab.model.substitution import references
from testronaut_lab.planfile.problems import Problems, below
from testronaut_lab.planfile.tree import ListNode, Node, ScalarNode, TableNode, Value

Schema = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of one plan. Paths in it are relative to `folder`; what it uses of `unsupported` is refused by name."""

    folder: Path
    problems: Problems
    unsupported: frozenset[str] = frozenset()

    def refuse(self, node: Node, at: str, message: str) -> Refused:
        self.problems.add(node.place, at, message)
        return Refused()


class Refused(Exception):
    """Raised after the problem was added: there is no value, go on with the next one."""


class Kind(Protocol):
    """`words` is what it accepts, to stand behind "expected"."""

    @property
    def words(self) -> str: ...

    def read(self, node: Node, at: str, reading: Reading) -> object:
        """The value. Raises Refused, and nothing else, once the problems have been added."""
        ...

    def schema(self, definitions: dict[str, JsonValue], /) -> Schema: ...


def _as_is(value: str) -> object:
    return value


@dataclass(frozen=True, slots=True)
class Text:
    """Text that `convert` takes; it raises ValueError, with the whole message, for text that it does not."""

    words: str = "text"
    convert: Callable[[str], object] = _as_is
    shape: Schema = field(default_factory=dict)
    literal: bool = False  # content, in which `${{` is nothing of ours

    def read(self, node: Node, at: str, reading: Reading) -> object:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            quoted = "; write it in quotes" if isinstance(node, ScalarNode) and node.value is not None else ""
            raise reading.refuse(node, at, f"expected {self.words}, found {found(node)}{quoted}")
        if not self.literal:
            refuse_matrix(node, at, reading)
        try:
            return self.convert(node.value)
        except ValueError as error:
            raise reading.refuse(node, at, str(error)) from error

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        return {"type": "string", **self.shape}


def choice(*names: str) -> Text:
    """One of a few words."""
    words = f"{', '.join(names[:-1])} or {names[-1]}" if names[1:] else names[0]

    def convert(value: str) -> str:
        if value not in names:
            raise ValueError(f"expected {words}, found {value!r}")
        return value

    return Text(words, convert, {"enum": list(names)})


@dataclass(frozen=True, slots=True)
class PlanPath:
    """A path relative to the plan, of a file (or a folder too) that exists; read as an absolute path.

    `anywhere` lets it be absolute, too.
    """

    words: str = "a path relative to the plan"
    folders: bool = False
    anywhere: bool = False

    def read(self, node: Node, at: str, reading: Reading) -> Path:
        return self.find(str(Text(self.words).read(node, at, reading)), node, at, reading)

    def find(self, text: str, node: Node, at: str, reading: Reading) -> Path:
        """The path that `text`, read from the node, names. Raises Refused."""
        if not text or "\0" in text or (text.startswith("/") and not self.anywhere):
            raise reading.refuse(node, at, f"expected {self.words}, found {text!r}")
        path = reading.folder / text
        try:
            is_there = path.is_file() or (self.folders and path.is_dir())
        except OSError as error:
            raise reading.refuse(node, at, f"cannot look at {path}: {error.strerror}") from error
        if not is_there:
            raise reading.refuse(node, at, f"there is no {'file or folder' if self.folders else 'file'} {text!r} beside the plan")
        return path.resolve()

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        return {"type": "string", "description": self.words}


@dataclass(frozen=True, slots=True)
class Number:
    words: str
    minimum: float
    maximum: float
    whole: bool = True

    def read(self, node: Node, at: str, reading: Reading) -> int | float:
        value = node.value if isinstance(node, ScalarNode) else None
        if not is_number(value) or (self.whole and not isinstance(value, int)):
            raise reading.refuse(node, at, f"expected {self.words}, found {found(node)}")
        if not self.minimum <= value <= self.maximum:
            raise reading.refuse(
                node, at, f"expected {self.words} from {_digits(self.minimum)} to {_digits(self.maximum)}, found {value}"
            )
        return value if self.whole else float(value)

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        return {"type": "integer" if self.whole else "number", "minimum": self.minimum, "maximum": self.maximum}


def _digits(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


@dataclass(frozen=True, slots=True)
class Measure:
    """A number with a unit in text, or without one."""

    words: str
    parse: Callable[..., float]
    pattern: str
    whole: bool

    def read(self, node: Node, at: str, reading: Reading) -> float:
        value = node.value if isinstance(node, ScalarNode) else None
        try:
            if isinstance(value, str) or (is_number(value) and not (self.whole and isinstance(value, float))):
                return self.parse(value)
        except ValueError as error:
            raise reading.refuse(node, at, f"{error}, found {found(node)}") from error
        raise reading.refuse(node, at, f"expected {self.words}, found {found(node)}")

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        number: Schema = {"type": "integer" if self.whole else "number", "exclusiveMinimum": 0}
        return {"anyOf": [{"type": "string", "pattern": f"^(?:{self.pattern})$"}, number]}


@dataclass(frozen=True, slots=True)
class Flag:
    words: str = "true or false"

    def read(self, node: Node, at: str, reading: Reading) -> bool:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, bool):
            raise reading.refuse(node, at, f"expected {self.words}, found {found(node)}")
        return node.value

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class AnyJson:
    words: str = "any value"

    def read(self, node: Node, at: str, reading: Reading) -> JsonValue:
        refuse_matrix(node, at, reading)
        return plain(node)

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        return {}


def refuse_matrix(node: Node, at: str, reading: Reading) -> None:
    """Refuses `${{matrix.…}}` by name, where it is not supported, so that nobody takes it for text."""
    if "matrix" in reading.unsupported:
        for scalar, path, _ in scalars(node, at):
            name = next((name for name in references(str(scalar.value)) if name.startswith("matrix.")), None)
            if name is not None:
                raise reading.refuse(scalar, path, f"`${{{{{name}}}}}` is not supported yet")


def scalars(node: Node, at: str) -> Iterator[tuple[ScalarNode, str, bool]]:
    """Every single value in a tree, its key path, and whether it is a key: those come too, as text at their own path."""
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
    """The node as Python's own values."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [plain(item) for item in node.items]
        case TableNode():
            return {key: plain(value) for key, value in node.entries.items()}


def found(node: Node) -> str:
    """What stands there, in words."""
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
