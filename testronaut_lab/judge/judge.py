"""Reaches the verdict on one step from its expectations, its saved values and its golden.

`golden_writer.py` decides what happens to a golden that differs. A skipped step has no verdict. The runner decides what a verdict
does to the rest of the case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from testronaut_lab.errors import ErrorKind, LabError
from testronaut_lab.golden.render import render
from testronaut_lab.judge.expect import Workspace, check, truncated, unjudged_end
from testronaut_lab.judge.golden_writer import GoldenWriter
from testronaut_lab.judge.save import saved_values
from testronaut_lab.judge.usage import check_usage, unjudged_usage
from testronaut_lab.model.ignoring import without_ignored
from testronaut_lab.model.normalizing import Facts, Normalized
from testronaut_lab.model.plan import Step
from testronaut_lab.model.result import ErrorInfo, Exit, ExitKind, Mismatch, Status, StepResult

_LOST = frozenset({ExitKind.SESSION_LOST, ExitKind.ENGINE_LOST})


@dataclass(frozen=True, slots=True)
class Verdict:
    """`saved` are the values for later steps. `notes` are added behind the notes of the result.

    `normalized` has the rules by which the golden was compared or the evidence is normalised; None without rules.
    """

    status: Status
    mismatches: tuple[Mismatch, ...] = ()
    error: ErrorInfo | None = None
    notes: tuple[str, ...] = ()
    saved: Mapping[str, str] = field(default_factory=dict)
    normalized: Normalized | None = None


class Judge:
    """Judges the steps of one run. `goldens` compares, writes and proposes their goldens."""

    def __init__(self, goldens: GoldenWriter) -> None:
        self._goldens = goldens

    def judge(
        self, step: Step, result: StepResult, workspace: Workspace, ignore: tuple[str, ...] = (), *, may_write: bool = True
    ) -> Verdict:
        """Return the verdict on the `result` of `step`. `workspace` was captured right after the step.

        `ignore` is the plan's. Without `may_write`, as in a case that is expected to fail, no golden is written. A stream or
        file that cannot be read, or a golden that cannot be used, gives the status `error`; nothing is raised.
        """
        if result.error is not None or result.exit.kind in _LOST or result.status is Status.ERROR:
            return Verdict(Status.ERROR, error=result.error or _unexplained(result))
        try:
            return self._judge(step, without_ignored(result, ignore), workspace, may_write=may_write)
        except LabError as error:
            return Verdict(Status.ERROR, error=ErrorInfo.of(error))

    def case_ended(self, *, passed: bool) -> None:
        """Say that a case, or one attempt of it, has ended: see `GoldenWriter.case_ended`."""
        self._goldens.case_ended(passed=passed)

    def _judge(self, step: Step, result: StepResult, workspace: Workspace, *, may_write: bool) -> Verdict:
        saved = saved_values(step, result)
        mismatches = (
            *result.mismatches,
            *check(step.expect, result, workspace),
            *check_usage(step.expect.max, result),
            *saved.mismatches,
        )
        doubt = unjudged_usage(step.expect.max, result) or unjudged_end(step.expect.exit, result)
        notes: tuple[str, ...] = ()
        facts = replace(workspace.facts, pids=result.pids)
        normalized = Normalized(step.normalize, facts) if step.normalize else None
        if cut := _cut_for_golden(step, result):
            mismatches += tuple(each for each in cut if each not in mismatches)
        elif step.golden is not None:
            rules = step.golden.normalize
            rendered = render(step, result, workspace.read, facts if rules else Facts())
            normalized = Normalized(rules, facts, rendered.fired) if rules else None
            otherwise = "it is in doubt" if doubt is not None and not mismatches else _otherwise(mismatches, result)
            different, notes = self._goldens.against(step, rendered, otherwise=otherwise, may_write=may_write)
            mismatches += different
        if mismatches:
            notes += () if doubt is None else (doubt.message,)
            return Verdict(Status.FAILED, mismatches, None, notes, saved.values, normalized)
        return Verdict(Status.PASSED if doubt is None else Status.ERROR, (), doubt, notes, saved.values, normalized)


def _unexplained(result: StepResult) -> ErrorInfo:
    return ErrorInfo(ErrorKind.CAPTURE, f"{result.nodeid} ended as {result.exit.kind.value} and no reason was recorded")


def _otherwise(mismatches: tuple[Mismatch, ...], result: StepResult) -> str | None:
    """Say which other failure forbids a new golden; None if nothing but the golden differs."""
    if not mismatches:
        return None
    if [each.aspect for each in mismatches] != ["exit"]:
        return "other expectations of this step do not hold"
    match result.exit:
        case Exit(ExitKind.EXITED, int(code), None):
            right = f"exit: {code}"
        case Exit(ExitKind.EXITED, _, str(signal)):
            right = f"signal: {signal}"
        case Exit(kind):
            right = f"exit: {kind}"
    return f"it ended with {result.exit.describe()}; if that is right, the plan says `expect: {{{right}}}`"


def _cut_for_golden(step: Step, result: StepResult) -> tuple[Mismatch, ...]:
    """Return a mismatch for each stream of the golden that was cut at the output limit: such a golden cannot be compared."""
    streams = {"stdout": result.stdout_stream, "stderr": result.stderr_stream}
    cuts = (truncated(name, streams[name]) for name in (step.golden.streams if step.golden else ()))
    return tuple(cut for cut in cuts if cut)
