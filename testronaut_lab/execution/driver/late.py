"""Reads what processes left behind go on writing to the streams of steps that have ended.

The read ends must stay open (closing one would kill a background server by SIGPIPE) and be drained (a full pipe would stop
it). What is read belongs to no step; it is counted.
"""

from __future__ import annotations

import os
import select
import threading

_READ_BYTES = 256 * 1024


class LateReader:
    """A thread that exists only once there is something to read."""

    def __init__(self) -> None:
        self.bytes_seen = 0
        self._poll = select.epoll()
        self._fds: set[int] = set()
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.EPOLLIN)
        self._thread: threading.Thread | None = None

    def take_over(self, fd: int) -> None:
        """Read this non-blocking fd to its end, and close it."""
        with self._lock:
            self._fds.add(fd)
            self._poll.register(fd, select.EPOLLIN)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="late-output", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop reading and close everything."""
        os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        self._poll.close()
        os.close(self._wake)

    def _run(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._wake:
                    return
                self._read(fd)

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return
        self.bytes_seen += len(data)
        if not data:
            with self._lock:
                self._poll.unregister(fd)
                self._fds.discard(fd)
            os.close(fd)
