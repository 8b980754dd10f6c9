"""Runs plans: their cases in order, each in the session that it asks for, until all are done or somebody says stop.

A case that fails can be run again, whole and in a session as new; what is wrong with engine, image or capture is not retried.

It knows the order of things and nothing else: sessions come from a `SessionProvider`, verdicts from a `Judge`, and all that
happens goes out as events. What happens within a case is in `case.py`. Runs on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from testronaut_lab.errors import ErrorKind, ExitStatus, LabError, worst
from testronaut_lab.execution.case import CaseRun, Judge
from testronaut_lab.execution.runner import Emit, LiveSession
from testronaut_lab.model.events import AttemptFailed, CaseFinished, CaseStarted, PlanFinished, PlanStarted
from testronaut_lab.model.plan import Case, Plan
from testronaut_lab.model.result import ErrorInfo, Status, combine


class SessionProvider(Protocol):
    """Where sessions of one plan come from, its image and tools being ready."""

    def session(self, env: Mapping[str, str]) -> AbstractContextManager[LiveSession]:
        """A started session that ends with the context. Raises EngineError, CaptureError."""
        ...


Prepare = Callable[[int, Plan], SessionProvider]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A case that fails is run up to `times` more; one that passes then is flaky, which fails the run unless it is `allowed`.

    Cases that share a session with others (`isolation: plan`) are never run again: they stand on what those left there.
    """

    times: int = 0
    allowed: bool = False


class Scheduler:
    """Runs plans one after the other. `prepare` gets a plan's image and tools ready and emits what it does."""

    def __init__(
        self, emit: Emit, prepare: Prepare, judge: Judge, *, fail_fast: bool = False, retry: RetryPolicy | None = None
    ) -> None:
        self._emit = emit
        self._prepare = prepare
        self._judge = judge
        self._fail_fast = fail_fast
        self._retry = retry or RetryPolicy()
        self._stopped = False  # no Event: a second signal inside `set` would wait for the first one's lock
        self._session: LiveSession | None = None
        self._exits: list[ExitStatus] = []

    def stop(self) -> None:
        """End the step that runs and start nothing more but the teardown; from any thread or a signal handler.

        Said again it ends a step of the teardown too, which has `STOPPED_TEARDOWN_S` in all.
        """
        self._stopped = True
        session = self._session
        if session is not None:
            session.interrupt()

    @property
    def stopped(self) -> bool:
        return self._stopped

    @property
    def exit_status(self) -> ExitStatus:
        """Of what has run so far; an interruption is not counted."""
        return worst(self._exits)

    def run(self, plans: Sequence[Plan]) -> Status:
        """Run them all; a plan that cannot be prepared is an error of that plan, and the next one is run."""
        statuses: list[Status] = []
        for number, plan in enumerate(plans):
            if self._over(statuses):
                break
            statuses.append(self._run_plan(number, plan))
        return combine(statuses)

    def _over(self, statuses: Sequence[Status]) -> bool:
        return self.stopped or self._failed_fast(statuses)

    def _failed_fast(self, statuses: Sequence[Status]) -> bool:
        return self._fail_fast and any(status is Status.ERROR or self._fails_the_run(status) for status in statuses)

    def _fails_the_run(self, status: Status) -> bool:
        return status in (Status.FAILED, Status.XPASSED) or (status is Status.FLAKY and not self._retry.allowed)

    def _run_plan(self, number: int, plan: Plan) -> Status:
        try:
            statuses = self.run_cases(number, plan, self.begin(number, plan))
        except LabError as error:
            return self.end(number, error=error)
        # one without any cases is an installation, which is done
        return self.end(number, statuses if plan.cases else [Status.PASSED])

    def begin(self, number: int, plan: Plan) -> SessionProvider:
        """Announce a plan and get it ready; whoever calls sees to it that `end` follows. Raises LabError if that fails."""
        self._emit(_announcement(number, plan))
        return self._prepare(number, plan)

    def run_cases(self, number: int, plan: Plan, studio: SessionProvider) -> list[Status]:
        """Run the cases of a plan that has begun, or some of them. Raises LabError when a session for all does not start."""
        run_cases = self._in_one_session if plan.isolation == "plan" else self._in_own_sessions
        return run_cases(number, plan, studio)

    def end(self, number: int, statuses: Sequence[Status] = (), error: LabError | None = None) -> Status:
        """Say what came of a plan: of its cases, or that it could not be run."""
        status = combine(statuses) if statuses else Status.SKIPPED
        if error is not None:
            self._exits.append(error.exit_status)
            status = Status.ERROR
        self._emit(PlanFinished(number, status, None if error is None else ErrorInfo.of(error)))
        return status

    def _in_own_sessions(self, number: int, plan: Plan, studio: SessionProvider) -> list[Status]:
        statuses: list[Status] = []
        for case in plan.cases:
            if self._over(statuses):
                break
            statuses.append(self._in_its_own_session(number, plan, case, studio))
        return statuses

    def _in_its_own_session(self, number: int, plan: Plan, case: Case, studio: SessionProvider) -> Status:
        """One session for each attempt; the last one's status."""
        verdicts: list[Status] = []
        for attempt in range(1, self._retry.times + 2):
            with (
                self._case(number, plan, case, {}, verdicts, attempt=attempt, retries=self._retry.times) as run,
                self._using(studio, {**plan.env, **case.env}) as session,
            ):
                place_files(plan, session)
                run.run(session, (*case.setup, *case.steps, *case.teardown), {})
            if verdicts:
                break
        return verdicts[0]

    def _in_one_session(self, number: int, plan: Plan, studio: SessionProvider) -> list[Status]:
        """Files and setup stand before the first case, teardown after the last; a case's own environment ends with each step."""
        statuses: list[Status] = []
        values: dict[str, str] = {}
        blocked: str | None = None
        with self._using(studio, plan.env) as session:
            place_files(plan, session)
            is_last = self._over(statuses)
            for i, case in enumerate(plan.cases):
                if is_last or self._failed_fast(statuses):
                    break
                with self._case(number, plan, case, values, statuses, blocked) as run:
                    run.began = i > 0
                    run.run(session, case.setup if i == 0 else (), case.env)
                    blocked = "the setup failed" if run.failed else blocked
                    run.run(session, case.steps, case.env)
                    is_last = i == len(plan.cases) - 1 or self._over([*statuses, run.finish()])
                    if is_last:
                        run.run(session, case.teardown, case.env)
        return statuses

    @contextmanager
    def _case(
        self,
        number: int,
        plan: Plan,
        case: Case,
        values: dict[str, str],
        statuses: list[Status],
        blocked: str | None = None,
        *,
        attempt: int = 1,
        retries: int = 0,
    ) -> Iterator[CaseRun]:
        """A case from its first to its last event; what goes wrong within is the case's error.

        Its status goes to `statuses`, but not that of an attempt that failed and has one of `retries` left.
        """
        self._emit(CaseStarted(number, case.nodeid, attempt))
        started = time.monotonic()
        run = CaseRun(self._emit, self._judge, lambda: self._stopped, plan, number, case, values, blocked)
        try:
            yield run
        except LabError as error:
            run.fail(error)
        status, why = _after_failures(self._settled(run), run.error, attempt)
        took_s = time.monotonic() - started
        if status is Status.FAILED and attempt <= retries and not self._stopped:
            self._emit(AttemptFailed(number, case.nodeid, attempt, status, took_s, why))
            return
        statuses.append(status)
        self._exits += run.exits
        if self._fails_the_run(status):
            self._exits.append(ExitStatus.FAILED)
        self._emit(CaseFinished(number, case.nodeid, status, took_s, attempt, why, case.expect_fail))

    def _settled(self, run: CaseRun) -> Status:
        try:
            self._judge.case_ended(passed=run.finish() is Status.PASSED)
        except LabError as error:
            run.fail(error)
        return run.finish()

    @contextmanager
    def _using(self, studio: SessionProvider, env: Mapping[str, str]) -> Iterator[LiveSession]:
        """A session that `stop` can interrupt."""
        with studio.session(env) as session:
            self._session = session
            try:
                yield session
            finally:
                self._session = None


