"""Keeps a session's watchdog: starts another one where only the line to it broke, and the container is well.

What a watchdog does is `watchdog.py`; what it means that there is none any more, `fast/shell.py` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from testronaut_lab.container.protocol import Container
from testronaut_lab.errors import EngineError
from testronaut_lab.execution.driver.processes.watchdog import Descriptor, Process, Watchdog, WatchdogLost

# How much longer a second watchdog may take for an answer than the first, which was late on a line that may only be slow.
_SECOND_PATIENCE = 5.0

_T = TypeVar("_T")


class Guard:
    """Every call blocks for its answer. Not thread safe.

    A late answer alone is no loss: the engine is asked about the container, and where that runs, a second watchdog has five
    times as long. Raises WatchdogLost when the container is gone, stopped, paused or another one than it was, or when the
    second one is late too; EngineError when that cannot be found out.
    """

    def __init__(self, container: Container) -> None:
        self._container = container
        self._keeper_pid = container.state().pid
        self._watchdog = Watchdog(container)

    @property
    def pid(self) -> int:
        return self._watchdog.pid

    def close(self) -> None:
        self._watchdog.close()

    def processes(self) -> list[Process]:
        """See `Watchdog.processes`."""
        return self._ask(lambda watchdog: watchdog.processes())

    def sweep(self, keep: Iterable[int], sessions: Iterable[int] = ()) -> bool:
        """See `Watchdog.sweep`."""
        kept, kept_sessions = frozenset(keep), frozenset(sessions)
        return self._ask(lambda watchdog: watchdog.sweep(kept, kept_sessions))

    def send_signal(self, name: str, pids: Iterable[int]) -> None:
        """See `Watchdog.send_signal`."""
        targets = tuple(pids)
        self._ask(lambda watchdog: watchdog.send_signal(name, targets))

    def listens(self, port: int) -> bool:
        """See `Watchdog.listens`."""
        return self._ask(lambda watchdog: watchdog.listens(port))

    def end(self, pids: Iterable[int]) -> None:
        """See `Watchdog.end`."""
        ended = frozenset(pids)
        self._ask(lambda watchdog: watchdog.end(ended))

    def new_file(self, path: str) -> None:
        """See `Watchdog.new_file`."""
        self._ask(lambda watchdog: watchdog.new_file(path))

    def give(self, path: str) -> bytes:
        """See `Watchdog.give`."""
        return self._ask(lambda watchdog: watchdog.give(path))

    def runs(self, pid: int) -> bool:
        """See `Watchdog.runs`."""
        return self._ask(lambda watchdog: watchdog.runs(pid))

    def zombies(self) -> list[int]:
        """See `Watchdog.zombies`."""
        return self._ask(lambda watchdog: watchdog.zombies())

    def others(self, ours: Iterable[int]) -> list[int]:
        """See `Watchdog.others`."""
        known = frozenset(ours)
        return self._ask(lambda watchdog: watchdog.others(known))

    def descriptors(self, pid: int) -> list[Descriptor]:
        """See `Watchdog.descriptors`."""
        return self._ask(lambda watchdog: watchdog.descriptors(pid))

    def directory(self, pid: int) -> bytes | None:
        """See `Watchdog.directory`."""
        return self._ask(lambda watchdog: watchdog.directory(pid))

    def is_in(self, pid: int, directory: str) -> bool:
        """See `Watchdog.is_in`."""
        return self._ask(lambda watchdog: watchdog.is_in(pid, directory))

    def file_number(self, path: str) -> tuple[int, int] | None:
        """See `Watchdog.file_number`."""
        return self._ask(lambda watchdog: watchdog.file_number(path))

    def _ask(self, question: Callable[[Watchdog], _T]) -> _T:
        try:
            return question(self._watchdog)
        except WatchdogLost as error:
            self._renew(error)
        return question(self._watchdog)

    def _renew(self, why: WatchdogLost) -> None:
        lost = self._watchdog.pid
        self._check(why)
        try:
            renewed = Watchdog(self._container, _SECOND_PATIENCE)
        except EngineError:
            self._check(why)  # the engine may learn only now of a container that has ended
            raise
        self._watchdog.close()
        self._watchdog = renewed
        renewed.end([lost])  # one behind a line that stalls lives, and is nobody's job left behind

    def _check(self, why: WatchdogLost) -> None:
        state = self._container.state()
        if not state.is_at_work:
            raise why
        if state.pid != self._keeper_pid:
            raise WatchdogLost(f"{why}; the container was restarted") from why
