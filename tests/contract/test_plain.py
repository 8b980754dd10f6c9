"""What goes wrong around a step of the plain driver: limits, lost containers, jobs that stay, supervisors that are killed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.model.plan import Limits
from testronaut_lab.model.result import ExitKind, ShellState, Status

pytestmark = pytest.mark.engine

MIB = 1024 * 1024
BLOWS: dict[str, Callable[[Engine, str], object]] = {
    "killed": lambda engine, name: engine.client.api.kill(name),
    "removed": lambda engine, name: engine.client.api.remove_container(name, force=True),
    "paused": lambda engine, name: engine.client.api.pause(name),
}


@pytest.fixture(autouse=True)
def driven_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTRONAUT_LAB_DRIVER", "plain")


@pytest.fixture
def plain(driven_plainly: None, fresh: Lab) -> Lab:
    return fresh


@pytest.mark.parametrize(
    "blow", [pytest.param(blow, marks=pytest.mark.needs("pause") if blow == "paused" else ()) for blow in BLOWS]
)
def test_a_container_that_goes_away_mid_step_is_a_lost_session_with_what_came_out(plain: Lab, engine: Engine, blow: str) -> None:
    plain.when(b"partial", lambda: BLOWS[blow](engine, plain.session.container_name))
    result = plain.run("echo partial; sleep 300", timeout_s=2)
    assert (result.exit.kind, result.status, result.out) == (ExitKind.SESSION_LOST, Status.ERROR, "partial\n")
    assert result.state is ShellState.LOST


@pytest.mark.parametrize(
    "blow", [pytest.param(blow, marks=pytest.mark.needs("pause") if blow == "paused" else ()) for blow in BLOWS]
)
def test_a_container_that_goes_away_between_steps_is_a_lost_session(plain: Lab, engine: Engine, blow: str) -> None:
    plain.run("true").check()
    BLOWS[blow](engine, plain.session.container_name)
    assert plain.run("echo never").exit.kind in (ExitKind.SESSION_LOST, ExitKind.ENGINE_LOST)


@pytest.mark.needs("limits")
def test_a_program_that_takes_all_memory_is_told(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(memory_bytes=64 * MIB))
    assert lab.run("sh -c 'a=x; while :; do a=$a$a$a; done'").exit.kind is ExitKind.OOM
    assert lab.out("echo on") == "on\n"


@pytest.mark.needs("limits")
def test_a_step_that_gets_over_the_loss_of_a_process_has_passed(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(memory_bytes=64 * MIB))
    assert lab.run("sh -c 'a=x; while :; do a=$a$a$a; done'; true").exit.kind is ExitKind.EXITED


@pytest.mark.needs("limits")
def test_too_many_processes_are_told_and_ended(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(pids=20))
    assert lab.run("i=0; while [ $i -lt 40 ]; do sleep 300 & i=$((i + 1)); done").exit.kind is ExitKind.PIDS_LIMIT
    assert lab.out("cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep || :") == "0\n"


def test_too_much_output_ends_the_step(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(output_bytes=MIB))
    assert lab.run("yes").exit.kind is ExitKind.OUTPUT_LIMIT
    assert lab.out("echo on") == "on\n"


def test_a_timeout_spares_the_jobs_of_earlier_steps_and_nothing_else(plain: Lab) -> None:
    plain.run("sleep 300 >/dev/null 2>&1 &").check()
    assert plain.run("setsid sleep 400 & sleep 500", timeout_s=0.5).exit.kind is ExitKind.TIMEOUT
    assert plain.out("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -o 'sleep [345]00'") == "sleep 300\n"


def test_a_job_is_told_by_the_step_that_left_it_only(plain: Lab) -> None:
    left = plain.run("sleep 300 >/dev/null 2>&1 & echo $!")
    assert left.left_behind == (f"sleep ({left.out.strip()})",)
    assert plain.run("true").left_behind == ()


def test_what_a_job_writes_after_its_step_is_counted(plain: Lab) -> None:
    started = plain.run("( sleep 0.3; echo late; sleep 300 ) & echo early")
    assert (started.out, started.stdout_stream.open) == ("early\n", True)
    driver = plain.session._driver
    if any("ended the step's output with its shell" in note for note in started.notes):
        pytest.skip("the engine ends the streams of an exec with its first process; the step says so")
    deadline = time.monotonic() + 20
    while plain.run("true").ok and time.monotonic() < deadline and not driver.late_bytes:
        continue
    assert driver.late_bytes == len("late\n")


def test_a_killed_supervisor_does_not_make_its_step_pass(plain: Lab) -> None:
    result = plain.run("kill -9 $PPID; sleep 0.2; echo on >/dev/null")  # Podman has closed the streams
    assert (result.status, result.exit.code) == (Status.ERROR, 137)
    assert result.error is not None and result.error.class_ == "SessionLost"
    assert plain.out("echo next") == "next\n"


def test_a_record_that_a_step_adds_to_is_tampered_with(plain: Lab) -> None:
    result = plain.run("echo @forged X 0 >>/run/lab.state")
    assert result.error is not None and result.error.class_ == "Tampered"
    assert plain.run("echo on").status is Status.PASSED
