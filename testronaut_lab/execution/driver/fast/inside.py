"""A session's processes as its watchdog sees them, for a host with another process table: a job container, mostly.

Everything goes by the numbers inside. The watchdog reads /proc in the container as root with CAP_SYS_PTRACE (`stepuser.py`), so
that each look costs a question, a millisecond or two. A process that ends does not tell, so it is asked whenever nothing is heard
of it. Shells cannot be traced from there: they are copied as `forked.py` does it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from testronaut_lab.container.protocol import Container
from testronaut_lab.errors import SessionLost
from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.fast.shell import (
    FIRST_OWN_FD,
    Held,
    Identity,
    Looping,
    Shell,
    is_first_inside,
    most_files_in,
    status_of,
)
from testronaut_lab.execution.driver.fast.table import HostTable, Table, unseen
from testronaut_lab.execution.driver.processes.counters import Meter
from testronaut_lab.execution.driver.processes.guard import Guard
from testronaut_lab.execution.driver.processes.watchdog import Descriptor, WatchdogLost
from testronaut_lab.execution.driver.script import RUN_DIR

_LOOK_S = 0.002

_T = TypeVar("_T")


def find_table(container: Container, guard: Guard, meter: Meter, channel: Channel) -> Table:
    """The host's where it has the container's first process, else what the watchdog sees. Raises ProcessesUnseen, SessionLost."""
    keeper_pid = container.state().pid
    return HostTable(keeper_pid, meter) if is_first_inside(keeper_pid) else InnerTable(container, guard, channel)


class InnerTable:
    """The container's own."""

    is_the_hosts = False
    waits_at_once = False
    is_keeper_busy = False

    def __init__(self, container: Container, guard: Guard, channel: Channel) -> None:
        """Raises ProcessesUnseen where files that we share have other numbers there, or none (Linux before 5.14)."""
        self._container = container
        self._guard = guard
        known = os.stat(f"{channel.path}/empty")
        told = self._ask(lambda: guard.file_number(f"{RUN_DIR}/empty"))
        if told is None or told[1] != known.st_ino:
            raise unseen(container.name)
        self._mount, self._device = told[0], known.st_dev

    def shell(self, pid: int, program: int, *, is_bash: bool, called: int | None = None) -> Shell:
        return InnerShell(self, pid, program, is_bash=is_bash, called=called)

    def looping(self, pid: int, path: str, called: int) -> Looping:
        return InnerLooping(self, pid, path, called)

    def find(self, inner: int) -> int | None:
        return inner if inner in self.children(1) else None

    def check(self, pid: int) -> None:
        if not self.descriptors(pid):
            raise PermissionError(f"what process {pid} holds open")

    def children(self, pid: int) -> list[int]:
        return [int(word) for word in self.read(f"/proc/{pid}/task/{pid}/children").split()]

    def zombies(self) -> list[int]:
        return self._ask(self._guard.zombies)

    def break_pipe(self, pid: int) -> None:
        self.send_signal("PIPE", pid)

    def others(self, ours: frozenset[int]) -> frozenset[int] | None:
        return frozenset(self._ask(lambda: self._guard.others(ours)))

    def holds_only(self, _shells: Sequence[Shell], /) -> bool:
        return False

    def close(self) -> None:
        return

    def others_hold(self, wanted: frozenset[Identity], ours: frozenset[int]) -> bool:
        others = self._ask(lambda: self._guard.others(ours))
        return any(self.identity(each) in wanted for pid in others for each in self.descriptors(pid))

    def descriptors(self, pid: int) -> list[Descriptor]:
        return self._ask(lambda: self._guard.descriptors(pid))

    def identity(self, descriptor: Descriptor) -> Identity:
        """As the host has it for what lies in the run directory; like nothing of the host's for everything else."""
        return (self._device if descriptor.mount == self._mount else -descriptor.mount, descriptor.file)

    def runs(self, pid: int) -> bool:
        return self._ask(lambda: self._guard.runs(pid))

    def stat(self, pid: int) -> list[bytes]:
        """What /proc says of a process, from its state on; nothing of one that is gone."""
        return self.read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()

    def read(self, path: str) -> bytes:
        return self._ask(lambda: self._guard.give(path))

    def directory(self, pid: int) -> str | None:
        told = self._ask(lambda: self._guard.directory(pid))
        return None if told is None else os.fsdecode(told)

    def is_in(self, pid: int, directory: str) -> bool:
        return self._ask(lambda: self._guard.is_in(pid, directory))

    def send_signal(self, name: str, pid: int) -> None:
        self._ask(lambda: self._guard.send_signal(name, (pid,)))

    def kill(self, pid: int) -> None:
        self._ask(lambda: self._guard.end((pid,)))

    def _ask(self, question: Callable[[], _T]) -> _T:
        try:
            return question()
        except WatchdogLost as error:
            raise SessionLost(f"looking at the session's processes: {error}; {self._container.state().describe()}") from error


