"""A container's own groups and foreign groups, from files as kernels and engines lay them out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MakeSession
from support.control_groups import HYBRID, ID, LAYOUTS, MOUNT_V2, PID, V1, V2, Layout, own, write

from testronaut_lab.container.cgroup_lookup import own_groups

MakeHost = Callable[[Layout], Path]


@pytest.fixture
def host(tmp_path: Path) -> MakeHost:
    """Makes a host that has these files and no others."""
    return lambda layout: write(tmp_path, layout)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_group_of_the_containers_own_is_found(host: MakeHost, name: str) -> None:
    layout = LAYOUTS[name]
    groups = own(host(layout))
    found = {controller: group.version for controller in ("memory", "pids", "cpuacct") if (group := groups.of(controller))}
    assert found == layout.versions


def test_limits_are_read_from_the_engines_group_and_processes_from_the_runtimes_inside(tmp_path: Path) -> None:
    group = own(write(tmp_path, LAYOUTS["crun"])).of("memory")
    assert group is not None
    assert (group.whole.name, group.inner.relative_to(group.whole)) == (f"libpod-{ID}.scope", Path("container"))


SHARED = {
    "the root of the machine": "/",
    "the engine's group": "/user.slice/user-1000.slice/session-3.scope",
    "another container's group": "/docker/0000000000000000000000000000000000000000000000000000000000000000",
    "the group of the container's conmon": f"/user.slice/libpod-conmon-{ID}.scope",
    "out of our own namespace": f"/../../docker/{ID}",
}


@pytest.mark.parametrize("path", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("layout", [V1, V2, HYBRID], ids=["v1", "v2", "hybrid"])
def test_a_group_that_is_shared_is_never_read(host: MakeHost, layout: Layout, path: str) -> None:
    root = host(layout)
    told = (root / f"proc/{PID}/cgroup").read_text()
    (root / f"proc/{PID}/cgroup").write_text("".join(f"{line.rpartition(':')[0]}:{path}\n" for line in told.splitlines()))
    for mount in (root / "sys/fs/cgroup", *(root / "sys/fs/cgroup").iterdir()):  # whichever is looked at, it lists the process
        group = Path(os.path.normpath(mount / path.lstrip("/")))
        group.mkdir(parents=True, exist_ok=True)
        (group / "cgroup.procs").write_text(f"{PID}\n")
    assert not own(root)


def test_a_process_of_ours_that_has_the_number_of_the_containers_is_not_believed(host: MakeHost) -> None:
    root = host(V2)
    (root / f"proc/{PID}/cgroup").write_text("0::/user.slice/editor.scope\n")
    assert not own(root)


def test_a_group_that_does_not_list_the_process_is_not_believed(host: MakeHost) -> None:
    root = host(V2)
    for procs in (root / "sys/fs/cgroup").rglob("cgroup.procs"):
        procs.write_text("12\n")
    assert not own(root)


@pytest.mark.parametrize("missing", [f"proc/{PID}/cgroup", "proc/self/mountinfo"])
def test_nothing_is_found_where_the_kernel_tells_nothing(host: MakeHost, missing: str) -> None:
    root = host(V2)
    (root / missing).unlink()
    assert not own(root)


def test_a_mount_that_shows_another_part_of_the_hierarchy_is_of_no_use(host: MakeHost) -> None:
    root = host(V2)
    (root / "proc/self/mountinfo").write_text(MOUNT_V2.replace(" / ", " /docker/of-a-job-container "))
    (root / "sys/fs/cgroup/cgroup.procs").write_text(f"{PID}\n")
    assert not own(root)


@pytest.mark.engine
def test_a_running_containers_groups_are_its_own(make_session: MakeSession) -> None:
    container = make_session().session._container
    pid = container.state().pid
    groups = own_groups(container.id, pid)
    for controller in ("memory", "pids", "cpuacct", "cpu"):
        group = groups.of(controller)
        assert group is not None and str(pid) in (group.inner / "cgroup.procs").read_text().split()


@pytest.mark.engine
def test_a_running_containers_groups_are_not_those_of_another(make_session: MakeSession) -> None:
    container = make_session().session._container
    assert not own_groups("0" * 64, container.state().pid)
