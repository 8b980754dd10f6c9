"""Containers on a real engine: they have the promised profile, and only the left-overs of dead owners are removed."""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import MakeSession
from support.live_session import Lab
from support.other_owners import containers, networks

from testronaut_lab.container import manager, security
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.network import create_network, remove_network
from testronaut_lab.container.owner import container_name, folder_id
from testronaut_lab.container.protocol import StepContainerSpec
from testronaut_lab.container.stepuser import StepUser
from testronaut_lab.errors import EngineError
from testronaut_lab.execution.reap import reap
from testronaut_lab.model.plan import Limits

pytestmark = pytest.mark.engine


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sessions root of the test's own."""
    monkeypatch.setenv("TESTRONAUT_LAB_SESSIONS", str(tmp_path / "sessions"))
    return tmp_path / "sessions"


@pytest.fixture
def unused_name() -> str:
    """A name for a container or network that no other test run uses."""
    return f"tlab-test-{uuid.uuid4().hex[:12]}"


def test_a_session_removes_all_it_made(engine: Engine, fresh: Lab, own_sessions_root: Path) -> None:
    name = fresh.session.container_name
    fresh.session.close()
    assert name not in containers(engine)
    assert not any(path.name in name for path in own_sessions_root.iterdir())


def test_a_session_that_is_kept_stays_for_a_look(engine: Engine, root: Path, fresh: Lab) -> None:
    name = fresh.session.container_name
    fresh.session.close(keep=True)
    assert name in containers(engine)
    assert reap(engine, root).removed == ()
    assert name in reap(engine, root, kept=True).removed
    assert name not in containers(engine)


@pytest.fixture(scope="module")
def profile(engine: Engine, dash: Lab) -> dict[str, object]:
    return dict(engine.client.api.inspect_container(dash.session.container_name)["HostConfig"])


@pytest.mark.needs("words")
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("CapDrop", ["ALL"]),
        ("SecurityOpt", ["no-new-privileges"]),
        ("Privileged", False),
        ("ReadonlyRootfs", True),
        ("NetworkMode", "none"),
        ("Memory", Limits().memory_bytes),
        ("MemorySwap", Limits().memory_bytes),
        ("NanoCpus", int(Limits().cpus * 1e9)),
        ("PidsLimit", Limits().pids + security.PIDS_RESERVE),
        ("ShmSize", security.tmpfs_bytes(Limits().memory_bytes)),
        ("Init", False),
        ("Binds", None),
        ("Devices", None),
        ("PidMode", ""),
    ],
)
def test_the_profile_is_as_promised(profile: dict[str, object], key: str, expected: object) -> None:
    found = profile[key]
    assert (found or None) == expected if expected is None else found == expected


@pytest.mark.needs("words")
def test_root_in_a_container_has_the_capabilities_that_it_needs(profile: dict[str, object], step_user: StepUser) -> None:
    added = profile["CapAdd"] or []
    assert isinstance(added, list)
    assert [name.removeprefix("CAP_") for name in added] == list(step_user.capabilities)


def test_a_session_that_ends_is_not_started_again(profile: dict[str, object]) -> None:
    policy = profile["RestartPolicy"]
    assert isinstance(policy, dict) and policy["Name"] in ("", "no")  # Docker's word before version 25, and from 25 on


def test_temporary_file_systems_together_are_below_half_of_the_memory(profile: dict[str, object]) -> None:
    tmpfs = profile["Tmpfs"]
    assert isinstance(tmpfs, dict) and set(tmpfs) == {"/run", "/var/tmp"}
    assert (len(tmpfs) + 1) * security.tmpfs_bytes(Limits().memory_bytes) < Limits().memory_bytes / 2


def test_only_the_sessions_own_directories_are_mounted(engine: Engine, dash: Lab) -> None:
    mounts = engine.client.api.inspect_container(dash.session.container_name)["Mounts"]
    writable = {mount["Destination"]: mount["RW"] for mount in mounts}
    assert writable == {
        "/run/lab": False, "/run/lab/end": True,
        "/workspace": True, "/home/lab": True, "/tmp": True, "/etc/passwd": False, "/etc/group": False,
    }  # fmt: skip


