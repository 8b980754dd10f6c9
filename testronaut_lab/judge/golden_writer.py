"""What becomes of goldens: compared, written, held, proposed as pending, or settled among the cells that share one.

What happens to a golden that differs:
1. without `update`, the step fails and the new golden becomes pending;
2. with `update`, the golden is written at once; with `hold`, only when its case has passed (`case_ended`);
3. if several cells share the golden, each cell votes on it. The golden is written when all cells agree: with the
   last vote, or by `settle` after the run. A cell that differs fails, and `settle` overrules a cell that had passed before.
Whether the rest of a step is as expected is `judge.py`'s business, which says here why a golden must not be written.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from testronaut_lab.golden.compare import compare
from testronaut_lab.golden.pending import PendingStore
from testronaut_lab.golden.places import GoldenKey, golden_key
from testronaut_lab.golden.render import GoldenTree, Rendered
from testronaut_lab.golden.store import GoldenStore
from testronaut_lab.judge.shared_golden import SharedGolden, SharedGoldens, cells_text
from testronaut_lab.model.cells import NodeName
from testronaut_lab.model.plan import Step
from testronaut_lab.model.result import Mismatch


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


class GoldenWriter:
    """Writes the goldens of the run `run`, or proposes them.

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

    def against(
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
