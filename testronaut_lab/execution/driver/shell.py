"""The fast driver: runs commands in a session's persistent shell, about a millisecond each, and tells how each ended.

`lineage.py` keeps shells alive, `watch.py` reads a running step, `watchdog.py` kills. What changed in files, and what a
result looks like, is `runner.py`'s business.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from typing import Protocol

from testronaut_lab.capture.stream import StreamCapture
from testronaut_lab.container.protocol import Container
from testronaut_lab.errors import SessionLost
from testronaut_lab.execution.driver import script
from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.guard import Guard
from testronaut_lab.execution.driver.guests import Guests
from testronaut_lab.execution.driver.late import LateReader
from testronaut_lab.execution.driver.lineage import Lineage, ShellsGone, ShellSpec
from testronaut_lab.execution.driver.records import Record
from testronaut_lab.execution.driver.watch import Bounds, StepWatch, Stream
from testronaut_lab.execution.driver.watchdog import Process, WatchdogLost
from testronaut_lab.model.result import Captured, ErrorInfo, ExitKind, ShellState

KILL_TIMEOUT_S = 2.0
PARK_TIMEOUT_S = 1.0
_SETTLE_S = 0.004


class Meter(Protocol):
    """Counters of the container; None where they cannot be read."""

    def processes(self) -> int | None: ...
    def refused_forks(self) -> int | None: ...
    def oom_kills(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class ShellEnd:
    """How a command ended. `code` is the shell's, None when there is none; `error` says what is in doubt."""

    kind: ExitKind
    code: int | None
    stdout: Captured
    stderr: Captured
    duration_s: float
    cwd: str
    state: ShellState
    left_behind: tuple[str, ...] = ()
    error: ErrorInfo | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Over:
    """A step that runs no more. `record` is None when every shell of the session was killed, `was_ended` says that we did it."""

    kind: ExitKind
    record: Record | None
    duration_s: float
    is_forged: bool
    was_ended: bool = False

    @property
    def by_itself(self) -> bool:
        return self.record is not None and self.record.tag == "S"


