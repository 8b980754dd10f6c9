"""The plain driver: one exec a step, some hundred times slower than the fast one, for engines that share no FIFO with us.

Each step has a shell of its own, which a supervising shell starts, waits for and reports on. From step to step it carries
the directory, the exported environment, the shell's options (bash's `shopt` too) and the umask, on the host. It does not
carry functions, unexported variables, aliases, traps, positional parameters, open file descriptors, resource limits and
the shell's knowledge of its jobs; a step that made some of these has a note that names them, as far as the shell can be
asked (a function is found by its definition in the step's text; bash tells all). `$$` is another number in each step.

A step's output are the exec's own frames, up to a mark (`markers.py`); its time begins with another one, and has run out only
where the step's shell has not ended by then. The engine reads for 2 s after an exec's end what a process left behind writes and
drops the rest: both streams are `open` then, and the step has a note. Some engines (Podman) end the streams with the exec's first
process: whether one that is left behind would still write cannot be known there, so that both streams are `open` after every step
that left one, with a note. What the shells report
goes to /run/lab.state, a file on the container's own /run that root makes and reads by the watchdog: steps can write to it,
which makes them an error, but not read, replace or remove it (one that runs as root can). Files reach the step by the
read-only run directory. Only the two shells know their nonces, which come by the exec's stdin.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath

from testronaut_lab.capture.stream import StreamCapture
from testronaut_lab.container.protocol import Container
from testronaut_lab.errors import EngineError, ErrorKind, SessionLost
from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.fast.driver import KILL_TIMEOUT_S
from testronaut_lab.execution.driver.fast.streams import Sink as NamingSink
from testronaut_lab.execution.driver.late import Tell
from testronaut_lab.execution.driver.outcome import ShellEnd
from testronaut_lab.execution.driver.plain.late_output import HeldStreams
from testronaut_lab.execution.driver.plain.markers import Ending, ExecWatch, MarkedStream, Sink, Words
from testronaut_lab.execution.driver.plain.processes import ProcessTable
from testronaut_lab.execution.driver.plain.script import (
    CATCHES,
    FIRST,
    PROGRAMS_STDERR,
    STATE_FILE,
    after_text,
    before_text,
    functions_text,
    leader,
    needs_brackets,
    opening,
    step_line,
    step_text,
)
from testronaut_lab.execution.driver.plain.shell_state import CarriedState, candidates, not_carried
from testronaut_lab.execution.driver.plain.step_report import StepReport, read_step_report
from testronaut_lab.execution.driver.processes.counters import Meter
from testronaut_lab.execution.driver.script import RUN_DIR, Bounds, Command, ShellSpec, quote
from testronaut_lab.model.result import ErrorInfo, ExitKind, ShellState

_STEP_FILE = f"{RUN_DIR}/step: ".encode()
_HELD_WAIT_S = 1.0
_START_TIMEOUT_S = 60.0
_LATER = b"later"
_SPEAK_LATER = ("/bin/sh", "-c", f"( sleep 1; echo {_LATER.decode()} ) &")


@dataclass(frozen=True, slots=True)
class _Nonces:
    leader: str
    child: str

    @property
    def mark(self) -> bytes:
        return f"@{self.leader}.".encode()

    def streams(self, out: Sink, err: Sink) -> tuple[MarkedStream, MarkedStream]:
        return MarkedStream(out, self.mark, f"@{self.leader}(".encode()), MarkedStream(err, self.mark)


@dataclass(frozen=True, slots=True)
class _Over:
    """A step that runs no more. `statement` is None where it was ended by us, and where its shells were killed."""

    kind: ExitKind
    code: int | None
    statement: StepReport | None = None
    error: ErrorInfo | None = None


class PlainDriver:
    """Drives one session. Of the channel only the directory is used: its FIFOs may be closed already."""

    name = "plain"

    def __init__(self, container: Container, channel: Channel, spec: ShellSpec, meter: Meter, on_late: Tell) -> None:
        self._container = container
        self._channel = channel
        self._spec = spec
        self._guard = ProcessTable(container, meter)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._carried = CarriedState(spec.cwd)
        self._fresh: StepReport | None = None
        self._can_catch = False
        self._held = HeldStreams(on_late)

    def start(self) -> None:
        """Run a first command, which shows that there is such a shell, what a fresh one holds and what it can catch.

        Raises SessionLost when there is none.
        """
        self._guard.start()
        self._channel.put("plain", functions_text())
        self._channel.put("empty", b"")
        nonces = self._prepare(FIRST)
        words = Words()
        streams = nonces.streams(words, words)
        watch = self._begin(FIRST, nonces, streams)
        ending = watch.until_over(Bounds(_START_TIMEOUT_S, output_limit=False), self._start_timeout_s)
        watch.close()
        self._fresh = self._statement(nonces)
        self._can_catch = words.said == CATCHES
        if ending is not Ending.MARKED or self._fresh.said is None:
            said = words.said.decode(errors="backslashreplace").strip() or self._container.state().describe()
            raise SessionLost(
                f"starting {self._spec.shell} in container {self._container.name}: {said}",
                hint="name a shell that the image has: `shell: sh`",
            )

    def close(self) -> None:
        self._held.close()
        self._guard.close()
        os.close(self._wake)

    def settle(self) -> tuple[str, ...]:
        return ()

    def interrupt(self) -> None:
        """End the command that runs, from any thread; the session lives. Without one it does nothing."""
        os.eventfd_write(self._wake, 1)

    @property
    def late_bytes(self) -> int:
        """What processes left behind wrote after their steps, in the 2 s for which the engine reads it."""
        self._held.read(None)
        return self._held.bytes_seen

    def run(self, command: Command, out: StreamCapture, err: StreamCapture, bounds: Bounds) -> ShellEnd:
        """See `protocol.Driver`."""
        self._held.read(None)
        self._guard.toll.count_from_here()
        self._forget_interrupt()
        nonces = self._prepare(command)
        sinks = self._named(out), self._named(err)
        streams = nonces.streams(*sinks)
        watch = self._begin(command, nonces, streams)
        try:
            with ExitStack() as undo:
                undo.callback(watch.close)
                for stream, sink in zip(streams, sinks, strict=True):
                    undo.callback(sink.flush)
                    undo.callback(stream.flush)
                over = self._conclude(watch, bounds, nonces)
                undo.pop_all()
        except SessionLost:
            raise
        except EngineError as error:
            self._container_must_run(error)
            raise
        duration_s = watch.duration_s
        try:
            return self._end(command, over, watch, streams, sinks, (out, err), duration_s)
        finally:
            self._put_away(watch, streams, command.nodeid)
            self._held.read(command.nodeid)

    @property
    def _start_timeout_s(self) -> float:
        return self._container.patience_s(_START_TIMEOUT_S)

    def _named(self, capture: StreamCapture) -> NamingSink:
        """A sink for which the step's file has the shell's name in messages; none where they begin with that name already."""
        said = None if self._fresh is None else self._fresh.said
        is_bash = said is not None and bool(said.lines("shopt"))
        sink = NamingSink(capture)
        name = f"{PurePosixPath(self._spec.shell).name}: " if is_bash else ""
        sink.renamed = (_STEP_FILE, name.encode())
        return sink

    def _forget_interrupt(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return

    def _prepare(self, command: Command) -> _Nonces:
        """Put what the step's shell reads where it finds it."""
        carried = self._carried
        files = {
            "env": carried.env_text() + f"__lab_d={quote(carried.cwd)} __lab_q={quote(carried.oldpwd)}\n",
            "options": carried.options_text(),
            "step": step_text(command, traced=carried.is_traced, stderr=PROGRAMS_STDERR),
        }
        if needs_brackets(command):
            # the directory is changed by the line itself, which can tell when that fails
            where = f"__lab_w={quote(command.cwd or '')}\n"
            files["before"] = before_text(replace(command, cwd=None)) + where
            files["after"] = after_text(command, carried.cwd)
        for name, text in files.items():
            self._channel.put(name, text.encode(errors="surrogateescape"))
        if command.stdin:
            self._channel.put("stdin", command.stdin)
        return _Nonces(secrets.token_hex(16), secrets.token_hex(16))

    def _begin(self, command: Command, nonces: _Nonces, streams: tuple[MarkedStream, MarkedStream]) -> ExecWatch:
        spec = self._spec
        attached = self._container.attach(leader(spec.shell, can_catch=self._can_catch), user=spec.user, env=spec.env, cwd="/")
        watch = ExecWatch(attached, self._wake, streams)
        functions = candidates(command.run or "")
        line = step_line(command, self._carried, nonces.child, functions, can_catch=self._can_catch)
        try:
            attached.write(opening(nonces.leader, line))
        except EngineError:
            pass  # a shell that did not start has closed its stdin; what it said is still to be read
        return watch

    def _conclude(self, watch: ExecWatch, bounds: Bounds, nonces: _Nonces) -> _Over:
        ending = watch.until_over(bounds, self._start_timeout_s)
        if ending is ExitKind.TIMEOUT and self._statement(nonces).code is not None:
            # it has ended in time: the engine is late with its output
            later = bounds.timeout_s + self._container.patience_s(_START_TIMEOUT_S)
            ending = watch.until_over(replace(bounds, timeout_s=later), self._start_timeout_s)
        if isinstance(ending, ExitKind):
            self._guard.sweep()
            watch.until_closed(KILL_TIMEOUT_S)
            return _Over(ending, None, error=_forged(self._statement(nonces)))
        statement = self._statement(nonces)
        if ending is Ending.CLOSED:
            return self._after_a_cut(nonces)
        error = _forged(statement)
        if error is None and statement.code is None:
            error = ErrorInfo(ErrorKind.TAMPERED, "something in the container removed the record of the step's end")
        if error is None and statement.has_no_cwd:
            hint = "create the directory in an earlier step or in `files:`"
            error = ErrorInfo(ErrorKind.USAGE, "the step's `cwd` is no directory in the container", hint)
        kind = self._guard.toll.kind_of_end(went_well=statement.said is not None and statement.code == 0)
        if kind is ExitKind.PIDS_LIMIT:
            self._guard.sweep()  # there must be room for our own shells
        return _Over(kind, statement.code, statement, error)

    def _after_a_cut(self, nonces: _Nonces) -> _Over:
        """The streams ended without their marks: the supervising shell was killed, never came to be, or the engine cut them."""
        self._container_must_run()
        alive = self._guard.alive()
        statement = self._statement(nonces)  # behind the look: a shell that has ended between the two has said all by then
        if statement.leader_pid in alive:
            self._guard.sweep()
            raise EngineError("the engine closed the streams of a step that still runs", hint="testronaut-lab engine status")
        if (error := _forged(statement)) is None and statement.leader_pid is None:
            error = ErrorInfo(
                ErrorKind.SESSION_LOST, "the step's shell could not be started; what the engine says of it is its output"
            )
        elif error is None and (statement.child_pid in alive or statement.said is not None):
            error = ErrorInfo(ErrorKind.SESSION_LOST, "the step killed the shell that supervises it, and was ended")
        if error is not None:
            self._guard.sweep()
        return _Over(self._guard.toll.kind_of_end(went_well=False), 137, None, error)

    def _end(
        self,
        command: Command,
        over: _Over,
        watch: ExecWatch,
        streams: tuple[MarkedStream, MarkedStream],
        sinks: Sequence[NamingSink],
        captures: tuple[StreamCapture, StreamCapture],
        duration_s: float,
    ) -> ShellEnd:
        statement = over.statement
        ours = frozenset() if statement is None else frozenset(filter(None, (statement.leader_pid, statement.child_pid)))
        left_behind = self._guard.left_behind(ours)
        is_open = not watch.is_closed and bool(left_behind) and not watch.until_closed(_HELD_WAIT_S)
        if over.code is None and not watch.is_closed:
            is_open = True  # killed by us, and yet something holds the streams
        for stream, sink in zip(streams, sinks, strict=True):
            stream.flush()
            sink.flush()
        notes: list[str] = []
        if over.code is not None and watch.is_closed and left_behind and self._ends_streams_early:
            is_open = True
            notes.append("the engine ended the step's output with its shell: what a process left behind writes is lost")
        elif is_open:
            notes.append("a process left behind holds the step's output open; what it writes 2 s after the step's end is lost")
        state = self._carry(over, bool(left_behind), notes)
        out, err = (capture.finish(open_=is_open) for capture in captures)
        cwd = self._carried.cwd
        pids = () if statement is None else tuple(filter(None, (statement.child_pid, statement.job_pid)))
        return ShellEnd(
            over.kind, over.code, out, err, duration_s, cwd, state, left_behind, over.error, tuple(notes), pids,
            True if command.argv is None else None,
        )  # fmt: skip

    @cached_property
    def _ends_streams_early(self) -> bool:
        """Whether the engine ends an exec's streams with its first process, whoever still holds them. Takes a second to try."""
        attached = self._container.attach(_SPEAK_LATER, user=self._spec.user, env={}, cwd="/")
        streams = (MarkedStream(Words(), _LATER), MarkedStream(Words(), _LATER))
        watch = ExecWatch(attached, self._wake, streams)
        try:
            watch.until_closed(self._container.patience_s(_START_TIMEOUT_S))
        finally:
            watch.close()
            self._guard.sweep()
        return not any(stream.is_marked for stream in streams)

    def _carry(self, over: _Over, has_jobs: bool, notes: list[str]) -> ShellState:
        statement = over.statement
        if statement is not None and statement.had_no_directory:
            notes.append(f"the session's directory {self._carried.cwd} is gone; the step began in /")
        if over.error is not None or statement is None or statement.said is None:
            return ShellState.RESTORED
        assert self._fresh is not None and self._fresh.said is not None
        self._carried = CarriedState.of(statement.said, self._fresh.said)
        lost = not_carried(statement.said, self._fresh.said) + (["background jobs as the shell's own"] if has_jobs else [])
        if lost:
            notes.append(f"not carried to the next step by the plain driver: {'; '.join(lost)}")
        return ShellState.KEPT

    def _put_away(self, watch: ExecWatch, streams: tuple[MarkedStream, MarkedStream], nodeid: str) -> None:
        if watch.is_closed or not all(stream.is_marked for stream in streams):
            watch.close()
        else:
            self._held.add(watch, streams, nodeid)

    def _statement(self, nonces: _Nonces) -> StepReport:
        return read_step_report(self._guard.give(STATE_FILE), nonces.leader, nonces.child)

    def _container_must_run(self, cause: EngineError | None = None) -> None:
        state = self._container.state()
        if not state.running or state.paused:
            raise SessionLost(f"the session's container does not run any more: {state.describe()}") from cause


def _forged(statement: StepReport) -> ErrorInfo | None:
    if not statement.is_foreign:
        return None
    return ErrorInfo(
        ErrorKind.TAMPERED, f"something in the container wrote to the session's record file {STATE_FILE} during this step"
    )
