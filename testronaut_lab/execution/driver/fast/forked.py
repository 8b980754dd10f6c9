"""Copies that the shell forks itself, where the kernel does not let the host trace it (Yama, another processor than x86-64).

    ( ( \\. /run/lab/COPY ) 9>&2 2>/dev/null; for _ in; do :; done ) && for _ in; do :; done

Without `&`, after which dash and busybox would ignore SIGINT for ever. The copy waits in opening a FIFO; the host ends the shell
between the two by SIGPIPE, of which no shell speaks, and so the keeper is the copy's parent. What is not as in `checkpoints.py`:
`$$` of a copy that goes on is the first shell's number; a CHLD trap counts the fork, a DEBUG trap sees the list of traps being
asked for; a copy is used up when it goes on; and bash, which reads what it sources to its end first, then sources a FIFO for
each text, in a loop, which its `$BASH_SUBSHELL`, `$BASH_SOURCE` and traces show.
"""

from __future__ import annotations

import os
import secrets
import select
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.fast.checkpoints import NoCopy
from testronaut_lab.execution.driver.fast.ptrace import Tracee
from testronaut_lab.execution.driver.fast.reports import Reports
from testronaut_lab.execution.driver.fast.shell import Identity, Shell, pending
from testronaut_lab.execution.driver.fast.table import Table
from testronaut_lab.execution.driver.fast.text import NOTHING, report_line
from testronaut_lab.execution.driver.script import CHECK_EVERY_S, RUN_DIR

_SPARE = 9
_LOOK_S = 0.0002
_MOST_BREAKS = 64  # of loops that there are none of, by `break` and `continue` in steps


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A copy's FIFO, and what it reads first: its stderr, and the traps that the shell listed, since a subshell has none."""

    gate: str
    first: bytes


@dataclass(frozen=True, slots=True)
class Made:
    """A copy that was made at once. See `Copying`."""

    copy: Shell

    def launch(self) -> None:
        return

    def collect(self) -> Shell:
        return self.copy


class Forked:
    """`say` lets the shell run words of ours; whether it came to their end. `quiet` forgets what is in the session's streams."""

    name = "forked"
    sees_sleep = False

    def __init__(
        self, channel: Channel, reports: Reports, table: Table, say: Callable[[str], bool], quiet: Callable[[], None]
    ) -> None:  # fmt: skip
        self._channel = channel
        self._table = table
        self._reports = reports
        self._say = say
        self._waiting: dict[int, _Waiting] = {}  # by the number of a copy
        self._quiet = quiet

    def halt(self, _shell: Shell, /) -> None:
        return None

    def begin_copy(self, shell: Shell, _halted: Tracee | None = None) -> Made:
        return Made(self._copy(shell))

    def _copy(self, shell: Shell) -> Shell:
        traps = self._ask_traps(shell)
        name, nonce = f"c.{secrets.token_hex(8)}", secrets.token_hex(8)
        has_stderr = any(held.fd == 2 for held in shell.held())
        aside, back = (f"{_SPARE}>&2 ", rf"\exec 2>&{_SPARE} {_SPARE}>&-") if has_stderr else ("", r"\exec 2>&-")
        self._channel.gate(name)
        known = set(self._table.children(shell.pid))
        fork = rf"( ( \. {RUN_DIR}/{name} ) {aside}2>/dev/null; {NOTHING} ) && {NOTHING}"
        shell.send((fork + "\n" + report_line(nonce, is_bash=shell.is_bash)).encode())
        pid = self._orphan(shell, known)
        self._await(shell, nonce)
        self._quiet()
        copy = self._table.shell(pid, -1, is_bash=shell.is_bash, called=shell.called)
        self._waiting[pid] = _Waiting(name, back.encode() + b"\n" + traps)
        return copy

    def go_on(self, copy: Shell) -> tuple[Shell, Shell | None]:
        waiting = self._waiting.pop(copy.pid)
        program = self._channel.open_gate(waiting.gate)
        try:
            if not copy.is_bash:
                self._feed(copy, program, waiting.first)
                return self._table.shell(copy.pid, program, is_bash=False, called=copy.called), None
            gate = f"g.{secrets.token_hex(8)}"
            self._channel.gate(gate)
            loop = f"while {NOTHING}; do \\. {RUN_DIR}/{gate}; done\n" * _MOST_BREAKS
            self._feed(copy, program, waiting.first + loop.encode())
        except NoCopy:
            os.close(program)
            raise
        finally:
            self._channel.forget(waiting.gate)
        info = os.fstat(program)
        os.close(program)
        self._await_closed(copy, (info.st_dev, info.st_ino))
        return self._table.looping(copy.pid, f"{self._channel.path}/{gate}", copy.called), None

    @staticmethod
    def _feed(copy: Shell, program: int, data: bytes) -> None:
        """Write all of it, and wait until it is read: a copy that was made just now may still have to open its FIFO by name."""
        while data or pending(program):
            with suppress(BlockingIOError):
                data = data[os.write(program, data) :]
            if copy.has_ended:
                raise NoCopy("the copy was killed")
            time.sleep(_LOOK_S)

    @staticmethod
    def _await_closed(copy: Shell, gate: Identity) -> None:
        """A bash reads to the end before it runs anything: until then its FIFO would be a descriptor that the script has open."""
        while any(held.identity == gate for held in copy.held()):
            time.sleep(_LOOK_S)

    def redirect(self, _shell: Shell, targets: Mapping[int, str]) -> None:
        words = " ".join(f"{fd}>|{RUN_DIR}/{name}" for fd, name in targets.items() if fd < 10)
        if targets and not self._say(rf"\exec {words}" + "\n"):
            raise NoCopy("the shell has ended")

    def stand_in(self, _shell: Shell) -> Shell | None:
        return None

    def _ask_traps(self, shell: Shell) -> bytes:
        name = f"x.{secrets.token_hex(8)}"
        nonce = secrets.token_hex(8)
        fd = self._channel.fifo(name, 0o222, os.O_RDONLY)
        own = r"\builtin trap" if shell.is_bash else r"\trap"
        shell.send(f"{own} >|{RUN_DIR}/{name}\n{report_line(nonce, is_bash=shell.is_bash)}".encode())
        try:
            self._await(shell, nonce)
            with suppress(BlockingIOError):
                return os.read(fd, 1 << 20)
            return b""
        finally:
            os.close(fd)
            self._channel.remove(name)

    def _orphan(self, shell: Shell, known: set[int]) -> int:
        """End the shell between the copy and its original; the copy's number."""
        while True:
            for middle in set(self._table.children(shell.pid)) - known:
                for copy in self._table.children(middle):
                    self._table.break_pipe(middle)
                    return copy
            if shell.has_ended:
                raise NoCopy("the shell has ended")
            time.sleep(_LOOK_S)

    def _await(self, shell: Shell, nonce: str) -> None:
        while True:
            select.select([self._reports.fileno(), shell.fileno()], [], [], None if shell.tells_end else CHECK_EVERY_S)
            if any(made.report(nonce, shell.pid) for made in self._reports.take()):
                return
            if shell.has_ended:
                raise NoCopy("the shell has ended")
