"""The fold over events: what a run, a cut-off run and a lone session are in the end and on the way."""

from dataclasses import replace

import pytest

from testronaut_lab.errors import ErrorKind, ExitStatus
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import (
    AttemptFailed,
    CaseFinished,
    CaseStarted,
    EngineFound,
    FileTouched,
    ImageReady,
    InstallLogged,
    OutputChunk,
    PlanFinished,
    PlanStarted,
    Problem,
    Progress,
    RunFinished,
    RunStarted,
    StepFinished,
    StepJudged,
    StepStarted,
    ToolReady,
    UsageSampled,
)
from testronaut_lab.model.result import (
    EngineInfo,
    ErrorInfo,
    Exit,
    ExitKind,
    ImageInfo,
    Mismatch,
    Phase,
    Status,
    StepResult,
    ToolInfo,
)
from testronaut_lab.report.state.records import TAIL_BYTES, Stage
from testronaut_lab.report.state.view import RunView

ENGINE = EngineInfo("docker", "20.10", "1.41")
IMAGE = ImageInfo("debian", "sha256:1", "local")
JQ = ToolInfo("jq", "1.6", "apt")
CASE = "p::c"
BEGIN = (
    RunStarted("r1", "2026-11-22T18:45:12Z"),
    EngineFound(ENGINE),
    PlanStarted(0, "p", "p.lab.yaml", "debian", "none", "lab", (("c", CASE, ("smoke",), 2), ("d", "p::d", (), 1)), (("k", "v"),)),
    ImageReady(0, IMAGE, "a substitute"),
    InstallLogged(0, "jq", "Setting up jq"),
    ToolReady(0, JQ, True),
    CaseStarted(0, CASE),
)
END = (
    CaseFinished(0, CASE, Status.FAILED, 0.5, 1),
    PlanFinished(0, Status.FAILED),
    RunFinished("2026-11-22T18:45:13Z", Status.FAILED, ExitStatus.FAILED),
)


def started(id_: str, case: str = CASE) -> StepStarted:
    return StepStarted(0, case, id_, f"{case}::{id_}", Phase.STEPS, f"run {id_}")


def finished(id_: str, case: str = CASE, **more) -> StepFinished:
    result = StepResult(id_, f"{case}::{id_}", Exit(ExitKind.EXITED, 0), Status.PASSED, run=f"run {id_}", notes=("captured",))
    return StepFinished(0, case, replace(result, **more))


def verdict(id_: str, status: Status = Status.PASSED, **more) -> StepJudged:
    return StepJudged(0, CASE, f"{CASE}::{id_}", status, **more)


def fold(*bodies) -> RunView:
    log, view = EventLog(wall=lambda: 0.0, mono=iter(range(10_000)).__next__), RunView()
    for body in bodies:
        view.apply(log.emit(body))
    return view


def test_a_whole_run_becomes_a_result():
    run = fold(*BEGIN, started("a"), finished("a"), verdict("a"), *END).result()
    assert (run.run, run.started, run.finished) == ("r1", "2026-11-22T18:45:12Z", "2026-11-22T18:45:13Z")
    assert (run.status, run.exit_status, run.engine) == (Status.FAILED, ExitStatus.FAILED, ENGINE)
    (plan,) = run.plans
    assert (plan.name, plan.file, plan.image, plan.tools, plan.cell) == ("p", "p.lab.yaml", IMAGE, (JQ,), (("k", "v"),))
    assert (plan.cases[0].tags, plan.cases[0].duration_s, plan.cases[0].status) == (("smoke",), 0.5, Status.FAILED)


def test_a_verdict_is_merged_into_the_captured_step():
    wrong = Mismatch("exit", "0", "5")
    judged = verdict(
        "a", Status.FAILED, mismatches=(wrong,), error=ErrorInfo(ErrorKind.CAPTURE, "m"), notes=("captured", "judged")
    )
    step = fold(*BEGIN, started("a"), finished("a"), judged).result().plans[0].cases[0].steps[0]
    assert (step.status, step.mismatches, step.error) == (Status.FAILED, (wrong,), ErrorInfo(ErrorKind.CAPTURE, "m"))
    assert step.notes == ("captured", "judged")


def test_a_verdict_without_an_error_keeps_the_captured_one():
    lost = ErrorInfo(ErrorKind.SESSION_LOST, "gone")
    view = fold(*BEGIN, started("a"), finished("a", error=lost), verdict("a", Status.ERROR))
    assert view.result().plans[0].cases[0].steps[0].error == lost


def test_a_skipped_step_has_no_exit_code():
    step = fold(*BEGIN, started("a"), verdict("a", Status.SKIPPED)).result().plans[0].cases[0].steps[0]
    assert (step.exit, step.status, step.run) == (Exit(ExitKind.EXITED), Status.SKIPPED, "run a")


def test_a_planned_step_is_running_until_it_is_judged():
    view = fold(*BEGIN, started("a"), finished("a"))
    assert (view.current.status, view.current.result.ok) == (Stage.RUNNING, True)
    view = fold(*BEGIN, started("a"), finished("a"), verdict("a"))
    assert view.current is None


