"""The container's processes and counters around one step of the plain driver: what is left behind, what must be killed.

Reading and ending the step itself is `driver.py`'s business; what both drivers need of this is
`processes/leftovers.py` and `processes/counters.py`.
"""

from __future__ import annotations

from testronaut_lab.container.protocol import Container
from testronaut_lab.errors import SessionLost
from testronaut_lab.execution.driver.plain.script import STATE_FILE
from testronaut_lab.execution.driver.processes.counters import Counters, ResourceCounters
from testronaut_lab.execution.driver.processes.guard import Guard
from testronaut_lab.execution.driver.processes.leftovers import LeftoverProcesses
from testronaut_lab.execution.driver.processes.watchdog import Process, WatchdogLost


class ProcessTable:
    """Between steps nothing of ours runs in the container but the keeper and the watchdog."""

    def __init__(self, container: Container, counters: Counters) -> None:
        self.toll = ResourceCounters(counters)
        self._container = container
        self._watchdog: Guard | None = None
        self._bystanders: LeftoverProcesses | None = None

    def start(self) -> None:
        """Raises SessionLost when the container does not let the watchdog run."""
        try:
            self._watchdog = Guard(self._container)
            self._bystanders = LeftoverProcesses(self._container, self._watchdog)
            self.sweep()  # another driver may have tried before
            self._watchdog.new_file(STATE_FILE)
        except WatchdogLost as error:
            raise SessionLost(f"starting the watchdog: {error}; {self._container.state().describe()}") from error

    def close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.close()

    def sweep(self) -> None:
        """Kill everything but the jobs of earlier steps. Raises SessionLost when that cannot be done."""
        assert self._bystanders is not None
        self._bystanders.sweep()

    def alive(self) -> dict[int, str]:
        """The names of all that runs, by pid, but for the keeper and the watchdog."""
        assert self._bystanders is not None
        return self._not_ours(self._bystanders.processes())

    def left_behind(self, ours: frozenset[int]) -> tuple[str, ...]:
        """What the step started and that still runs; it is known as a background job from now on. `ours` may be ending."""
        assert self._bystanders is not None
        return self._bystanders.left_behind(
            lambda processes: {pid: name for pid, name in self._not_ours(processes).items() if pid not in ours}
        )

    def give(self, path: str) -> bytes:
        """What is in a file in the container. Raises SessionLost."""
        assert self._bystanders is not None and self._watchdog is not None
        watchdog = self._watchdog
        return self._bystanders.ask(lambda: watchdog.give(path), "reading a step's record")

    def _not_ours(self, processes: list[Process]) -> dict[int, str]:
        assert self._watchdog is not None
        not_theirs = {1, self._watchdog.pid}
        return {p.pid: p.name for p in processes if p.pid not in not_theirs and p.is_alive}
