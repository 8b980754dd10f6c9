"""The fast driver: runs commands in a session's persistent shell, about a millisecond each, and tells how each ended.

`lineage.py` keeps shells alive, `watch.py` reads a running step, `watchdog.py` kills. What changed in files, and what a
result looks like, is `runner.py`'s business.
"""

from __future__ import annotations

import os
import secrets
import time
from typing import Protocol

from testronaut_lab.capture.stream import StreamCapture
from testronaut_lab.container.protocol import Container
from testronaut_lab.errors import SessionLost
from testronaut_lab.execution.driver import script
from testronaut_lab.execution.driver.bystanders import SETTLE_S, Bystanders
from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.guard import Guard
from testronaut_lab.execution.driver.guests import Guests
from testronaut_lab.execution.driver.late import STREAMS, LateReader, Tell
from testronaut_lab.execution.driver.lineage import Lineage, ShellsGone
from testronaut_lab.execution.driver.outcome import REFUSED, Over, ShellEnd
from testronaut_lab.execution.driver.records import Record
from testronaut_lab.execution.driver.rewind import Rewinder
from testronaut_lab.execution.driver.toll import Counters, Toll
from testronaut_lab.execution.driver.watch import Bounds, StepWatch, Stream
from testronaut_lab.execution.driver.watchdog import Process, WatchdogLost
from testronaut_lab.model.result import ErrorInfo, ExitKind, ShellState

KILL_TIMEOUT_S = 10.0
PARK_TIMEOUT_S = 10.0
_DYING_S = 0.5


class Meter(Counters, Protocol):
    """Counters of the container; None where they cannot be read."""

    @property
    def inner_procs(self) -> str:
        """The file in the container that lists its processes by their numbers there; /dev/null where there is none."""
        ...

    def processes(self) -> int | None: ...
    def pids(self) -> frozenset[int] | None: ...


