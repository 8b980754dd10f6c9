"""Reads what processes left behind go on writing to the streams of steps that have ended.

The read ends must stay open (closing one would kill a background server by SIGPIPE) and be drained (a full pipe would stop
it). What is read is the late output of the step that started the process.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass

from testronaut_lab.model.result import StreamName

STREAMS: tuple[StreamName, ...] = ("stdout", "stderr")
_READ_BYTES = 256 * 1024
_READS = 8


@dataclass(frozen=True, slots=True)
class LateOutput:
    """What a process wrote to a step's stream after that step's end. `stream` is stdout or stderr; `by` the step that started
    the process, `during` the one that ran meanwhile, both by their node ids.
    """

    stream: StreamName
    data: bytes
    by: str
    during: str | None


Tell = Callable[[LateOutput], object]


class LateReader:
    """A thread that exists only once there is something to read. `tell` hears of it, on that thread or the session's."""

    def __init__(self, tell: Tell) -> None:
        self.bytes_seen = 0
        self._during: str | None = None
        self._tell = tell
        self._poll = select.epoll()
        self._sources: dict[int, tuple[StreamName, str]] = {}  # stream and step by read end
        self._lock = threading.RLock()  # held while a piece is read and told, so that pieces are told in order
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.EPOLLIN)
        self._thread: threading.Thread | None = None

    @property
    def during(self) -> str | None:
        """The node id of the step that runs. Setting it, when one begins and ends, takes what is there: that came before."""
        return self._during

    @during.setter
    def during(self, nodeid: str | None) -> None:
        self._catch_up()
        self._during = nodeid

    def take_over(self, fd: int, stream: StreamName, by: str) -> None:
        """Read this non-blocking fd to its end, and close it."""
        with self._lock:
            self._sources[fd] = stream, by
            self._poll.register(fd, select.EPOLLIN)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="late-output", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Take what is still there, and close everything."""
        os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join()
        self._catch_up()
        for fd in self._sources:
            os.close(fd)
        self._sources.clear()
        self._poll.close()
        os.close(self._wake)

    def _run(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._wake:
                    return
                self._read(fd)

    def _catch_up(self) -> None:
        with self._lock:
            fds = tuple(self._sources)
        for fd in fds:
            for _ in range(_READS):  # whoever writes without end must not keep us here
                if not self._read(fd):
                    break

    def _read(self, fd: int) -> bool:
        """Take what is there, in one piece; whether there was anything. At its end the source is closed."""
        with self._lock:
            if fd not in self._sources:
                return False
            try:
                data = os.read(fd, _READ_BYTES)
            except BlockingIOError:
                return False
            stream, by = self._sources[fd]
            if data:
                self.bytes_seen += len(data)
                self._tell(LateOutput(stream, data, by, self._during))
                return True
            self._poll.unregister(fd)
            del self._sources[fd]
            os.close(fd)
            return False