class ShellDriver:
    """Drives one session. From one thread at a time, but for `interrupt`."""

    name = "fast"

    def __init__(self, container: Container, channel: Channel, spec: ShellSpec, meter: Meter) -> None:
        self._container = container
        self._channel = channel
        self._lineage = Lineage(container, channel, spec)
        self.spec = spec
        self._meter = meter
        self._watchdog: Guard | None = None
        self._guests: Guests | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._late = LateReader()
        self._background: dict[int, str] = {}
        self._options = ""
        self._number = 0
        self._forks_refused = 0
        self._oom_killed = 0

    def start(self) -> None:
        """Start the shell. Raises SessionLost when it cannot."""
        self._lineage.start()
        self._lineage.park()
        try:
            self._watchdog = Guard(self._container)
        except WatchdogLost as error:
            raise SessionLost(f"starting the session's watchdog: {error}; {self._container.state().describe()}") from error
        self._guests = Guests(self._container, self._watchdog)
        self._container.hurry()

    @property
    def guests(self) -> Guests:
        """The programs beside the shell, once it has started."""
        assert self._guests is not None
        return self._guests

    def end_strangers(self) -> None:
        """Kill all but the shells, the guests and the jobs of earlier commands. Raises SessionLost when that cannot be done."""
        self._lineage.stands(PARK_TIMEOUT_S)  # a copy that has not told its number yet is no stranger
        self._sweep(self._lineage.pids)

    def left_behind(self, settle_s: float = _SETTLE_S) -> tuple[str, ...]:
        """Names of processes that nobody has heard of, and that do not end meanwhile; they are background jobs from now on."""
        self._lineage.stands(PARK_TIMEOUT_S)
        ours = self._lineage.pids
        # the keeper and the watchdog are in the container too; how many processes a guest has is not known,
        # and where a known job may have ended, a count proves nothing
        is_simple = settle_s == _SETTLE_S and not self.guests.sessions and not self._background
        if is_simple and self._meter.processes() == len(ours) + 2:
            return ()
        found = self._strangers(ours)
        if any(pid not in self._background for pid in found):
            time.sleep(settle_s)  # what is ending at this moment was not left behind
            found = self._strangers(ours)
        new = tuple(f"{name} ({pid})" for pid, name in found.items() if pid not in self._background)
        self._background = found
        return new

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
        notes: list[str] = []
        before = self._settle(notes)
        self._number += 1
        self._forget_interrupt()
        self._count_from_here()
        out_fd, err_fd = self._channel.open_streams(self._number)
        streams = (Stream(out_fd, out), Stream(err_fd, err))
        try:
            started = time.monotonic()
            nonce = self._begin(command)
            watch = StepWatch(self._lineage, self._channel.ctl, self._wake, streams, self._driver_lives)
            over = self._conclude(watch, watch.until_over(bounds, started), nonce, started)
            began = over.by_itself or any(stream.touched for stream in streams)
            watch.drain()
            error = self._doubt(over, began=began)
            notes += self._oom_note(over)
            left_behind = self._left_behind(over)
            state = self._go_on(over, notes)
            out_kept, err_kept = (stream.capture.finish(open_=not stream.ended) for stream in streams)
        finally:
            self._close_streams(streams)
        state = before if state is ShellState.KEPT else state
        cwd = self._lineage.cwd
        return ShellEnd(over.kind, _code(over), out_kept, err_kept, over.duration_s, cwd, state, left_behind, error, tuple(notes))

    def _forget_interrupt(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return

    def _count_from_here(self) -> None:
        """What a fork bomb was refused while it was being ended is not the next step's."""
        self._forks_refused = self._meter.refused_forks() or 0
        self._oom_killed = self._meter.oom_kills() or 0

    def _begin(self, command: script.Command) -> str:
        nonce = secrets.token_hex(8)
        put = self._channel.put
        put("step", script.step_text(command, traced="x" in self._options).encode(errors="surrogateescape"))
        stdin = "empty"
        if command.stdin:
            stdin = "stdin"
            put(stdin, command.stdin)
        if script.needs_brackets(command):
            put("before", script.before_text(command).encode(errors="surrogateescape"))
            put("after", script.after_text(command, self._lineage.cwd).encode(errors="surrogateescape"))
        self._channel.send(script.run_line(command, self._number, nonce, stdin=stdin, can_catch=self._lineage.can_catch))
        return nonce

    def _close_streams(self, streams: tuple[Stream, Stream]) -> None:
        self._channel.forget_streams(self._number)
        for stream in streams:
            if stream.ended:
                os.close(stream.fd)
            else:
                self._late.take_over(stream.fd)

    def _conclude(self, watch: StepWatch, over: Record | ExitKind | None, nonce: str, started: float) -> _Over:
        """Make sure that the step is over: kill what must be killed. The record is None when every shell is gone."""
        is_forged = isinstance(over, Record) and self._is_forged(over, nonce)
        if not isinstance(over, ExitKind) and not is_forged:
            return _Over(self._kind_of_end(over), over, time.monotonic() - started, is_forged)
        why = over if isinstance(over, ExitKind) else ExitKind.EXITED
        self._lineage.stands(PARK_TIMEOUT_S)  # a copy that has not told its number yet would be taken for the step's
        self._sweep(self._lineage.others)
        record = watch.until_dead(KILL_TIMEOUT_S)
        if record is None and self._driver_lives():
            self._container.kill()
            raise SessionLost(f"the step had to be ended ({why.value}) and its shell did not die: the container was killed")
        return _Over(why, record, time.monotonic() - started, is_forged, was_ended=True)

    def _is_forged(self, record: Record, nonce: str) -> bool:
        """Whether a step wrote it by our own functions, and so may still run."""
        if record.tag == "S":
            return len(record.words) != 4 or record.words[0] != nonce or not record.words[1].isdecimal()
        return not (len(record.words) == 1 and record.words[0].isdecimal()) or self._driver_lives()

    def _kind_of_end(self, record: Record | None) -> ExitKind:
        """What the container's own counters say of a step that ended by itself."""
        forks_refused = (self._meter.refused_forks() or 0) > self._forks_refused
        oom_killed = (self._meter.oom_kills() or 0) > self._oom_killed
        if oom_killed and not (record is not None and record.tag == "S" and record.words[1:2] == ("0",)):
            return ExitKind.OOM
        return ExitKind.PIDS_LIMIT if forks_refused else ExitKind.EXITED

    def _oom_note(self, over: _Over) -> list[str]:
        """A step may get over the loss of a process, but whoever reads its result has to know of it."""
        killed = (self._meter.oom_kills() or 0) - self._oom_killed
        if killed <= 0 or over.kind is ExitKind.OOM:
            return []
        processes = "1 process" if killed == 1 else f"{killed} processes"
        return [f"{processes} of the session had to be killed for lack of memory (limits.memory)"]

    def _sweep(self, keep: frozenset[int]) -> None:
        """Kill everything but these and the jobs of earlier steps. Raises SessionLost when that cannot be done."""
        assert self._watchdog is not None
        try:
            if self._watchdog.sweep(keep | self._background.keys(), KILL_TIMEOUT_S, self.guests.sessions):
                return
            why = "some processes could not be killed"
        except WatchdogLost as error:
            why = f"{error}; {self._container.state().describe()}"
        self._container.kill()
        raise SessionLost(f"a step had to be ended, and {why}; its container was killed")

    def _doubt(self, over: _Over, *, began: bool) -> ErrorInfo | None:
        """What makes this step an error whatever its exit status. It `began` if its shell came as far as its streams."""
        stopped = self._lineage.take("P")
        extra = self._lineage.take("SP")
        if over.is_forged or extra is not None or self._lineage.foreign():
            return ErrorInfo("Tampered", "something in the container wrote to the session's record channel during this step")
        if stopped is not None:
            hint = "create the directory in an earlier step or in `files:`"
            return ErrorInfo("UsageError", "the step's `cwd` is no directory in the container", hint)
        if over.kind is ExitKind.EXITED and not began and not self._lineage.stands(PARK_TIMEOUT_S):
            return ErrorInfo("SessionLost", "the shell ended before the step began: it was killed, or had no room to fork")
        return None

    def _left_behind(self, over: _Over) -> tuple[str, ...]:
        """Names of the processes that this step started and that still run; they are known as background jobs from now on."""
        if not self._lineage.stands(PARK_TIMEOUT_S):
            self._lineage.give_up_parking()
        if over.kind is ExitKind.PIDS_LIMIT:
            self._sweep(self._lineage.pids)  # there must be room for our own shells
        if over.record is None:
            self._background.clear()
        return self.left_behind()

    def _strangers(self, ours: frozenset[int]) -> dict[int, str]:
        assert self._watchdog is not None
        processes = self._processes()
        not_theirs = ours | {1, self._watchdog.pid, self._lineage.leaving_pid} | self.guests.of(processes)
        return {p.pid: p.name for p in processes if p.pid not in not_theirs and p.is_alive}

    def _go_on(self, over: _Over, notes: list[str]) -> ShellState:
        """See to it that a shell waits for the next command, with a parked copy if that is possible."""
        record = over.record
        if over.by_itself and record is not None:
            self._lineage.cwd = record.body.removesuffix(b"\n").decode(errors="surrogateescape")
            self._options = record.words[2]
            try:
                self._keep_shell(record.words[3], notes)
            except ShellsGone:
                notes.append("the shell was killed at the step's end")
                self._restart()
                return ShellState.LOST
            return ShellState.KEPT
        self._options = ""
        if record is None:
            notes.append("every shell of the session was killed")
        return self._restore(notes, ended=record is not None)

    def _keep_shell(self, held: str, notes: list[str]) -> None:
        if self._lineage.leader_gone():
            how = "the line to the shell's supervisor broke" if self._relieve() else "the step killed the shell's supervisor"
            self._lineage.adopt()
            notes.append(f"{how}; `$$` is no longer the shell's own number")
        if held == "-":
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
        if ended and self._lineage.stands(PARK_TIMEOUT_S):
            is_stale = len(self._lineage.waiting) > 1  # a copy goes on already
            try:
                self._lineage.promote()
                self._lineage.park()
            except ShellsGone:
                notes.append("the parked copy of the shell was killed too")
            else:
                notes += [] if is_stale else ["`$$` is no longer the shell's own number"]
                return ShellState.RESTORED
        self._restart()
        return ShellState.LOST

    def _relieve(self) -> bool:
        """End whoever still waits for the driver and would tell of its end beside a new one. Whether there was anybody."""
        assert self._watchdog is not None
        alive = self._lineage.waiting & {process.pid for process in self._processes() if process.state not in "ZX"}
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
        return any(process.pid == self._lineage.driver_pid and process.state not in "ZX" for process in self._processes())

    def _processes(self) -> list[Process]:
        assert self._watchdog is not None
        try:
            return self._watchdog.processes()
        except WatchdogLost as error:
            raise SessionLost(f"listing the session's processes: {error}; {self._container.state().describe()}") from error

    def _restart(self) -> None:
        state = self._container.state()
        if not state.running or state.paused:
            raise SessionLost(f"the session's shell is gone: {state.describe()}")
        try:
            self._sweep(frozenset())  # no shell of ours that still lives may take the new one's commands
            self._lineage.restart()
            self._lineage.park()
        except ShellsGone as error:
            raise SessionLost("the session's shell could not be started again") from error


def _code(over: _Over) -> int | None:
    """The shell's exit status; None for a step that we ended because of what it did."""
    if over.kind not in (ExitKind.EXITED, ExitKind.OOM, ExitKind.PIDS_LIMIT) or (over.was_ended and not over.is_forged):
        return None
    if over.record is None:
        return 137  # every shell was killed, and only SIGKILL does that
    return int(over.record.words[1 if over.by_itself else 0])
