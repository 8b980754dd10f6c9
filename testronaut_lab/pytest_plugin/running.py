"""Runs the cases that pytest asks for. Each process stores one run per project and prepares each plan once.

The cases of a plan with `isolation: plan` build on each other. When pytest asks for the first of them, all selected cases run
in order in their one session. Each xdist worker does so for itself.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import pytest

from testronaut_lab.config import load_config
from testronaut_lab.errors import LabError
from testronaut_lab.golden.places import golden_key
from testronaut_lab.golden.store import GoldenStore
from testronaut_lab.maintenance.runs import keep_to_policy
from testronaut_lab.model.plan import Case, Plan, all_steps
from testronaut_lab.model.result import CaseResult
from testronaut_lab.pytest_plugin.failure_text import CaseLines
from testronaut_lab.pytest_plugin.settings import in_ci, is_worker, wants_new_only, wants_update
from testronaut_lab.run.incremental import IncrementalRun
from testronaut_lab.run.plan_run import RunOptions

if TYPE_CHECKING:
    from rich.text import Text


class AskedCase(Protocol):
    """A case that pytest asks for, with the plan that it is of."""

    plan: Plan
    case: Case


PLAN_RUNS = pytest.StashKey["PlanRuns"]()


@dataclass
class _Project:
    """The run of one project. `left` has the cases of each plan that pytest has not asked for yet, by the plan's number."""

    run: IncrementalRun
    lines: CaseLines
    location: str | Path
    root: Path
    left: list[set[str]]
    shared: dict[int, dict[str, CaseResult]] = field(default_factory=dict)


class PlanRuns:
    """Runs the selected items. Made when the selection is known; the caller calls `close` after the last item."""

    def __init__(self, config: pytest.Config, items: Iterable[AskedCase]) -> None:
        self._config = config
        self._places: dict[int, tuple[_Project, int]] = {}  # by the plan's identity
        roots: dict[Path, dict[int, Plan]] = {}
        chosen: dict[int, set[str]] = {}
        for item in items:
            roots.setdefault(item.plan.root, {})[id(item.plan)] = item.plan
            chosen.setdefault(id(item.plan), set()).add(item.case.id)
        for root, plans in roots.items():
            project = self._project(root, [self._narrowed(plan, chosen[id_]) for id_, plan in plans.items()])
            self._places |= {id_: (project, number) for number, id_ in enumerate(plans)}

    def begin(self, item: AskedCase) -> None:
        """Prepare the item's plan. Raises LabError if that fails."""
        project, number = self._places[id(item.plan)]
        with _stopping(project.run):
            project.run.begin(number)

    def install_log(self, item: AskedCase) -> Sequence[str]:
        """Return the last lines of the installation log, for a plan that could not be prepared."""
        project, number = self._places[id(item.plan)]
        return project.lines.install_log(number)

    def run(self, item: AskedCase) -> CaseResult:
        """Run the item's case. Raises LabError if no session can start or nothing can be stored."""
        project, number = self._places[id(item.plan)]
        with _stopping(project.run):
            if item.plan.isolation == "plan":
                result = self._of_shared(project, number, item)
            else:
                result = _only(project.run.run_cases(number, [item.case.id]))
            project.left[number].discard(item.case.id)
            if not project.left[number]:
                project.run.end(number)
        return result

    def lines(self, item: AskedCase) -> Sequence[Text]:
        return self._places[id(item.plan)][0].lines.of_case(item.case.nodeid)

    def run_id(self, item: AskedCase) -> str:
        return self._places[id(item.plan)][0].run.id

    def close(self) -> None:
        """End all runs. Raises the first LabError: a run that could not be stored, or a retention policy that could not be
        applied.
        """
        failed: list[LabError] = []
        for project in {id(project): project for project, _ in self._places.values()}.values():
            try:
                if project.run.close() is not None:
                    keep_to_policy(project.root, project.location)
            except LabError as error:
                failed.append(error)
        self._places.clear()
        if failed:
            raise failed[0]

    def _project(self, root: Path, plans: list[Plan]) -> _Project:
        location = load_config(root).store_location
        lines = CaseLines()
        new = _without_golden(root, plans) if wants_new_only(self._config) else None
        update = wants_update(self._config) or new is not None
        options = RunOptions(update=update, ci=in_ci(), store=location, update_only=new)
        run = IncrementalRun(plans, options, [lines])
        return _Project(run, lines, location, root, [{case.id for case in plan.cases} for plan in plans])

    def _narrowed(self, plan: Plan, ids: set[str]) -> Plan:
        """Return the plan with only its selected cases. With xdist, every run counts as partial: nobody knows which cases a
        worker gets.
        """
        cases = tuple(case for case in plan.cases if case.id in ids)
        return replace(plan, cases=cases, partial=plan.partial or cases != plan.cases or is_worker(self._config))

    def _of_shared(self, project: _Project, number: int, item: AskedCase) -> CaseResult:
        """Return the result of the case. If pytest asks for a case a second time, all cases run again."""
        results = project.shared.setdefault(number, {})
        if item.case.id not in results:
            ids = [case.id for case in project.run.plans[number].cases]
            results |= {result.id: result for result in project.run.run_cases(number, ids)}
        return _only([results.pop(item.case.id)] if item.case.id in results else [])


def _without_golden(root: Path, plans: Sequence[Plan]) -> frozenset[str]:
    """Return the node ids of the steps that ask for a golden and have none."""
    store = GoldenStore(root / "snapshots")
    steps = [step for plan in plans for step in all_steps(plan) if step.golden is not None]
    return frozenset(step.nodeid for step in steps if store.read(golden_key(step)) is None)


def _only(results: list[CaseResult]) -> CaseResult:
    if not results:
        raise KeyboardInterrupt  # only an interruption keeps a case from beginning
    return results[0]


@contextmanager
def _stopping(run: IncrementalRun) -> Iterator[None]:
    """While a case runs, make SIGINT stop the step and run the case's teardown, as in `testronaut-lab run`. Then raise
    KeyboardInterrupt for pytest.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = 0

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        run.stop()
        if run.preparing and signals == 1:  # only once: a second interruption must not cut the clean-up short
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    except LabError:  # an interruption ends the preparation with this error
        if not signals:
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    if signals:
        raise KeyboardInterrupt
