"""A plan as it is written. Each value is read and valid in itself; nothing is merged, numbered or resolved yet.

`resolve.py` makes the plan that runs from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from testronaut_lab.model.interaction import Interaction, Ready, Tty
from testronaut_lab.model.plan import FileSpec, ImageSpec, Limits, Normalizer, Retry, Save, ToolSpec
from testronaut_lab.planfile.schema.fields import Field, Reading, Schema
from testronaut_lab.planfile.schema.problems import Position
from testronaut_lab.planfile.schema.tree import Node, ScalarNode

# Only the written keys. Keys of a case override those of the plan; keys of a step override both.
Expectations = Mapping[str, object]
Golden = bool | Mapping[str, object]
# Values by key of the matrix: the cells that something is for. Empty means all cells.
When = Mapping[str, frozenset[str]]

_NOWHERE = ScalarNode(Position(""), None)


@dataclass(frozen=True, slots=True)
class Stdin:
    """The input of a step. `file` is where the content was read from, if it was a file."""

    content: bytes
    is_text: bool = False
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class ExpectFail:
    reason: str
    when: When = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawStep:
    id: str | None = None
    run: str | None = None
    argv: tuple[str, ...] | None = None
    stdin: Stdin | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    timeout_s: float | None = None
    continue_: bool = False
    skip_if: str | None = None
    save: Mapping[str, Save] = field(default_factory=dict)
    retry: Retry | None = None
    golden: Golden | None = None
    expect: Expectations = field(default_factory=dict)
    tty: Tty | None = None
    interact: tuple[Interaction, ...] = ()
    background: str | None = None
    ready: Ready | None = None
    stop: str | None = None
    signal: Mapping[str, str] = field(default_factory=dict)
    merge: bool = False
    when: When = field(default_factory=dict)
    node: Node = _NOWHERE
    at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCase:
    id: str
    steps: tuple[RawStep, ...]
    tags: tuple[str, ...] = ()
    expect_fail: ExpectFail | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    golden: Golden | None = None
    expect: Expectations = field(default_factory=dict)
    when: When = field(default_factory=dict)
    node: Node = _NOWHERE
    at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPlan:
    image: ImageSpec
    version: int = 1
    name: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    isolation: str = "case"
    network: str = "none"
    user: str = "lab"
    rootfs: str | None = None
    shell: str = "sh"
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileSpec] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    normalize: tuple[Normalizer | str, ...] = ()
    ignore: tuple[str, ...] = ()
    golden: Golden | None = None
    expect: Expectations = field(default_factory=dict)
    setup: tuple[RawStep, ...] = ()
    teardown: tuple[RawStep, ...] = ()
    cases: tuple[RawCase, ...] = ()
    steps: tuple[RawStep, ...] = ()
    matrix: None = None  # `read_matrix` makes the cells before the plan is read for one of them
    node: Node = _NOWHERE
    at: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A kind whose value keeps its place, for problems that are found only later."""

    kind: Field

    @property
    def words(self) -> str:
        return self.kind.words

    def read(self, node: Node, at: str, reading: Reading) -> object:
        value = self.kind.read(node, at, reading)
        assert isinstance(value, RawStep | RawCase | RawPlan)
        return replace(value, node=node, at=at)

    def schema(self, definitions: dict[str, JsonValue], /) -> Schema:
        return self.kind.schema(definitions)
