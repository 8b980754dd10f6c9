"""A session with very many steps: it gets no slower, and neither this process nor the container holds more than at the start."""

from __future__ import annotations

import os
import re
import stat
import statistics
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import SOAK, MakeSession
from support.live_session import Lab

pytestmark = pytest.mark.engine

STEPS = 10_000 if SOAK else 300
WARM_UP = 60
# Builtins, programs, changes of files, background jobs that end, large outputs, stdin. Not ends of the shell: each puts the next
# shell 2.6 KiB deeper on its stack, and after 2,000 of them a step cost 1.4 times as much.
SCRIPTS = (
    ":",
    "/bin/true",
    "echo $((i = i + 1)) >f",
    "cd /tmp; x=$PWD; cd /workspace",
    "head -c 100000 /dev/zero",
    "cat",
    "( : ) & wait",
    "mkdir -p d/e; : >d/e/g; rm -r d",
    "( exit 3 )",
    "sh -c 'kill -9 $$'",
)
GROWTH_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Held:
    """By this process, by the container and by the run directory that they share."""

    fds: int
    fifos: int
    threads: int
    processes: int
    shared_files: int


def held(lab: Lab) -> Held:
    modes: list[int] = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them
            modes.append(os.stat(f"/proc/self/fd/{fd}").st_mode)
    # a parked copy comes and goes with each step
    processes = min(int(lab.out("set -- /proc/[0-9]*; echo $#; set --")) for _ in range(20))
    shared = len(lab.out("echo /run/lab/*").split())
    return Held(len(modes), sum(map(stat.S_ISFIFO, modes)), threading.active_count(), processes, shared)


def memory_bytes() -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def run_steps(lab: Lab, count: int) -> list[float]:
    """Seconds that each took."""
    times: list[float] = []
    for i in range(count):
        started = time.perf_counter()
        lab.run(SCRIPTS[i % len(SCRIPTS)], stdin=b"in\n")
        times.append(time.perf_counter() - started)
        lab.events.seen.clear()  # the harness would keep every byte
    return times


@pytest.mark.timeout(1800)
def test_many_steps_leave_nothing_and_get_no_slower(make_session: MakeSession) -> None:
    young, old = make_session(), make_session()
    for lab in (young, old):
        run_steps(lab, WARM_UP)
    before, before_bytes = held(old), memory_bytes()
    run_steps(old, STEPS)
    after, grown_bytes = held(old), memory_bytes() - before_bytes
    # against a session at its start, in turn: the machine's load at the two times is another matter
    turns = [(run_steps(young, len(SCRIPTS)), run_steps(old, len(SCRIPTS))) for _ in range(40)]
    young_ms, old_ms = (statistics.median(map(sum, times)) * 1e3 / len(SCRIPTS) for times in zip(*turns, strict=True))
    print(f"{STEPS} steps: {young_ms:.2f} ms a step at the start, {old_ms:.2f} at the end; {grown_bytes / 2**20:.1f} MiB more")
    assert after == before
    assert grown_bytes < GROWTH_BYTES
    if SOAK:  # a few hundred steps say nothing about this
        assert old_ms <= 1.2 * young_ms
