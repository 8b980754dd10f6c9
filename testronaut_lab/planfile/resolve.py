"""Turns a plan as it is written into a plan that can run: merges defaults, gives ids, checks references.

Reading the file comes before this (`load.py`, `grammar/`). The ids are made in `identity.py`, references are checked in
`references.py`, and keys that exclude each other in `step_rules.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from testronaut_lab.model.cells import Cell, bracketed, folder_name
from testronaut_lab.model.expect import ExitExpect, Expect
from testronaut_lab.model.plan import Case, GoldenSpec, Normalizer, Plan, Step
from testronaut_lab.model.result import Phase
from testronaut_lab.planfile.grammar.matrix import holds
from testronaut_lab.planfile.grammar.raw import Expectations, Golden, RawCase, RawPlan, RawStep
from testronaut_lab.planfile.grammar.values import inner_clash
from testronaut_lab.planfile.identity import check_case_ids, slug, step_ids
from testronaut_lab.planfile.references import check_plan, check_steps
from testronaut_lab.planfile.schema.fields import scalars
from testronaut_lab.planfile.schema.interpolation import keys_named, variable
from testronaut_lab.planfile.schema.problems import Problems, below
from testronaut_lab.planfile.schema.tree import ListNode, Node, TableNode
from testronaut_lab.planfile.step_rules import check_beside, check_merged, left_running

T = TypeVar("T")

_MAX_FOLDER_BYTES = 240  # a file system takes 255; while a golden is written, its folder has a longer name
_ANY_END = ExitExpect(tuple(range(256)))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a plan comes from. `path` is the POSIX path of `file` from `root`; both are None for a plan made in Python.

    `name` is used unless the plan has a name. Node ids begin with `path`, or without one with a slug of the name.
    """

    root: Path
    name: str
    file: Path | None = None
    path: str | None = None


def resolve(written: RawPlan, origin: Origin, problems: Problems, cell: Cell = ()) -> Plan:
    """Return the plan for one cell of its matrix.

    Raises UsageError for everything in `problems`, and for what is wrong only in combination, such as two steps with one id.
    """
    cases = written.cases or (RawCase(id="main", steps=written.steps),)
    name = written.name or origin.name
    path = slug(name) if origin.path is None else origin.path
    check_case_ids(cases, problems)
    check_plan(written, problems)
    _check_files(written, problems)
    _check_tools(written, problems)
    env = {**{variable(key): value for key, value in cell}, **written.env}
    resolved = tuple(_case(case, written, path, problems, cell) for case in cases if holds(case.when, cell))
    if not resolved:
        problems.add(written.node.place, "matrix", "no case is for this cell; `exclude` leaves it out")
    problems.raise_if_any()
    return _make(Plan, {
        "version": written.version, "name": name, "file": origin.file, "root": origin.root,
        "image": written.image, "tools": written.tools, "isolation": written.isolation, "network": written.network,
        "user": written.user, "rootfs": written.rootfs or ("writable" if written.user == "root" else "read-only"),
        "shell": written.shell, "env": env, "files": written.files, "limits": written.limits,
        "normalize": written.normalize, "ignore": written.ignore, "cases": resolved,
        "setup": resolved[0].setup, "teardown": resolved[0].teardown,
        "cell": cell, "of_matrix": _of_matrix(written) if cell else (),
    })  # fmt: skip


def _case(case: RawCase, plan: RawPlan, path: str, problems: Problems, cell: Cell) -> Case:
    nodeid = f"{path}::{case.id}{bracketed(cell)}"
    setup, steps, teardown = (_of_cell(phase, cell) for phase in (plan.setup, case.steps, plan.teardown))
    if not steps:
        problems.add(case.node.place, case.at, "no step of this case is for this cell; `when` on the case leaves it out")
    in_order = (*setup, *steps, *teardown)
    # With one session for all cases, teardown runs after the last case, but a case's own background programs end with the case.
    of_case = _stops(left_running(steps) if plan.isolation == "plan" else [])
    of_all = _stops([name for name in left_running(in_order) if name not in {step.stop for step in of_case}])
    names = _names((plan.setup, plan.teardown, case.steps, of_case, of_all), problems)
    check_steps(in_order, problems)
    check_beside(in_order, problems)
    inside = _Defaults({**plan.expect, **case.expect}, (plan.golden, case.golden), plan.normalize, cell)
    around = _Defaults({}, (), plan.normalize, cell)
    check_merged(in_order, steps, inside.expect, problems)

    def resolved(written: Sequence[RawStep], phase: Phase, defaults: _Defaults) -> list[Step]:
        return [_step(step, names[id(step)], f"{nodeid}::{names[id(step)]}", phase, defaults) for step in written]

    made = Case(
        id=case.id,
        nodeid=nodeid,
        tags=case.tags,
        env=dict(case.env),
        setup=tuple(resolved(setup, Phase.SETUP, around)),
        steps=(*resolved(steps, Phase.STEPS, inside), *resolved(of_case, Phase.TEARDOWN, around)),
        teardown=(*resolved(teardown, Phase.TEARDOWN, around), *resolved(of_all, Phase.TEARDOWN, around)),
        expect_fail=case.expect_fail.reason if case.expect_fail is not None and holds(case.expect_fail.when, cell) else None,
        line=case.node.place.line or None,
    )
    _check_goldens(case, made, problems)
    return made


