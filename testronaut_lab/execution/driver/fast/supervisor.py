"""The shells of one session: the one that runs steps, the copies that wait, and a new one where none is left.

The exec's own shell, the leader, starts the session's and is ended as soon as that reads its program. So every shell of ours is
a child of the keeper, the container's first process, which no step can end: nothing of a step's kills a witness of how the
shell ended.
"""

from __future__ import annotations

import os
import secrets
import select
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePosixPath

from testronaut_lab.container.protocol import Attached, Container
from testronaut_lab.errors import EngineError, SessionLost
from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.fast import text
from testronaut_lab.execution.driver.fast.checkpoints import Copy, Copying, Known, NoCopy, Reach, State, held_in_doubt
from testronaut_lab.execution.driver.fast.ptrace import Tracee
from testronaut_lab.execution.driver.fast.reports import Reports
from testronaut_lab.execution.driver.fast.shell import Shell
from testronaut_lab.execution.driver.fast.steps import NODEID
from testronaut_lab.execution.driver.fast.streams import Fifo, Identity, Pair
from testronaut_lab.execution.driver.fast.table import Table, unseen
from testronaut_lab.execution.driver.script import RUN_DIR, ShellSpec

_LOOK_S = 0.0005
_ASK_EVERY_S = 2.0
_GONE_TIMEOUT_S = 1.0


@dataclass(slots=True)
class _Copying:
    """A copy that is being made."""

    number: int
    known: Known
    work: Copying
    is_plain: bool
    is_launched: bool = False


