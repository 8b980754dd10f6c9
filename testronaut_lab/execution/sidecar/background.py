"""Programs that go on beside the steps of a case: started, waited for until they are ready, signalled, stopped.

Each runs in an exec of its own (`exec.py`) without a terminal. A thread a program reads its two streams; they are kept
until it is stopped, and what it wrote is then the output of that step.
"""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from testronaut_lab.capture.stream import StreamCapture
from testronaut_lab.container.protocol import Attached
from testronaut_lab.errors import EngineError, ErrorKind, LabError
from testronaut_lab.execution.driver.fast.driver import FastDriver
from testronaut_lab.execution.driver.processes.background import BackgroundProcesses
from testronaut_lab.execution.driver.script import CHECK_EVERY_S, Bounds, Command
from testronaut_lab.execution.sidecar.exec import ApartEnd, Launcher, NotStarted, Running, ShellEnvironment
from testronaut_lab.model.interaction import Ready
from testronaut_lab.model.result import Captured, ErrorInfo, ExitKind, Mismatch, ShellState

STOP_GRACE_S = 5.0
_STREAMS_S = 4.0  # the engine waits two seconds for whoever still holds them
_TERMINATED = 143  # 128 and the number of SIGTERM, as the engine tells it
_LOOK_EVERY_S = 0.02
_LOG_BYTES = 1024 * 1024

Streams = tuple[StreamCapture, StreamCapture]


@dataclass(frozen=True, slots=True)
class Probes:
    """How readiness is looked for, besides in the output and on ports: a path in the workspace, a script's exit status."""

    has_file: Callable[[str], bool]
    run: Callable[[str, float], int | None]


class _Reader:
    """Reads a program's streams on a thread, until they end or `close`; `changed` is notified of every piece."""

    def __init__(self, running: Running, whole: Streams, first: Streams) -> None:
        self.changed = threading.Condition()
        self.ended = False
        self.failure: LabError | None = None
        self._attached: Attached = running.attached
        self._whole = whole
        self._first: Streams | None = first
        self._logs = [bytearray(), bytearray()]
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for stream, data in running.early:
            self._take(stream, data)
        self._thread = threading.Thread(target=self._run, name="background-output", daemon=True)
        self._thread.start()

    def matches(self, pattern: str) -> bool:
        """Whether what either stream has so far (its first MiB) matches. Call with `changed` held."""
        return any(re.search(pattern, bytes(log).decode(errors="backslashreplace")) for log in self._logs)

    def finish_first(self) -> tuple[Captured, Captured]:
        """What was written up to now."""
        with self.changed:
            first, self._first = self._first, None
            assert first is not None
            return first[0].finish(open_=not self.ended), first[1].finish(open_=not self.ended)

    def drop_first(self) -> None:
        """Leave what was written up to now to whoever made the captures."""
        with self.changed:
            self._first = None

    def close(self, timeout_s: float) -> bool:
        """Stop reading, once the streams have ended or after so long; whether they had."""
        with self.changed:
            self.changed.wait_for(lambda: self.ended, timeout_s)
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)
        return self.ended

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._stop, select.POLLIN)
        poll.register(self._attached.fileno(), select.POLLIN)
        try:
            while not any(fd == self._stop for fd, _ in poll.poll()):
                pieces = self._attached.read()
                with self.changed:
                    for stream, data in pieces:
                        self._take(stream, data)
                    self.changed.notify_all()
        except (EOFError, LabError) as error:
            with self.changed:
                self.ended = True
                self.failure = error if isinstance(error, LabError) else None
                self.changed.notify_all()

    def _take(self, stream: int, data: bytes) -> None:
        for streams in (self._whole, self._first):
            if streams is not None:
                streams[stream - 1].feed(data)
        log = self._logs[stream - 1]
        log += data[: _LOG_BYTES - len(log)]


@dataclass(slots=True)
class _Program:
    """One background program. `shell` is the name of the shell that runs it as a script, None for an exact `argv`.

    `ended_early` is how it ended while it was waited for; `ended_by_us`: a signal of ours did it, which it does not catch.
    """

    name: str
    shell: str | None
    running: Running
    reader: _Reader
    whole: Streams
    started: float
    ended_early: int | None = None
    ended_by_us: bool = False
    notes: list[str] = field(default_factory=list)