class ShellDriver:
    """Drives one session. From one thread at a time, but for `interrupt`. `on_late` is called on a thread of its own."""

    name = "fast"

    def __init__(self, container: Container, channel: Channel, spec: script.ShellSpec, meter: Meter, on_late: Tell) -> None:
        self._container = container
        self._channel = channel
        self._lineage = Lineage(container, channel, spec)
        self.spec = spec
        self._meter = meter
        self._watchdog: Guard | None = None
        self._guests: Guests | None = None
        self._rewinder: Rewinder | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._late = LateReader(on_late)
        self._bystanders: Bystanders | None = None
        self._toll = Toll(meter)
        self._number = 0
        self._names_pid = self._pid_told = False
        self._bent = script.STRAIGHT

    def start(self) -> None:
        """Start the shell. Raises SessionLost when it cannot."""
        self._lineage.start()
        self._lineage.park()
        try:
            self._watchdog = Guard(self._container)
        except WatchdogLost as error:
            raise SessionLost(f"starting the session's watchdog: {error}; {self._container.state().describe()}") from error
        self._bystanders = Bystanders(self._container, self._watchdog)
        self._guests = Guests(self._container, self._watchdog)
        self._rewinder = Rewinder(self._lineage, self._channel, self._bystanders, self._guests, self._watchdog)
        self._container.hurry()

    @property
    def guests(self) -> Guests:
        """The programs beside the shell, once it has started."""
        assert self._guests is not None
        return self._guests

    @property
    def rewinder(self) -> Rewinder:
        """The way back to earlier moments of the shell, once it has started."""
        assert self._rewinder is not None
        return self._rewinder

    def end_strangers(self) -> None:
        """Kill all but the shells, the guests and the jobs of earlier commands. Raises SessionLost when that cannot be done."""
        self._lineage.stands(PARK_TIMEOUT_S)  # a copy that has not told its number yet is no stranger
        self._sweep(self._lineage.pids)

    def left_behind(self, settle_s: float = SETTLE_S) -> tuple[str, ...]:
        """Names of processes that nobody has heard of, and that do not end meanwhile; they are background jobs from now on."""
        self._lineage.stands(PARK_TIMEOUT_S)
        if settle_s == SETTLE_S and self._counts_as_ours():
            return ()
        ours = self._lineage.pids
        return self._others.left_behind(lambda processes: self._strangers(processes, ours), settle_s)

    @property
    def _others(self) -> Bystanders:
        assert self._bystanders is not None
        return self._bystanders

    def _is_alone(self, record: Record | None, ours: frozenset[int] | None) -> bool:
        """Whether the step left nothing behind, as far as that can be told at once.

        `ours` are those that were ours at the step's end, None if no copy is on its way: while one is, only the shell's own list,
        from before, proves anything.
        """
        if ours is None or record is None:
            return self._counts_as_ours()
        return not self.guests.sessions and self._are_ours(frozenset(map(int, record.words[4].split(",")[1:])), ours)

    def _are_ours(self, alive: frozenset[int], ours: frozenset[int]) -> bool:
        assert self._watchdog is not None
        if not alive.issuperset(self._others.known):
            self._others.keep_only(alive)
        return ours <= alive <= ours | self._others.known | self._lineage.leaving | {1, self._watchdog.pid}

    def _counts_as_ours(self) -> bool:
        """Whether all processes are ours, or jobs that are known, and no shell of ours is missing.

        Not to be asked while a copy is being parked. False also where it takes a longer look to know.
        """
        if self.guests.sessions:  # how many processes a guest has is not known
            return False
        ours = self._lineage.pids
        # where a known job may have ended, a count proves nothing; and a copy that was told to go may still be going
        if not self._others.known and self._meter.processes() == len(ours) + 2:
            return True
        alive = self._meter.pids()
        return alive is not None and self._are_ours(alive, ours)

    def close(self) -> None:
        self._late.close()
        self._lineage.close()
        if self._watchdog is not None:
            self._watchdog.close()
        self._channel.close()
        os.close(self._wake)

    def interrupt(self) -> None:
        """End the command that runs, from any thread; the session lives. Without one it does nothing."""
        os.eventfd_write(self._wake, 1)

    @property
    def late_bytes(self) -> int:
        """What processes left behind wrote to their steps' streams after those had ended."""
        return self._late.bytes_seen

    def run(self, command: script.Command, out: StreamCapture, err: StreamCapture, bounds: Bounds) -> ShellEnd:
        """Run one command and wait for it to end, for at most its timeout plus the time to kill it.

        A command that fails, is not found or is killed is a result. Raises SessionLost if the container or the engine is
        gone; what was captured by then is in the two captures, and only `close` may be called after that.
        """
        self._late.during = command.nodeid
        notes: list[str] = []
        before = self._settle(notes)
        self._number += 1
        self._forget_interrupt()
        self._toll.count_from_here()
        out_fd, err_fd = self._channel.open_streams(self._number)
        streams = (Stream(out_fd, out), Stream(err_fd, err))
        try:
            started = time.monotonic()
            nonce = self._begin(command)
            self._prepare_next()
            watch = StepWatch(self._lineage, self._channel.ctl, self._wake, streams, self._driver_lives)
            over = self._conclude(watch, watch.until_over(bounds, started), nonce, started)
            began = streams[0].was_opened() and streams[1].was_opened()
            # forking a copy is the longest part of a step: the shell is busy with it while the rest is looked at
            is_settled = over.by_itself and self._lineage.settled(PARK_TIMEOUT_S)
            is_early = over.is_plain and is_settled
            ours = self._lineage.pids
            if over.by_itself and not is_settled:
                self._lineage.give_up_parking()  # the step killed that copy before it had told of itself
            is_parking = over.is_parking and self._lineage.parks_itself()
            is_alone = is_early and self._is_alone(over.record, ours if is_parking else None)
            state = self._go_on(over, command, notes, is_alone=is_alone, is_parking=is_parking) if is_early else None
            watch.drain()
            error = self._doubt(over, began=began)
            notes += self._toll.notes(over.kind)
            left_behind = () if is_alone else self._left_behind(over, notes)
            state = state or self._go_on(over, command, notes, is_alone=False, is_parking=is_parking)
            if error is REFUSED["streams"]:
                self._restart()
                state = ShellState.LOST
            out_kept, err_kept = (stream.capture.finish(open_=not stream.ended) for stream in streams)
        finally:
            self._late.during = None
            self._close_streams(streams, command.nodeid)
        notes += self._note_of_pid(command)
        state = before if state is ShellState.KEPT else state
        cwd = self._lineage.cwd
        return ShellEnd(over.kind, over.code, out_kept, err_kept, over.duration_s, cwd, state, left_behind, error, tuple(notes))

    def _forget_interrupt(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return

    def _begin(self, command: script.Command) -> str:
        nonce = secrets.token_hex(4)
        put = self._channel.put
        self._bent = self._bent.after(command)
        stderr = "2>&1" if command.merge else f"2>|{script.RUN_DIR}/{self._number}.e"
        text = script.step_text(command, traced="x" in self._lineage.options, stderr=stderr, bent=self._bent)
        self._channel.write_step("step", text.encode(errors="surrogateescape"))
        stdin = "empty"
        if command.stdin:
            stdin = "stdin"
            put(stdin, command.stdin)
        if script.needs_brackets(command):
            put("before", script.before_text(command).encode(errors="surrogateescape"))
            put("after", script.after_text(command, self._lineage.cwd).encode(errors="surrogateescape"))
        park = None if _leaves_shell(command) and self._lineage.checkpoint is not None else self._lineage.reserve()
        line = script.run_line(
            command,
            self._number,
            stdin=stdin,
            can_catch=self._lineage.can_catch,
            park=park,
            procs=self._meter.inner_procs,
            bent=self._bent,
        )
        self._channel.write_step("line", line.encode(errors="surrogateescape"))
        self._channel.send(script.run(nonce))
        return nonce

    def _prepare_next(self) -> None:
        """While the shell is busy with this step: what the next one will need, and what is left of the last one."""
        self._channel.tidy()
        self._channel.prepare_streams(self._number + 1)
        self._lineage.prepare_park()

    def _close_streams(self, streams: tuple[Stream, Stream], nodeid: str) -> None:
        self._channel.forget_streams(self._number)
        for name, stream in zip(STREAMS, streams, strict=True):
            if stream.ended:
                os.close(stream.fd)
            else:
                self._late.take_over(stream.fd, name, nodeid)

    def _conclude(self, watch: StepWatch, over: Record | ExitKind | None, nonce: str, started: float) -> Over:
        """Make sure that the step is over: kill what must be killed. The record is None when every shell is gone."""
        is_forged = isinstance(over, Record) and self._is_forged(over, nonce)
        if not isinstance(over, ExitKind) and not is_forged:
            duration_s = time.monotonic() - started
            return Over(self._kind_of_end(over), over, duration_s, is_forged, is_orphan=over is None and self._is_orphan())
        why = over if isinstance(over, ExitKind) else ExitKind.EXITED
        self._lineage.stands(PARK_TIMEOUT_S)  # a copy that has not told its number yet would be taken for the step's
        self._sweep(self._lineage.others)
        record = watch.until_dead(KILL_TIMEOUT_S)
        # a step that came to its end while it was being ended has told so, which is no forgery
        late = self._lineage.take("S")
        is_forged = is_forged or (late is not None and self._is_forged(late, nonce))
        if record is None and self._driver_lives():
            self._container.kill()
            raise SessionLost(f"the step had to be ended ({why.value}) and its shell did not die: the container was killed")
        return Over(why, record, time.monotonic() - started, is_forged, was_ended=True)

    def _is_orphan(self) -> bool:
        """Whether the parked copy lives, and goes on to: on a busy machine what is killed takes a while to end."""
        deadline = time.monotonic() + _DYING_S
        while is_alive := self._lives(self._lineage.parked_pid):
            if time.monotonic() >= deadline:
                break
        return is_alive

    def _is_forged(self, record: Record, nonce: str) -> bool:
        """Whether a step wrote it by our own functions, and so may still run."""
        if record.tag == "S":
            return len(record.words) != 5 or record.words[0] != nonce or not record.words[1].isdecimal()
        return not (len(record.words) == 1 and record.words[0].isdecimal()) or self._driver_lives()

    def _kind_of_end(self, record: Record | None) -> ExitKind:
        """What the container's own counters say of a step that ended by itself."""
        return self._toll.kind_of_end(went_well=record is not None and record.tag == "S" and record.words[1:2] == ("0",))

    def _sweep(self, keep: frozenset[int]) -> None:
        """Kill everything but these and the jobs of earlier steps. Raises SessionLost when that cannot be done."""
        self._others.sweep(keep, self.guests.sessions)

    def _doubt(self, over: Over, *, began: bool) -> ErrorInfo | None:
        """What makes this step an error whatever its exit status. It `began` if its shell came as far as its streams."""
        refused = self._refused()
        if over.is_forged or not refused <= REFUSED.keys() or self._lineage.take("S") or self._lineage.foreign():
            return ErrorInfo("Tampered", "something in the container wrote to the session's record channel during this step")
        if refused:
            return REFUSED[min(refused)]
        if over.is_orphan:
            return ErrorInfo("SessionLost", "the step killed its shell's supervisor, and the shell ended: how is not known")
        if over.kind is ExitKind.EXITED and not began:
            return ErrorInfo("SessionLost", "the shell ended before the step began: it was killed, or had no room to fork")
        return None

    def _refused(self) -> set[str]:
        """What the shell said that it could not be given for this step."""
        said: set[str] = set()
        while (record := self._lineage.take("P")) is not None:
            said.add(" ".join(record.words))
        return said

    def _left_behind(self, over: Over, notes: list[str]) -> tuple[str, ...]:
        """Names of the processes that this step started and that still run; they are known as background jobs from now on."""
        if not self._lineage.stands(PARK_TIMEOUT_S) and self._lineage.give_up_parking() and over.record is None:
            notes.append("what the step before had exported was not told by its shell in time, and is lost")
        if over.kind is ExitKind.PIDS_LIMIT:
            self._sweep(self._lineage.pids)  # there must be room for our own shells
        if over.record is None:
            self._others.forget()
        return self.left_behind()

    def _strangers(self, processes: list[Process], ours: frozenset[int]) -> dict[int, str]:
        assert self._watchdog is not None
        # whoever forked a copy that stands already has yet to end, which on a busy machine takes a while
        forking = {process.parent for process in processes if process.pid == self._lineage.parked_pid}
        not_theirs = ours | {1, self._watchdog.pid} | self._lineage.leaving | forking | self.guests.of(processes)
        return {p.pid: p.name for p in processes if p.pid not in not_theirs and p.is_alive}

    def _go_on(self, over: Over, command: script.Command, notes: list[str], *, is_alone: bool, is_parking: bool) -> ShellState:
        """See to it that a shell waits for the next command, with a parked copy if that is possible."""
        record = over.record
        if over.by_itself and record is not None:
            cwd, _, traps = record.body.decode(errors="surrogateescape").partition("\n\0")
            self._lineage.cwd, self._lineage.traps = cwd, traps
            if not command.isolated:  # it is traced in a subshell, and ours tells that it is not
                self._lineage.options = record.words[2]
            try:
                if self._lineage.leader_gone() or not (is_alone or self._is_supervised()):
                    self._lineage.stands(PARK_TIMEOUT_S)
                    self._adopt(notes)
                    is_parking = False
                if not is_parking:
                    self._keep_shell(record.words[3], command, notes)
            except ShellsGone:
                notes.append("the shell was killed at the step's end")
                self._restart()
                return ShellState.LOST
            return ShellState.KEPT
        self._lineage.options = ""
        if record is None and not over.is_orphan:
            notes.append("every shell of the session was killed")
        return self._restore(notes, ended=record is not None)

    def _is_supervised(self) -> bool:
        """Whether who waits for the shell's end still lives, which its stream may be late to deny."""
        return self._lineage.waiting <= {process.pid for process in self._others.processes() if process.is_alive}

    def _adopt(self, notes: list[str]) -> None:
        how = "the line to the shell's supervisor broke" if self._relieve() else "the step killed the shell's supervisor"
        self._lineage.adopt()
        notes.append(f"{how}; `$$` is no longer the shell's own number")

    def _keep_shell(self, held: str, command: script.Command, notes: list[str]) -> None:
        if held == "-":
            if not (_leaves_shell(command) and self._lineage.stands(0)):
                self._lineage.park()
            return
        self._lineage.release()
        fds = held.removeprefix("-,").replace(",", ", ")
        notes.append(f"the shell holds file descriptor {fds} open: a later step that ends the shell loses its state")

    def _settle(self, notes: list[str]) -> ShellState:
        """See whether the shell still waits for commands, and make one do so if not. Does not wait for a parked copy."""
        self._lineage.pump()
        ended = self._lineage.take("D") is not None
        if not ended and not self._lineage.leader_gone():
            return ShellState.KEPT
        if not ended and self._driver_lives() and self._adopted():
            return ShellState.KEPT
        notes.append("the shell ended between two steps")
        return self._restore(notes, ended=ended)

    def _restore(self, notes: list[str], *, ended: bool) -> ShellState:
        """Go on with the parked copy where a supervisor `ended` and there is one, else with a new shell."""
        if self._lineage.is_deep:
            notes.append("the shell had been restored too many times to be restored again")
        elif ended and self._lineage.stands(PARK_TIMEOUT_S):
            try:
                self._lineage.promote()
                self._lineage.park()
            except ShellsGone:
                notes.append("the parked copy of the shell was killed too")
            else:
                return ShellState.RESTORED
        self._restart()
        return ShellState.LOST

    def _note_of_pid(self, command: script.Command) -> list[str]:
        """A copy that goes on has `$$` of the first shell: said once, and only where a script of the session names it."""
        self._names_pid = self._names_pid or "$$" in (command.run or "")
        if self._pid_told or not self._names_pid or len(self._lineage.waiting) < 2:
            return []
        self._pid_told = True
        return ["`$$` is no longer the shell's own number"]

    def _relieve(self) -> bool:
        """End whoever still waits for the driver and would tell of its end beside a new one. Whether there was anybody."""
        assert self._watchdog is not None
        alive = self._lineage.waiting & {process.pid for process in self._others.processes() if process.state not in "ZX"}
        if alive:
            self._watchdog.end(alive)
        return bool(alive)

    def _adopted(self) -> bool:
        try:
            self._relieve()
            self._lineage.adopt()
            self._lineage.park()
        except ShellsGone:
            return False
        return self._lineage.stands(PARK_TIMEOUT_S)

    def _driver_lives(self) -> bool:
        return self._lives(self._lineage.driver_pid)

    def _lives(self, pid: int) -> bool:
        return any(process.pid == pid and process.is_alive for process in self._others.processes())

    def _restart(self) -> None:
        state = self._container.state()
        if not state.running or state.paused:
            raise SessionLost(f"the session's shell is gone: {state.describe()}")
        try:
            self._sweep(frozenset())  # no shell of ours that still lives may take the new one's commands
            self._lineage.restart()
            self._lineage.park()
            self._pid_told = False
        except ShellsGone as error:
            raise SessionLost("the session's shell could not be started again") from error


def _leaves_shell(command: script.Command) -> bool:
    """Whether it leaves the shell as it was, so that the copy from before is as good as a new one."""
    return (command.argv is not None or command.isolated) and not command.exports
