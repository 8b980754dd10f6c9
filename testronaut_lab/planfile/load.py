"""Finds plan files and loads plans: from a file, from text, or from a tree made in Python.

`schema/` reads text into a tree, `grammar/` says what the tree may hold, `resolve.py` makes the plan.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from testronaut_lab.config import plan_root
from testronaut_lab.errors import UsageError
from testronaut_lab.model.cells import bracketed
from testronaut_lab.model.plan import ImageSpec, Plan, ToolSpec
from testronaut_lab.planfile.grammar.descriptions import described
from testronaut_lab.planfile.grammar.expect import EXPECT
from testronaut_lab.planfile.grammar.interact import INTERACTION, TTY
from testronaut_lab.planfile.grammar.matrix import read_matrix
from testronaut_lab.planfile.grammar.plan import DEFAULTS, PLAN, READY
from testronaut_lab.planfile.grammar.raw import Expectations, RawPlan
from testronaut_lab.planfile.grammar.session import IMAGE_BY_HAND, LIMITS
from testronaut_lab.planfile.grammar.tools import TOOL_BY_HAND
from testronaut_lab.planfile.resolve import Origin, resolve
from testronaut_lab.planfile.schema.fields import Field, Reading, Refused, Schema
from testronaut_lab.planfile.schema.interpolation import Interpolator, Matrix, as_cell, varying
from testronaut_lab.planfile.schema.problems import Position, Problems
from testronaut_lab.planfile.schema.syntax import MAX_BYTES, read_json, read_python, read_yaml
from testronaut_lab.planfile.schema.tree import Node, ScalarNode, TableNode

MAX_STEPS: Final = 100_000  # over all cells of a matrix; more cannot be listed, stored and shown
_HINT: Final = "testronaut-lab schema plan"
_FIND: Final = "find . -name '*.lab.*' lists the plans that there are"
SUFFIXES: Final = (".lab.yaml", ".lab.yml", ".lab.json")

_BY_HAND: Final = "the tool"

# `exit` and `signal` both say how a step has to end: a table that has one hides the other one of the defaults.
_ENDS: Final = frozenset({"exit", "signal"})
_MERGED: Final = frozenset({"env", "limits", "expect", "golden"})


def find_plans(paths: Sequence[Path]) -> list[Path]:
    """Return the plan files that `paths` name, each once.

    A file stands for itself, a folder for all plans below it, sorted, except those in hidden folders.

    Raises UsageError for a path that does not exist, for a file that is no plan, and when there is no plan at all.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        _check_is_plan(path, folder=True)
        for plan in _plans_below(path) if path.is_dir() else [path]:
            found.setdefault(plan.parent.resolve() / plan.name, plan)
    if not found:
        where = ", ".join(map(str, paths)) or "no path was given"
        raise UsageError(
            f"looked for plans ({', '.join('*' + suffix for suffix in SUFFIXES)}), found none: {where}",
            hint="testronaut-lab record -o NAME.lab.yaml",
        )
    return list(found.values())


def load_plan(path: Path, *, root: Path | None = None, defaults: Mapping[str, object] | None = None) -> Plan:
    """Like `load_plans`, for a plan without a matrix or with a matrix of one cell. Other plans raise UsageError."""
    return _only(load_plans(path, root=root, defaults=defaults))


def load_plans(path: Path, *, root: Path | None = None, defaults: Mapping[str, object] | None = None) -> tuple[Plan, ...]:
    """Load one plan file: one plan, or one for each cell of its matrix.

    `root` is the project's folder; None finds it from the file. The plan's own settings override `defaults`.

    Raises UsageError that lists every problem, each with file, line and key.
    """
    _check_is_plan(path)
    return read_plans(_read_text(path), path, root=root, defaults=defaults)


def read_plans(
    text: str,
    path: Path,
    *,
    root: Path | None = None,
    defaults: Mapping[str, object] | None = None,
    folder: Path | None = None,
) -> tuple[Plan, ...]:
    """Like `load_plans`, for text that is not in its file yet.

    Paths in the plan are relative to `folder`; None means the folder of `path`.

    Raises UsageError.
    """
    problems = Problems()
    tree = (read_json if path.suffix == ".json" else read_yaml)(text, str(path), problems)
    file = path.parent.resolve() / path.name
    origin = _origin_of(file, plan_root(file) if root is None else root.resolve())
    return tuple(replace(plan, text=text) for plan in _load(tree, origin, folder or file.parent, defaults, problems))


