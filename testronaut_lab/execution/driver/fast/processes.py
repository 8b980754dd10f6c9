"""The container's processes that are not the driver's own, around one step: is there any, what must die, who holds a stream.

What both drivers need of this is in `driver/processes/leftovers.py`; here is what the fast driver can tell from outside.
"""

from __future__ import annotations

from collections.abc import Iterable

from testronaut_lab.container.protocol import Container
from testronaut_lab.execution.driver.fast.shell import inner_pid
from testronaut_lab.execution.driver.fast.streams import Pair
from testronaut_lab.execution.driver.fast.supervisor import Supervisor
from testronaut_lab.execution.driver.fast.table import Table
from testronaut_lab.execution.driver.processes.background import BackgroundProcesses
from testronaut_lab.execution.driver.processes.counters import Meter
from testronaut_lab.execution.driver.processes.guard import Guard
from testronaut_lab.execution.driver.processes.leftovers import SETTLE_S, LeftoverProcesses
from testronaut_lab.execution.driver.processes.watchdog import Process


class Others:
    """Of one session; from its thread. Every call may raise SessionLost."""

    def __init__(self, container: Container, guard: Guard, meter: Meter, table: Table) -> None:
        self.guard = guard
        self._table = table
        self.guests = BackgroundProcesses(container, guard)
        self.bystanders = LeftoverProcesses(container, guard)
        self._meter = meter

    def are_none(self, supervisor: Supervisor) -> bool:
        """Whether all processes are ours, or jobs that are known. False also where it takes a longer look to know."""
        if supervisor.is_alone():
            return True
        if self.guests.sessions:  # how many processes a guest has is not known
            return False
        if not self._table.is_the_hosts:  # whose counters are mostly not seen either
            return not self.bystanders.known and not self._table.others(supervisor.inner_pids | supervisor.dropped_pids)
        # by their numbers: a count is right too where a copy has ended and a stranger has come
        if not self.bystanders.known and self._meter.host_pids() is not None and not self._table.others(supervisor.pids):
            return True
        alive = self._meter.pids()
        if alive is None:
            return False
        if not alive.issuperset(self.bystanders.known):
            self.bystanders.keep_only(alive)
        ours = supervisor.inner_pids
        return ours <= alive <= ours | self.bystanders.known | supervisor.dropped_pids | {1, self.guard.pid}

    def left_behind(self, supervisor: Supervisor, settle_s: float = SETTLE_S) -> tuple[str, ...]:
        """Names of processes that nobody has heard of, and that do not end meanwhile; they are background jobs from now on."""
        ours = supervisor.inner_pids | supervisor.dropped_pids
        return self.bystanders.left_behind(lambda processes: self._strangers(processes, ours), settle_s)

    def sweep(self, keep: Iterable[int]) -> None:
        """Kill everything but these, the programs beside the shell, and the jobs of earlier steps."""
        self.bystanders.sweep(keep, self.guests.sessions)

    def holds(self, pair: Pair, supervisor: Supervisor) -> bool:
        """Whether somebody else than the shells has one of the pair's FIFOs open; one we may not look into counts as that."""
        return self._table.others_hold(pair.identities, supervisor.pids)

    def find(self, inner: int) -> int | None:
        """The number out here of a process that has this one in the container; None for one that is gone or cannot be seen."""
        return next((pid for pid in self._meter.host_pids() or () if inner_pid(pid) == inner), None)

    def _strangers(self, processes: list[Process], ours: frozenset[int]) -> dict[int, str]:
        not_theirs = ours | {1, self.guard.pid} | self.guests.of(processes)
        return {p.pid: p.name for p in processes if p.pid not in not_theirs and p.is_alive}
