"""Which shells a session has, and how it goes on when one ends.

A leader (the exec's own shell, runs nothing) starts the first driver. After each step the driver parks a forked copy of
itself. When a driver ends, the copy is promoted: it forks the next driver and waits for it. When no shell is left a new
leader starts with the last directory and exported environment. Older copies are kept where somebody wants them, to go back
to by `rewind`. Running a step is `shell.py`'s business.
"""

from __future__ import annotations

import os
import secrets
import select
import time
from collections import deque
from collections.abc import Callable, Iterable

from testronaut_lab.container.protocol import Attached, Container
from testronaut_lab.errors import EngineError, SessionLost
from testronaut_lab.execution.driver import script
from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.records import Record, RecordReader
from testronaut_lab.execution.driver.script import ShellSpec
from testronaut_lab.execution.driver.shelf import Shelf

START_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 10.0
# Each shell that is promoted or adopted stands 2.6 KiB deeper on its stack than the one it was copied from; 3,000 fill it.
MAX_DEPTH = 1000
_LAST_WORDS_S = 0.1
_LEAVING = 8
_RECORD_BYTES = 64 * 1024


class ShellsGone(Exception):
    """The leader ended: every shell of the session was killed, or the container is gone."""


class Lineage:
    """The shells of one session; used from the session's thread only."""

    def __init__(self, container: Container, channel: Channel, spec: ShellSpec) -> None:
        self._container = container
        self._channel = channel
        self._spec = spec
        self._secret = secrets.token_hex(16)
        self._readers = {fd: RecordReader(self._secret) for fd in (channel.ctl, *channel.parked)}
        self._inbox: deque[Record] = deque()
        self._leader: Attached | None = None
        self._leader_words = b""
        self._generation = 0
        self._numbers = 0
        self._parked: int | None = None
        self._parking: int | None = None
        self._reserved: int | None = None
        self._early: tuple[int, int, bytes] | None = None
        self._retired: int | None = None
        self._leaving: deque[int] = deque(maxlen=_LEAVING)
        self._pids: dict[str, int] = {}
        self._environment = b""
        self.shelf: Shelf | None = None
        self._starting = False
        self._stray = b""
        self._depth = 0
        self.cwd = spec.cwd
        self.options = ""
        self.traps = ""
        self.can_catch = True

    def start(self) -> None:
        """Start the first driver. Raises SessionLost when the container has no such shell or is gone."""
        self._start(script.ready(self.cwd), START_TIMEOUT_S)

    def close(self) -> None:
        if self._leader is not None:
            self._leader.close()
            self._leader = None

    @property
    def pids(self) -> frozenset[int]:
        """Our own processes' numbers inside the container, but for the keeper and the watchdog."""
        return frozenset(self._pids.values())

    @property
    def leaving(self) -> frozenset[int]:
        """Copies that were told to go and may still be ending, as far as that can take on a busy machine."""
        return frozenset(self._leaving)

    @property
    def others(self) -> frozenset[int]:
        """`pids` without the driver itself, which ends with the step that it runs."""
        return frozenset(pid for role, pid in self._pids.items() if role != "driver")

    @property
    def waiting(self) -> frozenset[int]:
        """Those who would tell of the driver's end."""
        return frozenset(pid for role, pid in self._pids.items() if role in ("leader", "supervisor"))

    @property
    def parked_pid(self) -> int:
        """0 while there is none."""
        return self._pids.get("parked", 0)

    @property
    def driver_pid(self) -> int:
        """0 while there is none."""
        return self._pids.get("driver", 0)

    @property
    def leader_fd(self) -> int:
        assert self._leader is not None
        return self._leader.fileno()

    def foreign(self) -> bytes:
        """What somebody else wrote into our record channel since the last call."""
        stray, self._stray = self._stray, b""
        return stray + b"".join(reader.take_foreign() for reader in self._readers.values())

    def pump(self) -> None:
        """Take in what has arrived on the record channels, without blocking."""
        for fd, reader in self._readers.items():
            size = _RECORD_BYTES
            while size == _RECORD_BYTES:  # less than was asked for: there was no more
                try:
                    data = os.read(fd, _RECORD_BYTES)
                except BlockingIOError:
                    break
                size = len(data)
                for record in reader.feed(data):
                    self._sort(record)

    def take(self, tags: str) -> Record | None:
        """The oldest record with one of these one-letter tags, without blocking."""
        for i, record in enumerate(self._inbox):
            if record.tag in tags:
                del self._inbox[i]
                return record
        return None

    def leader_gone(self) -> bool:
        """Whether the leader's streams have ended; what it says on them (a shell that cannot start) is in `leader_words`."""
        assert self._leader is not None
        try:
            for _, data in self._leader.read():
                self._leader_words += data
        except (EOFError, EngineError):
            return True
        return False

    def park(self) -> None:
        """Ask the driver for a parked copy. It forks before it reads another command, so nobody has to wait for it."""
        self._dismiss()
        self.unreserve()
        self._numbers += 1
        self._parking = self._numbers
        self._channel.open_gate(f"k.{self._parking}")
        self._channel.send(script.park(self._parking))

    def reserve(self) -> int:
        """The number of a copy that the shell may fork by itself at the end of the step that is about to begin.

        The one before may have yet to tell of itself then: their numbers are an even and an odd one.
        """
        self.unreserve()
        self._numbers += 1
        self._channel.open_gate(f"k.{self._numbers}")
        self._reserved = self._numbers
        return self._reserved

    def unreserve(self) -> None:
        """The number that was reserved is for no copy: one that was killed may have told of itself under it.

        The next is two higher, and takes its place among even and odd ones.
        """
        if self._reserved is not None:
            self._numbers = self._reserved + 1
            for number in (self._reserved, self._numbers):
                self._channel.close_gate(f"k.{number}")
            self._reserved = self._early = None

    def parks_itself(self) -> bool:
        """The shell is forking the copy whose number was reserved, if one was, as after `park`; no other one is on its way."""
        if self._reserved is None:
            return False
        self._dismiss()
        self._parking, self._reserved = self._reserved, None
        if self._early is not None:
            self._stands(*self._early)
            self._early = None
        return True

    def prepare_park(self) -> None:
        """Do what `park` will need while there is nothing else to do."""
        self._channel.open_gate(f"k.{self._numbers + 1}")

    def release(self) -> None:
        """Let the parked copy go: it would hold what the shell now holds open."""
        self._retire()
        self._dismiss()

    def settled(self, timeout_s: float) -> bool:
        """Whether no copy is on its way any more, waiting for it at most so long, or until its original ends."""
        deadline = time.monotonic() + timeout_s
        self.pump()
        while self._parking is not None and not any(record.tag == "D" for record in self._inbox):
            try:
                self._await(deadline)
            except ShellsGone:
                break
            self.pump()
        self._wait_for_words(min(deadline, time.monotonic() + _LAST_WORDS_S))
        return self._parking is None

    def _wait_for_words(self, deadline: float) -> None:
        """Leader or driver may be gone, which says nothing of a copy that is about to say what the shell has exported."""
        poll = select.poll()
        for fd in self._channel.parked:
            poll.register(fd, select.POLLIN)
        while self._parking is not None and (left_ms := int((deadline - time.monotonic()) * 1000)) > 0:
            poll.poll(left_ms)
            self.pump()

    def stands(self, timeout_s: float) -> bool:
        """Whether the copy asked for stands, waiting for it at most so long. Where none was asked for, the older one counts."""
        return self.settled(timeout_s) and self._parked is not None

    def give_up_parking(self) -> bool:
        """The copy asked for does not come; False if none was."""
        if self._parking is None:
            return False
        self._drop(self._parking)
        self._parking = None
        return True

    @property
    def checkpoint(self) -> int | None:
        """The number of the copy that is as the shell is now, also of one that is on its way; None while there is none."""
        return self._parked if self._parking is None else self._parking

    def want(self, number: int) -> None:
        """Keep this copy also when a newer one stands. From the first call on, what a copy says it had exported is kept too."""
        if self.shelf is None:
            self.shelf = Shelf()
            if self._parked is not None:
                self.shelf.exported[self._parked] = self._environment
        self.shelf.want(number)

    def want_only(self, numbers: Iterable[int]) -> None:
        """Let go of all copies that are kept but these."""
        for number in self.shelf.want_only(numbers, self.checkpoint) if self.shelf is not None else ():
            self._leaving.append(self._pids.pop(_kept(number)))
            self._drop(number)

    def pid_of(self, number: int | None) -> int:
        """0 for a copy that does not stand any more."""
        return self._pids.get("parked" if number == self._parked else _kept(number), 0) if number is not None else 0

    def rewind(self, number: int, alive: frozenset[int]) -> None:
        """The driver was killed: go on with a copy that `pid_of` knows, wanted or parked. `alive` lived before the killing.

        Raises ShellsGone if it cannot.
        """
        if self._pids.get("supervisor", self._pids.get("leader")) in alive:
            self._wait_for(lambda: self.take("D") is not None, SETTLE_TIMEOUT_S)
        if self._pids.get("leader") not in alive:
            self._appoint_witness()
        if number != self._parked:
            self._retire()
            self._dismiss()
            assert self.shelf is not None
            self.shelf.kept.discard(number)
            self._parked = number
            self._pids["parked"] = self._pids.pop(_kept(number))
        self.promote()

    @property
    def is_deep(self) -> bool:
        """Whether the shell is a copy of a copy so many times that the next one may have no room on its stack."""
        return self._depth >= MAX_DEPTH

    def promote(self) -> None:
        """The driver has ended: make the parked copy go on. Raises ShellsGone if it cannot."""
        assert self._parked is not None
        self._depth += 1
        self._dismiss()
        self.unreserve()
        if self.shelf is not None:
            self.shelf.pass_on(self._parked, self._numbers + 1)
        gate = f"k.{self._parked}"
        self._channel.drain_commands()
        self._starting = True
        self._channel.pass_gate(gate, self._supervise())
        self._leaving.extend(pid for role, pid in self._pids.items() if role == "supervisor")  # it told of the end, and goes
        self._pids["supervisor"] = self._pids.pop("parked")
        self._parked = None
        self._wait_ready(SETTLE_TIMEOUT_S)
        self._channel.close_gate(gate)

    def adopt(self) -> None:
        """The driver becomes the one who waits, for a copy of itself, since the leader and whoever else waited is gone."""
        self._depth += 1
        self._appoint_witness()
        self._pids["supervisor"] = self._pids.pop("driver")
        self._starting = True
        self._channel.send(self._supervise())
        self._wait_ready(SETTLE_TIMEOUT_S)

    def _supervise(self) -> str:
        traps = script.traps_text(self.traps)
        if traps:
            self._channel.put("traps", traps.encode(errors="surrogateescape"))
        return script.supervise(can_catch=self.can_catch, has_traps=bool(traps))

    def _appoint_witness(self) -> None:
        self._close_leader()
        self._attach(script.witness(self._generation + 1), [self._secret])
        # a witness that has yet to start would survive what it is there to witness
        self._wait_for(lambda: "leader" in self._pids, SETTLE_TIMEOUT_S)

    def restart(self) -> None:
        """No shell is left alive: a new leader and driver with the last directory and exported environment.

        Raises SessionLost when the shell does not start.
        """
        self.unreserve()
        for number in (self._parked, self._parking, self._retired):
            if number is not None:
                self._channel.close_gate(f"k.{number}")
        self._parked = self._parking = self._retired = None
        for number in self.shelf.clear() if self.shelf is not None else ():
            self._channel.close_gate(f"k.{number}")
        self._numbers += 1  # a copy that was promised this number was to be as the dead were
        self._channel.drain_commands()
        self._close_leader()
        self.pump()  # what the dead had still to say is of no use to the living
        self._inbox.clear()
        self.foreign()
        self._channel.put("env", self._environment)
        self._start(script.ready(self.cwd, restore_env=True), SETTLE_TIMEOUT_S)

    def _start(self, ready: str, timeout_s: float) -> None:
        self._pids.clear()
        self._depth = 0
        self.traps = ""
        self._starting = True
        self._channel.send(ready)
        self._attach(script.leader(self._spec.shell, self._generation + 1), [self._secret, script.introduce(self._secret)])
        try:
            self._wait_ready(timeout_s)
        except ShellsGone:
            words = self._leader_words.decode(errors="backslashreplace").strip()
            raise SessionLost(
                f"starting {self._spec.shell} in container {self._container.name}: {words or self._container.state().describe()}",
                hint="name a shell that the image has: `shell: sh`",
            ) from None

    def _attach(self, text: str, lines: list[str]) -> None:
        self._generation += 1
        self._leader_words = b""
        self._channel.open_gate(f"hold.{self._generation}")
        argv = [self._spec.shell, "-c", text, self._spec.shell]
        self._leader = self._container.attach(argv, user=self._spec.user, env=self._spec.env, cwd="/")
        self._leader.write("".join(f"{line}\n" for line in lines).encode())

    def _wait_ready(self, timeout_s: float) -> None:
        self._wait_for(lambda: self.take("R") is not None, timeout_s)

    def _wait_for(self, come: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        self.pump()
        while not come():
            self._await(deadline)
            self.pump()

    def _await(self, deadline: float) -> None:
        """Until something arrives. Raises ShellsGone at the deadline or when the leader ended with nothing left to read."""
        poll = select.poll()
        for fd in self._readers:
            poll.register(fd, select.POLLIN)
        if self._leader is not None:
            poll.register(self._leader.fileno(), select.POLLIN)
        left_ms = int((deadline - time.monotonic()) * 1000)
        ready = [fd for fd, _ in poll.poll(max(left_ms, 0))]
        if self._readers.keys() & ready:
            return
        if not ready or self.leader_gone():
            raise ShellsGone

    def _sort(self, record: Record) -> None:
        numbers = [int(word) for word in record.words if word.isdecimal()]
        match record.tag, numbers:
            case "L", [pid, can_catch] if "leader" not in self._pids:
                self.can_catch = bool(can_catch)
                self._pids["leader"] = pid
            case "R", [pid] if self._starting:
                self._starting = False
                self._pids["driver"] = pid
                self._inbox.append(record)
            case "K", [number, pid]:
                self._stands(number, pid, record.body)
            case (("S" | "D" | "P"), _):
                self._inbox.append(record)
            case _:
                self._stray += record.tag.encode()  # of our making, yet nobody was asked: a step called our functions

    def _stands(self, number: int, pid: int, environment: bytes) -> None:
        if number == self._reserved:
            self._early = number, pid, environment  # that of the step's end is still to be read
        if number != self._parking:
            return
        self._retire()
        self._parked, self._parking = number, None
        self._pids["parked"] = pid
        self._environment = environment
        if self.shelf is not None:
            self.shelf.exported[number] = environment

    def _retire(self) -> None:
        """The parked copy is not needed any more. It waits until the step is counted: one that ends then blurs the count."""
        if self._parked is not None:
            if self.shelf is not None and self.shelf.take(self._parked):
                self._pids[_kept(self._parked)] = self._pids.pop("parked")
                self._parked = None
                return
            self._dismiss()
            self._retired, self._parked = self._parked, None
            self._pids["retired"] = self._pids.pop("parked")

    def _dismiss(self) -> None:
        if self._retired is not None:
            self._drop(self._retired)
            self._retired = None
            self._leaving.append(self._pids.pop("retired"))

    def _drop(self, number: int) -> None:
        self._channel.pass_gate(f"k.{number}", script.DROP)
        self._channel.close_gate(f"k.{number}")

    def _close_leader(self) -> None:
        if self._leader is not None:
            self._channel.pass_gate(f"hold.{self._generation}", "")
            self._channel.close_gate(f"hold.{self._generation}")
            self._leader.close()
            self._leader = None
        self._pids.pop("leader", None)


def _kept(number: int) -> str:
    """The role of a copy that is kept."""
    return f"kept {number}"
