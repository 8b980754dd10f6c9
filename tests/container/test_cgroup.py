"""The counters of a container, read from small trees in the form of both cgroup versions and from a running container."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import MakeSession
from support.control_groups import HYBRID, LAYOUTS, V1, V2, Layout, may_be_killed, own, write

from testronaut_lab.container.cgroup import CgroupMeter
from testronaut_lab.container.cgroup_lookup import own_groups
from testronaut_lab.container.engine.connect import Engine

MakeMeter = Callable[[Layout], CgroupMeter]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[MakeMeter]:
    """Opens a meter on a host that has these files and no others."""
    opened: list[CgroupMeter] = []

    def make(layout: Layout) -> CgroupMeter:
        opened.append(CgroupMeter(own(write(tmp_path, layout)), tmp_path))
        return opened[-1]

    yield make
    for meter in opened:
        meter.close()


def without(layout: Layout, *words: str) -> Layout:
    """The layout without the files whose names have one of these words in them."""
    files: Mapping[str, str] = {
        name: text for name, text in layout.files.items() if not any(word in Path(name).name for word in words)
    }
    return replace(layout, files=files)


def test_every_counter_of_version_2_is_read(written: MakeMeter) -> None:
    meter = written(V2)
    assert (meter.processes(), meter.refused_forks(), meter.oom_kills(), meter.cpu_s()) == (3, 17, 2, 1.5)
    assert (meter.own_memory_bytes(), meter.peak_bytes()) == (5242880, 333447168)


def test_every_counter_of_version_1_is_read(written: MakeMeter) -> None:
    meter = written(V1)
    assert (meter.processes(), meter.refused_forks(), meter.oom_kills(), meter.cpu_s()) == (2, 9, 1, 2.5)
    assert (meter.own_memory_bytes(), meter.peak_bytes()) == (552960, 316194816)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_has_every_counter(written: MakeMeter, name: str) -> None:
    meter = written(LAYOUTS[name])
    assert meter.unmeasured == ()
    assert (meter.processes(), meter.inner_procs) != (None, "/dev/null")


def test_beside_version_1_the_unified_group_has_the_counters_that_version_1_lacks(written: MakeMeter) -> None:
    told = HYBRID.told.replace("cpu,cpuacct", "freezer")
    assert written(replace(HYBRID, told=told)).cpu_s() == 1.5


def test_a_refused_fork_is_seen_at_the_limit_and_in_the_group_inside_it(written: MakeMeter, tmp_path: Path) -> None:
    meter = written(LAYOUTS["crun"])
    before = meter.refused_forks()
    inner, whole = sorted(tmp_path.rglob("pids.events"), key=lambda file: len(file.parts), reverse=True)
    inner.write_text("max 18\n")  # Linux before 6.11
    assert (before, meter.refused_forks()) == (34, 35)
    whole.write_text("max 18\n")
    assert meter.refused_forks() == 36


def test_processes_of_the_group_inside_count(written: MakeMeter) -> None:
    assert written(LAYOUTS["crun"]).processes() == 3


def test_a_counter_is_read_anew_each_time(written: MakeMeter, tmp_path: Path) -> None:
    meter = written(V2)
    (file,) = tmp_path.rglob("memory.events")
    file.write_text("oom 4\noom_kill 3\n")
    assert meter.oom_kills() == 3


@pytest.mark.parametrize("layout", [V1, V2], ids=["v1", "v2"])
def test_a_counter_that_is_not_there_is_none_and_named(written: MakeMeter, layout: Layout) -> None:
    meter = written(without(layout, "memory.", "cpu"))
    assert (meter.oom_kills(), meter.own_memory_bytes(), meter.peak_bytes(), meter.cpu_s()) == (None, None, None, None)
    assert meter.reset_peak() is False
    assert meter.processes() is not None
    assert meter.unmeasured == ("CPU time", "memory", "kills for lack of memory")


def test_a_container_without_a_group_of_its_own_has_no_counters(written: MakeMeter) -> None:
    meter = written(replace(V2, told="0::/\n"))
    assert (meter.processes(), meter.pids(), meter.refused_forks(), meter.reset_peak()) == (None, None, None, False)
    assert meter.unmeasured == ("CPU time", "memory", "kills for lack of memory", "refused processes")
    assert (meter.inner_procs, meter.kill_all()) == ("/dev/null", False)


def test_a_closed_meter_has_no_counters(written: MakeMeter) -> None:
    meter = written(V2)
    meter.close()
    assert (meter.processes(), meter.own_memory_bytes(), meter.peak_bytes()) == (None, None, None)


def test_a_container_is_killed_by_its_group_of_version_2(written: MakeMeter, tmp_path: Path) -> None:
    meter = written(V2)
    meter.close()
    assert meter.kill_all() is True
    (file,) = tmp_path.rglob("cgroup.kill")
    assert file.read_text() == "1"


def test_version_1_cannot_kill_a_container(written: MakeMeter) -> None:
    assert written(V1).kill_all() is False


@pytest.mark.parametrize(("tree", "name"), [(V1, "memory.max_usage_in_bytes"), (V2, "memory.peak")], ids=["v1", "v2"])
def test_the_peak_is_reset_by_a_write(written: MakeMeter, tmp_path: Path, tree: Layout, name: str) -> None:
    assert written(tree).reset_peak() is True
    (file,) = tmp_path.rglob(name)
    assert file.read_text().startswith("0")


@pytest.mark.engine
def test_a_running_container_is_killed_without_its_engine(make_session: MakeSession, engine: Engine) -> None:
    container = make_session().session._container
    groups = own_groups(container.id, container.state().pid)
    meter = CgroupMeter(groups)
    meter.close()
    may = may_be_killed(groups)  # the group is removed with the container
    assert meter.kill_all() is may
    if may:
        assert engine.client.api.wait(container.id)["StatusCode"] == 137


@pytest.mark.engine
def test_a_running_container_is_read(make_session: MakeSession) -> None:
    container = make_session().session._container
    meter = CgroupMeter(own_groups(container.id, container.state().pid))
    try:
        assert meter.processes() is not None and meter.processes() > 1
        assert (meter.refused_forks(), meter.oom_kills()) == (0, 0)
        assert 0 < (meter.own_memory_bytes() or 0) < (meter.peak_bytes() or 0)
        assert (meter.cpu_s() or 0) > 0
    finally:
        meter.close()