def test_a_run_cut_off_in_a_step_has_no_end_and_says_what_was_cut():
    run = fold(*BEGIN, started("a"), finished("a"), verdict("a"), started("b")).result()
    assert (run.finished, run.status, run.exit_status) == (None, Status.ERROR, ExitStatus.INTERRUPTED)
    case, other = run.plans[0].cases
    assert [step.status for step in case.steps] == [Status.PASSED, Status.ERROR]
    assert (case.steps[1].exit.kind, case.steps[1].error.message) == (
        ExitKind.CANCELLED,
        "the run ended while this step was running",
    )
    assert (run.plans[0].status, case.status, other.status) == (Status.ERROR, Status.ERROR, Status.SKIPPED)


def test_a_step_that_was_never_judged_is_not_passed():
    step = fold(*BEGIN, started("a"), finished("a")).result().plans[0].cases[0].steps[0]
    assert (step.status, step.error.message) == (Status.ERROR, "the run ended before this step was judged")


def test_a_lone_session_has_its_own_statuses():
    session = "session"
    view = fold(
        started("a", session), finished("a", session), started("b", session), finished("b", session, status=Status.FAILED)
    )
    run = view.result()
    assert [step.status for step in run.plans[0].cases[0].steps] == [Status.PASSED, Status.FAILED]
    assert (run.status, run.finished, run.exit_status) == (Status.FAILED, None, ExitStatus.FAILED)
    assert view.current is None


def test_a_lone_session_keeps_both_steps_of_one_name():
    run = fold(*2 * (started("a", "session"), finished("a", "session"))).result()
    assert (run.status, len(run.plans[0].cases[0].steps)) == (Status.PASSED, 2)


def test_events_without_their_beginning_are_folded():
    run = fold(finished("a"), verdict("b", Status.FAILED), ToolReady(0, JQ, False)).result()
    assert [step.id for step in run.plans[0].cases[0].steps] == ["a", "b"]


def test_a_case_may_be_named_by_its_id():
    run = fold(*BEGIN, StepStarted(0, "c", "a", "p::c::a", Phase.SETUP, "x")).result()
    assert [len(case.steps) for case in run.plans[0].cases] == [1, 0]


def test_a_new_attempt_starts_the_case_over():
    view = fold(*BEGIN, started("a"), CaseStarted(0, CASE, 2), started("b"), finished("b"), verdict("b"))
    case = view.result().plans[0].cases[0]
    assert ([step.id for step in case.steps], case.attempts) == (["b"], 2)
    assert view.running == {}


def test_attempts_that_failed_are_kept_with_all_that_was_known_of_them():
    late = ErrorInfo(ErrorKind.CASE_TIMEOUT, "too long")
    again = (AttemptFailed(0, CASE, 1, Status.FAILED, 0.25, late), CaseStarted(0, CASE, 2))
    end = CaseFinished(0, CASE, Status.FLAKY, 0.1, 2)
    view = fold(*BEGIN, started("a"), finished("a"), verdict("a", Status.FAILED), *again, started("b"), finished("b"), end)
    case = view.result().plans[0].cases[0]
    (earlier,) = case.earlier
    assert (case.status, case.attempts, [step.id for step in case.steps]) == (Status.FLAKY, 2, ["b"])
    assert (earlier.status, earlier.duration_s, earlier.error) == (Status.FAILED, 0.25, late)
    assert [(step.id, step.status) for step in earlier.steps] == [("a", Status.FAILED)]


def test_a_run_cut_off_between_two_attempts_has_no_verdict_on_the_case():
    case = fold(*BEGIN, started("a"), finished("a"), AttemptFailed(0, CASE, 1, Status.FAILED, 0.25)).result().plans[0].cases[0]
    assert (case.status, case.steps, len(case.earlier)) == (Status.ERROR, (), 1)


def test_cases_and_steps_know_their_lines_and_the_plan_when_it_began():
    announced = replace(BEGIN[2], lines=((CASE, 3), (f"{CASE}::a", 5)))
    plan = fold(*BEGIN[:2], announced, CaseStarted(0, CASE), started("a"), finished("a"), started("b")).result().plans[0]
    assert (plan.cases[0].line, [step.line for step in plan.cases[0].steps], plan.cases[1].line) == (3, [5, None], None)
    assert plan.started == "1970-01-01T00:00:00.000Z"


def test_the_error_of_a_plan_is_kept():
    error = ErrorInfo(ErrorKind.INSTALL, "no such package")
    run = fold(*BEGIN[:3], PlanFinished(0, Status.ERROR, error)).result()
    assert (run.plans[0].status, run.plans[0].error) == (Status.ERROR, error)


def test_live_output_is_kept_to_its_last_bytes():
    view = fold(*BEGIN, started("a"), *(OutputChunk(f"{CASE}::a", "stdout", bytes([n]) * 10_000, 0.0) for n in range(10)))
    tail = view.current.stdout
    assert (len(tail.data), tail.seen_bytes, tail.data[-1]) == (TAIL_BYTES, 100_000, 9)