def parse_plan(
    source: str | Mapping[str, object], *, root: Path, name: str = "plan", defaults: Mapping[str, object] | None = None
) -> Plan:
    """Like `load_plan`, for YAML text or a tree made in Python. Paths in the plan are relative to `root`."""
    return _only(parse_plans(source, root=root, name=name, defaults=defaults))


def parse_plans(
    source: str | Mapping[str, object], *, root: Path, name: str = "plan", defaults: Mapping[str, object] | None = None
) -> tuple[Plan, ...]:
    """Like `load_plans`, for YAML text or a tree made in Python. Paths in the plan are relative to `root`."""
    problems = Problems()
    tree = read_yaml(source, name, problems) if isinstance(source, str) else read_python(source, name, problems)
    plans = _load(tree, Origin(root.resolve(), name), root.resolve(), defaults, problems)
    return tuple(replace(plan, text=source) for plan in plans) if isinstance(source, str) else plans


def parse_tool(spec: str | Mapping[str, object]) -> ToolSpec:
    """Read a tool: `STRATEGY:SPEC`, or the full form of a plan, `{name: …, install: …}`, as text or as a tree.

    Paths are relative to the current directory, as on a command line. Raises UsageError.
    """
    problems = Problems()
    if isinstance(spec, str) and not spec.lstrip().startswith("{"):
        tree: Node = ScalarNode(Position(spec), spec)
    else:
        tree = read_yaml(spec, _BY_HAND, problems) if isinstance(spec, str) else read_python(spec, _BY_HAND, problems)
        problems.raise_if_any()
    tool = _read(TOOL_BY_HAND, tree, "", Reading(Path.cwd(), problems))
    problems.raise_if_any()
    assert isinstance(tool, ToolSpec)
    return tool


def parse_image(image: Mapping[str, object]) -> ImageSpec:
    """Read an image in the full form of a plan, such as `{build: DIR}`. Paths are relative to the current directory.

    Raises UsageError.
    """
    problems = Problems()
    tree = read_python(image, "the image", problems)
    problems.raise_if_any()
    spec = _read(IMAGE_BY_HAND, tree, "", Reading(Path.cwd(), problems))
    problems.raise_if_any()
    assert isinstance(spec, ImageSpec)
    return spec


def parse_expectations(tree: Mapping[str, object], folder: Path) -> Expectations:
    """Read a tree as the `expect:` of a step. Paths are relative to `folder`. Raises UsageError."""
    problems = Problems()
    written = _read(EXPECT, read_python(tree, "expect", problems), "", Reading(folder, problems))
    assert isinstance(written, dict)
    return written


_PARTS: Final[dict[str, Field]] = {"limits": LIMITS, "tty": TTY, "ready": READY, "interaction": INTERACTION}


def parse_part(name: str, value: object) -> object:
    """Read a value as a plan would: `name` is `limits`, `tty`, `ready` or `interaction` (one entry). Raises UsageError."""
    problems = Problems()
    return _read(_PARTS[name], read_python(value, name, problems), "", Reading(Path.cwd(), problems))


