"""The counters of a container, read from small trees in the form of both cgroup versions and from a running container."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import MakeSession

from testronaut_lab.container.cgroup import CgroupMeter

PID = 4711
# Written by hand in the form of the kernel's cgroup-v2.rst and cgroup-v1 documents, not recorded on a host with version 2.
V2_GROUP = "system.slice/docker-7f3c.scope"
V2 = {
    "proc/4711/cgroup": f"0::/{V2_GROUP}\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n",
    f"sys/fs/cgroup/{V2_GROUP}/cgroup.procs": "4711\n4802\n4833\n",
    f"sys/fs/cgroup/{V2_GROUP}/pids.events": "max 17\n",
    f"sys/fs/cgroup/{V2_GROUP}/memory.events": "low 0\nhigh 0\nmax 412\noom 3\noom_kill 2\noom_group_kill 0\n",
    f"sys/fs/cgroup/{V2_GROUP}/memory.stat": "anon 5242880\nfile 314572800\nkernel 1236992\nanon_thp 0\ninactive_anon 8192\n",
    f"sys/fs/cgroup/{V2_GROUP}/memory.peak": "333447168\n",
    f"sys/fs/cgroup/{V2_GROUP}/cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 0\n",
}
V1_GROUP = "docker/7f3c"
V1 = {
    "proc/4711/cgroup": "".join(
        f"{number}:{names}:/{V1_GROUP}\n" for number, names in enumerate(("pids", "memory", "cpu,cpuacct", "name=systemd"), 2)
    )
    + "0::/\n",
    f"sys/fs/cgroup/pids/{V1_GROUP}/cgroup.procs": "4711\n4802\n",
    f"sys/fs/cgroup/pids/{V1_GROUP}/pids.events": "max 9\n",
    f"sys/fs/cgroup/memory/{V1_GROUP}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    f"sys/fs/cgroup/memory/{V1_GROUP}/memory.stat": "cache 314572800\nrss 4096\ntotal_cache 314572800\ntotal_rss 552960\n",
    f"sys/fs/cgroup/memory/{V1_GROUP}/memory.max_usage_in_bytes": "316194816\n",
    f"sys/fs/cgroup/cpuacct/{V1_GROUP}/cpuacct.usage": "2500000000\n",
}
MakeMeter = Callable[[dict[str, str]], CgroupMeter]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[MakeMeter]:
    """Opens a meter on a host that has these files and no others."""
    opened: list[CgroupMeter] = []

    def make(files: dict[str, str]) -> CgroupMeter:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        opened.append(CgroupMeter(PID, tmp_path))
        return opened[-1]

    yield make
    for meter in opened:
        meter.close()


def test_every_counter_of_version_2_is_read(written: MakeMeter) -> None:
    meter = written(V2)
    assert (meter.processes(), meter.refused_forks(), meter.oom_kills(), meter.cpu_s()) == (3, 17, 2, 1.5)
    assert (meter.own_memory_bytes(), meter.peak_bytes()) == (5242880, 333447168)


def test_every_counter_of_version_1_is_read(written: MakeMeter) -> None:
    meter = written(V1)
    assert (meter.processes(), meter.refused_forks(), meter.oom_kills(), meter.cpu_s()) == (2, 9, 1, 2.5)
    assert (meter.own_memory_bytes(), meter.peak_bytes()) == (552960, 316194816)


def test_a_counter_is_read_anew_each_time(written: MakeMeter, tmp_path: Path) -> None:
    meter = written(V2)
    (tmp_path / f"sys/fs/cgroup/{V2_GROUP}/memory.events").write_text("oom 4\noom_kill 3\n")
    assert meter.oom_kills() == 3


@pytest.mark.parametrize("tree", [V1, V2], ids=["v1", "v2"])
def test_a_counter_that_is_not_there_is_none(written: MakeMeter, tree: dict[str, str]) -> None:
    meter = written({name: text for name, text in tree.items() if "memory." not in name and "cpu" not in Path(name).name})
    assert (meter.oom_kills(), meter.own_memory_bytes(), meter.peak_bytes(), meter.cpu_s()) == (None, None, None, None)
    assert meter.reset_peak() is False
    assert meter.processes() is not None


def test_a_container_that_is_gone_has_no_counters(written: MakeMeter) -> None:
    meter = written({"sys/fs/cgroup/cgroup.controllers": "memory pids\n"})
    assert (meter.processes(), meter.refused_forks(), meter.own_memory_bytes(), meter.reset_peak()) == (None, None, None, False)


def test_a_closed_meter_has_no_counters(written: MakeMeter) -> None:
    meter = written(V2)
    meter.close()
    assert (meter.processes(), meter.own_memory_bytes(), meter.peak_bytes()) == (None, None, None)


@pytest.mark.parametrize(("tree", "name"), [(V1, "memory.max_usage_in_bytes"), (V2, "memory.peak")], ids=["v1", "v2"])
def test_the_peak_is_reset_by_a_write(written: MakeMeter, tmp_path: Path, tree: dict[str, str], name: str) -> None:
    assert written(tree).reset_peak() is True
    (file,) = tmp_path.rglob(name)
    assert file.read_text().startswith("0")


@pytest.mark.engine
def test_a_running_container_is_read(make_session: MakeSession) -> None:
    session = make_session().session
    meter = CgroupMeter(session._container.state().pid)
    try:
        assert meter.processes() is not None and meter.processes() > 1
        assert (meter.refused_forks(), meter.oom_kills()) == (0, 0)
        assert 0 < (meter.own_memory_bytes() or 0) < (meter.peak_bytes() or 0)
        assert (meter.cpu_s() or 0) > 0
    finally:
        meter.close()
