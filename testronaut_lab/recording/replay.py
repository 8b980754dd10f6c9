"""Running a drafted plan once in a fresh session, against goldens that are nowhere yet. Nothing of the project is touched."""

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
from testronaut_lab.run.plan_run import PlanRun, RunOptions
from testronaut_lab.store.blobs import BlobStore

_FACTS, _BEFORE = "facts-of-this-session", "before-this-session"


@dataclass(frozen=True, slots=True)
class Replayed:
    """`steps` has what each step did, by its id; `error` is what kept the plan from being run at all."""

    steps: Mapping[str, Seen]
    failed: tuple[str, ...]
    duration_s: float
    error: ErrorInfo | None = None

    @property
    def green(self) -> bool:
        return self.error is None and not self.failed


def replay(plan: Plan, goldens: Mapping[str, GoldenTree], scratch: Path, number: int) -> Replayed:
    """Blocks until it is run. `goldens` are by the id of the step; `scratch` is a folder that outlives what is returned.

    A step that fails does not keep the others from running: all that differs is to be seen at once. Sessions number their
    processes alike, so that a number would be the same again by chance: in the replay with this `number`, counted from 0, they
    are others.
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
    result = PlanRun([apart], RunOptions(ci=True)).run()
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
