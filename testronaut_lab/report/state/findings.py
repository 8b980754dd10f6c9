"""What somebody should look at in a run, as a flat list in the order of the run: for reports that point at single places.

`files/markdown.py` and `files/github.py` show findings. JUnit shows cases instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from testronaut_lab.model.result import CaseResult, ErrorInfo, PlanResult, RunResult, Status, StepResult
from testronaut_lab.report.text.lines import step_details
from testronaut_lab.safetext import safe_line

_BAD = frozenset({Status.FAILED, Status.ERROR})
_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `name` is a node id or a plan's name; `step` is the step it is about; `message` says the rest.

    `attempt` is the case's attempt in which it was found; None if the case ran once. A finding of a flaky case is no failure:
    the case passed in the end. No text in it is safe to show yet.
    """

    status: Status
    name: str
    file: str | None = None
    line: int | None = None
    step: StepResult | None = None
    message: str = ""
    attempt: int | None = None


def findings(run: RunResult) -> Iterator[Finding]:
    """Yield errors of the run, its plans and cases, each step that went wrong, and each unexpected pass.

    For a case with several attempts: the last attempt if the case failed, the last failed attempt if it is flaky.
    """
    if run.error is not None:
        yield Finding(Status.ERROR, run.run, message=run.error.text)
    for plan in run.plans:
        if plan.error is not None:
            yield Finding(plan.status, plan.name, plan.file, message=plan.error.text)
        for case in plan.cases:
            yield from _of_case(plan, case)


def why(step: StepResult) -> str:
    """Say in one safe line what went wrong: `exit: expected 3, got 5, and 1 more`, or the error's message."""
    if step.error is not None:
        return safe_line(step.error.message, 3 * _WIDTH)
    if not step.mismatches:
        return step.exit.describe()
    first, *others = step.mismatches
    what = first.aspect if first.path is None else f"{first.aspect} {safe_line(first.path)}"
    more = f", and {len(others)} more" if others else ""
    advised = first.aspect == "golden"  # the advice holds a command, and a shortened command is useless
    expected = first.expected.partition(" (to accept")[0] if advised else first.expected
    return f"{what}: expected {safe_line(expected, _WIDTH)}, got {safe_line(first.actual, _WIDTH)}{more}"


def details(step: StepResult) -> list[str]:
    """Return the lines beneath a step in a text report, without their indentation: mismatches, differences, errors. Safe to
    show.
    """
    lines = [line.plain.rstrip() for line in step_details(step)]
    indentation = min((len(line) - len(line.lstrip()) for line in lines if line), default=0)
    return [line[indentation:] for line in lines]


def command_lines(step: StepResult) -> list[str]:
    """Return the command as a terminal would show it. Not safe to show."""
    first, *rest = step.command.rstrip("\n").split("\n")
    return [f"$ {first}", *(f"> {line}" for line in rest)]


def skipped_because(case: CaseResult) -> str:
    """Return why a case was skipped: the note of its first skipped step with one. Not safe to show."""
    notes = (note for step in case.steps if step.status is Status.SKIPPED for note in step.notes)
    return next(notes, "it was not run")


def took_s(run: RunResult) -> float:
    """Return the seconds that all attempts of all cases took together."""
    return sum(case.took_s for plan in run.plans for case in plan.cases)


def _of_case(plan: PlanResult, case: CaseResult) -> Iterator[Finding]:
    match case.status:
        case Status.XFAILED:
            return
        case Status.XPASSED:
            message = f"passed, but was expected to fail: {case.expect_fail}"
            yield Finding(case.status, case.nodeid, plan.file, case.line, message=message)
        case Status.FLAKY:
            for last in case.earlier[-1:]:
                yield from _of_attempt(plan, case, Status.FLAKY, last.steps, last.error, len(case.earlier))
        case _:
            attempt_or_none = case.attempts if case.attempts > 1 else None
            yield from _of_attempt(plan, case, None, case.steps, case.error, attempt_or_none)


def _of_attempt(
    plan: PlanResult,
    case: CaseResult,
    status: Status | None,
    steps: tuple[StepResult, ...],
    error: ErrorInfo | None,
    attempt: int | None,
) -> Iterator[Finding]:
    for step in steps:
        if step.status in _BAD:
            yield Finding(status or step.status, step.nodeid, plan.file, step.line, step, attempt=attempt)
    if error is not None:
        yield Finding(status or case.status, case.nodeid, plan.file, case.line, message=error.text, attempt=attempt)
