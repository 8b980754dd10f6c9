"""From a plan as written to a plan as it runs: defaults merged in, ids given, references checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from testronaut_lab.model.expect import ExitExpect, Expect
from testronaut_lab.model.plan import Case, GoldenSpec, Normalizer, Plan, Step
from testronaut_lab.model.result import Phase
from testronaut_lab.planfile.beside import check_beside, check_merged, left_running
from testronaut_lab.planfile.identity import check_case_ids, slug, step_ids
from testronaut_lab.planfile.problems import Problems, below
from testronaut_lab.planfile.references import check_plan, check_steps
from testronaut_lab.planfile.tree import TableNode
from testronaut_lab.planfile.values import inner_clash
from testronaut_lab.planfile.written import Expectations, Golden, WrittenCase, WrittenPlan, WrittenStep

T = TypeVar("T")

_ANY_END = ExitExpect(tuple(range(256)))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a plan comes from: `file` and its `path` from `root`, both None for one made in Python.

    `name` is the plan's unless it gives itself one. The node ids begin with the path, or else with a slug of the name.
    """

    root: Path
    name: str
    file: Path | None = None
    path: str | None = None


def resolve(written: WrittenPlan, origin: Origin, problems: Problems) -> Plan:
    """Raises UsageError for what only turns out wrong beside something else, together with what was found before."""
    cases = written.cases or (WrittenCase(id="main", steps=written.steps),)
    name = written.name or origin.name
    path = slug(name) if origin.path is None else origin.path
    check_case_ids(cases, problems)
    check_plan(written, problems)
    _check_files(written, problems)
    _check_tools(written, problems)
    resolved = tuple(_case(case, written, path, problems) for case in cases)
    problems.raise_if_any()
    return _make(Plan, {
        "version": written.version, "name": name, "file": origin.file, "root": origin.root,
        "image": written.image, "tools": written.tools, "isolation": written.isolation, "network": written.network,
        "user": written.user, "rootfs": written.rootfs or ("writable" if written.user == "root" else "read-only"),
        "shell": written.shell, "env": written.env, "files": written.files, "limits": written.limits,
        "normalize": written.normalize, "ignore": written.ignore, "cases": resolved,
        "setup": resolved[0].setup, "teardown": resolved[0].teardown,
    })  # fmt: skip


def _case(case: WrittenCase, plan: WrittenPlan, path: str, problems: Problems) -> Case:
    nodeid = f"{path}::{case.id}"
    in_order = (*plan.setup, *case.steps, *plan.teardown)
    # in one session for all cases, teardown comes after the last one, and what a case started ends with it
    of_case = _stops(left_running(case.steps) if plan.isolation == "plan" else [])
    of_all = _stops([name for name in left_running(in_order) if name not in {step.stop for step in of_case}])
    phases = (plan.setup, plan.teardown, case.steps, of_case, of_all)
    setup_ids, teardown_ids, ids, of_case_ids, of_all_ids = step_ids(phases, problems)
    check_steps(in_order, problems)
    check_beside(in_order, problems)
    around = _Defaults({}, (), plan.normalize)
    inside = _Defaults({**plan.expect, **case.expect}, (plan.golden, case.golden), plan.normalize)
    check_merged(in_order, case.steps, inside.expect, problems)
    return Case(
        id=case.id,
        nodeid=nodeid,
        tags=case.tags,
        env=dict(case.env),
        setup=_steps(plan.setup, setup_ids, nodeid, Phase.SETUP, around),
        steps=(
            *_steps(case.steps, ids, nodeid, Phase.STEPS, inside),
            *_steps(of_case, of_case_ids, nodeid, Phase.TEARDOWN, around),
        ),
        teardown=(
            *_steps(plan.teardown, teardown_ids, nodeid, Phase.TEARDOWN, around),
            *_steps(of_all, of_all_ids, nodeid, Phase.TEARDOWN, around),
        ),
        expect_fail=case.expect_fail,
    )


def _stops(names: Sequence[str]) -> tuple[WrittenStep, ...]:
    """The ends of background programs that no step of the plan ends: what they wrote belongs to a step too."""
    return tuple(WrittenStep(stop=name) for name in names)


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What plan and case say for the steps of a case. Setup and teardown are work, not claims: for them it does not hold."""

    expect: Expectations
    golden: Sequence[Golden | None]
    normalize: tuple[Normalizer | str, ...]


def _steps(steps: Sequence[WrittenStep], ids: Sequence[str], case: str, phase: Phase, defaults: _Defaults) -> tuple[Step, ...]:
    return tuple(_step(step, name, f"{case}::{name}", phase, defaults) for step, name in zip(steps, ids, strict=True))


def _step(step: WrittenStep, name: str, nodeid: str, phase: Phase, defaults: _Defaults) -> Step:
    if step.background is not None or step.stop is not None or step.signal:
        # claims about commands are not about these; how a program ends that is told to is judged where the step says so
        defaults = _Defaults({"exit": _ANY_END} if step.stop is not None else {}, (), defaults.normalize)
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
        golden=_golden((*defaults.golden, step.golden), defaults.normalize),
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
    )


def _golden(levels: Sequence[Golden | None], normalize: tuple[Normalizer | str, ...]) -> GoldenSpec | None:
    """The last level that says anything decides whether there is one; settings of all levels stand, key by key."""
    wanted = False
    settings: dict[str, object] = {}
    for level in levels:
        if isinstance(level, Mapping):
            settings.update(level)
        if level is not None:
            wanted = level is not False
    if not wanted:
        return None
    spec = _make(GoldenSpec, settings)
    return replace(spec, normalize=(*normalize, *spec.normalize))


def _make(kind: Callable[..., T], fields: Mapping[str, object]) -> T:
    """Call a model with fields whose types only the model itself checks."""
    return kind(**fields)


def _check_files(plan: WrittenPlan, problems: Problems) -> None:
    files = [path for path, file in plan.files.items() if file.source is None or file.source.is_file()]
    clash = inner_clash(plan.files, files)
    if clash is not None and isinstance(plan.node, TableNode):
        outer, inner = clash
        place = plan.node.entries["files"].place
        problems.add(place, below("files", inner), f"{outer!r} is a file, so nothing can be put below it")


def _check_tools(plan: WrittenPlan, problems: Problems) -> None:
    seen: set[str] = set()
    for i, tool in enumerate(plan.tools):
        if tool.name in seen and isinstance(plan.node, TableNode):
            problems.add(plan.node.entries["tools"].place, below("tools", i), f"there are two tools named {tool.name!r}")
        seen.add(tool.name)
