"""The first process of a session's container: it lives as long as its owner, asleep or not, and not much longer."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import docker.errors
import pytest
import requests.exceptions
from conftest import MakeSession
from support.live_session import Lab
from support.other_owners import Owner

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.execution.reap import reap

pytestmark = pytest.mark.engine

# A keeper whose owner is gone has become a `sleep`.
BELIEVES = "read name </proc/1/comm; echo $name"


@pytest.fixture(params=["dash", "busybox"])
def owner(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Iterator[Owner]:
    """Another process with a session that outlives it for a second."""
    image = request.getfixturevalue("busybox_image" if request.param == "busybox" else "base_image")
    made = Owner(image, tmp_path / "blobs", orphan_timeout_s=1, env={"TESTRONAUT_LAB_SESSIONS": str(tmp_path / "sessions")})
    yield made
    made.kill()
    with suppress(docker.errors.NotFound):  # another process may have removed the ended container
        engine.client.api.remove_container(made.container, force=True)


def status(engine: Engine, container: str, timeout_s: float) -> int | None:
    """How the container ended; None if it still runs after so long."""
    try:
        return int(engine.client.api.wait(container, timeout=timeout_s)["StatusCode"])
    except requests.exceptions.ConnectionError:
        return None


def test_a_session_ends_some_time_after_its_owner(engine: Engine, owner: Owner) -> None:
    owner.kill()
    assert status(engine, owner.container, 60) == 0


def test_a_session_outlives_an_owner_that_sleeps(engine: Engine, owner: Owner) -> None:
    owner.process.send_signal(signal.SIGSTOP)
    assert status(engine, owner.container, 3) is None
    owner.process.send_signal(signal.SIGCONT)


@pytest.mark.needs("pause")
def test_a_session_outlives_pauses_and_signals_from_outside(engine: Engine, owner: Owner) -> None:
    for _ in range(5):
        engine.client.api.pause(owner.container)
        engine.client.api.unpause(owner.container)
        for name in ("STOP", "CONT", "WINCH", "TERM", "HUP", "USR1"):
            engine.client.api.kill(owner.container, name)
    assert status(engine, owner.container, 3) is None


@pytest.mark.needs("limits")
def test_an_orphan_ends_whatever_it_still_runs(engine: Engine, owner: Owner) -> None:
    api = engine.client.api
    script = "trap '' TERM HUP; b() { b | b & }; b; while :; do (:); done"
    api.exec_start(api.exec_create(owner.container, ["sh", "-c", script], user="1000:1000"), detach=True)
    owner.kill()
    assert status(engine, owner.container, 60) == 0


def test_a_session_that_is_kept_lives_on(engine: Engine, make_session: MakeSession, own_sessions_root: Path) -> None:
    lab = make_session()
    name = lab.session.container_name
    lab.session.close(keep=True)
    try:
        said = engine.client.api.exec_create(name, ["sh", "-c", f"(:) & wait; {BELIEVES}"])
        assert engine.client.api.exec_start(said) == b"sh\n"
        assert status(engine, name, 1) is None
    finally:
        assert name in reap(engine, own_sessions_root, kept=True).removed


def test_no_number_of_dead_children_is_taken_for_the_end_of_the_owner(shell: Lab) -> None:
    shell.run("i=0; while [ $i -lt 300 ]; do ( ( : ) & ); i=$((i + 1)); done").check()
    assert shell.out(BELIEVES) == "sh\n"


def test_what_the_dead_leave_is_still_reaped(shell: Lab) -> None:
    count = "for each in /proc/[0-9]*/stat; do read pid name state rest <$each && echo $state; done 2>/dev/null; true"
    shell.run("for i in 1 2 3 4 5 6 7 8; do ( ( sleep 0.0$i ) & ); done; sleep 0.3").check()
    assert "Z" not in shell.out(count)


def test_steps_cannot_stand_in_for_the_owner(shell: Lab) -> None:
    result = shell.run("exec 9>/run/lab/keeper")
    assert "ermission denied" in result.err


def test_the_keeper_costs_nothing_while_nothing_happens(engine: Engine, fresh: Lab) -> None:
    pid = engine.client.api.inspect_container(fresh.session.container_name)["State"]["Pid"]
    stat = Path(f"/proc/{pid}/stat")
    before = stat.read_text().rpartition(")")[2].split()[11:13]
    fresh.run("sleep 1").check()
    assert stat.read_text().rpartition(")")[2].split()[11:13] == before
    assert os.listdir(f"/proc/{pid}/task") == [str(pid)]
