"""The part of a plan about the tools in its image: how each is installed, which ways are tried in turn, what proves it.

The strategies, and what each accepts, are a table in `installation/strategies.py`.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from typing import Final

from pydantic import JsonValue

from testronaut_lab.installation.strategies import STRATEGIES, Strategy, matched, package_name
from testronaut_lab.model.plan import InstallSpec, ToolSpec, Verify
from testronaut_lab.planfile.grammar import types, values
from testronaut_lab.planfile.schema.containers import Converted, Either, ListOf
from testronaut_lab.planfile.schema.fields import Field, Flag, Number, PlanPath, Reading, Schema, Text
from testronaut_lab.planfile.schema.problems import below
from testronaut_lab.planfile.schema.table import Key, Table
from testronaut_lab.planfile.schema.tree import ListNode, Node

_TOOL_EXAMPLE: Final = "STRATEGY:SPEC, such as apt:jq"
_BY_SUFFIX: Final = {
    ".deb": "deb", ".whl": "wheel", ".tgz": "npm-pack", ".zip": "archive",
    ".tar": "archive", ".tar.gz": "archive", ".tar.xz": "archive", ".tar.bz2": "archive",
}  # fmt: skip
_PROGRAM: Final = r"[A-Za-z0-9_.\[][A-Za-z0-9+._\[-]*"
_STRATEGY: Final = re.compile(r"([a-z][a-z0-9-]*):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Spec:
    """The SPEC of one strategy, or `STRATEGY:SPEC` if `strategy` is None. `anywhere` allows an absolute path."""

    strategy: Strategy | None = None
    anywhere: bool = False

    @property
    def words(self) -> str:
        return self.strategy.accepts if self.strategy else "STRATEGY:SPEC"

    def read(self, node: Node, at: str, reading: Reading) -> InstallSpec:
        if isinstance(node, ListNode) and self.strategy is not None and self.strategy.takes == "package":
            return self._several(node, at, reading)
        text = str(Text(self.words).read(node, at, reading))
        try:
            strategy, spec = (self.strategy, text) if self.strategy else _parted(text)
            _check(strategy, spec)
        except ValueError as error:
            raise reading.refuse(node, at, str(error)) from error
        if strategy.takes == "package":
            return InstallSpec(strategy.name, spec)
        kind = PlanPath(strategy.accepts, folders=strategy.takes == "tree", anywhere=self.anywhere)
        return InstallSpec(strategy.name, spec, kind.find(spec, node, at, reading))

    def _several(self, node: ListNode, at: str, reading: Reading) -> InstallSpec:
        """Read a list of packages: the first is the tool, the others are installed with it."""
        if not node.items:
            raise reading.refuse(node, at, "expected at least 1, found an empty list")
        first, *others = (self.read(item, below(at, i), reading) for i, item in enumerate(node.items))
        return replace(first, more=tuple(other.spec for other in others))

    def schema(self, _definitions: dict[str, JsonValue], /) -> Schema:
        if self.strategy:
            one: Schema = {"type": "string", "description": self.strategy.accepts}
            if self.strategy.takes != "package":
                return one
            several: Schema = {"type": "array", "items": one, "minItems": 1, "description": "the tool, and what comes with it"}
            return {"anyOf": [one, several], "description": self.strategy.accepts}
        return {"type": "string", "pattern": f"^(?:{'|'.join(STRATEGIES)}):"}


def _parted(text: str) -> tuple[Strategy, str]:
    match = _STRATEGY.fullmatch(text)
    if match is None:
        strategy = next((name for suffix, name in _BY_SUFFIX.items() if text.endswith(suffix)), None)
        meant = f"; did you mean {f'{strategy}:{text}'!r}?" if strategy else ""
        raise ValueError(f"expected {_TOOL_EXAMPLE}, found {text!r}{meant}")
    if match[1] not in STRATEGIES:
        raise ValueError(f"the install strategy `{match[1]}` is not supported yet; {_near(match[1])}")
    return STRATEGIES[match[1]], match[2]


def _near(name: str) -> str:
    """Suggest the strategy that was probably mistyped, or list all of them."""
    near = difflib.get_close_matches(name, STRATEGIES, n=1, cutoff=0.7)
    return f"did you mean `{near[0]}`?" if near else f"there is {', '.join(STRATEGIES)}"


def _check(strategy: Strategy, spec: str) -> None:
    if matched(strategy, spec) is None:
        found = "no package" if strategy.takes == "package" else "no path"
        raise ValueError(f"{spec!r} is {found} of {strategy.name}: expected {strategy.accepts}")


def _install(sha256: str | None = None, strip: int = 0, **one: InstallSpec) -> InstallSpec:
    [spec] = one.values()
    takes = STRATEGIES[spec.strategy].takes
    if sha256 is not None and (takes == "package" or (spec.source is not None and spec.source.is_dir())):
        raise ValueError(f"'sha256' is that of a file, and {spec.strategy} has no file here")
    if strip and takes != "archive":
        raise ValueError(f"'strip' is for an archive, not for {spec.strategy}")
    return replace(spec, sha256=sha256, strip=strip)


@dataclass(frozen=True, slots=True)
class _Told:
    """A kind with a description for the schema."""

    kind: Field
    description: str

    @property
    def words(self) -> str:
        return self.kind.words

    def read(self, node: Node, at: str, reading: Reading) -> object:
        return self.kind.read(node, at, reading)

    def schema(self, definitions: dict[str, JsonValue], /) -> Schema:
        return {**self.kind.schema(definitions), "description": self.description}


_SHA256: Final = Converted(types.named("[0-9a-fA-F]{64}", "a sha256 of 64 hexadecimal digits"), str.lower)
_STRIP: Final = Number("how many leading folders of an archive to leave out", 0, 64)


def _in_full(*, anywhere: bool) -> Table:
    return Table(
        "install",
        {
            **{name: Spec(strategy, anywhere) for name, strategy in STRATEGIES.items()},
            "sha256": _Told(_SHA256, "what the file at PATH must have"),
            "strip": _Told(_STRIP, _STRIP.words),
        },
        _install,
        exactly_one=[tuple(STRATEGIES)],
    )


def _only(spec: InstallSpec) -> tuple[InstallSpec]:
    return (spec,)


def _tool(
    install: tuple[InstallSpec, ...],
    name: str | None = None,
    command: str | None = None,
    verify: Verify | None = None,
    importable: bool = False,
) -> ToolSpec:
    if importable and (wrong := [way.strategy for way in install if not STRATEGIES[way.strategy].importing]):
        raise ValueError(f"'importable' is for packages of Python, by pip or wheel, not for {wrong[0]}")
    return ToolSpec(name or _name(install[0]), install, command, verify, importable)


def _name(spec: InstallSpec) -> str:
    """Return the default name of a tool: `name` for a package `@scope/name`; for a file, the name of its package."""
    strategy = STRATEGIES[spec.strategy]
    name = package_name(strategy, spec.spec).rpartition("/")[2]
    return name.replace("_", "-") if strategy.name == "wheel" else name


def _alone(spec: InstallSpec) -> ToolSpec:
    return _tool((spec,))


# No reference to the matrix: this runs in the container of the installation, which belongs to no cell.
_VERIFY: Final = Text("a command", values.script, {"minLength": 1}, "nothing")


def _tool_of(*, anywhere: bool) -> Either:
    one, in_full = Spec(anywhere=anywhere), _in_full(anywhere=anywhere)
    return Either(
        text=Converted(one, _alone),
        table=Table(
            "tool",
            {
                "name": types.named(r"[A-Za-z0-9][A-Za-z0-9+._-]*", "a name of letters, digits, '+', '.', - and _"),
                "command": types.named(rf"{_PROGRAM}|(?:/{_PROGRAM})+", "the name of a program, or its whole path"),
                "install": Key(
                    Either(
                        text=Converted(one, _only),
                        items=ListOf(Either(text=one, table=in_full), at_least=1),
                        table=Converted(in_full, _only),
                    ),
                    required=True,
                ),
                "importable": Flag(),
                "verify": Table("verify", {"run": Key(_VERIFY, required=True), "matches": types.REGEX}, Verify),
            },
            _tool,
        ),
    )


TOOL: Final = _tool_of(anywhere=False)
# for a tool typed on a command line: paths may be absolute
TOOL_BY_HAND: Final = _tool_of(anywhere=True)


def shorthand(tool: ToolSpec) -> InstallSpec | None:
    """Return the install spec if `STRATEGY:SPEC` alone would be read as this same tool, otherwise None."""
    only = tool.install[0]
    return only if tool == _alone(only) and only == InstallSpec(only.strategy, only.spec, only.source) else None