class Supervisor:
    """Used from the session's thread only."""

    STDOUT, STDERR = "stdout", "stderr"

    def __init__(
        self, container: Container, channel: Channel, spec: ShellSpec, table: Table,
        reach: Callable[[Shell, Reports], Reach], end: Callable[[int], None],
    ) -> None:  # fmt: skip
        """`reach` finds out what can be done to this shell, `end` kills a process by its number in there.

        Raises SessionLost when the container has no such shell, or is gone.
        """
        self._container = container
        self._channel = channel
        self._spec = spec
        self._end = end
        self.table = table
        if not table.waits_at_once:
            channel.reap(lazy=True)
        self._numbers = 0
        self._wanted: set[int] = set()
        self.reports = Reports(channel.reports, knows_makers=table.is_the_hosts)
        self._newest: Copy | None = None
        self._copying: _Copying | None = None
        self._halted: Tracee | None = None
        self.kept: dict[int, Copy] = {}
        self.why_no_copy = ""
        self._dropped: list[Shell] = []
        self.former: dict[Identity, str] = {}
        self.parted: list[Pair] = []  # pairs that our shells no longer write to, until somebody reads them to their end
        self.pair = self.new_pair()
        with ExitStack() as undo:
            undo.callback(self._close_channels)
            self.shell = self._start(None)
            self._empty = _identity(f"{channel.path}/empty")
            self.reach = reach(self.shell, self.reports)
            undo.pop_all()

    @property
    def copies(self) -> str:
        """How copies are made, as in a result."""
        return self.reach.name

    def close(self) -> None:
        for shell in self._copies():
            shell.kill()  # it would read the end of its program, and do what a trap says then
        for shell in (*self._shells(), *self._dropped):
            shell.close()
        self.table.close()
        self._close_channels()

    def _close_channels(self) -> None:
        for pair in (self.pair, *self.parted):
            pair.close()
        self.reports.close()

    @property
    def inner_pids(self) -> frozenset[int]:
        """The numbers of all our shells in the container."""
        return frozenset(shell.inner for shell in self._shells())

    @property
    def copy_pids(self) -> frozenset[int]:
        return self.inner_pids - {self.shell.inner}

    @property
    def pids(self) -> frozenset[int]:
        """The same out here."""
        return frozenset(shell.pid for shell in self._shells())

    @property
    def dropped_pids(self) -> frozenset[int]:
        """The numbers in the container of shells that were ours and may not have ended yet: later they may be another's."""
        return frozenset(shell.inner for shell in self._dropped)

    def new_pair(self) -> Pair:
        """Two FIFOs that anybody can write to who knows their names, until `hide`."""
        token = secrets.token_hex(8)
        names = f"{token}.o", f"{token}.e"
        out, err = (Fifo(name, self._channel.fifo(name, 0o222, os.O_RDONLY)) for name in names)
        return Pair(out, err)

    def hide(self, pair: Pair) -> None:
        """Take the names away, now that the shell holds the FIFOs. They can be opened anew by `/dev/stdout`."""
        for fifo in pair.both:
            self._channel.remove(fifo.name)

    @property
    def newest(self) -> Copy | None:
        """The last copy, once it is made; None where there is none, and `why_no_copy` says why."""
        if self._copying is not None:
            self._collect()
        return self._newest

    def park(self, known: Known, number: int | None = None) -> None:
        """Make a copy of the shell, if it can be copied, and let go of the one from before.

        The new one has a number of its own, or that of a copy which was used up to make the shell what it is.
        """
        self.begin_park(known, number)
        self.launch()
        self._collect()

    def begin_park(self, known: Known, number: int | None = None, *, is_plain: bool = False) -> None:
        """Begin to make a copy; `launch` must follow soon, since the shell may be stopped. Whoever asks for it waits for it.

        `is_plain`: that is known already.
        """
        before, self._newest = self.newest, None
        if before is not None:
            self._retire(before)
        self.why_no_copy = ""
        halted, self._halted = self._halted, None
        fds = [] if is_plain else held_in_doubt(self.shell, self.pair.identities | self.former.keys())
        if fds:
            self.why_no_copy = f"the shell holds file descriptor {', '.join(map(str, fds))} open"
            if halted is not None:
                halted.forgo()
            return
        try:
            copying = self.reach.begin_copy(self.shell, halted)
        except NoCopy as error:
            self.why_no_copy = str(error)
            return
        if number is None:
            number = self._numbers = self._numbers + 1
        self._copying = _Copying(number, known, copying, is_plain)

    @property
    def is_copying(self) -> bool:
        return self._copying is not None

    def halt(self) -> None:
        """Stop the shell, which is to be copied: until `begin_park` or `launch` it may be looked at, and no more."""
        self._halted = self.reach.halt(self.shell)

    def launch(self) -> None:
        """Let the shell go on, if it is stopped, or a copy of it is being made."""
        halted, self._halted = self._halted, None
        if halted is not None:
            halted.forgo()
        copying = self._copying
        if copying is None or copying.is_launched:
            return
        copying.is_launched = True
        try:
            copying.work.launch()
        except NoCopy as error:
            self._copying, self.why_no_copy = None, str(error)

    def _collect(self) -> None:
        self.launch()
        copying, self._copying = self._copying, None
        if copying is None:
            return
        try:
            self._newest = Copy(copying.number, copying.work.collect(), copying.known, copying.is_plain)
        except NoCopy as error:
            self.why_no_copy = str(error)

    def stand_in(self, shell: Shell) -> Shell | None:
        """See `Reach.stand_in`; to be given to `drop`. Raises NoCopy."""
        return self.reach.stand_in(shell)

    def drop(self, shell: Shell) -> None:
        """End a shell that is needed no more."""
        shell.kill()
        shell.end_program()
        self._dropped.append(shell)

    def want(self, number: int) -> None:
        """Keep this copy also when a newer one stands."""
        self._wanted.add(number)

    def want_only(self, numbers: Iterable[int]) -> None:
        self._wanted = set(numbers)
        for number in self.kept.keys() - self._wanted:
            self._drop(self.kept.pop(number))

    def find(self, number: int | None) -> Copy | None:
        """The copy with this number, if it stands."""
        if self.newest is not None and self.newest.number == number:
            found: Copy | None = self.newest
        else:
            found = self.kept.get(number) if number is not None else None
        if found is None or found.shell.has_ended:
            return None
        found.shell.wake()
        return found

    def go_on(self, copy: Copy) -> None:
        """The shell has ended: another like the copy goes on in its place. Raises NoCopy."""
        self._bury(self.shell)
        if copy is not self.newest:
            before, self._newest = self.newest, self.kept.pop(copy.number)
            if before is not None:
                self._retire(before)
        try:
            self.shell, waits = self.reach.go_on(copy.shell)
        except NoCopy:
            self._newest = None
            raise
        if waits is None:
            self._newest = None
        else:
            copy.shell = waits

    def new_streams(self) -> None:
        """Give the shell another pair, in place of the one of now, which is `parted`, and of all before that it holds.

        Raises NoCopy when the shell has ended.
        """
        before, self.pair = self.pair, self.new_pair()
        self.parted.append(before)
        self.former |= {before.out.identity: self.STDOUT, before.err.identity: self.STDERR}
        names = {self.STDOUT: self.pair.out.name, self.STDERR: self.pair.err.name}
        targets = {held.fd: names[self.former[held.identity]] for held in self.shell.held() if held.identity in self.former}
        try:
            self.reach.redirect(self.shell, targets)
        finally:
            self.hide(self.pair)

    def is_plain(self) -> bool:
        """Whether the shell holds nothing but its program and streams. False also where a quick look does not tell."""
        newest = self.newest
        if newest is not None and newest.is_plain and self.shell.holds_same(newest.shell):
            return True
        return self.shell.holds_only(self._empty, self.pair.out.identity, self.pair.err.identity)

    def strayed(self) -> frozenset[str]:
        """Which of its two streams the shell has closed or sent elsewhere."""
        streams = zip((1, 2), (self.STDOUT, self.STDERR), strict=True)
        return frozenset(name for fd, name in streams if self.shell.identity(fd) not in self.pair.identities)

    def has_former_streams(self) -> bool:
        return any(held.identity in self.former for held in self.shell.held())

    def restart(self, exported: bytes) -> None:
        """No shell is left: a new one with this exported environment and a new pair; the one of now is `parted`.

        Raises SessionLost.
        """
        self.want_only(())
        if self.newest is not None:
            self._drop(self.newest)
            self._newest = None
        self.shell.kill()
        self._bury(self.shell)
        self.parted.append(self.pair)
        self.pair = self.new_pair()
        self.shell = self._start(exported)

    def is_alone(self) -> bool:
        """Whether nothing but our shells runs, or has run and is still seen. False also where a quick look does not tell."""
        return self.table.holds_only(self._shells())

    def reap(self) -> None:
        """See to it that nothing is left of processes that have ended: a step would see them still."""
        deadline = time.monotonic() + _GONE_TIMEOUT_S
        self._await_dropped()
        while self.table.zombies() and time.monotonic() < deadline:
            self._channel.reap()
            time.sleep(_LOOK_S)

    def _await_dropped(self) -> None:
        for shell in self._dropped:
            shell.await_end(_GONE_TIMEOUT_S, reaped=self.table.waits_at_once)
            shell.close()
        self._dropped.clear()

    def is_ready(self) -> bool:
        """Whether the shell waits for a text, and nothing is left of processes that have ended, as far as a quick look tells."""
        if not self.is_alone():
            self._await_dropped()
            return self.is_alone()
        while self._dropped:
            self._dropped.pop().close()
        return True

    def tend(self) -> None:
        """The same while a step runs: not when the shell has ended, since how it did is still to be read."""
        if not self.table.waits_at_once and self.table.zombies() and not self.shell.has_ended:
            self._channel.reap()

    def _shells(self) -> list[Shell]:
        return [self.shell, *self._copies()]

    def _copies(self) -> list[Shell]:
        newest = self.newest
        return [copy.shell for copy in (*self.kept.values(), *(() if newest is None else (newest,)))]

    def _retire(self, copy: Copy) -> None:
        if copy.number in self._wanted:
            copy.state = State.KEPT
            self.kept[copy.number] = copy
        else:
            self._drop(copy)

    def _drop(self, copy: Copy) -> None:
        copy.state = State.DROPPED
        self.drop(copy.shell)

    def _bury(self, ended: Shell) -> None:
        """Let the keeper wait for it, so that its number is free again."""
        deadline = time.monotonic() + _GONE_TIMEOUT_S
        while not ended.is_gone and time.monotonic() < deadline:
            self._channel.reap()
            time.sleep(_LOOK_S)
        while self.table.is_keeper_busy:  # the kernel frees a number a while after it has taken the process out of /proc
            time.sleep(_LOOK_S)
        ended.close()

    def _start(self, exported: bytes | None) -> Shell:
        folder, name = f"s.{secrets.token_hex(8)}", PurePosixPath(self._spec.shell).name
        self._channel.folder(folder)
        program = self._channel.fifo(f"{folder}/{name}", 0o444, os.O_RDWR)
        if exported is not None:
            self._channel.put("env", exported)
        out, err = (f"{RUN_DIR}/{fifo.name}" for fifo in self.pair.both)
        leader = text.leader_text(self._spec.shell, f"{RUN_DIR}/{folder}/{name}", out=out, err=err, has_env=exported is not None)
        nonce = secrets.token_hex(8)
        os.write(program, text.hello_line(nonce).encode())
        attached = self._container.attach(
            [self._spec.shell, "-c", leader, self._spec.shell], user=self._spec.user, env={**self._spec.env, NODEID: ""}, cwd="/"
        )
        try:
            inner, parent, is_bash = self._hello(attached, nonce)
            if parent > 1:
                self._end(parent)
            pid = self._find(inner)
            self.table.check(pid)
        except PermissionError as error:
            raise unseen(self._container.name) from error
        finally:
            attached.close()
            self._channel.forget(f"{folder}/{name}")
            self.hide(self.pair)
        return self.table.shell(pid, program, is_bash=is_bash)

    def _hello(self, attached: Attached, nonce: str) -> tuple[int, int, bool]:
        """The numbers of the shell and of its parent in there, and whether it is bash."""
        poll = select.poll()
        for fd in (self.reports.fileno(), attached.fileno()):
            poll.register(fd, select.POLLIN)
        said = b""
        while True:
            if not poll.poll(int(_ASK_EVERY_S * 1000)) and not self._container.state().running:
                raise self._not_started(said)
            for made in self.reports.take():
                words = made.name.split(",")
                if words[0] == nonce and len(words) == 6:
                    return int(words[3]), int(words[4]), bool(words[5])
            try:
                said += b"".join(data for _, data in attached.read())
            except (EOFError, EngineError):
                raise self._not_started(said) from None

    def _not_started(self, said: bytes) -> SessionLost:
        words = said.decode(errors="backslashreplace").strip() or self._container.state().describe()
        return SessionLost(
            f"starting {self._spec.shell} in container {self._container.name}: {words}",
            hint="name a shell that the image has: `shell: sh`",
        )

    def _find(self, inner: int) -> int:
        """The number out here of a child of the keeper's. Raises SessionLost when the container ends meanwhile."""
        next_ask = time.monotonic() + _ASK_EVERY_S
        while True:
            if (pid := self.table.find(inner)) is not None:
                return pid
            if time.monotonic() > next_ask:
                next_ask = time.monotonic() + _ASK_EVERY_S
                state = self._container.state()
                if not state.running:
                    raise SessionLost(f"starting {self._spec.shell}: {state.describe()}")
            time.sleep(_LOOK_S)


def _identity(path: str) -> Identity:
    info = os.stat(path)
    return info.st_dev, info.st_ino
