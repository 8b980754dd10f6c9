"""The container's processes that are not the driver's own, around one step: is there any, what must die, who holds a stream.

What both drivers need of this is in `bystanders.py`; here is what the fast driver can tell by a look from outside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from testronaut_lab.container.protocol import Container
from testronaut_lab.execution.driver.bystanders import SETTLE_S, Bystanders
from testronaut_lab.execution.driver.fast.shell import descriptors, inner_pid
from testronaut_lab.execution.driver.fast.streams import Identity, Pair
from testronaut_lab.execution.driver.fast.supervisor import Supervisor
from testronaut_lab.execution.driver.guard import Guard
from testronaut_lab.execution.driver.guests import Guests
from testronaut_lab.execution.driver.toll import Counters
from testronaut_lab.execution.driver.watchdog import Process

_OVERHEAD = 2  # the keeper and the watchdog


class Meter(Counters, Protocol):
    """Counters of the container; None where they cannot be read."""

    def processes(self) -> int | None: ...
    def pids(self) -> frozenset[int] | None: ...
    def host_pids(self) -> frozenset[int] | None: ...


class Others:
    """Of one session; from its thread. Every call may raise SessionLost."""

    def __init__(self, container: Container, guard: Guard, meter: Meter) -> None:
        self.guard = guard
        self.guests = Guests(container, guard)
        self.bystanders = Bystanders(container, guard)
        self._meter = meter
        self._overhead = meter.host_pids() or frozenset()
        self._dropped: deque[int] = deque(maxlen=8)

    def dropped(self, inner_pids: Iterable[int]) -> None:
        """These were ours and have been killed; on a busy machine they take a while to end."""
        self._dropped.extend(inner_pids)

    def are_none(self, supervisor: Supervisor) -> bool:
        """Whether all processes are ours, or jobs that are known. False also where it takes a longer look to know."""
        if self.guests.sessions:  # how many processes a guest has is not known
            return False
        # where a known job may have ended, a count proves nothing
        if not self.bystanders.known and self._meter.processes() == supervisor.count() + _OVERHEAD:
            return True
        alive = self._meter.pids()
        if alive is None:
            return False
        if not alive.issuperset(self.bystanders.known):
            self.bystanders.keep_only(alive)
        ours = supervisor.inner_pids
        return ours <= alive <= ours | self.bystanders.known | frozenset(self._dropped) | {1, self.guard.pid}

    def left_behind(self, supervisor: Supervisor, settle_s: float = SETTLE_S) -> tuple[str, ...]:
        """Names of processes that nobody has heard of, and that do not end meanwhile; they are background jobs from now on."""
        ours = supervisor.inner_pids
        return self.bystanders.left_behind(lambda processes: self._strangers(processes, ours), settle_s)

    def sweep(self, keep: Iterable[int]) -> None:
        """Kill everything but these, the programs beside the shell, and the jobs of earlier steps."""
        self.bystanders.sweep(keep, self.guests.sessions)

    def holds(self, pair: Pair, supervisor: Supervisor) -> bool:
        """Whether somebody else than the shells has one of the pair's FIFOs open; one we may not look into counts as that."""
        pids = self._meter.host_pids()
        if pids is None:
            return True
        return any(_has_open(pid, pair.identities) for pid in pids - supervisor.pids - self._overhead)

    def find(self, inner: int) -> int | None:
        """The number out here of a process that has this one in the container; None for one that is gone or cannot be seen."""
        return next((pid for pid in self._meter.host_pids() or () if inner_pid(pid) == inner), None)

    def _strangers(self, processes: list[Process], ours: frozenset[int]) -> dict[int, str]:
        not_theirs = ours | {1, self.guard.pid} | frozenset(self._dropped) | self.guests.of(processes)
        return {p.pid: p.name for p in processes if p.pid not in not_theirs and p.is_alive}


def _has_open(pid: int, wanted: frozenset[Identity]) -> bool:
    try:
        return any(held.identity in wanted for held in descriptors(pid))
    except PermissionError:
        return True
