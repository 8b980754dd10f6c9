"""Programs that run beside the session's shell, each in an exec and a process session of its own.

A timeout of a step does not end them, and no step left them behind. Who starts and ends them is in
`execution/sidecar/background.py`; here is what of them the container's process table says, and the ways to reach them.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from testronaut_lab.container.protocol import Container
from testronaut_lab.errors import SessionLost
from testronaut_lab.execution.driver.processes.guard import Guard
from testronaut_lab.execution.driver.processes.watchdog import Process, WatchdogLost

T = TypeVar("T")

_KILL_TIMEOUT_S = 2.0
_CAUGHT = re.compile(rb"^SigCgt:\s*([0-9a-f]+)$", re.MULTILINE)
_LOOK_EVERY_S = 0.01


class BackgroundProcesses:
    """Known by the number of their session, which is the pid of the exec's own process. Every call may raise SessionLost."""

    def __init__(self, container: Container, watchdog: Guard) -> None:
        self._container = container
        self._watchdog = watchdog
        self._known: dict[int, set[int]] = {}

    @property
    def sessions(self) -> frozenset[int]:
        return frozenset(self._known)

    def admit(self, session: int) -> None:
        self._known[session] = {session}

    def dismiss(self, session: int) -> None:
        """Whatever of it still runs is a stranger from now on."""
        self._known.pop(session, None)

    def of(self, processes: Iterable[Process]) -> frozenset[int]:
        """The pids of all guests and of what they started, also of what has left its session, if it was seen before that."""
        listed = list(processes)
        return frozenset(pid for session in self._known for pid in self._follow(session, listed))

    def terminate(self, session: int) -> None:
        """Send TERM to the process group of the exec's own process: the program, and what it started without job control."""
        self._ask(lambda: self._watchdog.send_signal("TERM", (-session,)), "sending SIGTERM")

    def send_signal(self, session: int, name: str, shell: str | None) -> None:
        """To the program alone. Where `shell` runs it, a program's name, and did not become it, to what that shell runs, unless
        its script has a trap for the signal."""
        listed = self._ask(self._watchdog.processes, "listing the session's processes")
        own = next((process for process in listed if process.pid == session), None)
        run_by_it = [process.pid for process in listed if process.parent == session and process.is_alive]
        is_shell = own is not None and own.name == shell
        targets = run_by_it if is_shell and run_by_it and not self.catches(session, name) else [session]
        self._ask(lambda: self._watchdog.send_signal(name, targets), f"sending SIG{name}")

    def catches(self, pid: int, name: str) -> bool:
        """Whether a process handles this signal itself; not one that has ended."""
        status = self._ask(lambda: self._watchdog.give(f"/proc/{pid}/status"), "looking at a background program's traps")
        caught = _CAUGHT.search(status)
        number = getattr(signal, f"SIG{name}", None)
        return caught is not None and number is not None and bool(int(caught[1], 16) >> (number - 1) & 1)

    def kill(self, session: int) -> None:
        """End it and all that it started. Raises SessionLost if something would not die, with the container killed."""
        deadline = time.monotonic() + _KILL_TIMEOUT_S
        while alive := self.alive(session):
            if time.monotonic() > deadline:
                self._container.kill()
                raise SessionLost("a background program could not be killed: its container was")
            self._kill_now(alive)
            time.sleep(_LOOK_EVERY_S)

    def alive(self, session: int) -> frozenset[int]:
        """The pids of one guest and of what it started, as `of` knows them, that still run."""
        listed = self._ask(self._watchdog.processes, "listing the session's processes")
        return self._follow(session, listed)

    def listens(self, port: int) -> bool:
        """Whether a TCP port is listened on inside the container, by whomever."""
        return self._ask(lambda: self._watchdog.listens(port), f"looking for a listener on port {port}")

    def _kill_now(self, pids: Iterable[int]) -> None:
        self._ask(lambda: self._watchdog.send_signal("KILL", pids), "killing a background program")

    def _follow(self, session: int, processes: Iterable[Process]) -> frozenset[int]:
        alive = {process.pid: process for process in processes if process.is_alive}
        members = {pid for pid in self._known.get(session, ()) if pid in alive}
        members |= {pid for pid, process in alive.items() if process.session == session}
        while more := {pid for pid, process in alive.items() if process.parent in members} - members:
            members |= more
        if session in self._known:
            self._known[session] = members
        return frozenset(members)

    def _ask(self, call: Callable[[], T], what: str) -> T:
        try:
            return call()
        except WatchdogLost as error:
            raise SessionLost(f"{what}: {error}; {self._container.state().describe()}") from error