class BackgroundPrograms:
    """Those of one session, by name. From the session's thread, but for `interrupt`."""

    def __init__(
        self,
        driver: FastDriver,
        launcher: Launcher,
        new_capture: Callable[[], StreamCapture],
        probes: Probes,
        patience_s: Callable[[float], float],
    ) -> None:
        self._patience_s = patience_s
        self._driver = driver
        self._launcher = launcher
        self._new_capture = new_capture
        self._probes = probes
        self._programs: dict[str, _Program] = {}
        self._interrupted = threading.Event()

    @property
    def names(self) -> frozenset[str]:
        """Of those that were started and not stopped."""
        return frozenset(self._programs)

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        """Stop reading; the programs end with their container."""
        for program in self._programs.values():
            program.reader.close(0)
            self._launcher.clear(program.running)
        self._programs.clear()

    def start(self, name: str, command: Command, ready: Ready | None, first: Streams, bounds: Bounds) -> ApartEnd:
        """Start a program and wait until it is ready; `first` takes what it writes by then.

        One that does not become ready is ended, and that is a mismatch. Raises SessionLost, EngineError.
        """
        self._interrupted.clear()
        found = self._launcher.shell_environment(command)
        problem = found.problem
        if name in self._programs:
            problem = problem or ErrorInfo(
                ErrorKind.USAGE, f"a background program named {name} runs already", f"{{stop: {name}}}"
            )
        if problem is not None or found.end.kind is not ExitKind.EXITED:
            return _end(found, found.end.kind, None, (first[0].finish(open_=False), first[1].finish(open_=False)), error=problem)
        if ready is not None and ready.port is not None and self._guests.listens(ready.port):
            taken = Mismatch("ready.port", f"port {ready.port} free before {name} starts", "something listens on it already")
            streams = first[0].finish(open_=False), first[1].finish(open_=False)
            return _end(found, ExitKind.EXITED, None, streams, (taken,))
        return self._begin(name, command, ready, found, first, bounds)

    def stop(self, name: str, grace_s: float) -> ApartEnd | None:
        """End a program by TERM to its process group, by KILL after `grace_s`; all that it wrote. None if there is none.

        One that had ended by itself with anything but 0 is a mismatch. Raises SessionLost, EngineError.
        """
        program = self._programs.pop(name, None)
        if program is None:
            return None
        started = time.monotonic()
        self._interrupted.clear()
        code = self._code_if_ended(program)
        by_itself = code is not None
        if not by_itself:
            code, by_itself = self._terminate(program, grace_s)
        return self._finish(program, code, started, by_itself=by_itself)

    def _terminate(self, program: _Program, grace_s: float) -> tuple[int | None, bool]:
        """Its exit status, None if it has to be killed, and whether something else than our TERM has ended it.

        A program that a step has killed may still stand in the process table: TERM then ends it no more. It is told by its
        status, unless the program catches TERM, and may exit with any.
        """
        catches = self._guests.catches(program.running.pid, "TERM")
        self._guests.terminate(program.running.pid)
        if not self._await_end(program, time.monotonic() + grace_s):
            program.notes.append(f"{program.name} did not end within {grace_s:g} s of TERM and was killed")
            program.ended_by_us = True
            return None, False
        code = self._launcher.exit_code(program.running.attached)
        program.ended_by_us = not catches and code == _TERMINATED
        return code, not catches and code not in (None, _TERMINATED)

    def signal(self, signals: Mapping[str, str]) -> tuple[Mismatch, ...]:
        """Send each program its signal; one that does not run is a mismatch. Raises SessionLost, EngineError."""
        missed: list[Mismatch] = []
        for name, signal in signals.items():
            program = self._programs.get(name)
            code = None if program is None else self._code_if_ended(program)
            if program is None or code is not None:
                why = "it was not started" if program is None else f"it had ended with exit status {code}"
                missed.append(Mismatch(f"signal.{name}", f"{name} running", why))
            else:
                self._guests.send_signal(program.running.pid, signal, program.shell)
        return tuple(missed)

    @property
    def _guests(self) -> BackgroundProcesses:
        return self._driver.guests

    def _begin(
        self, name: str, command: Command, ready: Ready | None, found: ShellEnvironment, first: Streams, bounds: Bounds
    ) -> ApartEnd:
        started = time.monotonic()
        try:
            running = self._launcher.start(command, found)
        except NotStarted as error:
            streams = first[0].finish(open_=False), first[1].finish(open_=False)
            why = ErrorInfo(ErrorKind.USAGE, f"{name} could not be started: {error}")
            return _end(found, ExitKind.EXITED, None, streams, error=why)
        self._guests.admit(running.pid)
        whole = self._new_capture(), self._new_capture()
        shell = None if command.run is None else PurePosixPath(self._driver.spec.shell).name
        program = _Program(name, shell, running, _Reader(running, whole, first), whole, started)
        self._programs[name] = program
        try:
            missed = None if ready is None else self._await_ready(program, ready, bounds)
        except EngineError:
            program.reader.drop_first()
            raise
        duration_s = time.monotonic() - started
        if missed is None:
            streams = program.reader.finish_first()
            note = f"goes on in the background as {name}"
            return _end(found, ExitKind.RUNNING, None, streams, notes=(note,), duration_s=duration_s)
        kind, mismatch = missed
        self._guests.kill(running.pid)
        program.reader.close(self._patience_s(_STREAMS_S))
        code = program.ended_early if kind is ExitKind.EXITED else None
        streams = program.reader.finish_first()
        by_signal = self._by_signal(program)
        self._forget(program)
        del self._programs[name]
        missing = () if mismatch is None else (mismatch,)
        return _end(found, kind, code, streams, missing, duration_s=duration_s, by_signal=by_signal)

    def _await_ready(self, program: _Program, ready: Ready, bounds: Bounds) -> tuple[ExitKind, Mismatch | None] | None:
        """None once it is ready, else how the wait ended and what to say of it."""
        deadline = program.started + min(ready.timeout_s, bounds.timeout_s)
        expected = f"{ready.describe()} within {ready.timeout_s:g} s"
        next_check = program.started + CHECK_EVERY_S
        while not self._is_ready(program, ready, deadline):
            if time.monotonic() >= next_check and (reason := bounds.check()) is not None:
                return reason, Mismatch(f"ready.{ready.aspect}", expected, reason.value.replace("_", " "))
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + CHECK_EVERY_S
            if (
                program.reader.ended
                and (code := self._code_if_ended(program)) is not None
                and not self._guests.alive(program.running.pid)
            ):
                program.ended_early = code
                if self._is_ready(program, ready, deadline):
                    return None
                return ExitKind.EXITED, Mismatch(f"ready.{ready.aspect}", expected, f"it ended with exit status {code}")
            if time.monotonic() >= deadline:
                waited = f"not within {time.monotonic() - program.started:.3g} s"
                return ExitKind.TIMEOUT, Mismatch(f"ready.{ready.aspect}", expected, waited)
            if self._interrupted.wait(_LOOK_EVERY_S):
                return ExitKind.CANCELLED, None
        return None

    def _is_ready(self, program: _Program, ready: Ready, deadline: float) -> bool:
        if ready.port is not None:
            return self._guests.listens(ready.port)
        if ready.log is not None:
            with program.reader.changed:
                return program.reader.matches(ready.log)
        if ready.file is not None:
            return self._probes.has_file(ready.file)
        assert ready.run is not None
        return self._probes.run(ready.run, max(deadline - time.monotonic(), 0.05)) == 0

    def _code_if_ended(self, program: _Program) -> int | None:
        """Its exit status, None while its own process runs."""
        if program.running.pid in self._guests.alive(program.running.pid):
            return None
        return self._launcher.exit_code(program.running.attached)

    def _await_end(self, program: _Program, deadline: float) -> bool:
        """Whether it and all that it started has ended: a shell that ran a server may be gone long before that."""
        while self._guests.alive(program.running.pid):
            if time.monotonic() >= deadline or self._interrupted.wait(_LOOK_EVERY_S):
                return False
        return True

    def _finish(self, program: _Program, code: int | None, started: float, *, by_itself: bool) -> ApartEnd:
        """Everything of it that still runs is killed, its streams are read to their end."""
        self._guests.kill(program.running.pid)
        is_whole = program.reader.close(self._patience_s(_STREAMS_S))
        if code is None:
            code = self._launcher.exit_code(program.running.attached)
        streams = program.whole[0].finish(open_=not is_whole), program.whole[1].finish(open_=not is_whole)
        failure = program.reader.failure
        by_signal = self._by_signal(program)
        self._forget(program)
        name = program.name
        notes = (*program.notes, f"{name} had ended by itself") if by_itself else tuple(program.notes)
        crashed = Mismatch("stop", f"{name} running", f"it had ended by itself with exit status {code}")
        mismatches = (crashed,) if by_itself and code != 0 else ()
        error = None if failure is None else ErrorInfo.of(failure)
        return ApartEnd(
            ExitKind.EXITED, code, *streams, time.monotonic() - started, "", ShellState.KEPT, (), error, notes,
            by_signal=by_signal, mismatches=mismatches,
        )  # fmt: skip

    def _by_signal(self, program: _Program) -> bool | None:
        """As in a `ShellEnd`, of a program that has ended: a server that catches TERM may end with 143 by itself."""
        if program.shell is not None or program.ended_by_us:
            return True
        return self._launcher.was_killed(program.running)

    def _forget(self, program: _Program) -> None:
        self._guests.dismiss(program.running.pid)
        self._launcher.clear(program.running)


def _end(
    found: ShellEnvironment,
    kind: ExitKind,
    code: int | None,
    streams: tuple[Captured, Captured],
    mismatches: tuple[Mismatch, ...] = (),
    *,
    error: ErrorInfo | None = None,
    notes: tuple[str, ...] = (),
    duration_s: float = 0.0,
    by_signal: bool | None = True,
) -> ApartEnd:
    end = found.end
    return ApartEnd(
        kind, code, *streams, duration_s or end.duration_s, end.cwd, end.state, end.left_behind, error, (*end.notes, *notes),
        by_signal=by_signal, mismatches=mismatches,
    )  # fmt: skip
