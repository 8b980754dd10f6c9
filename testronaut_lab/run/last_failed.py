"""`run --last-failed`: finds the cases that did not end well in the newest stored run, and narrows plans to them.

A run that is still being written does not count as the newest, nor does one without cases, such as an installation. An
interrupted run does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from testronaut_lab.config import plan_root
from testronaut_lab.errors import UsageError
from testronaut_lab.model.plan import Plan
from testronaut_lab.model.result import PlanResult, RunResult, Status
from testronaut_lab.model.selection import narrowed
from testronaut_lab.report.state.view import RunView
from testronaut_lab.store.database import Store

_NOT_WELL = frozenset({Status.FAILED, Status.ERROR, Status.XPASSED, Status.FLAKY})


def narrowed_to_failed(plans: Sequence[Plan], location: str | Path, instead: str, show: str) -> tuple[list[Plan], str]:
    """Return the plans with only the cases that did not end well in the newest run at `location`, and a line about them.

    For hints, `instead` is the command that runs all of them, and `show` is the option with which `testronaut-lab show` finds
    the run. Raises UsageError if there is no such run, nothing in it failed, or none of the failed cases is in `plans`;
    CaptureError.
    """
    store = Store.to_read(location)
    newest = _newest(store)
    if newest is None:
        raise UsageError(f"--last-failed: there is no earlier run in {store.file}", hint=instead)
    failed = frozenset(nodeid for plan in newest.plans for nodeid in _not_well(plan))
    if not failed:
        raise UsageError(f"--last-failed: nothing failed in the newest run, {newest.run}", hint=instead)
    left = [each for plan in plans if (each := narrowed(plan, lambda case: case.nodeid in failed)).cases]
    count = sum(len(plan.cases) for plan in left)
    if not left:
        named = f"{', '.join(sorted(failed)[:5])}{' …' if len(failed) > 5 else ''}"
        raise UsageError(
            f"--last-failed: none of what failed in run {newest.run} was selected: {named}",
            hint=f"testronaut-lab show {newest.run}{show}",
        )
    return left, f"last failed: {_of(count, len(failed))} of run {newest.run}"


def has_failed(file: Path, location: str | Path) -> bool:
    """Whether a case of this plan file did not end well in the newest run. Raises CaptureError."""
    newest = _newest(Store.to_read(location))
    if newest is None:
        return False
    root = plan_root(file)
    failed = {root / plan.file for plan in newest.plans if plan.file is not None and any(_not_well(plan))}
    return file.parent.resolve() / file.name in failed


def _newest(store: Store) -> RunResult | None:
    for run in store.runs():
        if run.status == "running":
            continue
        view = RunView()
        for event in store.events(run.id):
            view.apply(event)
        if any(plan.cases for plan in view.plans.values()):
            return view.result()
    return None


def _not_well(plan: PlanResult) -> Iterator[str]:
    """Yield the cases that did not end well. If the plan itself failed, its skipped cases count too."""
    for case in plan.cases:
        if case.status in _NOT_WELL or (plan.error is not None and case.status is Status.SKIPPED):
            yield case.nodeid


def _of(count: int, total: int) -> str:
    if count == total:
        return f"the {count} cases that failed" if count > 1 else "the one case that failed"
    return f"{count} of the {total} cases that failed"
