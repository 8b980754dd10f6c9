"""Copies of the session's shell, to go on with when it ends, or to go back to.

Traced: the host makes the sleeping shell clone itself (`clone.py`). The copy reads a FIFO as its program that nobody ever writes
to; it is in a process group of its own, and the shell knows nothing of it. To go on, the copy is made to clone itself in turn,
into a shell with a FIFO of its own. Where the host may set the next process number (root), that clone gets the number of the
shell that ended, so that `$$` is true.

Forked, where the kernel does not let the host trace: the shell forks, without `&`, which would make it ignore SIGINT for ever.
The copy waits in opening a FIFO. The shell between the two is ended by SIGPIPE, of which no shell speaks.
"""

from __future__ import annotations

import errno
import os
import secrets
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.fast import ptrace
from testronaut_lab.execution.driver.fast.clone import Cloning
from testronaut_lab.execution.driver.fast.ptrace import Tracee
from testronaut_lab.execution.driver.fast.shell import Shell
from testronaut_lab.execution.driver.fast.table import HostTable
from testronaut_lab.execution.driver.fast.text import Status
from testronaut_lab.execution.driver.script import RUN_DIR

_NUMBER_ATTEMPTS = 3
NOWHERE = "/dev/null"
_WHY = {errno.EAGAIN: "there was no room for one more process"} | dict.fromkeys(
    (errno.EMFILE, errno.EBADF), "the shell may open too few files to be copied"
)

_T = TypeVar("_T")


class State(Enum):
    """Of a copy."""

    STANDING = "waits"
    KEPT = "waits, though a newer one stands"
    DROPPED = "was ended"


@dataclass(frozen=True, slots=True)
class Known:
    """What the host knows of a shell at one moment."""

    status: Status
    options: str
    cwd: str


@dataclass(slots=True)
class Copy:
    """A shell that waits, as the session's was at one moment."""

    number: int
    shell: Shell
    known: Known
    is_plain: bool = False  # whether it is known to hold the session's streams and its program open, and nothing else
    state: State = State.STANDING


class NoCopy(Exception):
    """There can be none now; the text says why."""


class Copying(Protocol):
    """A copy that is being made: `launch` and then `collect` are called once, on the thread that began it."""

    def launch(self) -> None:
        """Go on with it. What the shell does for it then it does by itself, in its own time. Raises NoCopy."""
        ...

    def collect(self) -> Shell:
        """The copy, which waits. Raises NoCopy."""
        ...


class Reach(Protocol):
    """What can be done to a shell that sleeps reading its program, without a word in its text or with as few as possible."""

    name: str
    sees_sleep: bool  # whether the host can see that it sleeps

    def halt(self, shell: Shell) -> Tracee | None:
        """Stop it, so that a copy takes less time; None where that is not done. Only `begin_copy` or `forgo` may follow."""
        ...

    def begin_copy(self, shell: Shell, halted: Tracee | None = None) -> Copying:
        """Begin to make a copy of it. Nothing else may be done to the shell before the copy is collected. Raises NoCopy."""
        ...

    def go_on(self, copy: Shell, /) -> tuple[Shell, Shell | None]:
        """Make a shell like the copy read its program in place of the one that has ended; and the copy, if it still waits.

        Raises NoCopy.
        """
        ...

    def redirect(self, shell: Shell, targets: Mapping[int, str], /) -> None:
        """Open FIFOs of the run directory, by name, for writing in place of the shell's descriptors. Raises NoCopy."""
        ...

    def stand_in(self, shell: Shell, /) -> Shell | None:
        """A shell that is like this one and writes nowhere, to be asked something and killed. None where it has to be asked
        itself. Raises NoCopy.
        """
        ...


def _no_copy(error: OSError) -> NoCopy:
    """What the kernel says of a shell that cannot be copied; it is raised itself where it says that we may not."""
    if isinstance(error, PermissionError):
        raise error
    return NoCopy("the shell was killed" if isinstance(error, ProcessLookupError) else _WHY.get(error.errno or 0, str(error)))


class Cloned:
    """A copy that the host makes the shell clone; `program` is the write end of what it reads. See `Copying`."""

    def __init__(
        self, cloning: Cloning, shell: Shell, program: int, asleep: Callable[[Shell, Callable[[int], None]], None],
        halted: Tracee | None = None,
    ) -> None:  # fmt: skip
        self._cloning = cloning
        self._shell = shell
        self._program = program
        self._asleep = asleep
        self._tracee = halted
        try:
            if halted is None and shell.has_read_all:  # it stops while the host does something else
                self._tracee = Tracee(shell.pid, waits=False)
        except OSError as error:
            raise _no_copy(error) from error

    def launch(self) -> None:
        tracee, self._tracee = self._tracee, None
        if tracee is not None:
            try:
                return self._cloning.launch(tracee)
            except ptrace.NotAsleep:
                pass
            except OSError as error:
                raise _no_copy(error) from error
        self._asleep(self._shell, lambda _: self._cloning.launch(Tracee(self._shell.pid, waits=False)))
        return None

    def collect(self) -> Shell:
        shell = self._shell
        try:
            pid, inner = self._cloning.collect()
            shell.stub = self._cloning.stub
            return Shell(pid, self._program, is_bash=shell.is_bash, called=shell.called, inner=inner, stub=shell.stub)
        except OSError as error:
            raise _no_copy(error) from error


