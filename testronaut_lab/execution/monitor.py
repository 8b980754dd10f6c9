"""What is asked again and again while a step runs: its memory, its CPU time, and whether it has outgrown a limit.

Called on the session's thread between two reads of the step's output, so that a step which is over at once pays for two
counters and nothing more. Time, output and the streams are `driver/fast/exchange.py`'s business.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, Protocol

from testronaut_lab.execution.driver.processes.counters import grown
from testronaut_lab.model.events import UsageSampled
from testronaut_lab.model.result import ExitKind, Usage

# Scanning the directories and telling readers is dearer than a counter.
SELDOM_S = 0.25


class UsageMeter(Protocol):
    """Counters of the container; None where they cannot be read."""

    def refused_forks(self) -> int | None: ...
    def oom_kills(self) -> int | None: ...
    def cpu_s(self) -> float | None: ...
    def own_memory_bytes(self) -> int | None: ...
    def reset_peak(self) -> bool: ...
    def peak_bytes(self) -> int | None: ...


class StepMonitor:
    """Made right before a step starts. `outgrown` says whether the session's directories have passed their limits."""

    def __init__(
        self,
        nodeid: str,
        meter: UsageMeter,
        outgrown: Callable[[], bool],
        tell: Callable[[UsageSampled], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodeid = nodeid
        self._meter = meter
        self._outgrown = outgrown
        self._tell = tell
        self._clock = clock
        self._sampled_bytes: int | None = None
        self._forks_before = meter.refused_forks()
        self._resets = meter.reset_peak()
        self._cpu_before = meter.cpu_s()
        self._started = clock()
        self._told = self._started - SELDOM_S
        self._scanned = self._started

    def check(self) -> ExitKind | None:
        """Sample once; the limit that the step has passed, if it has."""
        now = self._clock()
        memory_bytes = self._meter.own_memory_bytes()
        if memory_bytes is not None:
            self._sampled_bytes = max(memory_bytes, self._sampled_bytes or 0)
        if now - self._told >= SELDOM_S:
            self._told = now
            self._tell(UsageSampled(self._nodeid, self._cpu_s(), memory_bytes, now - self._started))
        if grown(self._forks_before, self._meter.refused_forks()):
            return ExitKind.PIDS_LIMIT
        if now - self._scanned >= SELDOM_S:
            outgrown = self._outgrown()
            self._scanned = self._clock()  # a scan of many files takes long: the pause counts from its end
            return ExitKind.DISK_LIMIT if outgrown else None
        return None

    def usage(self) -> Usage:
        """To be called once, as soon as the step is over."""
        cpu_s = self._cpu_s()
        if self._sampled_bytes is not None:
            return Usage(cpu_s, self._sampled_bytes, "sampled", self._unseen())
        peak = self._meter.peak_bytes()
        method: Literal["reset", "since_start"] = "reset" if self._resets else "since_start"
        return Usage(cpu_s, peak, None if peak is None else method, self._unseen())

    def _unseen(self) -> tuple[ExitKind, ...]:
        counts = {ExitKind.OOM: self._meter.oom_kills(), ExitKind.PIDS_LIMIT: self._meter.refused_forks()}
        return tuple(kind for kind, count in counts.items() if count is None)

    def _cpu_s(self) -> float | None:
        cpu_s = self._meter.cpu_s()
        return None if cpu_s is None or self._cpu_before is None else cpu_s - self._cpu_before
