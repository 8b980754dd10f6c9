"""The fast driver: feeds a session's shell one step after the other, and tells how each ended.

The protocol, in order; nothing of ours runs in the shell but what is named here.

1. *Start.* A leader (the exec's own shell) starts the session's shell, which reads a FIFO as its script for its whole life and
   writes to one pair of FIFOs. Once it has made its first report, the FIFOs lose their names and the leader is ended: the
   keeper, the container's first process, is the parent of every shell of ours (`supervisor.py`).
2. *Step.* The text goes into the program as it is, or as a file that `.` reads (`text.py`). Behind it goes an empty loop with
   a redirection: the name of the file that this makes is the report (`reports.py`). A step with an environment, a directory or
   exports of its own has a text of ours before it and one after it, each with its own report, whose output is not the step's.
3. *End*, one of four (`exchange.py`). Told: the report came. Gone: the shell's process ended; how, its zombie says. Stopped:
   timeout, limit, interrupt. Forged: somebody else made a report. After the last two, everything is killed but copies, jobs
   of earlier steps and programs beside the shell. A text that is not whole (the shell sleeps reading its program, and has told
   nothing) gets the end that a script's file would have there, and so is Gone.
4. *Streams.* What is in the pair is the step's. Where somebody else still holds it after 50 ms, the shell gets a new pair
   (`streams.py`), and what comes by the old one is late output of this step.
5. *Copy.* The shell is copied as it is now (`checkpoints.py`), the copy from before is ended. Copies cost the shell nothing.
6. *After Gone* the last copy goes on: `restored`. Where there is none, a new shell starts with the last directory and what was
   last known of the exported environment: `lost`.
"""

from __future__ import annotations

import os
import time
from pathlib import PurePosixPath

from testronaut_lab.capture.stream import StreamCapture
from testronaut_lab.container.protocol import Container
from testronaut_lab.errors import ErrorKind, SessionLost
from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.fast import ptrace, text
from testronaut_lab.execution.driver.fast.checkpoints import Copy, NoCopy, Reach, Traced
from testronaut_lab.execution.driver.fast.conversation import FOREVER, Conversation, Sinks, Step
from testronaut_lab.execution.driver.fast.exchange import End, Forged, Gone, Stopped, Told
from testronaut_lab.execution.driver.fast.forked import Forked
from testronaut_lab.execution.driver.fast.inside import find_table
from testronaut_lab.execution.driver.fast.processes import Others
from testronaut_lab.execution.driver.fast.reports import Reports
from testronaut_lab.execution.driver.fast.rewind import Rewinder
from testronaut_lab.execution.driver.fast.shell import Looping, Shell
from testronaut_lab.execution.driver.fast.streams import Sink
from testronaut_lab.execution.driver.fast.supervisor import Supervisor
from testronaut_lab.execution.driver.fast.table import HostTable, Table
from testronaut_lab.execution.driver.late import STREAMS, LateReader, Tell
from testronaut_lab.execution.driver.outcome import REFUSED, TAMPERED, ShellEnd
from testronaut_lab.execution.driver.processes.background import BackgroundProcesses
from testronaut_lab.execution.driver.processes.counters import Meter, ResourceCounters
from testronaut_lab.execution.driver.processes.guard import Guard
from testronaut_lab.execution.driver.processes.leftovers import SETTLE_S
from testronaut_lab.execution.driver.processes.watchdog import WatchdogLost
from testronaut_lab.execution.driver.script import RUN_DIR, Bounds, Command, ShellSpec
from testronaut_lab.model.result import ErrorInfo, ExitKind, ShellState

KILL_TIMEOUT_S = 10.0
HOLDER_WAIT_S = 0.05
_LOOK_S = 0.001
FOREIGN_NOTE = f"something in the container made files in {RUN_DIR}/end, where only the shell reports: they were ignored"
ENDED_NOTE = "the shell ended in this step; the session goes on with its state from before it"


