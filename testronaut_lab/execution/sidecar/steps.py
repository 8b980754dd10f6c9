"""Steps that do not run in the session's shell: those with a terminal, those that go on, and what is done to the latter.

This says which step is whose and makes their ends into one kind; the work is done in `terminal.py` and `background.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from testronaut_lab.capture.stream import BlobSink, StreamCapture
from testronaut_lab.container.protocol import Container
from testronaut_lab.execution.context import SessionPlace, StepRequest
from testronaut_lab.execution.driver.fast.driver import FastDriver
from testronaut_lab.execution.driver.processes.counters import Meter
from testronaut_lab.execution.driver.script import Bounds, Command
from testronaut_lab.execution.files import Placer
from testronaut_lab.execution.sidecar.background import STOP_GRACE_S, BackgroundPrograms, Probes
from testronaut_lab.execution.sidecar.exec import ApartEnd, Launcher
from testronaut_lab.execution.sidecar.terminal import Terminals
from testronaut_lab.model.result import Captured, ExitKind, Mismatch, ShellState, Status, StepResult


class Beside:
    """Of one session; from its thread, but for `interrupt`."""

    def __init__(
        self,
        container: Container,
        driver: FastDriver,
        meter: Meter,
        place: SessionPlace,
        blobs: BlobSink,
        new_capture: Callable[[], StreamCapture],
    ) -> None:
        launcher = Launcher(container, driver, place.run, blobs)
        self._driver = driver
        self._blobs = blobs
        self._terminals = Terminals(container, driver, launcher, meter)
        probes = Probes(Placer(place.workspace, place.owner).has, self._probe)
        self._programs = BackgroundPrograms(driver, launcher, new_capture, probes, container.patience_s)

    @property
    def names(self) -> frozenset[str]:
        """Of the background programs that were started and not stopped."""
        return self._programs.names

    @staticmethod
    def takes(request: StepRequest) -> bool:
        return request.tty is not None or request.background is not None or request.stop is not None or bool(request.signal)

    def interrupt(self) -> None:
        self._terminals.interrupt()
        self._programs.interrupt()

    def close(self) -> None:
        self._programs.close()
        self._terminals.close()

    def run(
        self, request: StepRequest, command: Command, streams: tuple[StreamCapture, StreamCapture], bounds: Bounds
    ) -> ApartEnd:
        """Run a step that `takes` says is one of these. Raises SessionLost, EngineError."""
        if request.tty is not None:
            return self._terminals.run(command, request.tty, request.interact, streams[0], bounds)
        if request.background is not None:
            return self._programs.start(request.background, command, request.ready, streams, bounds)
        started = time.monotonic()
        if request.stop is not None:
            end = self._programs.stop(request.stop, min(STOP_GRACE_S, bounds.timeout_s))
            return end or _done(started, (Mismatch("stop", f"{request.stop} running", "it was not started"),))
        return _done(started, self._programs.signal(request.signal))

    def end(self, name: str) -> None:
        """Kill a background program, for nobody who asks how it ended. Raises SessionLost, EngineError."""
        self._programs.stop(name, 0.0)

    @staticmethod
    def finish(request: StepRequest, result: StepResult, end: ApartEnd) -> StepResult:
        """The result with what is particular to these steps. How a stopped program ended is no verdict on stopping it."""
        status = result.status
        if status is not Status.ERROR and end.mismatches:
            status = Status.FAILED
        elif status is not Status.ERROR and request.tty is None and end.kind in (ExitKind.EXITED, ExitKind.RUNNING):
            status = Status.PASSED
        return replace(result, status=status, screen=end.screen, mismatches=end.mismatches)

    def _probe(self, script: str, timeout_s: float) -> int | None:
        nowhere = StreamCapture(self._blobs, 0), StreamCapture(self._blobs, 0)
        command = Command("ready", script, isolated=True)
        return self._driver.run(command, *nowhere, Bounds(timeout_s, output_limit=False)).code


def _done(started: float, mismatches: tuple[Mismatch, ...]) -> ApartEnd:
    return ApartEnd(
        ExitKind.EXITED, 0, Captured(), Captured(), time.monotonic() - started, "", ShellState.KEPT, mismatches=mismatches
    )
