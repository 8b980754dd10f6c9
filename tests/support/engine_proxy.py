"""A unix-socket proxy between us and the engine that can cut, reset or stall what goes through it, at any byte.

Real sockets and threads. The first exec that a session starts is its leader's, the second its watchdog's; every other
connection is an API call's.
"""

from __future__ import annotations

import os
import re
import select
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

Kind = Literal["cut", "reset", "stall"]
Line = Literal["leader", "watchdog", "api", "engine"]
Way = Literal["to_us", "to_engine"]

_EXEC_START = re.compile(rb"POST \S*/exec/[^/ ]+/start ")
_EXEC_ROLES: tuple[Line, ...] = ("leader", "watchdog")


@dataclass(frozen=True)
class Fault:
    """What happens to a `line`, or to all that there are and will be (`engine`), once `after_bytes` have gone that `way`."""

    kind: Kind
    line: Line
    way: Way
    after_bytes: int

    def __str__(self) -> str:
        return f"{self.kind} of {self.line} after {self.after_bytes} bytes {self.way}"


class _Connection:
    """One client's connection and the one to the engine that belongs to it. `line` is known once the client has asked."""

    def __init__(self, proxy: ChaosProxy, client: socket.socket, upstream: socket.socket) -> None:
        self._proxy = proxy
        self._ends = {"to_us": (upstream, client), "to_engine": (client, upstream)}
        self._client = client
        self.line: Line = "api"
        self.stalled = False
        self._threads = [threading.Thread(target=self._pump, args=(way,), daemon=True) for way in self._ends]
        for thread in self._threads:
            thread.start()

    def suffer(self, kind: Kind) -> None:
        """From any thread."""
        if kind == "stall":
            self.stalled = True
        elif kind == "cut":
            self._shut()
        else:
            # what was sent to a unix socket and not read when it is closed comes back as ECONNRESET
            self.stalled = True
            threading.Thread(target=self._reset, daemon=True).start()

    def join(self) -> None:
        self._shut()
        for thread in self._threads:
            thread.join(5)
        for end in self._ends["to_us"]:
            end.close()

    def _pump(self, way: Way) -> None:
        source, sink = self._ends[way]
        try:
            while select.select([source], [], [])[0]:
                self._wait_for_the_end_of_a_stall()
                data = source.recv(65536)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if way == "to_engine" and _EXEC_START.match(data):
                    self.line = self._proxy.next_exec()
                time.sleep(self._proxy.delay_s)
                data = self._proxy.translate(way, data)
                whole, fault = self._proxy.judge(self, way, len(data))
                sink.sendall(data[:whole])
                if fault is not None:
                    self._proxy.strike(fault, self)
                    self._wait_for_the_end_of_a_stall()
                    sink.sendall(data[whole:])
        except (OSError, ValueError):
            return  # one of the ends is closed, by us or by its owner

    def _wait_for_the_end_of_a_stall(self) -> None:
        if self.stalled:
            self._proxy.healed.wait()

    def _reset(self) -> None:
        try:
            select.select([self._client], [], [], 0.2)
            self._shut()
        except (OSError, ValueError):
            return

    def _shut(self) -> None:
        for end in self._ends["to_us"]:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class ChaosProxy:
    """Listens on `path` for the engine at `upstream`; forwards everything until `arm` or `strike` says otherwise.

    Each piece comes `delay_s` later than it would, both ways, as from an engine that is slow.
    """

    def __init__(self, path: Path, upstream: str) -> None:
        self.path = path
        self._upstream = upstream
        self._lock = threading.Lock()
        self._connections: list[_Connection] = []
        self._execs = 0
        self._armed: dict[Fault, int] = {}  # and how many bytes each still lets through
        self._down: Kind | None = None
        self.struck: list[str] = []
        self.delay_s = 0.0
        self.healed = threading.Event()
        self.healed.set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def __enter__(self) -> ChaosProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.heal()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()
        for connection in self._connections:
            connection.join()
        os.unlink(self.path)

    def arm(self, *faults: Fault) -> None:
        """Let them happen; at once where that is after no byte and of a line that is open."""
        for fault in faults:
            with self._lock:
                if fault.kind != "cut":
                    self.healed.clear()
                targets = [each for each in self._connections if fault.line in (each.line, "engine")]
                at_once = fault.after_bytes == 0 and fault.line != "api" and bool(targets)
                if not at_once:
                    self._armed[fault] = fault.after_bytes
            if at_once:
                self.strike(fault, *targets)

    def heal(self) -> None:
        """New connections work again, and what was held back goes through."""
        with self._lock:
            self._armed.clear()
            self._down = None
            for connection in self._connections:
                connection.stalled = False
        self.healed.set()

    def translate(self, way: Way, data: bytes) -> bytes:
        """What goes on in the place of these bytes."""
        return data

    def next_exec(self) -> Line:
        with self._lock:
            self._execs += 1
            return _EXEC_ROLES[self._execs - 1] if self._execs <= len(_EXEC_ROLES) else "api"

    def judge(self, connection: _Connection, way: Way, count: int) -> tuple[int, Fault | None]:
        """How many of these bytes go through, and what happens then."""
        with self._lock:
            for fault, left in self._armed.items():
                if fault.way != way or fault.line not in (connection.line, "engine"):
                    continue
                if count > left:
                    del self._armed[fault]
                    return left, fault
                self._armed[fault] = left - count
        return count, None

    def strike(self, fault: Fault, *connections: _Connection) -> None:
        self.struck.append(str(fault))
        if fault.line == "engine":
            with self._lock:
                self._down = fault.kind
                connections = tuple(self._connections)
        for connection in connections:
            connection.suffer(fault.kind)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._down in ("cut", "reset"):
                client.close()
                continue
            upstream = socket.socket(socket.AF_UNIX)
            upstream.connect(self._upstream)
            connection = _Connection(self, client, upstream)
            connection.stalled = self._down == "stall"
            with self._lock:
                self._connections.append(connection)
