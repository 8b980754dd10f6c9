"""One text goes to the session's shell, and the host waits until it is over: told, ended, or to be stopped.

Whatever has to happen then (killing, restoring, a new pair of streams) is `driver.py`'s business.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from testronaut_lab.execution.driver.fast.reports import Made, Report, Reports
from testronaut_lab.execution.driver.fast.shell import Shell
from testronaut_lab.execution.driver.fast.streams import Fifo, Sink
from testronaut_lab.execution.driver.fast.witness import Witness
from testronaut_lab.execution.driver.script import CHECK_EVERY_S, FIRST_CHECK_S, Bounds
from testronaut_lab.model.result import ExitKind

_FIRST_IDLE_MS = 3


@dataclass(frozen=True, slots=True)
class Told:
    """The shell has come to the text's end and waits for the next."""

    report: Report


@dataclass(frozen=True, slots=True)
class Gone:
    """The shell has ended. `code` is None where nobody can tell how; `was_open`: it had the text's end to wait for in vain."""

    code: int | None
    was_open: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    """The text has to be ended."""

    why: ExitKind


@dataclass(frozen=True, slots=True)
class Forged:
    """Something else than the shell made a report with the text's own nonce."""

    name: str


End = Told | Gone | Stopped | Forged


@dataclass(frozen=True, slots=True)
class Outlet:
    """A FIFO that is read meanwhile, and where its bytes go."""

    fifo: Fifo
    sink: Sink


class Exchange:
    """One text. `started` is on the monotonic clock, `wake` an eventfd that somebody may write to, to stop it. `tend` is
    called now and then. `witness` is of the program that the text starts.
    """

    def __init__(
        self, shell: Shell, reports: Reports, outlets: Iterable[Outlet], wake: int, bounds: Bounds, started: float,
        *, sees_sleep: bool, tend: Callable[[], None], witness: Witness | None = None,
    ) -> None:  # fmt: skip
        self._shell = shell
        self._reports = reports
        self._outlets = {outlet.fifo.fd: outlet for outlet in outlets}
        self._wake = wake
        self._bounds = bounds
        self._deadline = started + bounds.timeout_s
        self._next_check = started + FIRST_CHECK_S
        self._next_look = started + CHECK_EVERY_S
        self._sees_sleep = sees_sleep
        self._tend = tend
        self._witness = witness
        self._rest = b""
        self._nonce = ""
        self._was_open = False
        self.foreign = 0  # files that were made and are no report
        self._poll = select.poll()
        for fd in (reports.fileno(), wake, shell.fileno(), *self._outlets):
            self._poll.register(fd, select.POLLIN)

    def run(self, text: bytes, nonce: str) -> End:
        """Send a text whose end is told with this nonce, and wait."""
        self._nonce = nonce
        self._rest = self._shell.send(text)
        if self._rest:
            self._poll.register(self._shell.program, select.POLLOUT)
        idle_ms = _FIRST_IDLE_MS
        while True:
            if (why := self._reason_to_stop()) is not None:
                return Stopped(why)
            events = self._poll.poll(min(idle_ms, self._left_ms()))
            if (end := self._take(events)) is not None:
                return end
            if (end := self._unheard(is_silent=not events)) is not None:
                return end
            idle_ms = min(idle_ms * 2, int(CHECK_EVERY_S * 1000)) if not events else _FIRST_IDLE_MS

    def _left_ms(self) -> int:
        return max(int((min(self._deadline, self._next_check) - time.monotonic()) * 1000) + 1, 0)

    def _reason_to_stop(self) -> ExitKind | None:
        now = time.monotonic()
        if now >= self._deadline:
            return ExitKind.TIMEOUT
        if now >= self._next_check:
            self._next_check = now + CHECK_EVERY_S
            self._tend()
            return self._bounds.check()
        return None

    def _take(self, events: list[tuple[int, int]]) -> End | None:
        ready = dict(events)
        for fd in ready.keys() & self._outlets.keys():
            self._read(fd)
            if not ready[fd] & select.POLLIN:
                self._poll.unregister(fd)  # nobody holds the other end just now
            if self._bounds.output_limit and self._outlets[fd].sink.over_limit:
                return Stopped(ExitKind.OUTPUT_LIMIT)
        if self._rest and self._shell.program in ready:
            self._send_more()
        if self._witness is not None and self._witness.fileno() in ready:
            self._poll.unregister(self._witness.fileno() or -1)
            self._witness.release()
        if self._reports.fileno() in ready and (end := self._told()) is not None:
            return end
        if self._shell.fileno() in ready:
            return self._told() or Gone(self._shell.status(), self._was_open)
        if self._wake in ready:
            os.eventfd_read(self._wake)
            return Stopped(ExitKind.CANCELLED)
        return None

    def _read(self, fd: int) -> None:
        # one piece a turn: a stream that never runs dry must not keep us from the clock and the other one
        outlet = self._outlets[fd]
        outlet.fifo.read(outlet.sink)

    def _send_more(self) -> None:
        self._rest = self._shell.send(self._rest)
        if not self._rest:
            self._poll.unregister(self._shell.program)

    def _told(self) -> Told | Forged | None:
        for made in self._reports.take():
            report = made.report(self._nonce, self._shell.pid)
            if report is not None:
                return Told(report)
            if self._has_met(made):
                continue
            if made.name.startswith(self._nonce):
                return Forged(made.name)
            self.foreign += 1
        return None

    def _has_met(self, made: Made) -> bool:
        """Whether that is the subshell that is to become the program; it goes on now."""
        witness = self._witness
        if witness is None or made.name != witness.notice or not witness.meet(made.pid):
            return False
        if (fd := witness.fileno()) is not None:
            self._poll.register(fd, select.POLLIN)
        return True

    def _unheard(self, *, is_silent: bool) -> End | None:
        """What poll does not tell of."""
        if not self._shell.tells_end and (is_silent or time.monotonic() >= self._next_look):
            if self._shell.has_ended:
                return self._told() or Gone(self._shell.status(), self._was_open)
            self._next_look = time.monotonic() + CHECK_EVERY_S
        return self._after_silence() if is_silent and not self._rest else None

    def _after_silence(self) -> End | None:
        """A shell that sleeps reading its program, all of which it has read, has an open construct, or runs nothing (`set -n`).

        What it told, it told before it slept. A script's file would end here, so the program does.
        """
        if self._was_open or not self._sees_sleep or self._shell.program_fd() is None:
            return None
        if (end := self._told()) is not None:
            return end
        self._was_open = True
        self._shell.end_program()
        return None
