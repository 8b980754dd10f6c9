"""What a session asks of the one who runs its commands: `fast/driver.py` or `plain/driver.py`.

What a command is stands in `script.py`, how it may end in `outcome.py`. Which driver a session gets is decided in `probe.py`.
"""

from __future__ import annotations

from typing import Protocol

from testronaut_lab.capture.stream import StreamCapture
from testronaut_lab.errors import ErrorKind, SessionLost
from testronaut_lab.execution.driver.outcome import ShellEnd
from testronaut_lab.execution.driver.script import Bounds, Command


class ProcessesUnseen(SessionLost):
    """Nobody lets us see the container's processes, from here or from within; only the plain driver can do without."""

    kind = ErrorKind.PROCESSES_UNSEEN


class Driver(Protocol):
    """Runs the commands of one session, one after the other. From one thread at a time, but for `interrupt`."""

    @property
    def name(self) -> str:
        """`fast` or `plain`, as in a result."""
        ...

    @property
    def late_bytes(self) -> int:
        """What processes left behind wrote to their steps' streams after those had ended, as far as it was seen."""
        ...

    def start(self) -> None:
        """Raises SessionLost when the container has no such shell, or is gone."""
        ...

    def run(self, command: Command, out: StreamCapture, err: StreamCapture, bounds: Bounds) -> ShellEnd:
        """Run one command and wait for it to end, for at most its timeout plus the time to kill it.

        A command that fails, is not found or is killed is a result. Raises EngineError if the engine, SessionLost if the
        container is gone; what was captured by then is in the two captures, and only `close` may be called after that.
        """
        ...

    def settle(self) -> tuple[str, ...]:
        """Finish what still goes on behind the last command. Notes that belong to its result, the first time."""
        ...

    def interrupt(self) -> None:
        """End the command that runs, from any thread; the session lives. Without one it does nothing."""
        ...

    def close(self) -> None: ...