def plan_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a plan file."""
    definitions: Schema = {}
    reference = PLAN.schema(definitions)
    described(definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:testronaut-lab:plan:1",
        "title": "testronaut-lab plan, version 1",
        **reference,
        "$defs": definitions,
    }


def _load(
    tree: Node, origin: Origin, folder: Path, defaults: Mapping[str, object] | None, problems: Problems
) -> tuple[Plan, ...]:
    reading = Reading(folder, problems)
    if defaults:
        tree = _merged(_read_defaults(defaults, reading), tree)
    matrix = _read_matrix(tree, reading)
    if matrix is None:
        return (_read_plan(tree, origin, reading),)
    varies, known = varying(tree), dict[tuple[int, int], object]()
    plans: list[Plan] = []
    parts: dict[str, Problems] = {}
    for cell in matrix.cells:
        part = parts[bracketed(as_cell(cell))] = Problems()
        each = replace(reading, problems=part, filler=Interpolator(matrix, cell), varying=varies, known=known)
        try:
            plans.append(_read_plan(tree, origin, each))
        except UsageError:
            if not part.found:
                raise
        if sum(map(_step_count, plans)) > MAX_STEPS:
            raise UsageError(f"{origin.name}: over all cells of its matrix the plan has more than {MAX_STEPS} steps", hint=_HINT)
    problems.gather(parts)
    problems.raise_if_any()
    return tuple(plans)


def _read_matrix(tree: Node, reading: Reading) -> Matrix | None:
    try:
        return read_matrix(tree, reading)
    except Refused:
        reading.problems.raise_if_any()
        raise


def _read_plan(tree: Node, origin: Origin, reading: Reading) -> Plan:
    written = _read(PLAN, tree, "", reading)
    assert isinstance(written, RawPlan)
    return resolve(written, origin, reading.problems, as_cell(reading.filler.cell or {}))


def _step_count(plan: Plan) -> int:
    return sum(len(case.setup) + len(case.steps) + len(case.teardown) for case in plan.cases)


def _only(plans: tuple[Plan, ...]) -> Plan:
    if len(plans) > 1:
        raise UsageError(f"{plans[0].name}: one plan was expected, and its matrix makes {len(plans)} plans", hint=_HINT)
    return plans[0]


def _read_defaults(defaults: Mapping[str, object], reading: Reading) -> Node:
    tree = read_python(defaults, "the project's defaults", reading.problems)
    _read(DEFAULTS, tree, "defaults", reading)
    return tree


def _read(kind: Field, tree: Node, at: str, reading: Reading) -> object:
    try:
        return kind.read(tree, at, reading)
    except Refused:
        reading.problems.raise_if_any()
        raise


def _merged(under: Node, over: Node, *, depth: int = 0) -> Node:
    """Return `over`, with the keys that it lacks taken from `under`. The tables in `_MERGED` are merged key by key."""
    if not isinstance(under, TableNode) or not isinstance(over, TableNode):
        return over
    hidden = _ENDS if depth and _ENDS & over.entries.keys() else frozenset[str]()
    entries = {key: value for key, value in under.entries.items() if key not in hidden}
    for key, value in over.entries.items():
        merges = depth == 0 and key in _MERGED and key in entries
        entries[key] = _merged(entries[key], value, depth=1) if merges else value
    return TableNode(over.place, entries, {**under.keys, **over.keys})


def _origin_of(file: Path, root: Path) -> Origin:
    if not file.is_relative_to(root):
        raise UsageError(f"the plan {file} is not below the project's folder {root}")
    path = file.relative_to(root).as_posix()
    if "::" in path:
        raise UsageError(f"the path {path} holds '::', which separates a plan from its cases; rename it")
    return Origin(root, _stem(file.name), file, path)


def _stem(name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def _check_is_plan(path: Path, *, folder: bool = False) -> None:
    """Raise UsageError unless `path` is a plan file, or a folder where `folder` allows one."""
    try:
        there = path.exists()
    except OSError as error:
        raise UsageError(f"looking for the plan {path}: {error.strerror}", hint=_FIND) from error
    if not there:
        raise UsageError(f"there is no file or folder {path}", hint=_FIND)
    if not path.is_file() and not path.is_dir():
        raise UsageError(f"{path} is no plan: it is a device, a FIFO or a socket", hint=_FIND)
    if folder and path.is_dir():
        return
    if not path.is_file() or not path.name.endswith(SUFFIXES):
        hint = f"mv {shlex.quote(str(path))} {shlex.quote(str(path.with_suffix('.lab.yaml')))}" if path.is_file() else None
        raise UsageError(f"{path} is no plan: the name of a plan file ends in {', '.join(SUFFIXES)}", hint=hint)


def _plans_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for base, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(base, name) for name in names if name.endswith(SUFFIXES) and Path(base, name).is_file()]
    return sorted(found)


def _refuse_folder(error: OSError) -> None:
    raise UsageError(f"looking for plans in {error.filename}: {error.strerror}") from error


_HINT_LARGE = "several plans in one folder; long texts as files of their own: `{file: PATH}`, in `files:` `{source: PATH}`"


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"reading the plan {path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: a plan holds at most 1 MiB", hint=_HINT_LARGE)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: a plan is UTF-8 text; byte {error.start} is not") from error
