"""A run whose cases are asked for one at a time, as a test runner does. Each result is stored before the caller gets it.

A plan's image and tools are prepared once, when the plan begins. `plan_run.py` runs whole plans. The caller decides which cases
run and in which order.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from testronaut_lab.errors import CaptureError, ExitStatus, LabError
from testronaut_lab.execution.scheduler import SessionProvider
from testronaut_lab.model.events import CaseFinished, Event
from testronaut_lab.model.plan import Plan
from testronaut_lab.model.result import CaseResult, RunResult, Status, combine
from testronaut_lab.report.state.outcome import plan_result
from testronaut_lab.report.state.view import RunView
from testronaut_lab.run.plan_run import Reporter, Run, RunOptions


@dataclass
class _OpenPlan:
    """A plan that has begun. `error` is why it could not be prepared."""

    plan: Plan
    studio: SessionProvider | None = None
    error: LabError | None = None
    statuses: list[Status] = field(default_factory=list)
    ended: bool = False


class IncrementalRun(Run):
    """Create it; then for each plan `begin`, `run_cases` and `end`; then `close`. Use it from one thread.

    `plans` are all plans that may be asked for, each with only the cases that may be. A plan is named by its position in
    `plans`. A signal handler may call `stop`.
    """

    def __init__(self, plans: Sequence[Plan], options: RunOptions, reporters: Sequence[Reporter] = ()) -> None:
        super().__init__(plans, options)
        self._witness = _Witness()
        self._reporters = (*reporters, self._witness)  # last: when the witness has seen an event, all reporters have
        self._open: dict[int, _OpenPlan] = {}
        self._ended: list[Status] = []
        self._opening = ExitStack()
        self._view: RunView | None = None

    @property
    def plans(self) -> Sequence[Plan]:
        return self._plans

    def stop(self, status: ExitStatus = ExitStatus.INTERRUPTED) -> None:
        super().stop(status)
        if status is ExitStatus.CAPTURE:
            self._witness.give_up()  # the store failed: no further event reaches the witness

    def begin(self, number: int) -> None:
        """Prepare the image and the tools of plan `number`, once. A failure is raised again by each later call.

        Raises EngineError, InstallError, CaptureError, UsageError.
        """
        if self._view is None:
            self._view = self._opening.enter_context(self._opened(self._reporters))
        if number not in self._open:
            opened = self._open[number] = _OpenPlan(self._plans[number])
            try:
                opened.studio = self._scheduler.begin(number, opened.plan)
            except LabError as error:
                opened.error, opened.ended = error, True
                self._ended.append(self._scheduler.end(number, error=error))
                self._witness.wait(self.log.last_fact())
        if (failed := self._open[number].error) is not None:
            raise failed

    def run_cases(self, number: int, ids: Collection[str]) -> list[CaseResult]:
        """Run cases of a plan that has begun, and wait until their results are stored.

        For a plan with one session for all cases, ask for all of them in one call. After an interruption, some results may be
        missing. Raises EngineError and CaptureError if that session does not start, CaptureError if results cannot be stored.
        """
        opened = self._open[number]
        assert opened.studio is not None
        cases = tuple(case for case in opened.plan.cases if case.id in ids)
        statuses = [Status.ERROR]  # for a case that ends with an exception, such as a test runner's own timeout
        try:
            statuses = self._scheduler.run_cases(number, replace(opened.plan, cases=cases), opened.studio)
        finally:
            opened.statuses += statuses
        self._witness.wait(self.log.last_fact())
        if self._witness.gave_up:
            self.close()
            raise CaptureError("storing the results: the run has ended already")
        return [self._witness.results[case.nodeid] for case in cases if case.nodeid in self._witness.results]

    def end(self, number: int) -> None:
        """End a plan that has begun: no more of its cases will be asked for."""
        opened = self._open.get(number)
        if opened is not None and not opened.ended:
            opened.ended = True
            self._ended.append(self._scheduler.end(number, opened.statuses))

    def close(self) -> RunResult | None:
        """End all plans that have begun and wait until everything is stored. Returns None if nothing was ever asked for.

        Raises CaptureError if the store failed.
        """
        if self._view is None:
            return None
        with self._opening:
            for number in self._open:
                self.end(number)
            self._finish(combine(self._ended))
        return self._view.result()


class _Witness:
    """A reporter on which other threads can wait."""

    def __init__(self) -> None:
        self._heard = threading.Condition()
        self._seq = 0
        self.gave_up = False
        self.results: dict[str, CaseResult] = {}

    def event(self, view: RunView, event: Event) -> None:
        with self._heard:
            if isinstance(event.body, CaseFinished):
                cases = plan_result(view.plan(event.body.plan)).cases
                self.results |= {case.nodeid: case for case in cases if case.nodeid == event.body.nodeid}
            self._seq = event.seq
            self._heard.notify_all()

    def end(self, view: RunView) -> None:  # noqa: ARG002 - a reporter's
        self.give_up()

    def wait(self, seq: int) -> None:
        """Wait until everything up to this event is stored and reported, or until nothing more will be."""
        with self._heard:
            self._heard.wait_for(lambda: self._seq >= seq or self.gave_up)

    def give_up(self) -> None:
        with self._heard:
            self.gave_up = True
            self._heard.notify_all()
