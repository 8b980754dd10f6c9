"""Removes the changes that a plan's `ignore` names. They are recorded, but not judged, compared or shown as differences.

The patterns and rules are gitignore's: `*.log` matches anywhere, `/out` only at the top, `build/` a folder and everything in
it, `!kept.log` takes a path out again; the last match decides. `x/**` matches `x` too, as in all globs of a plan. A path
outside the workspace is matched from `/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from testronaut_lab.model.files import FileType
from testronaut_lab.model.result import CaseAttempt, CaseResult, PlanResult, RunResult, StepResult

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


def without_ignored(result: StepResult, ignore: Sequence[str]) -> StepResult:
    """Return the step without the changes that `ignore` names."""
    if not ignore:
        return result
    spec = _spec(tuple(ignore))
    inside = tuple(each for each in result.changes if not spec.match_file(_named(each.path, each.type)))
    outside = tuple(each for each in result.outside if not spec.match_file(each.path.lstrip("/")))
    return replace(result, changes=inside, outside=outside)


def without_ignored_of_run(run: RunResult) -> RunResult:
    return replace(run, plans=tuple(map(_of_plan, run.plans)))


def matching_nothing(ignore: Sequence[str], steps: Iterable[StepResult]) -> list[str]:
    """Return the patterns that name no change of these steps."""
    if not ignore:
        return []
    changes = [(change.path, change.type) for step in steps for change in step.changes]
    paths = [_named(path, kind) for path, kind in changes]
    paths += [each.path.lstrip("/") for step in steps for each in step.outside]
    plain = {pattern: pattern.removeprefix("!") for pattern in ignore}
    return [each for each in ignore if not any(_spec((plain[each],)).match_file(path) for path in paths)]


def _of_plan(plan: PlanResult) -> PlanResult:
    if not plan.ignore:
        return plan

    def steps(of: CaseResult | CaseAttempt) -> tuple[StepResult, ...]:
        return tuple(without_ignored(step, plan.ignore) for step in of.steps)

    cases = (
        replace(case, steps=steps(case), earlier=tuple(replace(each, steps=steps(each)) for each in case.earlier))
        for case in plan.cases
    )
    return replace(plan, cases=tuple(cases))


def _named(path: str, kind: FileType) -> str:
    """Return the path as gitignore patterns see it: a folder ends in a slash."""
    return f"{path}/" if kind is FileType.DIR else path


@lru_cache(maxsize=256)
def _spec(patterns: tuple[str, ...]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec  # imported late: few plans need it

    lines = [line for each in patterns for line in (each, *([f"{each[:-3]}/"] if each.endswith("/**") else []))]
    return GitIgnoreSpec.from_lines(lines)
