"""Reaches the verdict on one step from its expectations, its saved values and its golden.

What happens to a golden that differs:
1. without `update`, the step fails and the new golden becomes pending;
2. with `update`, the golden is written at once; with `hold`, only when its case has passed (`case_ended`);
3. if several cells share the golden, each cell votes on it. The golden is written when all cells agree: with the
   last vote, or by `settle` after the run. A cell that differs fails, and `settle` overrules a cell that had passed before.
A skipped step has no verdict. The runner decides what a verdict does to the rest of the case.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from testronaut_lab.errors import ErrorKind, LabError
from testronaut_lab.golden.compare import compare
from testronaut_lab.golden.pending import PendingStore
from testronaut_lab.golden.places import GoldenKey, golden_key
from testronaut_lab.golden.render import GoldenTree, Rendered, render
from testronaut_lab.golden.store import GoldenStore
from testronaut_lab.judge.expect import Workspace, check, truncated, unjudged_end
from testronaut_lab.judge.save import saved_values
from testronaut_lab.judge.shared_golden import SharedGolden, SharedGoldens, cells_text
from testronaut_lab.judge.usage import check_usage, unjudged_usage
from testronaut_lab.model.cells import NodeName
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


@dataclass(frozen=True, slots=True)
class Overruled:
    """A step that passed, and fails now because another cell differs: see `model.events.StepOverruled`."""

    nodeid: str
    mismatches: tuple[Mismatch, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of the shared goldens after all cells have run. `said` are lines for the user."""

    overruled: tuple[Overruled, ...] = ()
    said: tuple[str, ...] = ()


