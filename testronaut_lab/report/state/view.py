"""The state that every screen, report and result shows: a fold over the events of a run, live or stored.

Pure: no clock, no I/O, no text for people. It folds also a run that ends early, a session without a plan, and events whose
beginning is missing. The neighbours show it (`text`, `html`, `files`, `ui/`).
"""

from __future__ import annotations

from collections import Counter, deque
from typing import assert_never

from testronaut_lab.errors import ExitStatus
from testronaut_lab.model.events import (
    AttemptFailed,
    CaseFinished,
    CaseStarted,
    EngineFound,
    Event,
    FileTouched,
    Hint,
    ImageReady,
    InstallLogged,
    LateOutput,
    OutputChunk,
    PlanFinished,
    PlanRecorded,
    PlanStarted,
    Problem,
    Progress,
    RunFinished,
    RunStarted,
    StepFinished,
    StepJudged,
    StepOverruled,
    StepStarted,
    StepsUndone,
    ToolReady,
    UsageSampled,
)
from testronaut_lab.model.result import EngineInfo, Phase, RunResult, Status, combine
from testronaut_lab.report.state.outcome import judged, overrule, plan_result
from testronaut_lab.report.state.records import TOUCHED_PATHS, AttemptView, CaseView, PlanView, Stage, StepView, Tail, announced


