"""A container that goes away underneath a step: never passed, never a guess, and what had come out is kept."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import Mock

import pytest
from support.control_groups import may_be_killed
from support.live_session import Lab

from testronaut_lab.container.cgroup_lookup import own_groups
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.errors import EngineError, SessionLost
from testronaut_lab.model.result import ExitKind, ShellState, Status

pytestmark = pytest.mark.engine

BLOWS: dict[str, Callable[[Engine, str], object]] = {
    "kill": lambda engine, name: engine.client.api.kill(name),
    "remove": lambda engine, name: engine.client.api.remove_container(name, force=True),
    "stop": lambda engine, name: engine.client.api.stop(name, timeout=0),
    "restart": lambda engine, name: engine.client.api.restart(name, timeout=0),
}


@pytest.mark.parametrize("blow", BLOWS.values(), ids=BLOWS)
def test_a_container_that_ends_mid_step_is_a_lost_session(
    fresh: Lab, engine: Engine, blow: Callable[[Engine, str], object]
) -> None:
    fresh.when(b"partial", lambda: blow(engine, fresh.session.container_name))
    result = fresh.run("echo partial; sleep 300", timeout_s=20)
    assert (result.exit.kind, result.exit.code, result.status) == (ExitKind.SESSION_LOST, None, Status.ERROR)
    assert (result.out, result.state) == ("partial\n", ShellState.LOST)
    assert result.error is not None and result.error.class_ == "SessionLost"


def test_a_container_that_was_removed_is_named_in_the_error(fresh: Lab, engine: Engine) -> None:
    fresh.when(b"go", lambda: BLOWS["remove"](engine, fresh.session.container_name))
    result = fresh.run("echo go; sleep 300", timeout_s=20)
    assert result.error is not None and "removed" in result.error.message


@pytest.mark.needs("pause")
def test_a_paused_container_is_no_passed_step(fresh: Lab, engine: Engine) -> None:
    fresh.when(b"partial", lambda: engine.client.api.pause(fresh.session.container_name))
    result = fresh.run("echo partial; sleep 300", timeout_s=1)
    assert (result.exit.kind, result.status, result.out) == (ExitKind.SESSION_LOST, Status.ERROR, "partial\n")
    assert result.error is not None and "paused" in result.error.message


def test_a_container_that_ended_between_steps_is_a_lost_session(fresh: Lab, engine: Engine) -> None:
    fresh.run("true").check()
    engine.client.api.kill(fresh.session.container_name)
    assert fresh.run("true").exit.kind is ExitKind.SESSION_LOST


def test_what_runs_in_a_session_ends_with_it_when_the_engine_does_not_answer(
    fresh: Lab, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = fresh.session._container
    if not may_be_killed(own_groups(container.id, container.state().pid)):
        pytest.skip("no control group of version 2 here, or it is somebody else's")
    fresh.run("sleep 300 & true").check()
    monkeypatch.setattr(container, "remove", Mock(side_effect=EngineError("the engine does not answer")))
    with pytest.raises(EngineError):
        fresh.session.close()
    assert engine.client.api.wait(container.id)["StatusCode"] == 137
    engine.client.api.remove_container(container.id)


def test_after_the_loss_no_step_is_run(fresh: Lab, engine: Engine) -> None:
    engine.client.api.kill(fresh.session.container_name)
    fresh.run("true")
    with pytest.raises(SessionLost, match="before this step"):
        fresh.run("true")


def test_a_lost_session_can_be_closed(fresh: Lab, engine: Engine) -> None:
    engine.client.api.remove_container(fresh.session.container_name, force=True)
    workspace = fresh.session._place.workspace
    fresh.session.close()
    assert not workspace.exists()


def test_a_missing_shell_is_said_when_the_session_starts(make_session: Callable[..., Lab]) -> None:
    with pytest.raises(SessionLost, match="zsh"):
        make_session(shell="zsh")