class InnerShell(Shell):
    """A shell of the session's by its number inside. That is not another's before the keeper has waited for it."""

    tells_end = False

    def __init__(self, table: InnerTable, pid: int, program: int, *, is_bash: bool, called: int | None = None) -> None:
        self.pid = self.inner = pid
        self.called = pid if called is None else called
        self.is_bash = is_bash
        self.program = program
        self._table = table
        self._silent = os.eventfd(0, os.EFD_CLOEXEC)
        self._seen: dict[int, Descriptor] = {}

    def fileno(self) -> int:
        """For poll, which never hears of it."""
        return self._silent

    def close(self) -> None:
        self.end_program()
        if self._silent >= 0:
            os.close(self._silent)
            self._silent = -1

    def kill(self) -> None:
        if not self.has_ended:
            self._table.kill(self.pid)

    def wake(self) -> None:
        if self._table.stat(self.pid)[:1] == [b"T"]:
            self._table.send_signal("CONT", self.pid)
            while self._table.stat(self.pid)[:1] == [b"T"]:
                time.sleep(_LOOK_S)

    @property
    def has_ended(self) -> bool:
        return self._silent < 0 or not self._table.runs(self.pid)

    @property
    def is_gone(self) -> bool:
        return not self._table.stat(self.pid)

    def await_end(self, timeout_s: float, *, reaped: bool = False) -> bool:
        deadline = time.monotonic() + timeout_s
        while not (self.is_gone if reaped else self.has_ended):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_S)
        return True

    def status(self) -> int | None:
        while (words := self._table.stat(self.pid)) and words[0] not in (b"Z", b"X"):
            time.sleep(_LOOK_S)  # it has no program any more, and how it ended is not written down yet
        return status_of(words)

    def program_fd(self) -> int | None:
        return None

    def held(self) -> list[Held]:
        self._seen = {each.fd: each for each in self._table.descriptors(self.pid)}
        return [
            Held(each.fd, "", self._table.identity(each))
            for each in self._seen.values()
            if each.fd < FIRST_OWN_FD or not each.flags & os.O_CLOEXEC
        ]

    def identity(self, fd: int) -> Identity | None:
        found = (each for each in self._table.descriptors(self.pid) if each.fd == fd)
        return next((self._table.identity(each) for each in found), None)

    def holds_same(self, _plain: Shell) -> bool:
        return False

    def holds_only(self, _stdin: Identity, _out: Identity, _err: Identity) -> bool:
        return False

    def holds_on(self, held: Held) -> bool:
        seen = self._seen[held.fd]
        return seen.kind in "pso" or seen.is_locked

    def is_in(self, directory: str) -> bool:
        return self._table.is_in(self.pid, directory)

    def cwd(self) -> str | None:
        return self._table.directory(self.pid)

    def most_files(self) -> int:
        return most_files_in(self._table.read(f"/proc/{self.pid}/limits"))


class InnerLooping(Looping, InnerShell):
    def __init__(self, table: InnerTable, pid: int, path: str, called: int) -> None:
        InnerShell.__init__(self, table, pid, -1, is_bash=True, called=called)
        self.path = path
