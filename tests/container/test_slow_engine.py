"""An engine that answers late is slow, not dead: no session is lost to it, and no harmless step is in doubt."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine_proxy import ChaosProxy
from support.live_session import Lab, open_lab

from testronaut_lab.container.engine import connect as engine_module
from testronaut_lab.container.engine.connect import Endpoint, Engine, connect, open_engine
from testronaut_lab.container.engine.pace import SLACK, Pace
from testronaut_lab.execution.factory import SessionSettings
from testronaut_lab.model.result import ExitKind, ShellState, StepResult

# The delay of one direction, while a session starts and after that. The second delay is longer than any time measured before it.
# An answer takes twice the delay.
_AT_START_S = 0.1
_LATER_S = 1.2


@pytest.fixture
def proxy(engine: Engine, base_image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChaosProxy]:
    with tempfile.TemporaryDirectory(prefix="tlab-slow-") as folder:
        with ChaosProxy(Path(folder, "engine.sock"), engine.socket_path) as made:
            monkeypatch.setenv("DOCKER_HOST", made.url)
            yield made


@pytest.fixture
def slow(proxy: ChaosProxy, base_image: str, tmp_path: Path) -> Iterator[Lab]:
    """A session of an engine that was slow at the start and has become much slower."""
    proxy.delay_s = _AT_START_S
    with open_lab(base_image, tmp_path / "blobs", SessionSettings()) as lab:
        proxy.delay_s = _LATER_S
        yield lab
        proxy.delay_s = 0


def told(result: StepResult) -> tuple[ExitKind, int | None, str, ShellState, str]:
    return result.exit.kind, result.exit.code, result.out, result.state, "" if result.error is None else result.error.message


@pytest.mark.engine
def test_steps_of_a_slow_engine_end_as_on_a_fast_one(slow: Lab) -> None:
    assert told(slow.run("x=1; echo go")) == (ExitKind.EXITED, 0, "go\n", ShellState.KEPT, "")
    assert told(slow.run("echo go; sleep 300", timeout_s=0.5)) == (ExitKind.TIMEOUT, None, "go\n", ShellState.RESTORED, "")
    assert told(slow.run("echo $x; sleep 300 & exit 3")) == (ExitKind.EXITED, 3, "1\n", ShellState.RESTORED, "")


@pytest.mark.engine
def test_what_a_slow_engine_takes_for_a_plainly_driven_step_is_not_the_steps_time(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("TESTRONAUT_LAB_DRIVER", "plain")
    slow: Lab = request.getfixturevalue("slow")
    assert told(slow.run("echo go", timeout_s=0.5)) == (ExitKind.EXITED, 0, "go\n", ShellState.KEPT, "")
    assert told(slow.run("echo go; sleep 300", timeout_s=0.5)) == (ExitKind.TIMEOUT, None, "go\n", ShellState.RESTORED, "")


@pytest.mark.engine
def test_every_shell_killed_on_a_slow_engine_is_no_lost_session(slow: Lab) -> None:
    assert slow.run("export kept=1").ok
    assert slow.run("sh -c 'kill -9 -1'").exit.code == 137
    assert told(slow.run("echo [$kept]")) == (ExitKind.EXITED, 0, "[1]\n", ShellState.KEPT, "")


@pytest.mark.engine
def test_the_calls_of_a_slow_engine_may_take_longer(proxy: ChaosProxy) -> None:
    proxy.delay_s = 0.3
    engine = connect()
    try:
        assert engine.client.ping()
        assert engine.pace.deadline_s(2.0) >= SLACK * 0.6
        assert engine.hurried.client.api.timeout >= SLACK * 0.6
    finally:
        engine.close()


def test_a_deadline_is_never_less_than_the_usual() -> None:
    pace = Pace()
    pace.note(0.01)
    assert pace.deadline_s(2.0) == 2.0
    pace.note(1.0)
    pace.note(0.02)
    assert pace.deadline_s(2.0) == SLACK


@pytest.mark.parametrize(
    ("url", "counts"),
    [
        ("http+docker://localhost/v1.41/containers/abc/json", True),
        ("http+docker://localhost/v1.41/containers/abc/exec", True),
        ("http+docker://localhost/v1.41/exec/abc/json", True),
        ("http+docker://localhost/_ping", True),
        ("http+docker://localhost/v1.41/containers/abc/wait", False),
        ("http+docker://localhost/v1.41/images/create?fromImage=x", False),
        ("http+docker://localhost/v1.41/containers/abc/start", False),
    ],
)
def test_only_short_calls_are_a_measure(url: str, counts: bool) -> None:
    pace = Pace()
    pace.note_call(url, 1.0)
    assert (pace.deadline_s(1.0) > 1.0) == counts


def test_an_engine_that_says_nothing_is_told_with_the_time_it_was_given(
    proxy: ChaosProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_PROBE_TIMEOUT_S", 0.2)
    proxy.delay_s = 1
    with pytest.raises(OSError, match=r"took the connection and did not answer within 0\.2 s"):
        open_engine(Endpoint(proxy.url, "here"))
