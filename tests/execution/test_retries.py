"""Cases that are run again: which, how often, in what session, and what comes of them. Sessions are stand-ins, then real ones."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.command_line import Project
from test_scheduler import World, case, plan

from testronaut_lab.api import run_plan
from testronaut_lab.errors import CaptureError, EngineError, ExitStatus, UsageError
from testronaut_lab.execution import scheduler
from testronaut_lab.execution.scheduler import RetryPolicy
from testronaut_lab.model.events import AttemptFailed, CaseFinished, CaseStarted, StepFinished
from testronaut_lab.model.plan import Case, FileSpec, Save, Step
from testronaut_lab.model.result import Status
from testronaut_lab.planfile import parse_plan
from testronaut_lab.run.plan_run import Run, RunOptions
from testronaut_lab.store.database import Store


def ran(*cases: Case, times: int = 2, allowed: bool = False, fail_fast: bool = False, **more: object) -> World:
    world = World(fail_fast=fail_fast, retry=RetryPolicy(times, allowed))
    world.scheduler.run([plan(*cases, **more)])
    return world


def finished(world: World) -> list[CaseFinished]:
    return [event for event in world.events if isinstance(event, CaseFinished)]


def test_a_failed_case_is_run_again_whole_and_in_a_session_as_new() -> None:
    world = ran(case("a", "until 2", setup=("x",), teardown=("z",)), files={"f": FileSpec(content=b"1")})
    once = ["open", "run u1", "run s1", "run s2", "run t1", "close"]
    assert world.said == ["prepare p", *once, *once]
    assert [session.files for session in world.sessions] == [{"f": b"1"}] * 2


def test_a_case_that_recovers_is_flaky_and_fails_the_run() -> None:
    world = World(retry=RetryPolicy(2))
    assert world.scheduler.run([plan(case("until 2"), case("a", id_="d"))]) is Status.FLAKY
    assert world.cases() == ["c flaky", "d passed"]
    assert [event.attempts for event in finished(world)] == [2, 1]
    assert world.scheduler.exit_status is ExitStatus.FAILED


def test_a_flaky_case_that_is_allowed_fails_no_run() -> None:
    world = ran(case("until 2"), allowed=True)
    assert (world.cases(), world.scheduler.exit_status) == (["c flaky"], ExitStatus.OK)


def test_attempts_end_when_they_are_used_up() -> None:
    world = ran(case("fail"), times=2)
    assert (world.cases(), finished(world)[0].attempts, len(world.sessions)) == (["c failed"], 3, 3)
    assert world.scheduler.exit_status is ExitStatus.FAILED


def test_attempts_are_events_of_their_own() -> None:
    world = ran(case("until 3"))
    told = [event for event in world.events if isinstance(event, CaseStarted | AttemptFailed | CaseFinished)]
    assert [(type(event).__name__, getattr(event, "attempt", None)) for event in told] == [
        ("CaseStarted", 1),
        ("AttemptFailed", 1),
        ("CaseStarted", 2),
        ("AttemptFailed", 2),
        ("CaseStarted", 3),
        ("CaseFinished", None),
    ]


@pytest.mark.parametrize("script", ["lose", "break"])
def test_what_is_an_error_is_not_run_again(script: str) -> None:
    world = ran(case(script))
    assert (world.cases(), len(world.sessions)) == (["c error"], 1)


def test_a_session_that_does_not_start_is_not_tried_again() -> None:
    world = World(retry=RetryPolicy(2))
    world.refuse["session"] = EngineError("x")
    world.scheduler.run([plan(case("a"))])
    assert [event.attempts for event in finished(world)] == [1]
    assert world.scheduler.exit_status is ExitStatus.ENGINE


def test_an_error_in_a_later_attempt_is_what_the_case_ends_with() -> None:
    world = World(retry=RetryPolicy(2))
    world.when_open = lambda: world.refuse.update(session=EngineError("gone"))
    world.scheduler.run([plan(case("fail"))])
    assert (world.cases(), finished(world)[0].attempts) == (["c error"], 2)


def test_an_expected_failure_is_no_reason_to_run_again_nor_is_its_absence() -> None:
    world = ran(case("fail", expect_fail="x"), case("a", id_="d", expect_fail="x"))
    assert (world.cases(), len(world.sessions)) == (["c xfailed", "d xpassed"], 2)


def test_a_case_whose_steps_are_all_skipped_the_second_time_has_not_recovered() -> None:
    world = World(retry=RetryPolicy(1))
    world.when_open = lambda: world.skipping.add("no") if len(world.sessions) > 1 else None
    world.scheduler.run([plan(case(Step("", "", run="fail", skip_if="no")))])
    assert world.cases() == ["c failed"]
    error = finished(world)[0].error
    assert error is not None and error.message == "every step was skipped in attempt 2, and those before failed"


def test_a_run_that_is_stopped_is_not_tried_again() -> None:
    world = ran(case("fail-and-stop"))
    assert (world.cases(), len(world.sessions)) == (["c failed"], 1)


def test_only_a_case_that_has_failed_for_good_ends_a_run_that_fails_fast() -> None:
    assert ran(case("until 2"), case("a", id_="d"), fail_fast=True, allowed=True).cases() == ["c flaky", "d passed"]
    assert ran(case("until 2"), case("a", id_="d"), fail_fast=True).cases() == ["c flaky"]
    assert ran(case("fail"), case("a", id_="d"), fail_fast=True).cases() == ["c failed"]


def test_values_saved_in_an_attempt_that_failed_end_with_it() -> None:
    world = ran(case(Step("", "", run="a", save={"v": Save(matches=".*")}), "until 2"))
    assert [dict(request.exports) for request in world.requests] == [{}, {"v": "value of s1"}] * 2


def test_each_attempt_is_settled_and_only_one_that_passed_as_such() -> None:
    assert ran(case("until 3")).settled == [False, False, True]


def test_a_golden_that_cannot_be_written_is_an_error_of_its_case() -> None:
    world = World(retry=RetryPolicy(1))
    world.refuse["settle"] = CaptureError("no room")
    world.scheduler.run([plan(case("a"))])
    assert (world.cases(), world.scheduler.exit_status) == (["c error"], ExitStatus.CAPTURE)


def test_cases_that_share_a_session_are_refused(tmp_path: Path) -> None:
    made = parse_plan({"image": "x", "isolation": "plan", "steps": ["true"]}, root=tmp_path, name="shared")
    with pytest.raises(UsageError, match="the cases of shared share one session") as refused:
        Run([made], RunOptions(retries=1))
    assert "isolation: case" in (refused.value.hint or "")


# On a real engine. A case fails the first time and passes the second because the host puts another file into its session.

PLAN = """\
version: 1
image: debian:bookworm-slim
files: {session: {source: session.txt}}
cases:
  - id: unsteady
    steps:
      - {id: before, run: touch left-behind; echo "in session $(cat session)", golden: true}
      - {id: second, run: "test ! -e gone && rm left-behind && touch gone && grep 2 session"}
  - id: steady
    steps: ["true"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def unsteady(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """`session.txt` of the project has the number of the session that it is put into."""
    count = iter(range(1, 100))
    place = scheduler.place_files

    def numbered(*given: object) -> None:
        (project.root / "session.txt").write_text(f"{next(count)}\n")
        place(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(scheduler, "place_files", numbered)
    (project.root / "session.txt").touch()
    project.write(PLAN)
    return project


@pytest.mark.engine
def test_a_flaky_case_ends_with_1_and_keeps_both_attempts(unsteady: Project) -> None:
    said = unsteady.here("run", "--retries", "2", "-k", "unsteady", "-u", "--json", "r.json")
    assert said.status == ExitStatus.FAILED, said.err
    assert "FLAKY            unsteady  (passed in attempt 2)" in said.out
    assert "0 passed, 0 failed, 0 skipped, 1 flaky" in said.out
    (found,) = json.loads((unsteady.root / "r.json").read_text())["plans"][0]["cases"]
    assert (found["status"], found["attempts"], [step["status"] for step in found["steps"]]) == ("flaky", 2, ["passed"] * 2)
    (earlier,) = found["earlier"]
    assert (earlier["status"], [step["stdout"]["text"] for step in earlier["steps"]]) == ("failed", ["in session 1\n", ""])


@pytest.mark.engine
def test_a_flaky_case_that_is_allowed_ends_with_0(unsteady: Project) -> None:
    said = unsteady.here("run", "--retries", "1", "--allow-flaky", "-u")
    assert (said.status, "1 passed, 0 failed, 0 skipped, 1 flaky" in said.out) == (ExitStatus.OK, True), said.out


@pytest.mark.engine
def test_the_same_from_python(unsteady: Project) -> None:
    run = run_plan(unsteady.root / "a.lab.yaml", update=True, retries=1, allow_flaky=True)
    assert (run.status, run.exit_status, run.totals["flaky"]) == (Status.FLAKY, ExitStatus.OK, 1)


@pytest.mark.engine
def test_goldens_are_those_of_the_attempt_that_passed(unsteady: Project) -> None:
    unsteady.here("run", "--retries", "1", "-u", "-k", "unsteady")
    golden = unsteady.root / "snapshots/a/unsteady/before/stdout.txt"
    assert golden.read_text() == "in session 2\n"


@pytest.mark.engine
def test_no_attempt_that_failed_writes_a_golden(unsteady: Project) -> None:
    unsteady.write(PLAN.replace("grep 2 session", "false"))
    said = unsteady.here("run", "--retries", "1", "-u", "-k", "unsteady")
    assert (said.status, unsteady.goldens) == (ExitStatus.FAILED, []), said.out


@pytest.mark.engine
def test_the_store_has_the_facts_of_all_attempts_and_lists_the_steps_of_the_last(unsteady: Project) -> None:
    ran = unsteady.here("run", "--retries", "1", "-u")
    store = Store.open(unsteady.root / ".testronaut/results.db")
    run = store.find("last")
    ended = [event.body.result.nodeid for event in store.events(run) if isinstance(event.body, StepFinished)]
    assert [nodeid.rpartition("::")[2] for nodeid in ended] == ["before", "second", "before", "second", "true"]
    with closing(sqlite3.connect(store.file)) as database:
        rows = database.execute("SELECT nodeid, status FROM steps ORDER BY seq").fetchall()
    assert [(nodeid.rpartition("::")[2], status) for nodeid, status in rows] == [
        ("before", "passed"),
        ("second", "passed"),
        ("true", "passed"),
    ]
    assert unsteady.here("show", run).out.splitlines()[:-1] == ran.out.splitlines()[:-1]
    assert unsteady.here("export", run, "-o", "evidence").status == 0
    steps = json.loads((unsteady.root / "evidence/manifest.json").read_text())["steps"]
    assert [(step["case_attempt"], step["stdout"]["raw"]) for step in steps[:3:2]] == [
        (1, "steps/0/unsteady.attempt-1/before/stdout.raw"),
        (2, "steps/0/unsteady/before/stdout.raw"),
    ]
    assert [step["status"] for step in steps] == ["passed", "failed", "passed", "passed", "passed"]