def _after_failures(status: Status, error: ErrorInfo | None, attempt: int) -> tuple[Status, ErrorInfo | None]:
    """What came of a case by its last attempt, all before it having failed. Steps that were skipped are no recovery."""
    if attempt > 1 and status is Status.PASSED:
        return Status.FLAKY, error
    if attempt > 1 and status is Status.SKIPPED:
        return Status.FAILED, ErrorInfo(
            ErrorKind.NOT_RECOVERED, f"every step was skipped in attempt {attempt}, and those before failed"
        )
    return status, error


def _announcement(number: int, plan: Plan) -> PlanStarted:
    steps = {case.nodeid: (*case.setup, *case.steps, *case.teardown) for case in plan.cases}
    cases = tuple((case.id, case.nodeid, case.tags, len(steps[case.nodeid])) for case in plan.cases)
    written = [(case.nodeid, case.line) for case in plan.cases]
    written += [(step.nodeid, step.line) for case in plan.cases for step in steps[case.nodeid]]
    lines = tuple((nodeid, line) for nodeid, line in written if line is not None)
    where = (_file(plan), plan.image.ref, plan.network, plan.user)
    return PlanStarted(number, plan.name, *where, cases, cell=plan.cell, partial=plan.partial, lines=lines, ignore=plan.ignore)


def _file(plan: Plan) -> str | None:
    """Relative to the project, like node ids, so that results of two machines can be compared."""
    if plan.file is None:
        return None
    return plan.file.relative_to(plan.root).as_posix() if plan.file.is_relative_to(plan.root) else str(plan.file)


def place_files(plan: Plan, session: LiveSession) -> None:
    """Put a plan's `files:` into the workspace. Raises UsageError for a link that leads out, CaptureError."""
    for path, file in plan.files.items():
        if file.source is not None:
            session.copy(path, file.source, file.mode)
        else:
            session.put(path, file.content or b"", file.mode)
