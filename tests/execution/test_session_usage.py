"""What a step took, how that was measured, and what is told of it while the step runs."""

from __future__ import annotations

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab.execution.driver.processes.counters import ResourceCounters
from testronaut_lab.execution.monitor import SELDOM_S, StepMonitor
from testronaut_lab.model.events import UsageSampled
from testronaut_lab.model.plan import Limits
from testronaut_lab.model.result import ExitKind, Status, Usage

MIB = 2**20
# a shell that holds 64 MiB and then waits for a moment: no sleep in the test, the step itself takes the time
HOLDS_64_MIB = "a=xxxxxxxxxxxxxxxx; while [ ${#a} -lt 16777216 ]; do a=$a$a; done; b=$a$a$a; sleep 0.3"


class Counters:
    """A container whose counters say what the test says."""

    def __init__(self) -> None:
        self.memory: int | None = MIB
        self.forks_refused: int | None = 0
        self.kills: int | None = 0
        self.cpu: float | None = 1.0
        self.resets = True
        self.peak: int | None = 300 * MIB

    def oom_kills(self) -> int | None:
        return self.kills

    def refused_forks(self) -> int | None:
        return self.forks_refused

    def cpu_s(self) -> float | None:
        return self.cpu

    def own_memory_bytes(self) -> int | None:
        return self.memory

    def reset_peak(self) -> bool:
        return self.resets

    def peak_bytes(self) -> int | None:
        return self.peak


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A monitor with everything that it sees and says."""

    def __init__(self) -> None:
        self.counters, self.clock, self.told = Counters(), Clock(), list[UsageSampled]()
        self.outgrown, self.scans = False, 0

    def start(self) -> StepMonitor:
        return StepMonitor("p::c::a", self.counters, self._scan, self.told.append, self.clock)

    def _scan(self) -> bool:
        self.scans += 1
        return self.outgrown


def test_the_peak_is_the_most_of_the_samples() -> None:
    watched = Watched()
    monitor = watched.start()
    for memory in (5, 9, 2):
        watched.counters.memory = memory * MIB
        assert monitor.check() is None
    watched.counters.cpu = 1.5
    assert monitor.usage() == Usage(0.5, 9 * MIB, "sampled")


def test_a_step_without_a_sample_has_the_kernels_peak() -> None:
    assert Watched().start().usage() == Usage(0.0, 300 * MIB, "reset")


def test_a_peak_that_cannot_be_reset_is_told_as_such() -> None:
    watched = Watched()
    watched.counters.resets = False
    assert watched.start().usage().method == "since_start"


def test_what_cannot_be_read_is_not_known() -> None:
    watched = Watched()
    watched.counters.memory = watched.counters.peak = watched.counters.cpu = None
    monitor = watched.start()
    monitor.check()
    assert monitor.usage() == Usage(None, None, None)


def test_ends_that_nobody_counts_are_named() -> None:
    watched = Watched()
    monitor = watched.start()
    watched.counters.kills = watched.counters.forks_refused = None
    assert monitor.usage().unseen == (ExitKind.OOM, ExitKind.PIDS_LIMIT)


def test_samples_are_told_a_few_times_a_second() -> None:
    watched = Watched()
    monitor = watched.start()
    for _ in range(100):
        watched.clock.now += 0.01
        monitor.check()
    assert len(watched.told) in (4, 5)
    assert (watched.told[0].memory_bytes, watched.told[-1].nodeid) == (MIB, "p::c::a")


def test_the_directories_are_scanned_seldom() -> None:
    watched = Watched()
    watched.outgrown = True
    monitor = watched.start()
    assert (monitor.check(), watched.scans) == (None, 0)
    watched.clock.now += SELDOM_S
    assert (monitor.check(), watched.scans) == (ExitKind.DISK_LIMIT, 1)


def test_a_refused_fork_is_seen_at_once() -> None:
    watched = Watched()
    monitor = watched.start()
    watched.counters.forks_refused = 1
    assert monitor.check() is ExitKind.PIDS_LIMIT


@pytest.mark.parametrize(("before", "now"), [(None, 7), (7, None), (None, None)])
def test_a_counter_that_could_not_be_read_once_proves_nothing(before: int | None, now: int | None) -> None:
    watched = Watched()
    watched.counters.forks_refused = watched.counters.kills = before
    monitor, toll = watched.start(), ResourceCounters(watched.counters)
    toll.count_from_here()
    watched.counters.forks_refused = watched.counters.kills = now
    assert (monitor.check(), toll.kind_of_end(went_well=False), toll.notes(ExitKind.EXITED)) == (None, ExitKind.EXITED, [])


@pytest.mark.needs("limits")
@pytest.mark.engine
def test_the_memory_of_a_step_is_sampled_while_it_runs(dash: Lab) -> None:
    usage = dash.argv("sh", "-c", HOLDS_64_MIB).check().usage
    assert usage.method == "sampled"
    assert 60 * MIB < (usage.peak_memory_bytes or 0) < 200 * MIB


@pytest.mark.needs("limits")
@pytest.mark.engine
def test_page_cache_is_not_memory(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(memory_bytes=256 * MIB))
    lab.run("dd if=/dev/zero of=big bs=1048576 count=300 2>/dev/null").check()
    usage = lab.run("cat big >/dev/null; cat big >/dev/null; sleep 0.1").check().usage
    assert (usage.method, (usage.peak_memory_bytes or 0) < 20 * MIB) == ("sampled", True)


@pytest.mark.engine
def test_a_step_that_is_over_at_once_says_that_its_peak_is_the_kernels(dash: Lab) -> None:
    methods = {dash.run(":").usage.method for _ in range(5)}
    assert methods <= {"reset", "since_start", "sampled"} and methods != {"sampled"}


@pytest.mark.needs("limits")
@pytest.mark.engine
def test_readers_hear_of_a_running_steps_usage(fresh: Lab) -> None:
    fresh.run("i=0; while [ $i -lt 1000000 ]; do i=$((i + 1)); done; sleep 0.4").check()
    samples = [event for event in fresh.events.seen if isinstance(event, UsageSampled)]
    assert len(samples) >= 2
    assert 0 < (samples[-1].cpu_s or 0) < 5 and (samples[-1].memory_bytes or 0) > 0
    assert samples[0].elapsed_s < 0.25 < samples[-1].elapsed_s


@pytest.mark.needs("limits")
@pytest.mark.engine
def test_the_limit_of_cpus_holds_while_the_step_runs(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(cpus=0.2))
    result = lab.run("while :; do :; done", timeout_s=1.0)
    used = (result.usage.cpu_s or 0) / result.duration_s  # which a slow machine makes longer than was asked for
    assert (result.exit.kind, 0 < used < 0.45) == (ExitKind.TIMEOUT, True)


@pytest.mark.engine
def test_a_shell_that_kills_itself_is_not_out_of_memory(dash: Lab) -> None:
    exit_ = dash.run("kill -9 $$").exit
    assert (exit_.kind, exit_.code, exit_.signal) == (ExitKind.EXITED, 137, "KILL")


@pytest.mark.engine
def test_exit_status_137_alone_is_not_out_of_memory(dash: Lab) -> None:
    assert dash.run("(exit 137)").exit.kind is ExitKind.EXITED


@pytest.mark.needs("limits")
@pytest.mark.engine
def test_a_child_that_runs_out_of_memory_leaves_a_note_on_a_step_that_passes(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(memory_bytes=64 * MIB))
    result = lab.run("sh -c 'a=x; while :; do a=$a$a$a; done' || echo survived")
    assert (result.exit.kind, result.status, result.out) == (ExitKind.EXITED, Status.PASSED, "survived\n")
    assert "1 process of the session had to be killed for lack of memory (limits.memory)" in result.notes


@pytest.mark.needs("limits")
@pytest.mark.engine
def test_a_step_that_meets_the_limit_of_processes_is_ended_at_once(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(pids=20))
    result = lab.run("(i=0; while [ $i -lt 40 ]; do sleep 300 & i=$((i + 1)); done) 2>/dev/null; sleep 300", timeout_s=20)
    assert (result.exit.kind, result.exit.code) == (ExitKind.PIDS_LIMIT, None)
    assert result.duration_s < 2
    assert lab.out("ls / >/dev/null; echo on") == "on\n"


@pytest.mark.engine
def test_files_in_tmp_and_home_count_while_the_step_runs(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(files=300))
    script = "i=0; while [ $i -lt 200 ]; do i=$((i + 1)); : >/tmp/$i; : >~/$i; done; sleep 300"
    result = lab.run(script, timeout_s=20)
    assert (result.exit.kind, result.exit.code, result.duration_s < 5) == (ExitKind.DISK_LIMIT, None, True)
