"""Turns the state of a view into a frozen result: merges the verdicts in, and fills the gaps of a run that was cut off.

The state is in `records.py`; `view.py` builds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from testronaut_lab.errors import ErrorKind
from testronaut_lab.model.events import StepJudged, StepOverruled
from testronaut_lab.model.ignoring import matching_nothing
from testronaut_lab.model.result import (
    CaseAttempt,
    CaseResult,
    ErrorInfo,
    Exit,
    ExitKind,
    PlanResult,
    Status,
    StepResult,
    combine,
)
from testronaut_lab.report.state.records import CaseView, PlanView, Stage, StepView

_JUDGED = frozenset({Status.PASSED, Status.FAILED, Status.XFAILED, Status.XPASSED, Status.FLAKY})


def judged(step: StepView, verdict: StepJudged) -> StepResult:
    """Return the step with its verdict. A skipped step has no capture: its exit is `exited` without a code."""
    bare = StepResult(step.id, step.nodeid, Exit(ExitKind.EXITED), Status.SKIPPED, step.phase, run=step.command)
    result = step.result or bare
    return replace(
        result,
        status=verdict.status,
        mismatches=verdict.mismatches,
        error=verdict.error or result.error,
        notes=result.notes + tuple(note for note in verdict.notes if note not in result.notes),
        normalized=verdict.normalized,
    )


def overrule(plan: PlanView, body: StepOverruled) -> None:
    """Make the step, its case and its plan fail, unless they already have a worse status."""
    case = plan.case(body.case)
    step = case.step(body.nodeid)
    if step is not None and step.result is not None:
        mismatches, notes = (*step.result.mismatches, *body.mismatches), (*step.result.notes, *body.notes)
        step.result = replace(step.result, status=Status.FAILED, mismatches=mismatches, notes=notes)
        step.status = Status.FAILED
    if case.status in (Status.PASSED, Status.FLAKY):
        case.status = Status.FAILED
    if isinstance(plan.status, Status):
        plan.status = combine([plan.status, Status.FAILED])


def plan_result(plan: PlanView) -> PlanResult:
    """Return the plan as it is now. A case that never began is skipped; one that was cut off is an error."""
    cases = tuple(_case_result(case, plan.lines) for case in plan.cases)
    return PlanResult(
        name=plan.name,
        file=plan.file,
        status=_status(plan.status, Status.ERROR if plan.planned else combine(case.status for case in cases)),
        cases=cases,
        image=plan.image,
        tools=tuple(tool for tool, _cached in plan.tools),
        network=plan.network,
        user=plan.user,
        cell=plan.cell,
        error=plan.error,
        notes=plan_notes(plan),
        started=None if plan.started_wall is None else iso_time(plan.started_wall),
        ignore=plan.ignore,
    )


def plan_notes(plan: PlanView) -> tuple[str, ...]:
    """Return notes about a plan that has ended: its rules and patterns that matched nothing anywhere.

    There are none if a part of the plan was not run or not judged: the rules might match there.
    """
    steps = [step for case in plan.cases for step in case.steps]
    whole = all(case.status in _JUDGED for case in plan.cases) and all(step.status in _JUDGED for step in steps)
    if plan.partial or not whole:
        return ()
    fired: Counter[str] = Counter()
    for step in steps:
        if step.result is not None and step.result.normalized is not None:
            fired.update(step.result.normalized.fired)
    idle = [f"normalize {name!r} matched nothing in any golden of this plan" for name, count in fired.items() if not count]
    results = [step.result for step in steps if step.result is not None]
    return (*idle, *(f"ignore {each!r} matched no change in this plan" for each in matching_nothing(plan.ignore, results)))


def iso_time(wall: float) -> str:
    """Return a Unix time as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _case_result(case: CaseView, lines: Mapping[str, int]) -> CaseResult:
    steps = _step_results(case.steps, lines)
    never_began = case.status is Stage.WAITING and case.planned
    unfinished = Status.SKIPPED if never_began else Status.ERROR if case.planned else combine(step.status for step in steps)
    return CaseResult(
        id=case.id,
        nodeid=case.nodeid,
        status=_status(case.status, unfinished),
        steps=steps,
        tags=case.tags,
        attempts=case.attempts,
        duration_s=case.duration_s,
        error=case.error,
        expect_fail=case.expect_fail,
        earlier=tuple(
            CaseAttempt(attempt.status, _step_results(attempt.steps, lines), attempt.duration_s, attempt.error)
            for attempt in case.earlier
        ),
        line=lines.get(case.nodeid),
    )


def _step_results(steps: Iterable[StepView], lines: Mapping[str, int]) -> tuple[StepResult, ...]:
    return tuple(replace(_step_result(step), line=lines.get(step.nodeid)) for step in steps)


def _step_result(step: StepView) -> StepResult:
    if step.result is None:
        error = ErrorInfo(ErrorKind.INTERRUPTED, "the run ended while this step was running")
        cancelled = Exit(ExitKind.CANCELLED)
        return StepResult(step.id, step.nodeid, cancelled, Status.ERROR, step.phase, run=step.command, error=error)
    if isinstance(step.status, Status):
        return step.result
    error = step.result.error or ErrorInfo(ErrorKind.INTERRUPTED, "the run ended before this step was judged")
    return replace(step.result, status=Status.ERROR, error=error)


def _status(state: Stage | Status, unfinished: Status) -> Status:
    return state if isinstance(state, Status) else unfinished
