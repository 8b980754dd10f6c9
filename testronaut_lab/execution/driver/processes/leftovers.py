"""The container's processes that are not the driver's own: what a step leaves behind, and what must die when it is ended.

A job that a step left behind belongs to the session from then on: it is told once, and later steps' ends spare it. Which
processes are the driver's own it says with every call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from testronaut_lab.container.protocol import Container
from testronaut_lab.errors import SessionLost
from testronaut_lab.execution.driver.processes.guard import Guard
from testronaut_lab.execution.driver.processes.watchdog import Process, WatchdogLost

_KILL_S = 10.0
SETTLE_S = 0.004

_T = TypeVar("_T")


class LeftoverProcesses:
    """Of one session. Every call may raise SessionLost."""

    def __init__(self, container: Container, guard: Guard) -> None:
        self._container = container
        self._guard = guard
        self._jobs: dict[int, str] = {}

    def sweep(self, ours: Iterable[int] = (), sessions: Iterable[int] = ()) -> None:
        """Kill everything but `ours`, process `sessions`, and the jobs of earlier steps; where that fails, the container."""
        kept, others = {*ours, *self._jobs}, frozenset(sessions)
        timeout_s = self._container.patience_s(_KILL_S)
        deadline = time.monotonic() + timeout_s
        try:
            while not self._guard.sweep(kept, others):
                # the killed must run to die, which the watchdog, always first, may not let them where CPU is short
                if time.monotonic() > deadline:
                    why = f"some of its processes were not dead {timeout_s:g} s after they had been killed"
                    break
                time.sleep(SETTLE_S)
            else:
                return
        except WatchdogLost as error:
            why = f"{error}; {self._container.state().describe()}"
        self._container.kill()
        raise SessionLost(f"a step had to be ended, and {why}; its container was killed")

    @property
    def known(self) -> frozenset[int]:
        """Jobs that steps have left behind and that may still run."""
        return frozenset(self._jobs)

    @property
    def jobs(self) -> Mapping[int, str]:
        """Their names by pid."""
        return dict(self._jobs)

    def keep_only(self, pids: Iterable[int]) -> None:
        """The others are nobody's any more: the next sweep does not spare them."""
        self._jobs = {pid: self._jobs[pid] for pid in pids if pid in self._jobs}

    def forget(self) -> None:
        """They were killed with everything else."""
        self._jobs.clear()

    def left_behind(self, find: Callable[[list[Process]], dict[int, str]], settle_s: float = SETTLE_S) -> tuple[str, ...]:
        """Those that `find` takes for a step's, that nobody has heard of and that do not end at this very moment."""
        found = find(self.processes())
        if found.keys() - self._jobs.keys():
            time.sleep(settle_s)  # what is ending was not left behind
            found = find(self.processes())
        new = tuple(f"{name} ({pid})" for pid, name in found.items() if pid not in self._jobs)
        self._jobs = found
        return new

    def processes(self) -> list[Process]:
        """Everything that runs in the container, ours too."""
        return self.ask(self._guard.processes, "listing the session's processes")

    def ask(self, question: Callable[[], _T], what: str) -> _T:
        """Ask the watchdog; what its loss means for the session is said here."""
        try:
            return question()
        except WatchdogLost as error:
            raise SessionLost(f"{what}: {error}; {self._container.state().describe()}") from error
