"""Runs a drafted plan once in a fresh session, against goldens in a scratch folder. Touches nothing of the project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from testronaut_lab.golden.places import golden_key
from testronaut_lab.golden.render import GoldenTree
from testronaut_lab.golden.store import GoldenStore
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.plan import Plan, Step
from testronaut_lab.model.result import CaseResult, ErrorInfo, Phase, Status
from testronaut_lab.recording.journal import Seen
from testronaut_lab.run.plan_run import Run, RunOptions
from testronaut_lab.store.blobs import BlobStore

_FACTS, _BEFORE = "facts-of-this-session", "before-this-session"


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result of a replay. `steps` has what each step did, by id. `error` is set if the plan could not run at all."""

    steps: Mapping[str, Seen]
    failed: tuple[str, ...]
    duration_s: float
    error: ErrorInfo | None = None

    @property
    def green(self) -> bool:
        return self.error is None and not self.failed


def replay(plan: Plan, goldens: Mapping[str, GoldenTree], scratch: Path, number: int) -> Replayed:
    """Run the plan and return when it has ended. `goldens` are by step id; `scratch` must outlive the returned value.

    A failed step does not stop the others: one replay shows all that differs. Fresh sessions give out the same process ids
    again, which would hide a pid in the output. So before its first step, each replay starts a different number of processes;
    `number` counts replays from 0.
    """
    [case] = plan.cases
    store = GoldenStore(scratch / "snapshots")
    for step in case.steps:
        if step.id in goldens:
            store.write(golden_key(step), goldens[step.id])
    telling = Step(_FACTS, f"{case.nodeid}::{_FACTS}", Phase.TEARDOWN, run=":", normalize=("ansi",))
    forks = f"( i={37 * (number + 1)}; while [ $i -gt 0 ]; do ( : ); i=$((i-1)); done )"
    before = Step(_BEFORE, f"{case.nodeid}::{_BEFORE}", Phase.SETUP, run=forks)
    steps = tuple(replace(step, continue_=True) for step in case.steps)
    case = replace(case, setup=(before, *case.setup), steps=steps, teardown=(*case.teardown, telling))
    apart = replace(plan, root=scratch, cases=(case,), setup=case.setup, teardown=case.teardown)
    result = Run([apart], RunOptions(ci=True)).run()
    [of_plan] = result.plans
    if not of_plan.cases or of_plan.error is not None:
        return Replayed({}, (), 0.0, of_plan.error or result.error)
    return _replayed(of_plan.cases[0], BlobStore(scratch / ".testronaut" / "blobs"))


def _replayed(case: CaseResult, blobs: BlobStore) -> Replayed:
    normalized = next((step.normalized for step in case.steps if step.id == _FACTS), None)
    facts = Facts() if normalized is None else normalized.facts
    own = [step for step in case.steps if step.id not in (_FACTS, _BEFORE)]
    steps = {step.id: Seen(step, replace(facts, pids=step.pids), blobs.read) for step in own}
    failed = tuple(name for name, seen in steps.items() if seen.result.status is not Status.PASSED)
    return Replayed(steps, failed, case.duration_s, case.error)
