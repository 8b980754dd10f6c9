"""What the container's own counters say of one step: was it refused a process, did one of its processes lack memory.

Counters of a container only grow, so a step is judged by what they grew by. Which step that is, and whether it went well, its
driver knows.
"""

from __future__ import annotations

from typing import Protocol

from testronaut_lab.model.result import ExitKind


class Counters(Protocol):
    """None where one cannot be read."""

    def refused_forks(self) -> int | None: ...
    def oom_kills(self) -> int | None: ...


class Meter(Counters, Protocol):
    """The same, and the processes; None where they cannot be read."""

    def processes(self) -> int | None: ...
    def tasks(self) -> int | None: ...
    def pids(self) -> frozenset[int] | None: ...
    def host_pids(self) -> frozenset[int] | None: ...


class ResourceCounters:
    """Counts from `count_from_here` on."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._forks_refused: int | None = None
        self._oom_killed: int | None = None

    def count_from_here(self) -> None:
        """What a fork bomb was refused while it was being ended is not the next step's."""
        self._forks_refused = self._counters.refused_forks()
        self._oom_killed = self._counters.oom_kills()

    @property
    def oom_killed(self) -> int:
        """How many processes were killed for lack of memory."""
        return grown(self._oom_killed, self._counters.oom_kills())

    def kind_of_end(self, *, went_well: bool) -> ExitKind:
        """What ended a step that ended by itself. One that got over the loss of a process did so, and is not out of memory."""
        if not went_well and self.oom_killed:
            return ExitKind.OOM
        refused = grown(self._forks_refused, self._counters.refused_forks())
        return ExitKind.PIDS_LIMIT if refused else ExitKind.EXITED

    def notes(self, kind: ExitKind) -> list[str]:
        """A step may get over the loss of a process, but whoever reads its result has to know of it."""
        killed = self.oom_killed
        if not killed or kind is ExitKind.OOM:
            return []
        processes = "1 process" if killed == 1 else f"{killed} processes"
        return [f"{processes} of the session had to be killed for lack of memory (limits.memory)"]


def grown(before: int | None, now: int | None) -> int:
    """By how much a counter has grown; 0 where one of the readings could not be had, since nothing is known then."""
    return 0 if before is None or now is None else max(now - before, 0)