def test_output_that_was_not_told_of_counts_too():
    chunks = (OutputChunk(f"{CASE}::a", "stdout", b"x" * 10, 0.0, offset) for offset in (0, 10, 5_000_000))
    assert fold(*BEGIN, started("a"), *chunks).current.stdout.seen_bytes == 5_000_010


def test_the_last_line_begins_with_a_whole_character_where_it_was_cut():
    view = fold(*BEGIN, started("a"), OutputChunk(f"{CASE}::a", "stdout", "€".encode() * 4000, 0.0))
    assert set(view.current.last_line) == {"€"}


def test_a_step_that_is_tried_again_starts_over_in_its_place():
    first, again = started("a"), replace(started("a"), attempt=2)
    chunk = OutputChunk(f"{CASE}::a", "stdout", b"second", 0.0)
    view = fold(*BEGIN, first, finished("a"), again, chunk)
    assert (view.current.result, view.current.attempt, view.current.stdout.data) == (None, 2, b"second")
    view = fold(*BEGIN, first, finished("a"), again, finished("a", attempts=2), verdict("a"))
    assert [(step.attempts, step.status) for step in view.result().plans[0].cases[0].steps] == [(2, Status.PASSED)]


def test_the_last_attempt_is_there_without_those_before_it():
    view = fold(*BEGIN, replace(started("a"), attempt=2), finished("a", attempts=2), verdict("a"))
    assert [step.attempts for step in view.result().plans[0].cases[0].steps] == [2]


def test_the_reason_of_an_expected_failure_is_kept():
    case = fold(*BEGIN, CaseFinished(0, CASE, Status.XFAILED, 0.1, expect_fail="too old")).result().plans[0].cases[0]
    assert (case.status, case.expect_fail) == (Status.XFAILED, "too old")


def test_of_a_running_steps_samples_the_latest_is_kept():
    samples = [UsageSampled(f"{CASE}::a", 0.1 * n, n * 2**20, 0.2 * n) for n in range(3)]
    view = fold(*BEGIN, samples[0], started("a"), *samples)
    assert view.current.usage == samples[2]


def test_the_last_line_is_that_of_the_stream_written_last():
    chunks = (
        OutputChunk(f"{CASE}::a", stream, data, 0.0) for stream, data in (("stdout", b"one\ntwo\n\n"), ("stderr", b"oh\xff"))
    )
    view = fold(*BEGIN, started("a"), next(chunks))
    assert view.current.last_line == "two"
    view.apply(EventLog().emit(next(chunks)))
    assert view.current.last_line == r"oh\xff"


def test_live_output_ends_with_the_capture_and_strangers_are_ignored():
    chunk = OutputChunk(f"{CASE}::a", "stdout", b"x", 0.0)
    view = fold(*BEGIN, chunk, started("a"), chunk, finished("a"), chunk)
    assert view.current.stdout.data == b""


def test_steps_that_run_at_once_each_get_their_output():
    outputs = [OutputChunk(f"{case}::a", "stdout", case.encode(), 0.0) for case in (CASE, "p::d")]
    view = fold(*BEGIN, started("a"), started("a", "p::d"), *outputs)
    assert [step.stdout.data for step in view.running.values()] == [b"p::c", b"p::d"]


def test_what_is_waited_for_is_gone_when_it_is_there():
    assert fold(*BEGIN[:3], Progress("image", "pulling")).progress == Progress("image", "pulling")
    assert fold(*BEGIN[:3], Progress("image", "pulling"), BEGIN[3]).progress is None


def test_problems_paths_and_install_lines_are_kept():
    view = fold(*BEGIN, Problem("x"), FileTouched(None, "a.txt"))
    assert (view.problems, list(view.touched)) == ([Problem("x")], ["a.txt"])
    plan = view.plans[0]
    assert ([entry.line for entry in plan.install_log], plan.image_note, plan.tools) == (
        ["Setting up jq"],
        "a substitute",
        [(JQ, True)],
    )


def test_a_touched_path_is_kept_with_the_step_that_runs():
    view = fold(*BEGIN, started("a"), FileTouched("p::c::a", "a.txt"), FileTouched("p::c::gone", "b.txt"))
    assert [list(step.touched) for step in view.running.values()] == [["a.txt"]]


def test_counts_follow_the_run():
    view = fold(*BEGIN, started("a"), finished("a"), verdict("a"), started("b"))
    assert (view.case_counts, view.step_counts) == ({"running": 1, "waiting": 1}, {"passed": 1, "running": 1})
    assert (view.step_total, view.exit_status) == (3, None)


@pytest.mark.parametrize(("now", "elapsed"), [(None, 6.0), (20.0, 20.0)])
def test_elapsed_is_counted_from_the_first_event(now, elapsed):
    assert fold(*BEGIN).elapsed_s(now) == elapsed


def test_elapsed_stops_with_the_run():
    view = fold(*BEGIN, *END)
    assert (view.elapsed_s(1000.0), view.exit_status, RunView().elapsed_s()) == (9.0, ExitStatus.FAILED, 0.0)
