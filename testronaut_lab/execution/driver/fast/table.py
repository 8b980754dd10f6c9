"""Where the host sees a session's processes: in its own process table, or, where that is another one, through the watchdog.

The fast driver works with either. The host's is here, the other one in `inside.py`.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from testronaut_lab.execution.driver.fast import shell as host
from testronaut_lab.execution.driver.fast.shell import Identity, Looping, Shell
from testronaut_lab.execution.driver.processes.counters import Meter
from testronaut_lab.execution.driver.protocol import ProcessesUnseen


class Table(Protocol):
    """The processes of one container, by their numbers in this table. Only the watchdog's raises SessionLost.

    `waits_at_once`: how a process ended is known also after the keeper has waited for it.
    """

    is_the_hosts: bool
    waits_at_once: bool

    @property
    def is_keeper_busy(self) -> bool:
        """Whether the keeper may still be waiting for processes that are not in the table any more, where that is seen."""
        ...

    def shell(self, pid: int, program: int, *, is_bash: bool, called: int | None = None) -> Shell: ...

    def looping(self, pid: int, path: str, called: int) -> Looping: ...

    def find(self, inner: int) -> int | None:
        """The keeper's child that has this number in the container, if there is one yet."""
        ...

    def check(self, pid: int) -> None:
        """Raises PermissionError where nobody lets us see what a process holds open."""
        ...

    def children(self, pid: int) -> list[int]: ...

    def zombies(self) -> list[int]:
        """The keeper's children that have ended and that it has not waited for."""
        ...

    def break_pipe(self, pid: int) -> None:
        """Send SIGPIPE, of which no shell speaks; a process that is gone is fine."""
        ...

    def others(self, ours: frozenset[int]) -> frozenset[int] | None:
        """The numbers of all processes in the container but ours, the keeper and the watchdog; None where that is not known."""
        ...

    def holds_only(self, shells: Sequence[Shell], /) -> bool:
        """Whether these are alone with the keeper and the watchdog, all run, and nothing is left of others that have ended.

        False also where a quick look does not tell.
        """
        ...

    def close(self) -> None: ...

    def others_hold(self, wanted: frozenset[Identity], ours: frozenset[int]) -> bool:
        """Whether another process than ours has one of these files open, or one that we may not look into."""
        ...


_PAGE_BYTES = 4096  # more is given in pieces


class HostTable:
    """This machine's own."""

    is_the_hosts = True

    def __init__(self, keeper_pid: int, meter: Meter) -> None:
        self.waits_at_once = host.kernel_remembers()
        self._keeper_pid = keeper_pid
        self._meter = meter
        self._overhead = meter.host_pids() or frozenset()
        self._pidfds = [os.pidfd_open(pid) for pid in self._overhead]

        self._children = os.open(f"/proc/{keeper_pid}/task/{keeper_pid}/children", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._children)
        while self._pidfds:
            os.close(self._pidfds.pop())

    @property
    def is_keeper_busy(self) -> bool:
        return host.runs(self._keeper_pid)

    def shell(self, pid: int, program: int, *, is_bash: bool, called: int | None = None) -> Shell:
        return Shell(pid, program, is_bash=is_bash, called=called)

    def looping(self, pid: int, path: str, called: int) -> Looping:
        made = Looping(pid, -1, is_bash=True, called=called)
        made.path = path
        return made

    def find(self, inner: int) -> int | None:
        return next((pid for pid in host.children(self._keeper_pid) if host.inner_pid(pid) == inner), None)

    def check(self, pid: int) -> None:
        any(host.descriptors(pid))

    def children(self, pid: int) -> list[int]:
        return host.children(pid)

    def siblings(self) -> list[int]:
        """The keeper's children, our shells among them; none once the keeper has ended."""
        listed = os.pread(self._children, _PAGE_BYTES, 0)
        return host.children(self._keeper_pid) if len(listed) > _PAGE_BYTES // 2 else [int(word) for word in listed.split()]

    def zombies(self) -> list[int]:
        return host.zombies(self._keeper_pid)

    def break_pipe(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGPIPE)

    def others(self, ours: frozenset[int]) -> frozenset[int] | None:
        pids = self._meter.host_pids()
        if pids is None:
            pids = _neighbours(ours)
        return None if pids is None else pids - ours - self._overhead

    def holds_only(self, shells: Sequence[Shell], /) -> bool:
        """By a count, which proves something if none of those that are to be counted has ended."""
        if not self._pidfds or self._meter.tasks() != len(shells) + len(self._pidfds):
            return False
        ended = select.poll()
        for fd in (*(shell.fileno() for shell in shells), *self._pidfds):
            ended.register(fd, select.POLLIN)
        return not ended.poll(0)

    def others_hold(self, wanted: frozenset[Identity], ours: frozenset[int]) -> bool:
        others = self.others(ours)
        return others is None or any(_has_open(pid, wanted) for pid in others)


def _has_open(pid: int, wanted: frozenset[Identity]) -> bool:
    try:
        return any(held.identity in wanted for held in host.descriptors(pid))
    except PermissionError:
        return True


def _neighbours(pids: frozenset[int]) -> frozenset[int] | None:
    """All processes of their user in their namespace, where no control group lists them; None where these are gone.

    What a step started is its user's, as its shell is. The keeper and the watchdog may be another's, whose open files nobody
    sees, and hold none of the step's.
    """
    inside = next((told for told in map(_place, pids) if told is not None), None)
    if inside is None:
        return None
    return frozenset(pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if _place(pid) == inside)


def _place(pid: int) -> tuple[str, int] | None:
    """A process's namespace and user; None where we may not know."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid"), os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def unseen(name: str) -> ProcessesUnseen:
    """The error where the processes of this container cannot be seen at all."""
    return ProcessesUnseen(
        f"starting the fast driver: the processes of container {name} can be seen neither from here nor from within: this is a "
        "container without the right to look, or the engine is in another machine",
        hint="unset TESTRONAUT_LAB_DRIVER",
    )
