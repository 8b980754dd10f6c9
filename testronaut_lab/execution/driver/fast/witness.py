"""How the program of exact arguments ended, which its shell does not tell: `$?` is 137 for SIGKILL and for `exit 137`.

The subshell that becomes the program makes a file where the shell reports, and then waits to open a FIFO, the gate. So the host
has the process in hand (a pidfd) before anything of the program runs. A kernel that remembers how a process ended tells it by
that (Linux 6.15). Before that only a zombie tells it, and the shell waits for it at once: where the host may trace the shell, the
shell is held until the host has read how the program ended. Elsewhere nobody knows, nor where the host does not see the process.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress

from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.fast import ptrace
from testronaut_lab.execution.driver.fast.shell import Shell, ended_by, kernel_remembers, was_killed, zombie_status
from testronaut_lab.execution.driver.fast.table import Table


class Witness:
    """Of one program that `shell` starts. `gate` is a FIFO that nobody has open, `may_hold`: the shell can be traced.

    Close it with `close`.
    """

    def __init__(self, channel: Channel, table: Table, shell: Shell, gate: str, *, may_hold: bool) -> None:
        self._channel = channel
        self._table = table
        self._shell = shell
        self._may_hold = may_hold
        self.notice = f"{secrets.token_hex(8)}.c"
        self.gate = gate
        self._held: ptrace.Held | None = None
        self._pid = 0
        self._pidfd = self._open_gate = -1
        self._status: int | None = None

    def meet(self, pid: int | None) -> bool:
        """Let the subshell go on, which has made the file. Whether that is so: `pid` made it, None if that is not told."""
        there = self._table.children(self._shell.pid)
        if self._pid or not there or pid not in (None, *there):
            return False
        self._pid = there[-1] if pid is None else pid
        with suppress(ProcessLookupError, PermissionError):  # it was killed meanwhile; the shell is traced by somebody else
            self._pidfd = os.pidfd_open(self._pid) if self._table.is_the_hosts else -1
            if not kernel_remembers() and self._may_hold:
                self._held = ptrace.Held(self._shell.pid)
        self._open_gate = self._channel.open_gate(self.gate)
        return True

    def fileno(self) -> int | None:
        """For poll: readable when the program has ended and the shell is held; None while there is nothing to wait for."""
        return None if self._held is None else self._pidfd

    def release(self) -> None:
        """Read how the program ended, and let the shell wait for it."""
        if self._held is not None:
            self._status = zombie_status(self._pid)
            self._held.release()
            self._held = None

    def was_killed(self) -> bool | None:
        """Whether a signal ended the program; None if nobody can tell. Call it once the shell has waited for it."""
        if self._status is None and self._pidfd >= 0:
            self._status = ended_by(self._pidfd)
        return was_killed(self._status)

    def close(self) -> None:
        self.release()
        for fd in (self._pidfd, self._open_gate):
            if fd >= 0:
                os.close(fd)
        self._pidfd = self._open_gate = -1
