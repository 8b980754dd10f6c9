"""Steps that are run again until they hold: how often, what counts, what ends it, and how it is shown and stored."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from support.live_session import Listener

from testronaut_lab.errors import ErrorKind, ExitStatus
from testronaut_lab.execution.attempts import Attempts, paused
from testronaut_lab.model.events import StepFinished, StepJudged, StepStarted
from testronaut_lab.model.result import ErrorInfo, Mismatch, RunResult, Status, StepResult
from testronaut_lab.planfile import parse_plan
from testronaut_lab.run.plan_run import Run, RunOptions
from testronaut_lab.store.database import Store

pytestmark = pytest.mark.usefixtures("base_image")

COUNTS = "echo x >>tries; set -- $(cat tries); echo $#"


def run(root: Path, *steps: object, listener: Listener | None = None, **keys: object) -> RunResult:
    plan = parse_plan({"image": "debian:bookworm-slim", "steps": list(steps), **keys}, root=root)
    return Run([plan], RunOptions()).run([listener] if listener else ())


def steps_of(result: RunResult) -> tuple[StepResult, ...]:
    return result.plans[0].cases[0].steps


def test_a_step_is_run_until_it_holds(tmp_path: Path) -> None:
    listener = Listener()
    step = {"run": COUNTS, "expect": {"stdout": "3\n"}, "retry": {"times": 5, "delay": "1ms"}}
    result = run(tmp_path, step, listener=listener)
    (done,) = steps_of(result)
    assert (result.status, done.status, done.attempts, done.out) == (Status.PASSED, Status.PASSED, 3, "3\n")
    assert [listener.count(kind) for kind in (StepStarted, StepFinished, StepJudged)] == [3, 3, 1]
    assert [note.partition(":")[0] for note in done.notes] == ["attempt 1 failed", "attempt 2 failed"]
    assert done.mismatches == ()


def test_a_step_that_never_holds_is_run_once_and_as_often_again_as_the_plan_says(tmp_path: Path) -> None:
    result = run(tmp_path, {"run": f"{COUNTS}; false", "retry": {"times": 3, "delay": "1ms"}})
    (done,) = steps_of(result)
    assert (result.exit_status, done.status, done.attempts, done.out) == (ExitStatus.FAILED, Status.FAILED, 4, "4\n")
    assert done.notes == ("attempts 1 to 3 failed: exit: expected exit 0, got exit 1",)
    assert done.mismatches == (Mismatch("exit", "exit 0", "exit 1"),)


def test_a_step_that_holds_at_once_is_run_once(tmp_path: Path) -> None:
    (done,) = steps_of(run(tmp_path, {"run": COUNTS, "retry": {"times": 3}}))
    assert (done.attempts, done.out, done.notes) == (1, "1\n", ())


def test_each_attempt_is_given_the_same_and_nothing_is_rolled_back(tmp_path: Path) -> None:
    first = {"run": "echo v1", "save": {"saved": {"from": "stdout", "matches": ".+"}}}
    script = 'test "$n" = 2 && exit; read x; echo "$x $saved $OWN $PWD" >>said; n=$((n + 1)); false'
    again = {"run": script, "stdin": "in\n", "env": {"OWN": "o"}, "cwd": "/tmp", "retry": {"times": 3, "delay": "1ms"}}
    result = run(tmp_path, first, {"run": "n=0"}, again, {"run": "cat /tmp/said"})
    assert steps_of(result)[-1].out == "in v1 o /tmp\n" * 2


def test_saved_values_reach_an_attempt_in_a_restored_shell(tmp_path: Path) -> None:
    first = {"run": "echo v1", "save": {"saved": {"from": "stdout", "matches": ".+"}}}
    ends_the_shell = {"run": f"{COUNTS}; echo [$saved]; exit 1", "expect": {"stdout": "3\n[v1]\n", "exit": 1}}
    (_, done) = steps_of(run(tmp_path, first, {**ends_the_shell, "retry": {"times": 3, "delay": "1ms"}}))
    assert (done.status, done.attempts) == (Status.PASSED, 3)


def test_an_error_is_not_tried_again(tmp_path: Path) -> None:
    (done,) = steps_of(run(tmp_path, {"run": "true", "cwd": "missing", "retry": {"times": 3}}))
    assert (done.status, done.attempts) == (Status.ERROR, 1)


def test_a_value_is_saved_from_the_attempt_that_held(tmp_path: Path) -> None:
    step = {"run": COUNTS, "expect": {"stdout": "2\n"}, "save": {"n": {"matches": r"\d"}}, "retry": {"times": 3, "delay": "1ms"}}
    result = run(tmp_path, step, {"argv": ["echo", "${{n}}"]})
    assert steps_of(result)[1].out == "2\n"


def test_an_interrupt_ends_the_pause_between_two_attempts(tmp_path: Path) -> None:
    plan = parse_plan(
        {"image": "debian:bookworm-slim", "steps": [{"run": "false", "retry": {"times": 3, "delay": "20m"}}]}, root=tmp_path
    )
    going = Run([plan], RunOptions())
    listener = Listener(lambda event: isinstance(event.body, StepFinished), going.stop)
    result = going.run([listener])
    (done,) = steps_of(result)
    assert (result.exit_status, done.status, done.attempts) == (ExitStatus.INTERRUPTED, Status.ERROR, 1)
    assert done.error == ErrorInfo(ErrorKind.CANCELLED, "the run was interrupted")


def test_the_cases_time_ends_the_attempts(tmp_path: Path) -> None:
    started = time.monotonic()
    step = {"run": "false", "retry": {"times": 1000, "delay": "300ms"}}
    (done,) = steps_of(run(tmp_path, step, limits={"case_timeout": "2s"}))
    assert done.status is Status.FAILED and 1 < done.attempts < 1000
    assert done.notes[-1] == "not tried again: the case's time (`limits.case_timeout`) is used up"
    assert time.monotonic() - started < 30


def test_only_the_last_attempt_is_listed_among_the_stored_steps(tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    step = {"run": COUNTS, "expect": {"stdout": "2\n"}, "retry": {"times": 2, "delay": "1ms"}}
    plan = parse_plan({"image": "debian:bookworm-slim", "steps": [step]}, root=tmp_path)
    run_id = Run([plan], RunOptions(store=database)).run().run
    with Store.open(database)._engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT status FROM steps WHERE run_id = ?", (run_id,)).all()
    assert [tuple(row) for row in rows] == [("passed",)]


def test_a_pause_ends_when_somebody_says_stop() -> None:
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    assert paused(3600, stop.is_set) is False
    assert paused(0.001, lambda: False) is True


def test_many_different_reasons_are_cut_to_the_last_ones() -> None:
    attempts = Attempts()
    for number in range(1, 31):
        attempts.failed(number, [Mismatch("stdout", "a", f"{number} " * 200), Mismatch("exit", "exit 0", "exit 1")])
    notes = attempts.notes()
    assert (len(notes), notes[0]) == (11, "20 earlier reasons of failed attempts are left out")
    assert notes[-1].startswith("attempt 30 failed: stdout: expected a, got 30 30") and notes[-1].endswith("…, and 1 more")
