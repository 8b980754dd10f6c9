"""The container's processes and counters around one step of the plain driver: what is left behind, what must be killed.

Reading and ending the step itself is `plain.py`'s business.
"""

from __future__ import annotations

import time

from testronaut_lab.container.protocol import Container
from testronaut_lab.errors import SessionLost
from testronaut_lab.execution.driver.guard import Guard
from testronaut_lab.execution.driver.plainscript import STATE_FILE
from testronaut_lab.execution.driver.shell import KILL_TIMEOUT_S, Meter
from testronaut_lab.execution.driver.watchdog import Process, WatchdogLost
from testronaut_lab.model.result import ExitKind

_SETTLE_S = 0.004


class Surroundings:
    """Between steps nothing of ours runs in the container but the keeper and the watchdog."""

    def __init__(self, container: Container, meter: Meter) -> None:
        self._container = container
        self._meter = meter
        self._watchdog: Guard | None = None
        self._background: dict[int, str] = {}
        self._forks_refused = 0
        self._oom_killed = 0

    def start(self) -> None:
        """Raises SessionLost when the container does not let the watchdog run."""
        try:
            self._watchdog = Guard(self._container)
            self.sweep()  # another driver may have tried before
            self._watchdog.new_file(STATE_FILE)
        except WatchdogLost as error:
            raise SessionLost(f"starting the watchdog: {error}; {self._container.state().describe()}") from error

    def close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.close()

    def count_from_here(self) -> None:
        """What a fork bomb was refused while it was being ended is not the next step's."""
        self._forks_refused = self._meter.refused_forks() or 0
        self._oom_killed = self._meter.oom_kills() or 0

    def kind_of_end(self, *, went_well: bool) -> ExitKind:
        """What the container's own counters say of a step that ended by itself."""
        if not went_well and (self._meter.oom_kills() or 0) > self._oom_killed:
            return ExitKind.OOM
        return ExitKind.PIDS_LIMIT if (self._meter.refused_forks() or 0) > self._forks_refused else ExitKind.EXITED

    def sweep(self) -> None:
        """Kill everything but the jobs of earlier steps. Raises SessionLost when that cannot be done."""
        assert self._watchdog is not None
        try:
            if self._watchdog.sweep(self._background.keys(), KILL_TIMEOUT_S):
                return
            why = "some processes could not be killed"
        except WatchdogLost as error:
            why = f"{error}; {self._container.state().describe()}"
        self._container.kill()
        raise SessionLost(f"a step had to be ended, and {why}; its container was killed")

    def alive(self) -> dict[int, str]:
        """The names of all that runs, by pid, but for the keeper and the watchdog."""
        assert self._watchdog is not None
        not_theirs = {1, self._watchdog.pid}
        return {p.pid: p.name for p in self._processes() if p.pid not in not_theirs and p.state not in "ZX"}

    def left_behind(self, ours: frozenset[int]) -> tuple[str, ...]:
        """What the step started and that still runs; it is known as a background job from now on. `ours` may be ending."""
        found = self._jobs(ours)
        if found.keys() - self._background.keys():
            time.sleep(_SETTLE_S)  # what is ending at this moment was not left behind
            found = self._jobs(ours)
        new = tuple(f"{name} ({pid})" for pid, name in found.items() if pid not in self._background)
        self._background = found
        return new

    def give(self, path: str) -> bytes:
        """What is in a file in the container. Raises SessionLost."""
        assert self._watchdog is not None
        try:
            return self._watchdog.give(path)
        except WatchdogLost as error:
            raise SessionLost(f"reading a step's record: {error}; {self._container.state().describe()}") from error

    def _jobs(self, ours: frozenset[int]) -> dict[int, str]:
        return {pid: name for pid, name in self.alive().items() if pid not in ours}

    def _processes(self) -> list[Process]:
        assert self._watchdog is not None
        try:
            return self._watchdog.processes()
        except WatchdogLost as error:
            raise SessionLost(f"listing the session's processes: {error}; {self._container.state().describe()}") from error