class Traced:
    """The host makes the shell run system calls of ours. Raises PermissionError where the kernel does not allow it."""

    name = "traced"
    sees_sleep = True

    def __init__(self, channel: Channel, table: HostTable, keeper_pid: int) -> None:
        self._channel = channel
        self._table = table
        self._keeper_pid = keeper_pid
        name = f"p.{secrets.token_hex(8)}"
        channel.hold(name)
        self._parked = f"{RUN_DIR}/{name}"  # what all copies read that wait, and nobody writes to
        self._seen: frozenset[int] = frozenset()  # the keeper's children when the last clone was found

    def halt(self, shell: Shell) -> Tracee | None:
        try:
            return Tracee(shell.pid, waits=False) if shell.has_read_all else None
        except ProcessLookupError:
            return None

    def begin_copy(self, shell: Shell, halted: Tracee | None = None) -> Cloned:
        return Cloned(self._cloning(shell, None, own_group=True), shell, -1, self._asleep, halted)

    def copy(self, shell: Shell) -> Shell:
        """A copy, made at once. Raises NoCopy."""
        copying = self.begin_copy(shell)
        copying.launch()
        return copying.collect()

    def go_on(self, copy: Shell) -> tuple[Shell, Shell | None]:
        """The new shell stays in its copy's process group, and another copy takes that one's place: a group of the shell's own
        number, in which a job goes on, would keep that number from being had back the next time.
        """
        shell = self._numbered(copy)
        waits = self.copy(shell)
        copy.kill()
        copy.close()
        return shell, waits

    def _numbered(self, copy: Shell) -> Shell:
        """A copy with the number that `$$` is in it, if that can be had."""
        for _ in range(_NUMBER_ATTEMPTS):
            is_set = self._set_next(copy.called)
            shell = self._copy(copy, own_group=False)
            if not is_set or shell.inner == copy.called:
                return shell
            shell.kill()
            shell.close()
        return self._copy(copy, own_group=False)

    def _copy(self, shell: Shell, *, own_group: bool) -> Shell:
        """A copy that reads a program of its own."""
        name = f"p.{secrets.token_hex(8)}"
        program = self._channel.fifo(name, 0o444, os.O_RDWR)
        try:
            cloned = Cloned(self._cloning(shell, name, own_group=own_group), shell, program, self._asleep)
            cloned.launch()
            return cloned.collect()
        except BaseException:
            os.close(program)
            raise
        finally:
            self._channel.forget(name)

    def _cloning(self, shell: Shell, name: str | None, *, own_group: bool) -> Cloning:
        path = None if name is None else f"{RUN_DIR}/{name}"
        return Cloning(shell.pid, shell.stub, self._parked, path, self._siblings, self._seen, own_group=own_group)

    def _siblings(self) -> list[int]:
        siblings = self._table.siblings()
        self._seen = frozenset(siblings)
        return siblings

    def redirect(self, shell: Shell, targets: Mapping[int, str]) -> None:
        paths = {fd: f"{RUN_DIR}/{name}" for fd, name in targets.items()}
        self._asleep(shell, lambda _: ptrace.redirect(shell.pid, paths))

    def stand_in(self, shell: Shell) -> Shell | None:
        copy = self._copy(shell, own_group=True)
        nowhere = {held.fd: NOWHERE for held in copy.held() if held.fd}
        try:
            self._asleep(copy, lambda _: ptrace.redirect(copy.pid, nowhere))
        except BaseException:
            copy.kill()
            copy.close()
            raise
        return copy

    def lend(self, shell: Shell, stdin: str | None, *, merge: bool) -> dict[int, int | None]:
        """See `ptrace.lend`; `stdin` is a file of the run directory. Raises NoCopy."""
        path = None if stdin is None else f"{RUN_DIR}/{stdin}"
        return self._asleep(shell, lambda _: ptrace.lend(shell.pid, path, merge=merge))

    def lend_files(self, shell: Shell, paths: Mapping[int, str]) -> dict[int, int | None]:
        """See `ptrace.lend_files`. Raises NoCopy."""
        return self._asleep(shell, lambda _: ptrace.lend_files(shell.pid, paths))

    def take_back(self, shell: Shell, lent: Mapping[int, int | None]) -> None:
        self._asleep(shell, lambda _: ptrace.take_back(shell.pid, lent))

    @staticmethod
    def _asleep(shell: Shell, work: Callable[[int], _T]) -> _T:
        """Do something to a shell as soon as it sleeps; a live one does, with all of its program read."""
        while True:
            fd = shell.program_fd()
            if fd is None and shell.has_ended:
                raise NoCopy("the shell has ended")
            try:
                if fd is not None:
                    return work(fd)
            except ptrace.NotAsleep:
                continue
            except OSError as error:
                raise _no_copy(error) from error

    def _set_next(self, number: int) -> bool:
        """Let the next process in the container have this number, where we may; whether we did."""
        if os.geteuid() != 0 or not number:
            return False
        write = [
            "nsenter",
            "-t",
            str(self._keeper_pid),
            "-p",
            "/bin/sh",
            "-c",
            f"echo {number - 1} >/proc/sys/kernel/ns_last_pid",
        ]
        try:
            return subprocess.run(write, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
        except OSError:
            return False


def held_in_doubt(shell: Shell, ours: frozenset[tuple[int, int]]) -> list[int]:
    """The descriptors by which a copy would hold a pipe open, or a lock, that the shell lets go later."""
    found = []
    for held in shell.held():
        if held.identity in ours or held.link.startswith("/dev/"):
            continue
        if shell.holds_on(held):
            found.append(held.fd)
    return sorted(found)
