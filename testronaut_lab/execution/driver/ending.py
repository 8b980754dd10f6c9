"""Where the output of an exec ends: its shell writes a secret mark as the last thing to each stream, the host looks for it.

With the mark everything before it is there, however long the engine keeps the stream open for a process left behind; an end
without it is a cut. The mark is 128 random bits that the step's own processes are never given.
"""

from __future__ import annotations

import os
import select
import time
from enum import Enum
from typing import Protocol

from testronaut_lab.container.protocol import Attached
from testronaut_lab.execution.driver.command import CHECK_EVERY_S, Bounds
from testronaut_lab.model.result import ExitKind


class Ending(Enum):
    """Why there is nothing more to read."""

    MARKED = "both streams came to their marks"
    CLOSED = "the engine ended the streams"


class Sink(Protocol):
    """What a stream's output goes to."""

    @property
    def over_limit(self) -> bool: ...
    def feed(self, data: bytes) -> None: ...


class Words:
    """A sink that keeps a shell's few words."""

    over_limit = False

    def __init__(self) -> None:
        self.said = b""

    def feed(self, data: bytes) -> None:
        self.said += data


class MarkedStream:
    """Feeds a sink what comes before the mark, and keeps what comes after it until it is taken."""

    def __init__(self, sink: Sink, mark: bytes) -> None:
        self.sink = sink
        self.is_marked = False
        self._late = b""
        self._mark = mark
        self._held = b""

    def feed(self, data: bytes) -> None:
        if self.is_marked:
            self._late += data
            return
        data = self._held + data
        at = data.find(self._mark)
        if at >= 0:
            self.is_marked = True
            self._late += data[at + len(self._mark) :]
            self._held, data = b"", data[:at]
        else:
            keep = self._beginning(data)
            self._held, data = data[len(data) - keep :], data[: len(data) - keep]
        if data:
            self.sink.feed(data)

    def flush(self) -> None:
        """No more comes: what looked like the beginning of a mark was output."""
        if self._held:
            self.sink.feed(self._held)
            self._held = b""

    def take_late(self) -> bytes:
        """What came after the mark since the last call."""
        taken, self._late = self._late, b""
        return taken

    def _beginning(self, data: bytes) -> int:
        """How many of the last bytes may be the mark's first."""
        at = data.find(self._mark[:1], max(0, len(data) - len(self._mark) + 1))
        while at >= 0:
            if self._mark.startswith(data[at:]):
                return len(data) - at
            at = data.find(self._mark[:1], at + 1)
        return 0


class ExecWatch:
    """Reads one exec. `wake` is an eventfd that somebody may write to, to stop the step."""

    def __init__(self, attached: Attached, wake: int, streams: tuple[MarkedStream, MarkedStream]) -> None:
        self._attached = attached
        self._wake = wake
        self._streams = streams
        self.is_closed = False

    def until_over(self, bounds: Bounds, started: float) -> Ending | ExitKind:
        """Wait for the end or a reason to make one. `started` is on the monotonic clock. Raises EngineError for a torn frame."""
        deadline = started + bounds.timeout_s
        next_check = started + CHECK_EVERY_S
        while True:
            if (ending := self._read()) is not None:
                return ending
            now = time.monotonic()
            if now >= deadline:
                return ExitKind.TIMEOUT
            if now >= next_check:
                next_check = now + CHECK_EVERY_S
                if (reason := bounds.check()) is not None:
                    return reason
            if bounds.output_limit and any(stream.sink.over_limit for stream in self._streams):
                return ExitKind.OUTPUT_LIMIT
            if self._wait(min(deadline, next_check) - now):
                return ExitKind.CANCELLED

    def until_closed(self, timeout_s: float) -> bool:
        """Whether the engine ends the streams within that time; what still comes is read."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._attached.fileno(), select.POLLIN)
        while not self.is_closed and (left := deadline - time.monotonic()) > 0:
            poll.poll(int(left * 1000) + 1)
            self._read()
        return self.is_closed

    def pump(self) -> None:
        """Take what has arrived, without waiting."""
        if not self.is_closed:
            self._read()

    def close(self) -> None:
        self._attached.close()

    def _wait(self, timeout_s: float) -> bool:
        """Until something arrives; whether somebody wants the step to stop."""
        poll = select.poll()
        for fd in (self._attached.fileno(), self._wake):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(max(0, int(timeout_s * 1000) + 1))}
        if self._wake in ready:
            os.eventfd_read(self._wake)
        return self._wake in ready

    def _read(self) -> Ending | None:
        try:
            for number, data in self._attached.read():
                self._streams[0 if number == 1 else 1].feed(data)
        except EOFError:
            self.is_closed = True
        if all(stream.is_marked for stream in self._streams):
            return Ending.MARKED
        return Ending.CLOSED if self.is_closed else None