class RunView:
    """The fold. Call `apply` with each event in order; read the attributes between the calls, on the same thread."""

    def __init__(self) -> None:
        self.run = ""
        self.started = ""
        self.finished: RunFinished | None = None
        self.engine: EngineInfo | None = None
        self.plans: dict[int, PlanView] = {}
        self.progress: Progress | None = None
        self.problems: list[Problem] = []
        self.touched: deque[str] = deque(maxlen=TOUCHED_PATHS)
        self.running: dict[str, StepView] = {}
        self.current_case: CaseView | None = None
        self.current_plan: PlanView | None = None
        self.first_mono: float | None = None
        self.last_mono = 0.0

    def apply(self, event: Event) -> None:
        """Apply the next event. Hints may be missing; facts must come in order."""
        self.first_mono = event.mono if self.first_mono is None else self.first_mono
        self.last_mono = event.mono
        match event.body:
            case OutputChunk() | FileTouched() | UsageSampled() | Progress() as hint:
                self._hint(hint)
            case RunStarted(run=run, started=started):
                self.run, self.started = run, started
            case EngineFound(engine=engine):
                self.engine = engine
            case Problem() as problem:
                self.problems.append(problem)
            case RunFinished() as finished:
                self.finished, self.progress = finished, None
                self.running.clear()
            case PlanRecorded():
                pass  # only the export of a run needs it
            case PlanStarted() | ImageReady() | InstallLogged() | ToolReady() | PlanFinished() as body:
                self._plan_event(body, event.wall)
            case CaseStarted() | AttemptFailed() | CaseFinished() as body:
                self._case_event(body)
            case StepOverruled() as body:
                overrule(self.plan(body.plan), body)
            case StepStarted() | StepFinished() | StepJudged() as body:
                self._step_event(body, event.mono)
            case LateOutput(plan=plan, case=case, nodeid=nodeid, late=late):
                if (step := self.plan(plan).case(case).step(nodeid)) is not None:
                    step.add_late(late)
            case StepsUndone(plan=plan, case=case, nodeids=nodeids):
                for nodeid in reversed(nodeids):
                    self.plan(plan).case(case).drop(nodeid)
                    self.running.pop(nodeid, None)
            case _:
                assert_never(event.body)

    def result(self) -> RunResult:
        """Return the run as it is now. Without an end, `finished` is None, and everything that was cut off is an error."""
        plans = tuple(plan_result(self.plans[number]) for number in sorted(self.plans))
        end = self.finished
        if end is not None:
            return RunResult(self.run, self.started, end.finished, end.status, self.engine, plans, end.exit_status, end.error)
        status = Status.ERROR if self.started else combine(plan.status for plan in plans)
        exit_status = ExitStatus.INTERRUPTED if self.started else ExitStatus.OK if status is Status.PASSED else ExitStatus.FAILED
        return RunResult(self.run, self.started, None, status, self.engine, plans, exit_status)

    @property
    def current(self) -> StepView | None:
        """Return the running step that started last."""
        return next(reversed(self.running.values()), None)

    def elapsed_s(self, now_mono: float | None = None) -> float:
        """Return the seconds from the first event to `now_mono`; without it, or after the end, to the last event."""
        if self.first_mono is None:
            return 0.0
        end = self.last_mono if now_mono is None or self.finished is not None else now_mono
        return max(end - self.first_mono, 0.0)

    @property
    def case_counts(self) -> Counter[str]:
        """Return how many cases are in each state. The keys are values of `Stage` and `Status`."""
        return Counter(case.status.value for plan in self.plans.values() for case in plan.cases)

    @property
    def step_counts(self) -> Counter[str]:
        return Counter(step.status.value for plan in self.plans.values() for case in plan.cases for step in case.steps)

    @property
    def step_total(self) -> int:
        """Return the number of steps, planned or run, in all phases."""
        return sum(max(case.step_count, len(case.steps)) for plan in self.plans.values() for case in plan.cases)

    @property
    def has_cells(self) -> bool:
        """Whether any plan is a cell of a matrix."""
        return any(plan.cell for plan in self.plans.values())

    @property
    def exit_status(self) -> ExitStatus | None:
        return None if self.finished is None else self.finished.exit_status

    def plan(self, number: int) -> PlanView:
        """Return the plan with this number. Makes one if no event announced it (a session without a plan)."""
        if number not in self.plans:
            self.plans[number] = PlanView(number, "session", planned=False)
        return self.plans[number]

    def _hint(self, hint: Hint) -> None:
        match hint:
            case Progress():
                self.progress = hint
            case FileTouched(nodeid=nodeid, path=path):
                self.touched.append(path)
                if nodeid is not None and (step := self.running.get(nodeid)) is not None:
                    step.touched.append(path)
            case OutputChunk(stream=stream, data=data, offset_bytes=offset):
                step = self.running.get(hint.nodeid)
                if step is not None and step.result is None:
                    (step.stdout if stream == "stdout" else step.stderr).feed(data, offset)
                    step.last_stream = stream
            case UsageSampled(nodeid=nodeid):
                if (step := self.running.get(nodeid)) is not None:
                    step.usage = hint
            case _:
                assert_never(hint)

    def _plan_event(self, body: PlanStarted | ImageReady | InstallLogged | ToolReady | PlanFinished, wall: float) -> None:
        if isinstance(body, PlanStarted):
            self.current_plan = self.plans[body.plan] = announced(body, wall)
            return
        plan = self.plan(body.plan)
        match body:
            case InstallLogged():
                plan.install_log.append(body)
                return
            case ImageReady(image=image, note=note):
                plan.image, plan.image_note = image, note
            case ToolReady(tool=tool, cached=cached):
                plan.tools.append((tool, cached))
            case PlanFinished(status=status, error=error):
                plan.status, plan.error = status, error
            case _:
                assert_never(body)
        self.progress = None

    def _case_event(self, body: CaseStarted | AttemptFailed | CaseFinished) -> None:
        case = self.plan(body.plan).case(body.nodeid)
        for step in case.steps:
            self.running.pop(step.nodeid, None)
        match body:
            case CaseFinished():
                case.status, case.duration_s, case.attempts, case.error = body.status, body.duration_s, body.attempts, body.error
                case.expect_fail = body.expect_fail
            case AttemptFailed():
                case.earlier.append(AttemptView(body.status, case.steps, body.duration_s, body.error))
                case.steps = []
            case CaseStarted():
                case.status, case.attempts, case.steps = Stage.RUNNING, body.attempt, []
                self.current_plan, self.current_case, self.progress = self.plan(body.plan), case, None
            case _:
                assert_never(body)

    def _step_event(self, body: StepStarted | StepFinished | StepJudged, mono: float) -> None:
        plan = self.plan(body.plan)
        case = plan.case(body.case)
        match body:
            case StepStarted():
                step = case.start(body, mono)
                case.status = Stage.RUNNING if case.status is Stage.WAITING else case.status
                self.running[body.nodeid] = step
                self.current_plan, self.current_case = plan, case
            case StepFinished(result=result):
                found = case.step(result.nodeid)
                step = found or case.add(StepView(result.id, result.nodeid, result.phase, result.command, mono))
                step.captured(result)
                step.stdout, step.stderr = Tail(), Tail()  # the result has the whole output
                if not case.planned:
                    step.status = result.status
                    self.running.pop(result.nodeid, None)
            case StepJudged(nodeid=nodeid):
                step = case.step(nodeid) or case.add(StepView(nodeid.rpartition("::")[2], nodeid, Phase.STEPS, "", mono))
                step.status, step.result = body.status, judged(step, body)
                self.running.pop(nodeid, None)
            case _:
                assert_never(body)
