"""Watches one running step: its two streams, the record that ends it, the clock, and whoever wants it to stop.

It reads and decides nothing else: killing, restoring and describing are `shell.py`'s business.
"""

from __future__ import annotations

import fcntl
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from testronaut_lab.capture.stream import StreamCapture
from testronaut_lab.execution.driver.lineage import Lineage
from testronaut_lab.execution.driver.records import Record
from testronaut_lab.model.result import ExitKind

OPEN_STREAM_WAIT_S = 0.05
FIRST_CHECK_S = 0.02
CHECK_EVERY_S = 0.1
_PIPE_BYTES = 1024 * 1024
_READ_BYTES = 1024 * 1024
_FULL_PIPE_BYTES = 64 * 1024


class GoingOn(Enum):
    GOING_ON = "going on"


GOING_ON = GoingOn.GOING_ON


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a command may take, and what is asked after 20 ms, then every 100 ms, whether it has gone too far otherwise."""

    timeout_s: float
    check: Callable[[], ExitKind | None] = lambda: None
    output_limit: bool = True


class Stream:
    """One output FIFO of the step, from its read end, which stays open after `ended` is False at the end."""

    __slots__ = ("capture", "ended", "fd", "wide")

    def __init__(self, fd: int, capture: StreamCapture) -> None:
        self.fd = fd
        self.capture = capture
        self.ended = False
        self.wide = False

    def read(self) -> bool:
        """Take what is there; whether there was anything. Sets `ended` when no process holds the other end."""
        try:
            if self.wide and (poured := self.capture.pour(self.fd)) is not None:
                self.ended = not poured
                return bool(poured)
            data = os.read(self.fd, _READ_BYTES if self.wide else _FULL_PIPE_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self.ended = True
            return False
        if len(data) >= _FULL_PIPE_BYTES and not self.wide:
            self._widen()
        self.capture.feed(data)
        return True

    def was_opened(self) -> bool:
        """Whether a process has opened the other end, asked before `drain`, which takes what nobody ever opened for an end."""
        if self.ended or self.capture.seen_bytes or self.read():
            return True
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        # that its last holder has gone is told only of a FIFO which had one; without, an end was read and none is told
        was_held = not self.ended or bool(poll.poll(0))
        self.ended = self.ended and was_held
        return was_held

    def _widen(self) -> None:
        self.wide = True
        try:
            fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except PermissionError:
            return  # an unprivileged user has a budget for this; it is only faster


class StepWatch:
    """`wake` is an eventfd that somebody may write to, to stop the step; `driver_lives` asks whether its shell still runs."""

    def __init__(
        self, lineage: Lineage, ctl: int, wake: int, streams: tuple[Stream, Stream], driver_lives: Callable[[], bool]
    ) -> None:
        self._lineage = lineage
        self._ctl = ctl
        self._wake = wake
        self._driver_lives = driver_lives
        self._streams = {stream.fd: stream for stream in streams}
        self._leader_fd: int | None = lineage.leader_fd
        self._poll = select.poll()
        for fd in (ctl, wake, self._leader_fd, *self._streams):
            self._poll.register(fd, select.POLLIN)

    def until_over(self, bounds: Bounds, started: float) -> Record | ExitKind | None:
        """The record that ended the step (S, or D: the shell ended), the reason to kill it, or None: every shell is gone.

        `started` is on the monotonic clock. Reasons: timeout, cancelled, output_limit, and what `bounds.check` says.
        """
        deadline = started + bounds.timeout_s
        next_check = started + FIRST_CHECK_S
        while True:
            now = time.monotonic()
            if now >= deadline:
                return ExitKind.TIMEOUT
            if now >= next_check:
                next_check = now + CHECK_EVERY_S
                if (reason := bounds.check()) is not None:
                    return reason
                if self._leader_fd is None and not self._driver_lives():
                    self._lineage.pump()
                    return self._lineage.take("SD")
            over = self._turn(int((min(deadline, next_check) - now) * 1000) + 1, "SD")
            if over is ExitKind.OUTPUT_LIMIT and not bounds.output_limit:
                continue
            if not isinstance(over, GoingOn):
                return over

    def until_dead(self, timeout_s: float) -> Record | None:
        """After a kill: the record of the driver's end, or None if it does not come. It may be here: the driver may have
        ended by itself before it was killed.
        """
        if (record := self._lineage.take("D")) is not None:
            return record
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            over = self._turn(int(left * 1000) + 1, "D")
            if over is None or isinstance(over, Record):
                return over
        return None

    def drain(self) -> bool:
        """Read both streams to their ends; False if after 50 ms some process still holds one open."""
        deadline = time.monotonic() + OPEN_STREAM_WAIT_S
        while True:
            for stream in self._streams.values():
                while not stream.ended and stream.read():
                    pass
            waiting = [stream for stream in self._streams.values() if not stream.ended]
            left_ms = int((deadline - time.monotonic()) * 1000)
            if not waiting:
                return True
            if left_ms <= 0:
                return False
            poll = select.poll()
            for stream in waiting:
                poll.register(stream.fd, select.POLLIN)
            poll.poll(left_ms)

    def _turn(self, wait_ms: int, tags: str) -> Record | ExitKind | GoingOn | None:
        """One look at everything that may have happened."""
        ready = {fd for fd, _ in self._poll.poll(wait_ms)}
        for fd in ready & self._streams.keys():
            if (reason := self._read(self._streams[fd])) is not None:
                return reason
        if self._ctl in ready:
            self._lineage.pump()
            if (record := self._lineage.take(tags)) is not None:
                return record
        elif self._leader_fd in ready and self._lineage.leader_gone():
            return self._after_the_leader(tags)
        if self._wake in ready:
            os.eventfd_read(self._wake)
            return ExitKind.CANCELLED
        return GOING_ON

    def _after_the_leader(self, tags: str) -> Record | GoingOn | None:
        """The leader was killed. The driver may have been too, or be the killer, in which case the step goes on."""
        assert self._leader_fd is not None
        self._poll.unregister(self._leader_fd)
        self._leader_fd = None
        lives = self._driver_lives()
        self._lineage.pump()  # what was written before an end is in the FIFO by now
        record = self._lineage.take(tags)
        return record if record is not None or not lives else GOING_ON

    def _read(self, stream: Stream) -> ExitKind | None:
        # one piece a turn: a stream that never runs dry must not keep us from the clock and the other one
        stream.read()
        if stream.ended:
            self._poll.unregister(stream.fd)
        return ExitKind.OUTPUT_LIMIT if stream.capture.over_limit else None