class Judge:
    """Judges the steps of the run `run`.

    With `update`, a golden that differs is written; otherwise the new golden goes to `pending`, if there is a store. Nothing is
    written under `ci`. `only` names the steps whose goldens may be written; None allows all. With `hold`, goldens are written
    only after their case has passed, so that a failed attempt writes none. The steps of `shared_goldens` must agree on one.
    """

    def __init__(
        self,
        goldens: GoldenStore,
        update: bool,
        ci: bool,
        only: frozenset[str] | None = None,
        *,
        pending: PendingStore | None = None,
        run: str = "",
        hold: bool = False,
        shared_goldens: SharedGoldens | None = None,
        go_there: str = "",
    ) -> None:
        """`go_there` is the start of printed commands if the user stands outside the project: `cd ROOT && `; else empty."""
        self._goldens = goldens
        self._update = update
        self._ci = ci
        self._only = only
        self._pending = None if ci else pending
        self._run = run
        self._hold = hold
        self._go_there = go_there
        self._held: list[tuple[Step, GoldenTree]] = []
        self._shared_goldens = shared_goldens or SharedGoldens()
        self._proposed: list[tuple[SharedGolden, str]] = []
        self._agreed: dict[str, str] = {}  # place of a golden -> the node id of a step that agrees with it

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
        """Write the goldens held since the last call if the case passed, else forget them. Raises CaptureError, UsageError."""
        held, self._held = self._held, []
        proposed, self._proposed = self._proposed, []
        for step, tree in held if passed else ():
            self._write(step, tree)
        for shared, nodeid in proposed if self._hold and not passed else ():
            shared.votes.pop(nodeid, None)

    def settle(self, *, interrupted: bool = False) -> Settled:
        """Settle the shared goldens after the last case: write those on which all votes agree, overrule cells that differ.

        After an interruption nothing is written. Raises CaptureError, UsageError.
        """
        overruled: list[Overruled] = []
        said: list[str] = []
        for key, shared in self._shared_goldens.open():
            shown = self._goldens.shown(key)
            for nodeid in shared.wrongly_passed:
                other = shared.against(nodeid)
                assert other is not None
                overruled.append(Overruled(nodeid, *shared.conflict(nodeid, other, shown)))
            if shared.agreed:
                said += self._settled(key, shared, interrupted=interrupted)
        return Settled(tuple(overruled), tuple(said))

    def _settled(self, key: GoldenKey, shared: SharedGolden, *, interrupted: bool) -> list[str]:
        shown, tree = self._goldens.shown(key), next(iter(shared.votes.values()))
        if not compare(self._goldens.read(key), tree):
            return []
        if interrupted:
            return [f"golden not written: {shown}: the run ended before all cells that share it were run"]
        self._goldens.write(key, tree)
        if self._pending is not None:
            self._pending.settle(key, nodeid=next(iter(shared.votes)), run=self._run)
        voters, silent = cells_text(shared.votes), cells_text(each for each in shared.voters if each not in shared.votes)
        return [f"golden written: {shown}, by {voters}; {silent} did not get that far"] if silent else []

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
            different, notes = self._against_golden(step, rendered, otherwise=otherwise, may_write=may_write)
            mismatches += different
        if mismatches:
            notes += () if doubt is None else (doubt.message,)
            return Verdict(Status.FAILED, mismatches, None, notes, saved.values, normalized)
        return Verdict(Status.PASSED if doubt is None else Status.ERROR, (), doubt, notes, saved.values, normalized)

    def _against_golden(
        self, step: Step, rendered: Rendered, *, otherwise: str | None, may_write: bool
    ) -> tuple[tuple[Mismatch, ...], tuple[str, ...]]:
        """Return mismatches and notes. A golden that is written now is not a mismatch."""
        key = golden_key(step)
        different = compare(self._goldens.read(key), rendered.tree)
        why_not = otherwise if may_write else "the case is expected to fail"
        updating = self._update and not self._ci and (self._only is None or step.nodeid in self._only)
        shared = self._shared_goldens.shared(key, step.nodeid) if updating and why_not is None else None
        if shared is not None:
            return self._with_other_cells(step, shared, rendered.tree, is_new=bool(different))
        if not different:
            self._agreed[key.place] = step.nodeid
            self._settle(step, key)
            return (), ()
        notes: tuple[str, ...] = ()
        if updating:
            if why_not is None:
                return (), (self._written_now_or_later(step, rendered.tree),)
            notes = (f"golden not written: {why_not}",)
        elif why_not is None and self._pending is not None:
            other = self._agreed.get(key.place, step.nodeid)
            conflict = None if other == step.nodeid else other
            why_not = self._pending.propose(key, rendered.tree, nodeid=step.nodeid, run=self._run, clash=conflict)
        where, advice = self._goldens.shown(key), self._advice(step, why_not)
        return tuple(change.mismatch(where, advice) for change in different), notes

    def _with_other_cells(
        self, step: Step, shared: SharedGolden, tree: GoldenTree, *, is_new: bool
    ) -> tuple[tuple[Mismatch, ...], tuple[str, ...]]:
        """Return mismatches and notes. The last cell's vote writes the golden if all agree; otherwise `settle` may."""
        shown = self._goldens.shown(golden_key(step))
        shared.votes[step.nodeid] = tree
        self._proposed.append((shared, step.nodeid))
        other = shared.against(step.nodeid)
        if other is not None:
            shared.passed.discard(step.nodeid)
            mismatches, note = shared.conflict(step.nodeid, other, shown)
            return mismatches, (note,)
        shared.passed.add(step.nodeid)
        if not is_new:
            self._settle(step, golden_key(step))
            return (), ()
        if self._hold or not shared.complete:
            return (), (f"golden to be written if the other cells agree: {shown}",)
        self._write(step, tree)
        shared.written = True
        return (), (f"golden written: {shown}, {len(shared.votes)} cells agree",)

    def _written_now_or_later(self, step: Step, tree: GoldenTree) -> str:
        if self._hold:
            self._held.append((step, tree))
            return f"golden to be written once this attempt has passed: {self._goldens.shown(golden_key(step))}"
        self._write(step, tree)
        return f"golden written: {self._goldens.shown(golden_key(step))}"

    def _write(self, step: Step, tree: GoldenTree) -> None:
        key = golden_key(step)
        self._goldens.write(key, tree)
        self._settle(step, key)

    def _settle(self, step: Step, key: GoldenKey) -> None:
        if self._pending is not None:
            self._pending.settle(key, nodeid=step.nodeid, run=self._run)

    def _advice(self, step: Step, why_not: str | None) -> str:
        """Say how the user can accept the new golden."""
        name = shlex.quote(step.nodeid)
        if self._ci:
            return f"nothing is written under CI; to accept elsewhere: testronaut-lab run -u {name}"
        if why_not is not None:
            return f"cannot be accepted: {why_not}"
        if self._pending is None:
            return f"to accept: {self._go_there}testronaut-lab run -u {name}"
        shared = step.golden is not None and len(step.golden.cell) < len(NodeName.of(step.nodeid).cell or ())
        ours = f"{self._go_there}testronaut-lab"
        return f"to accept, if all cells agree: {ours} review" if shared else f"to accept: {ours} accept {name}"


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
