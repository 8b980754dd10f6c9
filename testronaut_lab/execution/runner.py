"""A live session: runs steps in one container, one after the other, and says what each did, changes of files included.

The driver (`driver/`) runs a command, the scanners (`capture/`) see what it changed. Which steps there are, and whether
their results are right, is decided elsewhere. Used from one thread at a time, but for `interrupt`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from testronaut_lab.capture.file_capture import EMPTY, ScanLimits, Scanner, Snapshot, diff
from testronaut_lab.capture.live_watch import LiveWatch
from testronaut_lab.capture.outside import Outside, Root
from testronaut_lab.capture.stderr_capture import StderrCapture
from testronaut_lab.capture.stdout_capture import StdoutCapture
from testronaut_lab.capture.stream import Blobs, StreamCapture
from testronaut_lab.capture.transient import TransientPaths
from testronaut_lab.container.protocol import Container
from testronaut_lab.errors import CaptureError, EngineError, LabError, SessionLost, UsageError
from testronaut_lab.execution.context import WORKSPACE, SessionLimits, SessionPlace, StepRequest
from testronaut_lab.execution.driver.fast.driver import FastDriver
from testronaut_lab.execution.driver.outcome import ShellEnd
from testronaut_lab.execution.driver.processes.counters import Meter
from testronaut_lab.execution.driver.protocol import Driver
from testronaut_lab.execution.driver.script import Bounds, Command
from testronaut_lab.execution.files import Placer
from testronaut_lab.execution.late_output import LateKeeper
from testronaut_lab.execution.monitor import StepMonitor, UsageMeter
from testronaut_lab.execution.sidecar.exec import ApartEnd
from testronaut_lab.execution.sidecar.steps import Beside
from testronaut_lab.execution.step_files import StepFiles
from testronaut_lab.execution.undo.cache import KeepToo
from testronaut_lab.execution.undo.undo import History, Undoing
from testronaut_lab.model.events import Body, OutputChunk, StepFinished, StepStarted
from testronaut_lab.model.files import FileChange, path_bytes, path_text
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.result import (
    Captured,
    ErrorInfo,
    Exit,
    ExitKind,
    OutsideChange,
    ShellState,
    Status,
    StepResult,
    Usage,
)
from testronaut_lab.model.undo import UndoResult

Emit = Callable[[Body], object]


class SessionMeter(Meter, UsageMeter, Protocol):
    """The counters that a session needs, its driver's and its monitors'."""

    def kill_all(self) -> bool: ...
    def close(self) -> None: ...


class LiveSession:
    """Starts with `start`, ends with `close`. The driver runs already; the container is the session's own and is removed at the
    end unless it is kept. `release(keep)` is called last, for whoever made the session's directories. `watch` is the session's
    from now on; without one nothing is known of paths that come and go within a step.
    """

    def __init__(
        self,
        container: Container,
        driver: Driver,
        meter: SessionMeter,
        place: SessionPlace,
        limits: SessionLimits,
        blobs: Blobs,
        emit: Emit,
        release: Callable[[bool], None] = lambda _keep: None,
        watch: LiveWatch | None = None,
        facts: Facts | None = None,
        root: Root | None = None,
        history: History | None = None,
        late: LateKeeper | None = None,
    ) -> None:
        self.facts = facts or Facts()
        self._container = container
        self._driver = driver
        self._meter = meter
        self._place = place
        self._limits = limits
        self._blobs = blobs
        self._emit = emit
        self._late = late or LateKeeper(blobs, limits.output_bytes, emit)
        self._release = release
        self._watch = watch
        keep = None if history is None else history.keep
        self._files = Scanner(
            place.workspace, blobs if keep is None else KeepToo(blobs, keep), ScanLimits(entries=limits.files * 10)
        )
        places = {"/tmp": place.tmp, place.home_target: place.home}
        stored_bytes = 0 if keep is None else keep.limits.file_bytes
        outside_limits = ScanLimits(entries=limits.files * 10, stored_bytes=stored_bytes)
        self._outside = Outside(places, outside_limits, root, keep)
        self._seen: Snapshot = EMPTY
        self._placer = Placer(place.workspace, place.owner)
        # they start from what the session's shell has exported, which the plain driver does not keep at hand
        self._beside: Beside | None = None
        if isinstance(driver, FastDriver):
            self._beside = Beside(container, driver, meter, place, blobs, lambda: StreamCapture(blobs, limits.output_bytes))
        self._undoing: Undoing | None = None
        if history is not None and self._beside is not None and isinstance(driver, FastDriver):
            trees = {WORKSPACE: place.workspace, **places}
            self._undoing = Undoing(history, driver, self._beside, blobs, trees, emit)
        self._lost: str | None = None
        self._closed = False

    @property
    def container_name(self) -> str:
        return self._container.name

    @property
    def background(self) -> frozenset[str]:
        """The names of the background programs that were started and not stopped."""
        return self._beside.names if self._beside is not None else frozenset()

    def start(self) -> None:
        """See what is in the directories before the first step. Raises CaptureError."""
        self._look()
        if self._watch is not None:
            self._watch.start()

    def close(self, *, keep: bool = False) -> None:
        """End everything that runs in the session and remove its container, unless it is to be kept for a look.

        May be called twice. Raises EngineError, CaptureError for what could not be removed.
        """
        if self._closed:
            return
        self._closed = True
        if self._watch is not None:
            self._watch.close()
        if self._beside is not None:
            self._beside.close()
        self._driver.close()
        self._late.tell()
        self._files.close()
        try:
            self._outside.close()
        finally:
            self._remove(keep)

    def _remove(self, keep: bool) -> None:
        try:
            if not keep:
                self._container.remove()
        except EngineError:
            self._meter.kill_all()  # what an engine that does not answer cannot end would go on for ever
            raise
        finally:
            self._meter.close()
            self._release(keep)

    def hand_over(self, to: SessionPlace) -> History | None:
        """End this session like `close`, and move what is in its workspace, home and /tmp to another's directories.

        Its history is the other's then, if it has one.
        """
        if self._closed:
            return None
        history = None if self._undoing is None else self._undoing.pack()
        self._container.kill()
        mine = self._place
        try:
            if history is not None:
                history.keep.move(to.undo)
            for source, target in ((mine.workspace, to.workspace), (mine.home, to.home), (mine.tmp, to.tmp)):
                for child in source.iterdir():
                    child.rename(target / child.name)
        except OSError as error:
            raise CaptureError(f"moving a session's files to {to.workspace.parent}: {error}") from error
        finally:
            self.close()
        return history

    def interrupt(self) -> None:
        """End the step that runs, from any thread; the session lives."""
        self._driver.interrupt()
        if self._beside is not None:
            self._beside.interrupt()

    def put(self, path: str, content: bytes, mode: int | None = None) -> None:
        """Put a file into the workspace; it counts as nobody's change."""
        self._placer.put(path, content, mode)
        self._look_away()

    def copy(self, path: str, source: Path, mode: int | None = None) -> None:
        """Put a file or folder of the host into the workspace; it counts as nobody's change."""
        self._placer.copy(path, source, mode)
        self._look_away()

    def read(self, path: str, limit_bytes: int = 64 * 1024 * 1024) -> bytes:
        """A regular file of the workspace, or by an absolute path of /tmp, home or a writable root; `path` is the text form.

        Raises FileNotFoundError, CaptureError if it is larger, EngineError.
        """
        if path.startswith(f"{WORKSPACE}/"):
            path = path.removeprefix(f"{WORKSPACE}/")
        elif path.startswith("/"):
            return self._outside.read(path, limit_bytes)
        return self._files.read(path_bytes(path).decode(errors="surrogateescape"), limit_bytes)

    @property
    def seen(self) -> StepFiles:
        """What the files were when the last step was over."""
        return StepFiles(self.facts, self._seen, self._outside, self._blobs, self._owners())

    def _owners(self) -> Mapping[int, str]:
        """The users that a plan knows, by their numbers on this host."""
        step = os.getuid() if self._place.owner is None else self._place.owner[0]
        return {0: "root", step: "root" if self._place.home_target == "/root" else "lab"}

    def probe(self, request: StepRequest) -> int | None:
        """Run a script apart, captured nowhere and changing nothing in the shell; its exit status, None if it had to be ended."""
        nowhere = StreamCapture(self._blobs, 0), StreamCapture(self._blobs, 0)
        bounds = Bounds(self._timeout_s(request), output_limit=False)
        end = self._driver.run(self._command(request, isolated=True), *nowhere, bounds)
        return end.code

    def run(self, request: StepRequest) -> StepResult:
        """Run one step and wait for it to end, for at most its timeout plus 2 s; StepStarted and StepFinished are emitted.

        A command that fails, is not found or is killed is a result; so is a session that is lost underneath the step, with
        what had been captured by then. Raises SessionLost if it was lost before.
        """
        if self._lost is not None:
            raise SessionLost(f"the session was lost before this step: {self._lost}")
        self._late.tell()
        self._late.begin(request.nodeid, request.plan, request.case)
        self._emit(
            StepStarted(request.plan, request.case, request.id, request.nodeid, request.phase, request.command, request.attempt)
        )
        before = None if self._undoing is None else self._undoing.before(self._trees())
        if self._watch is not None:
            self._watch.begin(request.nodeid)
        started = time.monotonic()
        out, err = self._capture(request, StdoutCapture, started), self._capture(request, StderrCapture, started)
        monitor = StepMonitor(request.nodeid, self._meter, self._outgrown, self._emit)

        def check() -> ExitKind | None:
            return ExitKind.CANCELLED if request.is_unwanted() else monitor.check()

        try:
            end = self._drive(request, (out, err), Bounds(self._timeout_s(request), check))
        except EngineError as error:
            result = self._when_lost(request, error, out, err, time.monotonic() - started)
        else:
            if self._undoing is not None:
                self._undoing.make_room()
            result = self._when_over(request, end, monitor.usage())
        self._emit(StepFinished(request.plan, request.case, result))
        self._late.tell()
        if self._undoing is not None and before is not None:
            self._undoing.after(request, before, result)
        return result

    def undo(self, steps: int, afresh: str | None = None) -> UndoResult:
        """Undo the last steps; StepsUndone is emitted. `afresh` says why a session that succeeded another one does it for that.

        Raises FreshContainerNeeded where such a session is needed, UsageError for what cannot be undone (nothing is changed
        then), CaptureError and SessionLost for a session that must not go on.
        """
        if self._lost is not None:
            raise SessionLost(f"the session was lost before this undo: {self._lost}")
        self._late.tell()
        if self._undoing is None:
            raise UsageError(
                f"undoing steps needs a session that was started for it, and the fast driver; this is {self._kind()}"
            )
        try:
            if afresh is None:
                return self._undoing.undo(steps, self._look_again)
            return self._undoing.undo_afresh(steps, self._look_again, afresh)
        except (CaptureError, EngineError) as error:
            self._lost = f"undoing {steps} of its steps failed: {error.message}"
            raise

    def _kind(self) -> str:
        return "the plain driver" if not isinstance(self._driver, FastDriver) else "a session without undo"

    def _look_again(self) -> Mapping[str, Snapshot]:
        self._look_away()
        return self._trees()

    def _trees(self) -> Mapping[str, Snapshot]:
        return {WORKSPACE: self._seen, **self._outside.seen}

    def _drive(self, request: StepRequest, streams: tuple[StreamCapture, StreamCapture], bounds: Bounds) -> ShellEnd:
        command = self._command(request)
        if Beside.takes(request):
            if self._beside is None:
                raise UsageError(
                    f"step {request.id}: a terminal or a background program needs the fast driver, this is the plain one"
                )
            return self._beside.run(request, command, streams, bounds)
        return self._driver.run(command, *streams, bounds)

    def _timeout_s(self, request: StepRequest) -> float:
        return self._limits.timeout_s if request.timeout_s is None else request.timeout_s

    def _command(self, request: StepRequest, *, isolated: bool = False) -> Command:
        cwd = request.cwd
        if cwd is not None and not cwd.startswith("/"):
            cwd = f"{WORKSPACE}/{cwd}"
        return Command(
            request.nodeid, request.run, request.argv, request.stdin, request.env, cwd, request.exports, isolated, request.merge
        )

    def _capture(self, request: StepRequest, kind: type[StdoutCapture | StderrCapture], started: float) -> StreamCapture:
        def tell(data: bytes, offset_bytes: int, elapsed_s: float) -> None:
            self._emit(OutputChunk(request.nodeid, kind.name, data, elapsed_s, offset_bytes))

        return kind(self._blobs, self._limits.output_bytes, tell, started)

    def _outgrown(self) -> bool:
        """Whether what the session wrote has passed its limits, asked while a step runs."""
        entries = size_bytes = 0
        for scanner in (self._files, *self._outside.scanners):
            seen = scanner.measure(self._limits.files + 1, self._limits.workspace_bytes + 1)
            entries, size_bytes = entries + seen[0], size_bytes + seen[1]
        return entries > self._limits.files or size_bytes > self._limits.workspace_bytes

    def _when_over(self, request: StepRequest, end: ShellEnd, usage: Usage) -> StepResult:
        changes, outside, notes, is_over = self._look()
        traces = self._watch.collect() if self._watch is not None else TransientPaths()
        asked = [] if self._undoing is None else self._undoing.take_notes()
        notes = [*asked, *self._driver.settle(), *notes]
        got_over_it = end.kind is ExitKind.OOM and end.code == 0
        kind = ExitKind.EXITED if got_over_it else end.kind
        kind = ExitKind.DISK_LIMIT if is_over and kind is ExitKind.EXITED else kind
        lost = ("a process of the session had to be killed for lack of memory (limits.memory)",) if got_over_it else ()
        passed = kind is ExitKind.EXITED and end.code == 0
        exit_ = _exit(kind, end)
        doubt = (
            (f"exit status {end.code}: whether a signal ended the program cannot be told on this host",) if exit_.in_doubt else ()
        )
        status = Status.ERROR if end.error else Status.PASSED if passed else Status.FAILED
        result = StepResult(
            request.id,
            request.nodeid,
            exit_,
            status,
            request.phase,
            request.script,
            request.argv,
            request.attempt,
            stdout_stream=end.stdout,
            stderr_stream=end.stderr,
            changes=changes,
            transient=traces.transient,
            outside=outside,
            usage=usage,
            duration_s=end.duration_s,
            cwd=path_text(end.cwd.encode(errors="surrogateescape")) or None,
            state=end.state,
            left_behind=end.left_behind,
            error=end.error,
            notes=(*end.notes, *doubt, *lost, *notes, *traces.notes),
            merged=request.merge,
            pids=end.pids,
        )
        if self._beside is None or not isinstance(end, ApartEnd):
            return result
        return self._beside.finish(request, result, end)

    def _when_lost(
        self, request: StepRequest, error: EngineError, out: StreamCapture, err: StreamCapture, duration_s: float
    ) -> StepResult:
        kind = ExitKind.SESSION_LOST if isinstance(error, SessionLost) else ExitKind.ENGINE_LOST
        self._lost = error.message
        return StepResult(
            request.id,
            request.nodeid,
            Exit(kind),
            Status.ERROR,
            request.phase,
            request.script,
            request.argv,
            request.attempt,
            stdout_stream=_rest(out),
            stderr_stream=_rest(err),
            duration_s=duration_s,
            state=ShellState.LOST,
            error=ErrorInfo.of(error),
            merged=request.merge,
        )

    def _look_away(self) -> None:
        """See what the host itself has done, which is no step's doing."""
        self._look()
        if self._watch is not None:
            self._watch.forget()

    def _look(self) -> tuple[tuple[FileChange, ...], tuple[OutsideChange, ...], list[str], bool]:
        """Scan everything: what changed since the last look, what could not be seen, whether a limit is passed."""
        before, self._seen = self._seen, self._files.scan(self._seen)
        if self._watch is not None:
            self._watch.mark(before, self._seen)
        outside = self._outside.look()
        entries = len(self._seen.entries) + outside.entries
        size_bytes = self._seen.bytes_total + outside.bytes_total
        is_over = entries > self._limits.files or size_bytes > self._limits.workspace_bytes
        changes = () if self._seen is before else diff(before, self._seen)
        return changes, outside.changes, [*self._seen.notes, *outside.notes], is_over


def _rest(capture: StreamCapture) -> Captured:
    """What a lost step had written; the loss of that too must not hide the first one."""
    try:
        return capture.finish(open_=True)
    except LabError:
        return Captured(open=True, truncated=True)


def _exit(kind: ExitKind, end: ShellEnd) -> Exit:
    signal_of_code = _signal(end.code)
    is_in_doubt = signal_of_code is not None and end.by_signal is None
    return Exit(kind, end.code, signal_of_code if end.by_signal else None, is_in_doubt)


def _signal(code: int | None) -> str | None:
    """KILL for 137, as shells tell it; None for a code that is no signal's."""
    if code is None or code <= 128:
        return None
    try:
        return signal.Signals(code - 128).name.removeprefix("SIG")
    except ValueError:
        return None
