"""The steps of one case in one session: what is skipped, what each is given, what its verdict does to the rest.

Which cases there are, and where their sessions come from, is `scheduler.py`'s business.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from testronaut_lab.errors import EngineError, ErrorKind, ExitStatus, LabError
from testronaut_lab.execution.attempts import Attempts, paused
from testronaut_lab.execution.context import StepRequest
from testronaut_lab.execution.runner import Emit, LiveSession
from testronaut_lab.execution.step_files import StepFiles
from testronaut_lab.model.events import StepJudged, StepStarted
from testronaut_lab.model.normalizing import Normalized
from testronaut_lab.model.plan import Case, Plan, Retry, Step, substitute
from testronaut_lab.model.result import ErrorInfo, ExitKind, Mismatch, Phase, ShellState, Status, StepResult, combine

STOPPED_TEARDOWN_S = 5.0  # whoever interrupts a run waits for it; a service that stops one kills it after some ten seconds


class Verdict(Protocol):
    """What a judge says of a step; `saved` are values for later steps."""

    @property
    def status(self) -> Status: ...
    @property
    def mismatches(self) -> tuple[Mismatch, ...]: ...
    @property
    def error(self) -> ErrorInfo | None: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def saved(self) -> Mapping[str, str]: ...
    @property
    def normalized(self) -> Normalized | None: ...


class Judge(Protocol):
    def judge(
        self, step: Step, result: StepResult, workspace: StepFiles, ignore: tuple[str, ...] = (), *, may_write: bool = True
    ) -> Verdict: ...

    def case_ended(self, *, passed: bool) -> None:
        """A case, or one attempt of it, has ended. Raises LabError when what its goldens were to become cannot be written."""
        ...


@dataclass(frozen=True, slots=True)
class _Ruling:
    """A verdict that needs no judge: the step was not run, or could not be."""

    status: Status
    error: ErrorInfo | None = None
    notes: tuple[str, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    saved: Mapping[str, str] = field(default_factory=dict)
    normalized: Normalized | None = None


class CaseRun:
    """Runs steps of `case` of plan number `plan_number`; `values` are what earlier steps saved, added to here.

    `blocked` says why none of its steps but the teardown can be run. `began` is whether anything was run in its session, so that
    there is something to tear down after an interruption.
    """

    def __init__(
        self,
        emit: Emit,
        judge: Judge,
        stopped: Callable[[], bool],
        plan: Plan,
        plan_number: int,
        case: Case,
        values: dict[str, str],
        blocked: str | None = None,
    ) -> None:
        self._emit = emit
        self._judge = judge
        self._stopped = stopped
        self._plan = plan
        self._number = plan_number
        self._case = case
        self._values = values
        self._unexported = set(values)
        self._deadline = time.monotonic() + plan.limits.case_timeout_s
        self._teardown_until: float | None = None
        self._blocked = blocked
        self._failed = False
        self._lost = False
        self._cut_short = False
        self.began = False
        self._own: list[Status] = []
        self._around: list[Status] = []  # of setup, teardown, and the case as a whole
        self.exits: list[ExitStatus] = []
        self.error: ErrorInfo | None = None

    @property
    def failed(self) -> bool:
        """Whether a step failed that the rest stands on."""
        return self._failed or self._lost or self.error is not None

    def fail(self, error: LabError) -> None:
        """The case could not go on: its session did not start, or something was not captured."""
        self.exits.append(error.exit_status)
        self._around.append(Status.ERROR)
        self.error = self.error or ErrorInfo.of(error)

    def finish(self) -> Status:
        """What came of the case, once nothing of it is left to run: skipped if none of its own steps was run and nothing failed.

        One that is expected to fail has two statuses of its own, and only its own steps can fail as expected.
        """
        own = [status for status in self._own if status is not Status.SKIPPED]
        around = combine(status for status in self._around if status is not Status.SKIPPED)
        status = combine([*own, around]) if own or around is not Status.PASSED else Status.SKIPPED
        if status is Status.PASSED and self._cut_short:
            self.error = ErrorInfo(ErrorKind.CANCELLED, "the run was interrupted before the case's last step")
            return Status.ERROR
        if self._case.expect_fail is None:
            return status
        if status is Status.FAILED and around is Status.FAILED:
            self.error = self.error or ErrorInfo(
                ErrorKind.NOT_AS_EXPECTED, "expected to fail, but what failed is its setup or teardown"
            )
            return status
        return {Status.FAILED: Status.XFAILED, Status.PASSED: Status.XPASSED}.get(status, status)

    def run(self, session: LiveSession, steps: Iterable[Step], env: Mapping[str, str]) -> None:
        """Run steps in order. Raises CaptureError when the host cannot keep what they do."""
        for step in steps:
            reason = self._why_not(step)
            request = self._request(step, env)
            if reason is not None:
                self._rule(request, _Ruling(Status.SKIPPED, notes=(reason,)))
            else:
                self.began = True
                self._step(session, step, request)

    def _why_not(self, step: Step) -> str | None:
        if self._stopped() and (reason := self._why_not_when_stopped(step)):
            self._cut_short = True
            return reason
        if self._lost:
            return "the session was lost"
        if _always_runs(step):
            return None
        if time.monotonic() >= self._deadline:
            return self._time_is_up()
        if self._blocked is not None:
            return self._blocked
        return "an earlier step failed" if self._failed else None

    def _time_is_up(self) -> str:
        message = "the case's time (`limits.case_timeout`) was used up"
        self.error = self.error or ErrorInfo(ErrorKind.CASE_TIMEOUT, message, "raise `limits: {case_timeout: …}`")
        self._around.append(Status.FAILED)
        return message

    def _why_not_when_stopped(self, step: Step) -> str | None:
        """Teardown has a few seconds then. Programs are ended also after those, which is the only way to what they wrote."""
        if not self.began or not _always_runs(step):
            return "the run was interrupted"
        if self._teardown_until is None:
            self._teardown_until = time.monotonic() + STOPPED_TEARDOWN_S
        if time.monotonic() >= self._teardown_until and step.stop is None:
            return f"the run was interrupted, and the {STOPPED_TEARDOWN_S:g} s that its teardown may take then were used up"
        return None

    def _step(self, session: LiveSession, step: Step, request: StepRequest) -> None:
        try:
            filled = substitute(step, self._values)
            request = replace(
                request, argv=filled.argv, stdin=filled.stdin or b"", cwd=filled.cwd, env={**request.env, **filled.env},
                interact=filled.interact,
            )  # fmt: skip
            if step.stop is not None and step.stop not in session.background:
                self._rule(request, _Ruling(Status.SKIPPED, notes=(f"{step.stop} was not started",)))
                return
            if step.skip_if is not None and session.probe(replace(request, run=step.skip_if, argv=None, stdin=b"")) == 0:
                self._rule(request, _Ruling(Status.SKIPPED, notes=(f"`{step.skip_if}` held",)))
                return
        except EngineError as error:
            self._lost = True
            self._rule(request, _Ruling(Status.ERROR, ErrorInfo.of(error)))
            return
        except LabError as error:
            self._rule(request, _Ruling(Status.ERROR, ErrorInfo.of(error)), step)
            return
        self._judged(request, self._attempt(session, filled, request), step)

    def _attempt(self, session: LiveSession, step: Step, request: StepRequest) -> Verdict:
        """Run the step until it holds, its attempts are used up or nothing may be run any more: the last attempt's verdict."""
        retry = step.retry or Retry(0)
        attempts = Attempts()
        for number in range(1, retry.times + 2):
            again = replace(request, attempt=number, timeout_s=self._timeout_s(step), exports=self._exports())
            result = session.run(again)
            # a shell that was restored or started anew does not have what this step was given to keep
            self._unexported = set() if result.state is ShellState.KEPT else set(self._values)
            verdict = self._verdict(step, result, session)
            if verdict.status is not Status.FAILED or number > retry.times:
                self._blame_the_deadline(step, result, verdict)
                break
            attempts.failed(number, verdict.mismatches)
            if retry.delay_s >= self._left_s(step) and not self._stopped():
                attempts.say("not tried again: the case's time (`limits.case_timeout`) is used up")
                break
            if not paused(retry.delay_s, self._stopped):
                verdict = _Ruling(
                    Status.ERROR, ErrorInfo(ErrorKind.CANCELLED, "the run was interrupted"), mismatches=verdict.mismatches
                )
                break
        notes = (*attempts.notes(), *verdict.notes)
        return _Ruling(verdict.status, verdict.error, notes, verdict.mismatches, verdict.saved, verdict.normalized)

    def _blame_the_deadline(self, step: Step, result: StepResult, verdict: Verdict) -> None:
        """A step that was cut short by the end of the case's time did not fail by itself."""
        is_cut = result.exit.kind is ExitKind.TIMEOUT and not _always_runs(step) and time.monotonic() >= self._deadline
        if is_cut and verdict.status is Status.FAILED:
            self._time_is_up()

    def _verdict(self, step: Step, result: StepResult, session: LiveSession) -> Verdict:
        if result.exit.kind is ExitKind.CANCELLED:
            return _Ruling(Status.ERROR, ErrorInfo(ErrorKind.CANCELLED, "the run was interrupted"))
        self._lost = result.exit.kind in (ExitKind.SESSION_LOST, ExitKind.ENGINE_LOST)
        return self._judge.judge(step, result, session.seen, self._plan.ignore, may_write=self._case.expect_fail is None)

    def _request(self, step: Step, env: Mapping[str, str]) -> StepRequest:
        return StepRequest(
            step.id,
            step.nodeid,
            step.run,
            step.argv,
            step.phase,
            step.stdin or b"",
            {**env, **step.env},
            step.cwd,
            self._timeout_s(step),
            self._exports(),
            self._number,
            self._case.nodeid,
            tty=step.tty,
            interact=step.interact,
            background=step.background,
            ready=step.ready,
            stop=step.stop,
            signal=step.signal,
            merge=step.merge,
            is_unwanted=(lambda: False) if _always_runs(step) else self._stopped,
        )

    def _timeout_s(self, step: Step) -> float:
        return min(self._plan.limits.timeout_s if step.timeout_s is None else step.timeout_s, self._left_s(step))

    def _left_s(self, step: Step) -> float:
        until = self._teardown_until or math.inf if _always_runs(step) else self._deadline
        return max(until - time.monotonic(), 0.001)

    def _exports(self) -> Mapping[str, str]:
        return {name: self._values[name] for name in sorted(self._unexported)}

    def _rule(self, request: StepRequest, ruling: _Ruling, step: Step | None = None) -> None:
        """The verdict on a step that was not run."""
        self._emit(StepStarted(self._number, self._case.nodeid, request.id, request.nodeid, request.phase, request.command))
        self._judged(request, ruling, step)

    def _judged(self, request: StepRequest, verdict: Verdict, step: Step | None) -> None:
        (self._own if request.phase is Phase.STEPS else self._around).append(verdict.status)
        bad = verdict.status in (Status.FAILED, Status.ERROR) and not _is_about_goldens(verdict)
        self._failed = self._failed or (bad and not (step is not None and step.continue_))
        if verdict.error is not None:
            self.exits.append(verdict.error.class_.exit_status)
        self._values.update(verdict.saved)
        self._unexported |= verdict.saved.keys()
        judged = StepJudged(
            self._number, self._case.nodeid, request.nodeid, verdict.status, verdict.mismatches, verdict.error, verdict.notes,
            verdict.normalized,
        )  # fmt: skip
        self._emit(judged)


def _is_about_goldens(verdict: Verdict) -> bool:
    """Whether nothing but goldens differs: what the rest of the case does can be looked at and accepted in the same go."""
    return verdict.status is Status.FAILED and bool(verdict.mismatches) and all(m.aspect == "golden" for m in verdict.mismatches)


def _always_runs(step: Step) -> bool:
    """Whatever failed before, and also when the case's time is up: what a program wrote is in the step that stops it."""
    return step.phase is Phase.TEARDOWN or step.stop is not None