def _of_cell(steps: Sequence[RawStep], cell: Cell) -> tuple[RawStep, ...]:
    return tuple(step for step in steps if holds(step.when, cell))


def _names(phases: Sequence[Sequence[RawStep]], problems: Problems) -> dict[int, str]:
    """Return the id of every step by `id(step)`. Steps of other cells count too: a step has the same id in all cells."""
    ids = step_ids(phases, problems)
    return {id(step): name for phase, names in zip(phases, ids, strict=True) for step, name in zip(phase, names, strict=True)}


def _check_goldens(case: RawCase, made: Case, problems: Problems) -> None:
    for step in made.steps:
        folder = folder_name(step.id, () if step.golden is None else step.golden.cell)
        if len(folder) > _MAX_FOLDER_BYTES:
            message = f"the golden of {step.id!r} cannot be kept: with the values of `per`, the name of its folder is too long"
            problems.add(case.node.place, case.at, message)


def _of_matrix(plan: RawPlan) -> tuple[str, ...]:
    """Return what varies over the matrix: `image`, and `tools.NAME` for each tool."""
    assert isinstance(plan.node, TableNode)
    tools = plan.node.entries.get("tools")
    nodes = tools.items if isinstance(tools, ListNode) else ()
    names = [f"tools.{tool.name}" for tool, node in zip(plan.tools, nodes, strict=True) if _varies(node)]
    return (*(["image"] if _varies(plan.node.entries["image"]) else []), *names)


def _varies(node: Node) -> bool:
    return any(any(keys_named(str(scalar.value))) for scalar, _, _ in scalars(node, ""))


def _stops(names: Sequence[str]) -> tuple[RawStep, ...]:
    """Return a `stop` step for each background program that no step of the plan stops: a step must hold its last output."""
    return tuple(RawStep(stop=name) for name in names)


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What plan and case say for the steps of a case. It does not hold for setup and teardown, which prepare and claim
    nothing.
    """

    expect: Expectations
    golden: Sequence[Golden | None]
    normalize: tuple[Normalizer | str, ...]
    cell: Cell


def _step(step: RawStep, name: str, nodeid: str, phase: Phase, defaults: _Defaults) -> Step:
    if step.background is not None or step.stop is not None or step.signal:
        # Defaults are claims about commands. They do not hold for a step that starts, signals or stops a program; a stopped
        # program may end in any way unless its step has an `exit`.
        defaults = _Defaults({"exit": _ANY_END} if step.stop is not None else {}, (), defaults.normalize, defaults.cell)
    return Step(
        id=name,
        nodeid=nodeid,
        phase=phase,
        run=step.run,
        argv=step.argv,
        stdin=None if step.stdin is None else step.stdin.content,
        stdin_is_text=step.stdin is not None and step.stdin.is_text,
        env=dict(step.env),
        cwd=step.cwd,
        timeout_s=step.timeout_s,
        continue_=step.continue_,
        skip_if=step.skip_if,
        save=dict(step.save),
        golden=_golden((*defaults.golden, step.golden), defaults.normalize, defaults.cell),
        expect=_make(Expect, {**defaults.expect, **step.expect}),
        retry=step.retry,
        tty=step.tty,
        interact=step.interact,
        background=step.background,
        ready=step.ready,
        stop=step.stop,
        signal=dict(step.signal),
        normalize=defaults.normalize,
        merge=step.merge,
        line=step.node.place.line or None,
    )


def _golden(levels: Sequence[Golden | None], normalize: tuple[Normalizer | str, ...], cell: Cell) -> GoldenSpec | None:
    """Merge the golden settings of all levels key by key. The last level that has one decides whether there is a golden."""
    wanted = False
    settings: dict[str, object] = {}
    for level in levels:
        if isinstance(level, Mapping):
            settings.update(level)
        if level is not None:
            wanted = level is not False
    if not wanted:
        return None
    per = settings.pop("per", ())
    assert isinstance(per, tuple)
    spec = _make(GoldenSpec, settings)
    own = tuple(sorted((key, value) for key, value in cell if key in per))  # the order of the matrix must not matter
    return replace(spec, normalize=(*normalize, *spec.normalize), cell=own)


def _make(kind: Callable[..., T], fields: Mapping[str, object]) -> T:
    """Call `kind` with fields that mypy cannot check."""
    return kind(**fields)


def _check_files(plan: RawPlan, problems: Problems) -> None:
    files = [path for path, file in plan.files.items() if file.source is None or file.source.is_file()]
    clash = inner_clash(plan.files, files)
    if clash is not None and isinstance(plan.node, TableNode):
        outer, inner = clash
        place = plan.node.entries["files"].place
        problems.add(place, below("files", inner), f"{outer!r} is a file, so nothing can be put below it")


def _check_tools(plan: RawPlan, problems: Problems) -> None:
    seen: set[str] = set()
    for i, tool in enumerate(plan.tools):
        if tool.name in seen and isinstance(plan.node, TableNode):
            problems.add(plan.node.entries["tools"].place, below("tools", i), f"there are two tools named {tool.name!r}")
        seen.add(tool.name)
