"""The way back to an earlier moment of a session's shell: what runs is ended, the copy parked at that moment goes on.

Files are somebody else's business, and so is when this is done; the shells themselves are `lineage.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from testronaut_lab.execution.driver import script
from testronaut_lab.execution.driver.bystanders import Bystanders
from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.guard import Guard
from testronaut_lab.execution.driver.guests import Guests
from testronaut_lab.execution.driver.lineage import Lineage, ShellsGone
from testronaut_lab.execution.driver.watchdog import Process

_PARK_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A shell at one moment: its parked copy, directory, options, traps as it lists them, and the jobs beside it, by pid.

    `why_none` there is no copy.
    """

    copy: int | None
    cwd: str
    options: str
    traps: str
    jobs: Mapping[int, str]
    why_none: str = "the shell held file descriptors open then, so that no copy of it was parked"


@dataclass(frozen=True, slots=True)
class Rewound:
    """Processes, each as `name (pid)`: `ended` were not there at that moment, `missed` were and are gone, `jobs` go on."""

    ended: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()


class CopyGone(Exception):
    """There is no copy that could go on; the text says why."""


class Rewinder:
    """Of one session. Costs nothing before `checkpoint` is called for the first time."""

    def __init__(self, lineage: Lineage, channel: Channel, others: Bystanders, guests: Guests, watchdog: Guard) -> None:
        self._lineage = lineage
        self._channel = channel
        self._others = others
        self._guests = guests
        self._watchdog = watchdog

    def checkpoint(self) -> Checkpoint:
        """The shell as it is now; a copy of it is kept from now on."""
        lineage = self._lineage
        copy = lineage.checkpoint
        if copy is not None:
            lineage.want(copy)
        return Checkpoint(copy, lineage.cwd, lineage.options, lineage.traps, self._others.jobs)

    def keep_only(self, moments: Iterable[Checkpoint]) -> None:
        """Nobody will want to go back to any other."""
        self._lineage.want_only(number for each in moments if (number := self._heir(each)) is not None)

    @property
    def holds_files(self) -> bool:
        """Whether the shell holds files open beside its three streams, so that no copy of it is parked."""
        return self._lineage.checkpoint is None

    def exported(self, at: Checkpoint) -> bytes | None:
        """What the shell had exported then, as shell text; None where no copy was parked that could have told."""
        self._lineage.settled(_PARK_TIMEOUT_S)
        number = self._heir(at)
        return None if self._lineage.shelf is None or number is None else self._lineage.shelf.exported.get(number)

    def rewind(self, to: Checkpoint, meanwhile: Callable[[], None]) -> Rewound:
        """End the shell and all that was not there at that moment, do something `meanwhile`, and let the copy go on.

        Raises CopyGone where it cannot, mostly before anything is done; SessionLost when something cannot be ended.
        """
        number, alive = self._find(to)
        rewound = self._halt(to)
        try:
            meanwhile()
        finally:
            self._go_on(number, to, alive)
        return rewound

    def _find(self, to: Checkpoint) -> tuple[int, frozenset[int]]:
        """The number of the copy, and everything that lives."""
        lineage = self._lineage
        if not lineage.settled(_PARK_TIMEOUT_S):
            lineage.give_up_parking()
        number = self._heir(to)
        if number is None:
            raise CopyGone(to.why_none)
        alive = {process.pid: process for process in self._others.processes() if process.is_alive}
        pid = lineage.pid_of(number)
        if pid not in alive or lineage.driver_pid not in alive:
            raise CopyGone("the copy of the shell from then was killed")
        if lineage.is_deep:
            raise CopyGone("the shell had been restored too many times to be restored again")
        if alive[pid].state in "Tt":
            self._others.ask(lambda: self._watchdog.send_signal("CONT", [pid]), "waking a parked copy of the shell")
        return number, frozenset(alive)

    def _halt(self, to: Checkpoint) -> Rewound:
        self._others.left_behind(self._strangers)
        alive = {pid: f"{name} ({pid})" for pid, name in self._others.jobs.items()}
        self._others.keep_only(to.jobs)
        self._others.sweep(self._lineage.others, self._guests.sessions)
        return Rewound(
            tuple(name for pid, name in alive.items() if pid not in to.jobs),
            tuple(f"{name} ({pid})" for pid, name in to.jobs.items() if pid not in alive),
            tuple(name for pid, name in alive.items() if pid in to.jobs),
        )

    def _heir(self, of: Checkpoint) -> int | None:
        """The copy that is as that one was, which may have been promoted since."""
        shelf = self._lineage.shelf
        return of.copy if shelf is None else shelf.heir(of.copy)

    def _strangers(self, listed: list[Process]) -> dict[int, str]:
        # whoever forked a copy that stands already has yet to end, which on a busy machine takes a while
        forking = {process.parent for process in listed if process.pid in self._lineage.pids}
        ours = self._lineage.pids | forking | {1, self._watchdog.pid} | self._lineage.leaving | self._guests.of(listed)
        return {process.pid: process.name for process in listed if process.is_alive and process.pid not in ours}

    def _go_on(self, number: int, to: Checkpoint, alive: frozenset[int]) -> None:
        self._lineage.traps = to.traps
        try:
            self._lineage.rewind(number, alive)
        except ShellsGone:
            raise CopyGone("the copy of the shell from then did not go on") from None
        self._lineage.cwd, self._lineage.options = to.cwd, to.options
        self._channel.put("reenter", script.reenter_text(to.cwd).encode(errors="surrogateescape"))
        self._channel.send(script.REENTER)
        self._lineage.park()
