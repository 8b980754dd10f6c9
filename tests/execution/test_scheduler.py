"""The order of things in a run: cases, phases, what is skipped, what ends it. Sessions and verdicts are stand-ins here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from testronaut_lab.errors import CaptureError, EngineError, ExitStatus, SessionLost
from testronaut_lab.execution import case as case_module
from testronaut_lab.execution.context import StepRequest
from testronaut_lab.execution.scheduler import RetryPolicy, Scheduler
from testronaut_lab.judge.judge import Verdict
from testronaut_lab.model.events import Body, CaseFinished, CaseStarted, PlanFinished, PlanStarted, StepJudged, StepStarted
from testronaut_lab.model.plan import Case, FileSpec, ImageSpec, Limits, Plan, Retry, Save, Step
from testronaut_lab.model.result import Exit, ExitKind, Phase, ShellState, Status, StepResult


@dataclass
class FakeSession:
    """Does what a script says: `fail`, `exit`, `lose`, `break`, `stop`, `tick N`, `until N`; anything else succeeds.

    `stop` ends the run while the step runs, `stopped` when it has ended. `until N` fails but in the Nth session and later.
    """

    world: World
    env: Mapping[str, str]
    lost: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    seen: None = None

    def run(self, request: StepRequest) -> StepResult:
        if self.lost:
            raise SessionLost("the session was lost before this step")
        self.world.requests.append(request)
        self.world.said.append(f"run {request.id}")
        what, _, value = (request.run or "").partition(" ")
        if what == "break":
            raise CaptureError("no room on the disk")
        if what in ("stop", "stopped", "fail-and-stop"):
            self.world.scheduler.stop()
        if what == "tick":
            self.world.now += float(value)
        self.lost = what == "lose"
        kind = {"lose": ExitKind.SESSION_LOST, "stop": ExitKind.CANCELLED}.get(what, ExitKind.EXITED)
        failed = what in ("fail", "fail-and-stop") or (what == "until" and len(self.world.sessions) < int(value))
        status = Status.PASSED if kind is ExitKind.EXITED and not failed else Status.FAILED
        state = ShellState.RESTORED if what == "exit" else ShellState.KEPT
        return StepResult(request.id, request.nodeid, Exit(kind), status, request.phase, request.run, state=state)

    def probe(self, request: StepRequest) -> int | None:
        self.world.said.append(f"probe {request.run}")
        return 0 if request.run in self.world.skipping else 1

    def put(self, path: str, content: bytes, mode: int | None = None) -> None:
        self.files[path] = content

    def interrupt(self) -> None:
        self.world.said.append("interrupt")


class World:
    """A scheduler with everything around it, and what happened."""

    def __init__(self, *, fail_fast: bool = False, retry: RetryPolicy | None = None) -> None:
        self.events: list[Body] = []
        self.said: list[str] = []
        self.requests: list[StepRequest] = []
        self.sessions: list[FakeSession] = []
        self.settled: list[bool] = []
        self.skipping = {"yes"}
        self.now = 1000.0
        self.when_open: Callable[[], object] = lambda: None
        self.refuse: dict[str, Exception] = {}
        self.scheduler = Scheduler(  # type: ignore[arg-type]
            self.events.append, self._prepare, self, fail_fast=fail_fast, retry=retry
        )

    def _prepare(self, number: int, plan: Plan) -> World:
        self.said.append(f"prepare {plan.name}")
        if error := self.refuse.get(plan.name):
            raise error
        return self

    @contextmanager
    def session(self, env: Mapping[str, str]) -> Iterator[FakeSession]:
        if error := self.refuse.get("session"):
            raise error
        self.sessions.append(FakeSession(self, env))
        self.said.append("open")
        self.when_open()
        yield self.sessions[-1]
        self.said.append("close")

    def judge(
        self, step: Step, result: StepResult, workspace: object, ignore: tuple[str, ...] = (), *, may_write: bool = True
    ) -> Verdict:
        status = Status.ERROR if result.exit.kind is ExitKind.SESSION_LOST else result.status
        return Verdict(status, saved=dict.fromkeys(step.save, f"value of {step.id}") if result.ok else {})

    def case_ended(self, *, passed: bool) -> None:
        self.settled.append(passed)
        if error := self.refuse.get("settle"):
            raise error

    def statuses(self) -> list[str]:
        judged = [event for event in self.events if isinstance(event, StepJudged)]
        return [f"{event.nodeid.rsplit('::')[-1]} {event.status.value}" for event in judged]

    def cases(self) -> list[str]:
        return [f"{e.nodeid.rsplit('::')[-1]} {e.status.value}" for e in self.events if isinstance(e, CaseFinished)]


def steps(*scripts: str | Step, phase: Phase = Phase.STEPS) -> tuple[Step, ...]:
    """Steps s1, s2, … (u1 in setup, t1 in teardown), each with its script; a Step gives the rest."""
    letter = {Phase.SETUP: "u", Phase.STEPS: "s", Phase.TEARDOWN: "t"}[phase]
    made = [script if isinstance(script, Step) else Step("", "", run=script) for script in scripts]
    return tuple(
        replace(step, id=f"{letter}{i}", nodeid=f"p::c::{letter}{i}", phase=phase) for i, step in enumerate(made, start=1)
    )


def case(
    *scripts: str | Step, id_: str = "c", setup: tuple[str, ...] = (), teardown: tuple[str, ...] = (), **more: object
) -> Case:
    return Case(
        id_,
        f"p::{id_}",
        steps(*scripts),
        setup=steps(*setup, phase=Phase.SETUP),
        teardown=steps(*teardown, phase=Phase.TEARDOWN),
        **more,  # type: ignore[arg-type]
    )


def plan(*cases: Case, name: str = "p", **more: object) -> Plan:
    return Plan(name, Path("/"), ImageSpec("img"), cases, **more)  # type: ignore[arg-type]


def ran(*cases: Case, fail_fast: bool = False, **more: object) -> World:
    world = World(fail_fast=fail_fast)
    world.scheduler.run([plan(*cases, **more)])
    return world


def test_phases_and_steps_run_in_order() -> None:
    world = ran(case("a", "b", setup=("x", "y"), teardown=("z",)))
    assert world.said == ["prepare p", "open", "run u1", "run u2", "run s1", "run s2", "run t1", "close"]


def test_events_frame_each_other() -> None:
    world = ran(case("a"))
    kinds = [type(event) for event in world.events]
    assert kinds == [PlanStarted, CaseStarted, StepJudged, CaseFinished, PlanFinished]


def test_a_plan_is_announced_with_its_cases_and_their_steps() -> None:
    world = ran(case("a", "b", setup=("x",), teardown=("z",), tags=("smoke",)))
    started = world.events[0]
    assert isinstance(started, PlanStarted)
    assert started.cases == (("c", "p::c", ("smoke",), 4),)


def test_after_a_failure_the_rest_is_skipped_but_teardown() -> None:
    world = ran(case("fail", "b", teardown=("z",)))
    assert world.statuses() == ["s1 failed", "s2 skipped", "t1 passed"]
    assert world.cases() == ["c failed"]


def test_after_a_failed_setup_no_step_is_run_but_teardown() -> None:
    assert ran(case("a", setup=("fail", "y"), teardown=("z",))).statuses() == [
        "u1 failed",
        "u2 skipped",
        "s1 skipped",
        "t1 passed",
    ]


def test_every_step_of_teardown_runs_whatever_fails_there() -> None:
    assert ran(case("a", teardown=("fail", "z"))).statuses() == ["s1 passed", "t1 failed", "t2 passed"]


def test_a_step_that_may_fail_does_not_stop_its_case() -> None:
    world = ran(case(Step("", "", run="fail", continue_=True), "b"))
    assert world.statuses() == ["s1 failed", "s2 passed"]
    assert world.cases() == ["c failed"]


def test_a_skipped_step_is_told_with_its_reason() -> None:
    world = ran(case("fail", "b"))
    started = [event for event in world.events if isinstance(event, StepStarted)]
    skipped = [event for event in world.events if isinstance(event, StepJudged)][-1]
    assert [event.id for event in started] == ["s2"]  # of those that run, the session tells
    assert skipped.notes == ("an earlier step failed",)


def test_a_step_is_skipped_when_its_condition_holds() -> None:
    world = ran(case(Step("", "", run="a", skip_if="yes"), Step("", "", run="b", skip_if="no")))
    assert world.said[2:-1] == ["probe yes", "probe no", "run s2"]
    assert world.statuses() == ["s1 skipped", "s2 passed"]


def test_a_case_whose_steps_are_all_skipped_is_skipped() -> None:
    assert ran(case(Step("", "", run="a", skip_if="yes"))).cases() == ["c skipped"]


def test_each_case_has_a_session_of_its_own() -> None:
    world = ran(case("a"), case("b", id_="d"))
    assert world.said == ["prepare p", "open", "run s1", "close", "open", "run s1", "close"]


def test_one_session_for_all_sets_up_and_tears_down_once() -> None:
    first, second = (case("a", id_=id_, setup=("x",), teardown=("z",)) for id_ in "cd")
    world = ran(first, second, isolation="plan")
    assert world.said == ["prepare p", "open", "run u1", "run s1", "run s1", "run t1", "close"]


def test_one_session_for_all_is_torn_down_after_a_failure_that_ends_the_plan() -> None:
    first, second = (case("fail", id_=id_, teardown=("z",)) for id_ in "cd")
    world = ran(first, second, isolation="plan", fail_fast=True)
    assert world.said == ["prepare p", "open", "run s1", "run t1", "close"]


def test_one_session_for_all_goes_on_with_the_next_case_after_a_failure() -> None:
    assert ran(case("fail"), case("b", id_="d"), isolation="plan").cases() == ["c failed", "d passed"]


def test_files_are_placed_before_each_case_and_once_in_a_plan_of_one_session() -> None:
    files = {"a": FileSpec(content=b"x")}
    apart, together = (ran(case("a"), case("b", id_="d"), files=files, isolation=isolation) for isolation in ("case", "plan"))
    assert [session.files for session in apart.sessions] == [{"a": b"x"}] * 2
    assert [session.files for session in together.sessions] == [{"a": b"x"}]


def test_the_environment_is_the_plans_then_the_cases_then_the_steps() -> None:
    world = ran(case(Step("", "", run="a", env={"C": "step"}), env={"B": "case", "C": "case"}), env={"A": "plan", "B": "plan"})
    assert world.sessions[0].env == {"A": "plan", "B": "case", "C": "case"}
    assert world.requests[0].env == {"C": "step"}


def test_a_cases_environment_ends_with_it_in_a_plan_of_one_session() -> None:
    world = ran(case("a", env={"B": "1"}), case("b", id_="d"), isolation="plan")
    assert [request.env for request in world.requests] == [{"B": "1"}, {}]


SAVING = Step("", "", run="a", save={"answer": Save(matches=".*")})


def test_a_saved_value_is_exported_once_and_filled_in_everywhere() -> None:
    world = ran(case(SAVING, "b", Step("", "", argv=("x", "${{answer}}"), env={"E": "${{answer}}"}, cwd="${{answer}}")))
    assert [dict(request.exports) for request in world.requests] == [{}, {"answer": "value of s1"}, {}]
    last = world.requests[-1]
    assert (last.argv, last.env, last.cwd) == (("x", "value of s1"), {"E": "value of s1"}, "value of s1")


def test_a_saved_value_is_exported_again_to_a_shell_that_was_restored() -> None:
    world = ran(case(SAVING, "exit", "b"))
    assert [dict(request.exports) for request in world.requests][1:] == [{"answer": "value of s1"}] * 2


def test_saved_values_end_with_their_session() -> None:
    second = case("b", id_="d")
    apart, together = (ran(case(SAVING), second, isolation=isolation) for isolation in ("case", "plan"))
    assert dict(apart.requests[-1].exports) == {}
    assert dict(together.requests[-1].exports) == {"answer": "value of s1"}


def test_a_value_that_was_never_saved_is_an_error_of_the_step() -> None:
    world = ran(case(Step("", "", argv=("x", "${{answer}}")), teardown=("z",)))
    assert world.statuses() == ["s1 error", "t1 passed"]
    assert world.scheduler.exit_status is ExitStatus.USAGE


def test_the_first_failure_ends_the_run_if_asked_for() -> None:
    world = World(fail_fast=True)
    status = world.scheduler.run([plan(case("fail"), case("b", id_="d")), plan(case("e"), name="q")])
    assert (status, world.cases()) == (Status.FAILED, ["c failed"])
    assert "prepare q" not in world.said


def test_without_that_everything_is_run() -> None:
    world = World()
    world.scheduler.run([plan(case("fail"), case("b", id_="d")), plan(case("e"), name="q")])
    assert world.cases() == ["c failed", "d passed", "c passed"]
    assert world.scheduler.exit_status is ExitStatus.FAILED


def test_stopping_skips_what_is_left_but_teardown_and_starts_nothing_more() -> None:
    world = ran(case("stop", "b", teardown=("z",)), case("c", id_="d"))
    assert world.statuses() == ["s1 error", "s2 skipped", "t1 passed"]
    assert world.cases() == ["c error"]
    assert "interrupt" in world.said and world.said[-1] == "close"


def test_a_run_that_is_stopped_between_two_steps_is_torn_down_and_has_not_passed() -> None:
    world = ran(case("stopped", "b", teardown=("z",)))
    assert (world.statuses(), world.cases()) == (["s1 passed", "s2 skipped", "t1 passed"], ["c error"])


def test_a_step_of_teardown_that_is_stopped_leaves_the_rest_of_it_to_run() -> None:
    assert ran(case("a", teardown=("stop", "z"))).statuses() == ["s1 passed", "t1 error", "t2 passed"]


def test_a_run_that_is_stopped_before_its_first_step_has_nothing_to_tear_down() -> None:
    world = World()
    world.when_open = world.scheduler.stop
    world.scheduler.run([plan(case("a", setup=("x",), teardown=("z",)))])
    assert world.statuses() == ["u1 skipped", "s1 skipped", "t1 skipped"]


def test_one_session_for_all_is_torn_down_in_the_case_in_which_the_run_is_stopped() -> None:
    cases = [case(script, id_=id_, setup=("x",), teardown=("z",)) for id_, script in (("c", "a"), ("d", "stopped"), ("e", "b"))]
    world = ran(*cases, isolation="plan")
    assert world.said == ["prepare p", "open", "run u1", "run s1", "run s1", "interrupt", "run t1", "close"]


def test_one_session_for_all_is_not_torn_down_after_a_failure_that_was_expected() -> None:
    first, second = case("fail", expect_fail="x", teardown=("y",)), case("b", id_="d", teardown=("z",))
    world = ran(first, second, isolation="plan", fail_fast=True)
    assert world.statuses() == ["s1 failed", "s1 passed", "t1 passed"]


def test_what_cannot_be_captured_ends_a_plan_in_one_session_that_fails_fast() -> None:
    world = ran(case("break"), case("b", id_="d"), isolation="plan", fail_fast=True)
    assert world.cases() == ["c error"]


def test_an_interruption_has_no_exit_status_here() -> None:
    assert ran(case("stop")).scheduler.exit_status is ExitStatus.OK


def test_a_lost_session_ends_its_case_and_no_other() -> None:
    world = ran(case("lose", "b", teardown=("z",)), case("c", id_="d"))
    assert world.statuses() == ["s1 error", "s2 skipped", "t1 skipped", "s1 passed"]
    assert world.cases() == ["c error", "d passed"]


def test_a_session_lost_in_one_case_is_an_error_of_the_next_in_the_same() -> None:
    world = ran(case("lose"), case("c", id_="d"), isolation="plan")
    assert world.cases() == ["c error", "d error"]
    assert world.scheduler.exit_status in (ExitStatus.ENGINE, ExitStatus.CAPTURE)


@pytest.mark.parametrize(("error", "expected"), [(EngineError("x"), ExitStatus.ENGINE), (CaptureError("x"), ExitStatus.CAPTURE)])
def test_a_session_that_does_not_start_is_its_cases_error(error: Exception, expected: ExitStatus) -> None:
    world = World()
    world.refuse["session"] = error
    assert world.scheduler.run([plan(case("a"))]) is Status.ERROR
    assert (world.cases(), world.scheduler.exit_status) == (["c error"], expected)


def test_a_plan_that_cannot_be_prepared_does_not_keep_the_next_from_running() -> None:
    world = World()
    world.refuse["p"] = EngineError("no such image")
    assert world.scheduler.run([plan(case("a")), plan(case("b"), name="q")]) is Status.ERROR
    finished = [event for event in world.events if isinstance(event, PlanFinished)]
    assert [event.status for event in finished] == [Status.ERROR, Status.PASSED]
    assert finished[0].error is not None and finished[0].error.message == "no such image"


def test_what_cannot_be_captured_is_an_error_of_the_case() -> None:
    world = ran(case("break", "b"), case("c", id_="d"))
    assert world.cases() == ["c error", "d passed"]
    assert world.scheduler.exit_status is ExitStatus.CAPTURE


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """Like `ran`, with a clock that only `tick` moves."""

    def run(*cases: Case, limits: Limits) -> World:
        world = World()
        monkeypatch.setattr(case_module, "time", SimpleNamespace(monotonic=lambda: world.now))
        world.scheduler.run([plan(*cases, limits=limits)])
        return world

    return run


def test_a_case_that_used_up_its_time_fails_and_says_so(clocked: Callable[..., World]) -> None:
    world = clocked(case("tick 6", "tick 6", "c"), case("d", id_="d"), limits=Limits(case_timeout_s=10))
    assert world.statuses() == ["s1 passed", "s2 passed", "s3 skipped", "s1 passed"]
    assert world.cases() == ["c failed", "d passed"]
    finished = next(event for event in world.events if isinstance(event, CaseFinished))
    assert finished.error is not None and "limits.case_timeout" in finished.error.message


def test_a_step_gets_no_more_time_than_its_case_has_left(clocked: Callable[..., World]) -> None:
    own = Step("", "", run="b", timeout_s=2)
    world = clocked(case("tick 6", own, "c"), limits=Limits(timeout_s=5, case_timeout_s=10))
    assert [request.timeout_s for request in world.requests] == [5, 2, 4]


def test_teardown_runs_with_its_own_time_when_the_cases_is_used_up(clocked: Callable[..., World]) -> None:
    world = clocked(case("tick 11", "b", teardown=("z",)), limits=Limits(timeout_s=5, case_timeout_s=10))
    assert world.statuses() == ["s1 passed", "s2 skipped", "t1 passed"]
    assert world.requests[-1].timeout_s == 5


def test_teardown_has_a_few_seconds_in_all_when_the_run_is_stopped(clocked: Callable[..., World]) -> None:
    world = clocked(case("stop", teardown=("tick 3", "tick 3", "z")), limits=Limits(timeout_s=60))
    assert world.statuses() == ["s1 error", "t1 passed", "t2 passed", "t3 skipped"]
    assert [request.timeout_s for request in world.requests] == [60, 5, 2]


def test_a_failed_step_of_teardown_is_tried_again_when_the_cases_time_is_used_up(clocked: Callable[..., World]) -> None:
    made = case("tick 11", teardown=("fail",))
    made = replace(made, teardown=(replace(made.teardown[0], retry=Retry(2)),))
    world = clocked(made, limits=Limits(case_timeout_s=10))
    assert [request.attempt for request in world.requests] == [1, 1, 2, 3]


def test_in_one_session_for_all_nothing_but_teardown_runs_after_a_failed_setup() -> None:
    world = ran(case("a", setup=("fail",)), case("b", id_="d", teardown=("z",)), isolation="plan")
    assert world.statuses() == ["u1 failed", "s1 skipped", "s1 skipped", "t1 passed"]