class FastDriver:
    """Drives one session. From one thread at a time, but for `interrupt`. `on_late` is called on a thread of its own."""

    name = "fast"

    def __init__(
        self, container: Container, channel: Channel, spec: ShellSpec, meter: Meter,
        on_late: Tell,
    ) -> None:  # fmt: skip
        self.spec = spec
        self._container = container
        self._channel = channel
        self._meter = meter
        self._toll = ResourceCounters(meter)
        self._late = LateReader(on_late)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._exported = b""
        self._remembers = False
        self._awaits_copy = False  # nobody has asked yet what came of the last one
        self._strayed: frozenset[str] = frozenset()
        self._exports: dict[int, bytes] = {}  # by the number of a copy
        self._rewinder = Rewinder(self)
        self._table: Table | None = None
        self._others: Others | None = None
        self._supervisor: Supervisor | None = None
        self._conversation: Conversation | None = None

    def start(self) -> None:
        """Start the shell. Raises SessionLost when it cannot."""
        try:
            guard = Guard(self._container)
        except WatchdogLost as error:
            raise SessionLost(f"starting the session's watchdog: {error}; {self._container.state().describe()}") from error
        self._table = table = find_table(self._container, guard, self._meter, self._channel)
        self._others = Others(self._container, guard, self._meter, table)
        self._supervisor = Supervisor(
            self._container, self._channel, self.spec, table, self._reach, lambda pid: guard.end([pid])
        )  # fmt: skip
        name = PurePosixPath(self.spec.shell).name
        self._conversation = Conversation(self._supervisor, self._channel, name, self.spec.cwd, self._wake)
        self._settle_in(self.spec.cwd)
        self._container.end_soon()

    def close(self) -> None:
        self._late.close()
        if self._supervisor is not None:
            self._supervisor.close()
        if self._others is not None:
            self._others.guard.close()
        self._channel.close()
        os.close(self._wake)

    def interrupt(self) -> None:
        """End the command that runs, from any thread; the session lives. Without one it does nothing."""
        os.eventfd_write(self._wake, 1)

    @property
    def late_bytes(self) -> int:
        """What processes left behind wrote to their steps' streams after those had ended."""
        return self._late.bytes_seen

    @property
    def copies(self) -> str:
        """How the shell is copied: traced or forked."""
        return self.supervisor.reach.name

    @property
    def guests(self) -> BackgroundProcesses:
        """The programs beside the shell, once it has started."""
        return self.others.guests

    @property
    def table(self) -> Table:
        """Where the session's processes are seen."""
        assert self._table is not None
        return self._table

    @property
    def others(self) -> Others:
        assert self._others is not None
        return self._others

    @property
    def supervisor(self) -> Supervisor:
        assert self._supervisor is not None
        return self._supervisor

    @property
    def conversation(self) -> Conversation:
        assert self._conversation is not None
        return self._conversation

    @property
    def rewinder(self) -> Rewinder:
        """The way back to earlier moments of the shell, once it has started."""
        return self._rewinder

    def exported_by(self, number: int) -> bytes | None:
        """What the copy with this number has exported, also one that was killed by a step since."""
        if number not in self._exports and (copy := self.supervisor.find(number)) is not None:
            said = self.conversation.exported(copy.shell) if self.supervisor.reach.sees_sleep else None
            if said is not None:
                self._exports[number] = said
        return self._exports.get(number)

    def end_strangers(self) -> None:
        """Kill all but the shells, the guests and the jobs of earlier commands. Raises SessionLost when that cannot be done."""
        self.others.sweep(self.supervisor.inner_pids)

    def left_behind(self, settle_s: float = SETTLE_S) -> tuple[str, ...]:
        """Names of processes that nobody has heard of, and that do not end meanwhile; they are background jobs from now on."""
        if settle_s == SETTLE_S and self.others.are_none(self.supervisor):
            return ()
        return self.others.left_behind(self.supervisor, settle_s)

    def run(self, command: Command, out: StreamCapture, err: StreamCapture, bounds: Bounds) -> ShellEnd:
        """Run one command and wait for it to end, for at most its timeout plus the time to kill it.

        A command that fails, is not found or is killed is a result. Raises SessionLost if the container or the engine is
        gone; what was captured by then is in the two captures, and only `close` may be called after that.
        """
        self._forget_interrupt()
        self._toll.count_from_here()
        self._late.during = command.nodeid
        step = Step(command, bounds, time.monotonic(), (Sink(out), Sink(err)))
        try:
            before = self._settle(step)
            self._remember_exports(command)
            self._note_number(step)
            end = self.conversation.enter(step) or self.conversation.perform(step)
            return self._finish(step, end, before, (out, err))
        finally:
            self.supervisor.launch()
            self._late.during = None

    def settle(self) -> tuple[str, ...]:
        """Wait for the copy of the shell that the last command has left to be made."""
        is_new, self._awaits_copy = self._awaits_copy, False
        return self._why_no_copy() if is_new else ()

    def _finish(self, step: Step, end: End, before: ShellState, captures: tuple[StreamCapture, StreamCapture]) -> ShellEnd:
        duration_s = time.monotonic() - step.started
        self._drain(step.sinks)
        if isinstance(end, Told) and not (step.was_entered or step.command.leaves_shell):
            self.supervisor.halt()
        kind, code, gone = self._conclude(step, end)
        left_behind, is_open = self._others_of(step, gone, kind)
        for sink in step.sinks:
            sink.flush()
        former = self.supervisor.pair
        state = self._restore(step) if gone is not None else self._go_on(step, renew=is_open)
        if is_open and former is self.supervisor.pair:  # a restored shell writes to the pair of the one that ended
            self._renew(step)
        self._hand_over(step.command.nodeid)
        out, err = (capture.finish(open_=is_open) for capture in captures)
        state = before if state is ShellState.KEPT else state
        pids = end.report.pids if isinstance(end, Told) else ()
        return ShellEnd(
            kind, code, out, err, duration_s, self.conversation.known.cwd, state, left_behind, step.error,
            (*step.notes, *self._toll.notes(kind)), pids, step.by_signal,
        )  # fmt: skip

    # How it ended

    def _conclude(self, step: Step, end: End) -> tuple[ExitKind, int | None, Gone | None]:
        """What ended the step, with which status, and the shell's end if that came with it."""
        is_refused = step.error is not None
        code: int | None = None
        gone: Gone | None = None
        match end:
            case Told(report):
                code = report.status & 0xFF  # `return 300` leaves 300 in dash's `$?`, and 44 is what ends a script
                kind = self._toll.kind_of_end(went_well=code == 0)
            case Gone():
                self._doubt(step, end)
                kind, code, gone = self._toll.kind_of_end(went_well=False), end.code, end
            case Stopped(why):
                kind, gone = why, self.end_step(why.value)
            case Forged():
                step.error = step.error or TAMPERED
                kind, gone = ExitKind.EXITED, self.end_step("tampered")
        if self.conversation.saw_foreign_files:
            self.conversation.saw_foreign_files = False
            step.notes.append(FOREIGN_NOTE)
        return kind, None if is_refused else code, gone

    def _doubt(self, step: Step, gone: Gone) -> None:
        """A shell that ended, and what is not known then."""
        if any(sink.was_refused for sink in step.sinks):
            step.error = REFUSED["streams"]
        elif gone.code is None and step.error is None:
            step.error = ErrorInfo(ErrorKind.SESSION_LOST, "the session's shell ended in this step, and nobody could tell how")

    def end_step(self, why: str) -> Gone:
        """End the step: everything dies but copies, jobs of earlier steps, and guests."""
        shell = self.supervisor.shell
        self.others.sweep(self.supervisor.copy_pids)
        shell.kill()
        if not shell.await_end(self._container.patience_s(KILL_TIMEOUT_S)):
            self._container.kill()
            raise SessionLost(f"the step had to be ended ({why}) and its shell did not die: the container was killed")
        return Gone(None)

    def _others_of(self, step: Step, gone: Gone | None, kind: ExitKind) -> tuple[tuple[str, ...], bool]:
        """What the step has left behind, and whether that holds its streams."""
        if gone is None and self.others.are_none(self.supervisor):
            self._drain(step.sinks)  # one of them may have written and ended since the streams were read
            return (), False
        self.supervisor.launch()
        if kind is ExitKind.PIDS_LIMIT:
            self.others.sweep(self.supervisor.inner_pids)  # there must be room for our own shells
        found = self.others.left_behind(self.supervisor), self._is_still_held(step.sinks)
        self._drain(step.sinks)
        return found

    def _is_still_held(self, sinks: Sinks) -> bool:
        """Whether somebody else than our shells holds the streams, for 50 ms at least."""
        deadline = time.monotonic() + HOLDER_WAIT_S
        while self.others.holds(self.supervisor.pair, self.supervisor):
            if time.monotonic() >= deadline:
                return True
            self._drain(sinks)
            time.sleep(_LOOK_S)
        return False

    def _drain(self, sinks: Sinks) -> None:
        for fifo, sink in zip(self.supervisor.pair.both, sinks, strict=True):
            fifo.drain(sink)

    # How it goes on

    def _go_on(self, step: Step, *, renew: bool) -> ShellState:
        """The shell is there: make it ready for the next step."""
        supervisor = self.supervisor
        try:
            if renew:
                supervisor.new_streams()
            if step.was_entered and not isinstance(self.conversation.leave(step), Told):
                raise NoCopy("the shell ended")
        except NoCopy:
            step.notes.append("the shell was killed at the step's end")
            return self._restore(step)
        is_plain = supervisor.is_plain()
        self._note_strayed(step, frozenset() if is_plain else supervisor.strayed())
        if isinstance(supervisor.shell, Looping) and "e" in self.conversation.known.options:
            step.notes.append("a bash that was restored here does not end at a failure, as `set -e` asks for")
        if supervisor.newest is None or not step.command.leaves_shell:
            self._park(step, is_plain=is_plain)
        return ShellState.KEPT

    def _note_number(self, step: Step) -> None:
        """A restored shell that has not the number of the first one is noted in a step that names it."""
        shell = self.supervisor.shell
        if shell.inner != shell.called and "$$" in text.numbers_named(step.command.run or ""):
            step.notes.append(f"`$$` is {shell.called}, as before the shell was restored; its number is {shell.inner} now")

    def _note_strayed(self, step: Step, strayed: frozenset[str]) -> None:
        """Streams that the shell has sent elsewhere stay there, as in a shell; said when it begins."""
        if new := strayed - self._strayed:
            names = " and ".join(sorted(new))
            step.notes.append(f"the shell's {names} goes elsewhere from here on: later results are without it")
        self._strayed = strayed

    def _park(self, step: Step, *, is_plain: bool) -> None:
        self.supervisor.begin_park(self.conversation.known, is_plain=is_plain)
        if self.supervisor.is_copying:
            self._awaits_copy = True
        else:
            step.notes += self._why_no_copy()

    def _why_no_copy(self) -> tuple[str, ...]:
        why = self.supervisor.why_no_copy if self.supervisor.newest is None else ""
        return (f"{why}: a later step that ends the shell loses its state",) if why else ()

    def _settle(self, step: Step) -> ShellState:
        """See whether the shell still waits for commands, and make one do so if not."""
        if self.supervisor.is_ready():
            return ShellState.KEPT
        if not self.supervisor.shell.has_ended:
            self.supervisor.reap()
            return ShellState.KEPT
        step.notes.append("the shell ended between two steps")
        return self._restore(step)

    def _restore(self, step: Step) -> ShellState:
        """Go on with the last copy where there is one, else with a new shell."""
        supervisor = self.supervisor
        newest = supervisor.newest
        copy = None if newest is None else supervisor.find(newest.number)
        if copy is not None:
            try:
                self.resume(copy, step.command.nodeid)
            except NoCopy:
                step.notes.append("the copy of the shell was killed too")
            else:
                step.notes.append(ENDED_NOTE)
                return ShellState.RESTORED
        self._restart(step)
        return ShellState.LOST

    def resume(self, copy: Copy, by: str = "") -> None:
        """The shell has ended: go on as it was when this copy was made. Late output of its streams is the step's `by`.

        Raises NoCopy.
        """
        supervisor = self.supervisor
        supervisor.go_on(copy)
        self.conversation.begin_anew(copy.known)
        if supervisor.has_former_streams():
            supervisor.new_streams()
            self._hand_over(by)
        if supervisor.newest is None:
            supervisor.park(copy.known, copy.number)

    def _restart(self, step: Step) -> None:
        state = self._container.state()
        if not state.running or state.paused:
            raise SessionLost(f"the session's shell is gone: {state.describe()}")
        step.notes.append("every shell of the session was killed")
        if not self._remembers:
            step.notes.append("what was exported in the session is not known any more")
        cwd = self.conversation.known.cwd
        self.others.sweep(())
        self.others.bystanders.forget()
        self.supervisor.restart(self._exported)
        self._hand_over(step.command.nodeid)
        self._settle_in(cwd)

    def _settle_in(self, cwd: str) -> None:
        end = self.conversation.settle_in(cwd)
        if not isinstance(end, Told):
            raise SessionLost(f"the session's shell could not be started: {self._container.state().describe()}")
        self.supervisor.park(self.conversation.known)

    def _renew(self, step: Step) -> None:
        try:
            self.supervisor.new_streams()
        except NoCopy:
            step.notes.append("the shell was killed at the step's end")

    def _hand_over(self, nodeid: str) -> None:
        """What still comes by streams that our shells have parted with is late output of that step."""
        parted = self.supervisor.parted
        while parted:
            for stream, fifo in zip(STREAMS, parted.pop().both, strict=True):
                self._late.take_over(fifo.fd, stream, nodeid)

    def _remember_exports(self, command: Command) -> None:
        """A step that may kill every process of its user takes with it what the shell had exported: its copies are asked."""
        self._remembers = any("kill" in word for word in (command.run or "", *(command.argv or ())))
        if not self._remembers:
            return
        supervisor = self.supervisor
        newest = supervisor.newest
        known = [*supervisor.kept, *([newest.number] if newest is not None else [])]
        self._exports = {number: text for number, text in self._exports.items() if number in known}
        for number in known:
            self.exported_by(number)
        said = self._exports.get(newest.number) if newest is not None else None
        if said is None:
            said = self.conversation.exported(supervisor.shell)
        if said is not None:
            self._exported = said
            if newest is not None:
                self._exports[newest.number] = said
        supervisor.reap()

    def _forget_interrupt(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return

    def _reach(self, shell: Shell, reports: Reports) -> Reach:
        """What the kernel lets us do to this shell, found out by doing it."""
        try:
            if isinstance(self.table, HostTable) and ptrace.is_supported():
                traced = Traced(self._channel, self.table, self._container.state().pid)
                tried = traced.copy(shell)
                tried.kill()
                tried.close()
                return traced
        except PermissionError:
            pass
        return Forked(self._channel, reports, self.table, self._say, lambda: self._drain((Sink(), Sink())))

    def _say(self, words: str) -> bool:
        end, _, _ = self.conversation.say(words, FOREVER, time.monotonic())
        return isinstance(end, Told)