def test_an_image_that_is_not_there_is_an_engine_error_and_leaves_nothing(engine: Engine, unused_name: str) -> None:
    spec = StepContainerSpec(unused_name, "no-such-image:none", security.keeper(), "0:0", "none", True, 2**26, 1.0, 10)
    with pytest.raises(EngineError, match="no-such-image"):
        manager.start_step_container(engine, spec)
    assert unused_name not in containers(engine)


def test_a_container_that_cannot_start_is_removed(engine: Engine, base_image: str, unused_name: str) -> None:
    spec = StepContainerSpec(unused_name, base_image, ("/no/such/program",), "0:0", "none", True, 2**26, 1.0, 10)
    with pytest.raises(EngineError, match=f"starting container {unused_name}"):
        manager.start_step_container(engine, spec)
    assert unused_name not in containers(engine)


def test_a_session_that_cannot_start_leaves_no_directories(engine: Engine, root: Path, make_session: MakeSession) -> None:
    with pytest.raises(EngineError):
        make_session(shell="no-such-shell")
    assert list(root.glob("[!.]*")) == []
    assert not [name for name in containers(engine) if name.startswith(container_name("", folder_id(root)))]


def test_removing_what_is_not_there_is_fine(engine: Engine, unused_name: str) -> None:
    manager.remove_by_name(engine, unused_name)
    remove_network(engine, unused_name)


def test_a_network_is_made_and_removed(engine: Engine, unused_name: str) -> None:
    create_network(engine, unused_name, {})
    assert unused_name in networks(engine)
    remove_network(engine, unused_name)
    assert unused_name not in networks(engine)


def test_a_network_that_still_has_a_container_is_removed(engine: Engine, base_image: str, unused_name: str) -> None:
    create_network(engine, unused_name, {})
    container = engine.client.containers.run(base_image, ["sleep", "60"], network=unused_name, detach=True)
    try:
        remove_network(engine, unused_name)
        assert unused_name not in networks(engine)
    finally:
        container.remove(force=True)


def test_a_container_that_several_remove_at_once_is_gone_for_each_of_them(engine: Engine, base_image: str) -> None:
    for _ in range(3):
        container = engine.client.containers.run(base_image, ["sleep", "60"], detach=True)

        def gone(name: str) -> bool:
            manager.remove_by_name(engine, name)
            return not engine.client.containers.list(all=True, filters={"id": name})

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(gone, [str(container.id)] * 4)) == [True] * 4


def test_a_container_that_is_gone_is_a_state_and_no_error(engine: Engine, fresh: Lab) -> None:
    container = fresh.session._container
    assert container.state().running
    container.remove()
    container.kill()
    container.remove()
    assert (container.state().exists, container.state().describe()) == (False, "the container was removed")


def test_a_stopped_container_says_how_it_ended(engine: Engine, fresh: Lab) -> None:
    container = fresh.session._container
    container.kill()
    engine.client.api.wait(container.id)
    assert container.state().describe() == "the container stopped with exit status 137"
    container.kill()


def test_a_session_with_internet_has_a_network_of_its_own(engine: Engine, make_session: MakeSession) -> None:
    lab = make_session(network="internet")
    name = lab.session.container_name
    attached = engine.client.api.inspect_container(name)["NetworkSettings"]["Networks"]
    assert list(attached) == [f"{name}-net"]
    lab.session.close()
    assert f"{name}-net" not in networks(engine)


def test_the_engine_keeps_no_log_of_a_session(profile: dict[str, object]) -> None:
    config = profile["LogConfig"]
    assert isinstance(config, dict) and config["Type"] == "none"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may put a process before others")
def test_the_watchdog_comes_before_the_processes_of_a_step(fresh: Lab, engine: Engine) -> None:
    fresh.run("sleep 300 &")
    running = engine.client.api.top(fresh.session.container_name, "-eo pid,ni,args")["Processes"]
    niceness = {args.split()[-1]: ni for _, ni, args in running}
    assert (niceness["watchdog"], niceness["300"]) == ("-20", "0")
