"""Where the output of an exec begins and ends, told by secret marks that its shell writes and the host looks for.

The first mark comes on stdout before the step's own shell starts: from there on the step's time counts, and not from when the
engine was asked, which may take long to start anything. The last mark is the last thing on each stream. With it everything before
it is there, however long the engine keeps the stream open for a process left behind; an end without it is a cut. Both are 128
random bits that the step's own processes are never given.
"""

from __future__ import annotations

import os
import select
import time
from enum import Enum
from typing import Protocol

from testronaut_lab.container.protocol import Attached
from testronaut_lab.errors import EngineError
from testronaut_lab.execution.driver.script import CHECK_EVERY_S, Bounds
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
    """Feeds a sink what comes before the mark, and keeps what comes after it until it is taken.

    The mark of the `beginning`, if there is one to come, is left out; what comes before it the engine says.
    """

    def __init__(self, sink: Sink, mark: bytes, beginning: bytes = b"") -> None:
        self.sink = sink
        self.is_marked = False
        self._beginning = beginning
        self._late = b""
        self._mark = mark
        self._held = b""

    def feed(self, data: bytes) -> None:
        if self.is_marked:
            self._late += data
            return
        data = self._without_beginning(self._held + data)
        at = data.find(self._mark)
        if at >= 0:
            self.is_marked = True
            self._late += data[at + len(self._mark) :]
            self._held, data = b"", data[:at]
        else:
            keep = max(_beginning_of(mark, data) for mark in (self._mark, self._beginning) if mark)
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

    @property
    def has_begun(self) -> bool:
        return not self._beginning

    def _without_beginning(self, data: bytes) -> bytes:
        if not self._beginning or self._beginning not in data:
            return data
        before, _, after = data.partition(self._beginning)
        self._beginning = b""
        return before + after


def _beginning_of(mark: bytes, data: bytes) -> int:
    """How many of the last bytes may be the mark's first."""
    at = data.find(mark[:1], max(0, len(data) - len(mark) + 1))
    while at >= 0:
        if mark.startswith(data[at:]):
            return len(data) - at
        at = data.find(mark[:1], at + 1)
    return 0


class ExecWatch:
    """Reads one exec. `wake` is an eventfd that somebody may write to, to stop the step."""

    def __init__(self, attached: Attached, wake: int, streams: tuple[MarkedStream, MarkedStream]) -> None:
        self._attached = attached
        self._wake = wake
        self._streams = streams
        self._asked = time.monotonic()
        self._begun: float | None = None
        self.is_closed = False

    @property
    def duration_s(self) -> float:
        """How long the step has run; of one that never began, how long it was waited for."""
        return time.monotonic() - (self._asked if self._begun is None else self._begun)

    def until_over(self, bounds: Bounds, start_timeout_s: float) -> Ending | ExitKind:
        """Wait for the end or a reason to make one.

        Raises EngineError for a torn frame, and where the engine does not start the step within that time.
        """
        next_check = self._asked + CHECK_EVERY_S
        while True:
            if (ending := self._read()) is not None:
                return ending
            now = time.monotonic()
            deadline = self._asked + start_timeout_s if self._begun is None else self._begun + bounds.timeout_s
            if now >= deadline:
                if self._begun is None:
                    raise EngineError(f"the engine did not start a step within {start_timeout_s:g} s")
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
        if self._begun is None and all(stream.has_begun for stream in self._streams):
            self._begun = time.monotonic()
        if all(stream.is_marked for stream in self._streams):
            return Ending.MARKED
        return Ending.CLOSED if self.is_closed else None
