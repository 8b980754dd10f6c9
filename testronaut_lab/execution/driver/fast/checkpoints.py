"""Copies of the session's shell, to go on with when it ends, or to go back to.

Traced: the host makes the sleeping shell clone itself. The copy reads a FIFO of its own as its program, and nobody has written
to it; it is in a process group of its own, and the shell knows nothing of it. To go on, the copy is made to clone itself in
turn. Where the host may set the next process number (root), that clone gets the number of the shell that ended, so that `$$` is
true.

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
from testronaut_lab.execution.driver.fast.shell import Shell
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
    state: State = State.STANDING


class NoCopy(Exception):
    """There can be none now; the text says why."""


class Reach(Protocol):
    """What can be done to a shell that sleeps reading its program, without a word in its text or with as few as possible."""

    name: str
    sees_sleep: bool  # whether the host can see that it sleeps

    def copy(self, shell: Shell) -> Shell:
        """Make a copy of it, which waits. Raises NoCopy."""
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


class Traced:
    """The host makes the shell run system calls of ours. Raises PermissionError where the kernel does not allow it."""

    name = "traced"
    sees_sleep = True

    def __init__(self, channel: Channel, keeper_pid: int) -> None:
        self._channel = channel
        self._keeper_pid = keeper_pid

    def copy(self, shell: Shell) -> Shell:
        return self._copy(shell, own_group=True)

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
        name = f"p.{secrets.token_hex(8)}"
        path = f"{RUN_DIR}/{name}"
        program = self._channel.fifo(name, 0o444, os.O_RDWR)
        try:
            pid = self._asleep(shell, lambda fd: ptrace.copy(shell.pid, path, fd, own_group=own_group))
        except BaseException:
            os.close(program)
            raise
        finally:
            self._channel.forget(name)
        return Shell(pid, program, is_bash=shell.is_bash, called=shell.called)

    def redirect(self, shell: Shell, targets: Mapping[int, str]) -> None:
        paths = {fd: f"{RUN_DIR}/{name}" for fd, name in targets.items()}
        self._asleep(shell, lambda _: ptrace.redirect(shell.pid, paths))

    def stand_in(self, shell: Shell) -> Shell | None:
        copy = self.copy(shell)
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
            except ProcessLookupError as error:
                raise NoCopy("the shell was killed") from error
            except PermissionError:
                raise
            except OSError as error:
                why = _WHY.get(error.errno or 0, str(error))
                raise NoCopy(why) from error

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
