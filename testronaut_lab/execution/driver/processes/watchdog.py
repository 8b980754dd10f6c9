"""The host's side of the watchdog: a root shell in the container that lists and kills processes, over an attached exec.

The script is watchdog.sh. Which processes are ours, and when to kill, `fast/shell.py` decides.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from testronaut_lab.container.protocol import Attached, Container
from testronaut_lab.errors import EngineError

_START_S = 10.0
_ANSWER_S = 2.0
# How many times as long a late answer is waited for where the engine says that the container runs. A second watchdog cannot
# be started in a container that a fork bomb has filled, and the first is late there where there is one CPU.
_LONGER = 4.0


@dataclass(frozen=True, slots=True)
class Process:
    """`pid`, `parent` and `session` are numbers inside the container."""

    pid: int
    parent: int
    state: str
    session: int
    name: str

    @property
    def is_alive(self) -> bool:
        return self.state not in "ZX"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One of a process. `kind`: p pipe or FIFO, s socket, c character device, f file or directory, o anything else.

    `mount` and `file` are numbers, the first of the container.
    """

    fd: int
    kind: str
    flags: int
    mount: int
    file: int
    is_locked: bool


class WatchdogLost(Exception):
    """It ended or does not answer: the container is gone, paused, or somebody with root's powers killed it."""


class Watchdog:
    """Starts at once; every call blocks for its answer. Not thread safe. Raises WatchdogLost, EngineError.

    An answer may take 2 s on an engine of the usual speed, longer on one that has been slow, and four times as long again if
    the container runs. `patience` multiplies that.
    """

    def __init__(self, container: Container, patience: float = 1.0) -> None:
        self._container = container
        self._patience = patience
        text = files(__package__).joinpath("watchdog.sh").read_text()
        self._attached: Attached = container.attach(["/bin/sh", "-c", text, "watchdog"], user="0:0", env={}, cwd="/")
        self._buffer = b""
        self._poll = select.poll()
        self._poll.register(self._attached.fileno(), select.POLLIN)
        try:
            self.pid = int(self._answer("R", _START_S)[-1].split()[1])
            container.raise_priority(self._attached)  # among a hundred busy processes of a step it would wait for its turn
        except (WatchdogLost, EngineError):
            self._attached.close()
            raise

    def close(self) -> None:
        self._attached.close()

    def processes(self) -> list[Process]:
        """Everything that runs in the container, ours too. Raises WatchdogLost."""
        self._send("l\n")
        lines = self._answer("L")
        found: list[Process] = []
        for line in lines[:-1]:
            words = line.split(" ", 5)
            if len(words) == 6 and words[0] == "P" and all(words[i].isdigit() for i in (1, 2, 4)):
                found.append(Process(int(words[1]), int(words[2]), words[3], int(words[4]), words[5]))
        return found

    def sweep(self, keep: Iterable[int], sessions: Iterable[int] = ()) -> bool:
        """Kill all but `keep`, `sessions`, the keeper and itself, until none is alive; False if some would not die.

        Raises WatchdogLost.
        """
        kept = [*(str(pid) for pid in sorted(set(keep))), *(f"s{number}" for number in sorted(sessions))]
        self._send(f"x {' '.join(kept)}\n")
        return self._answer("WF")[-1].startswith("W")

    def end(self, pids: Iterable[int]) -> None:
        """Kill these, whatever they are; done before the next answer. Raises WatchdogLost."""
        self._send(f"k {' '.join(str(pid) for pid in pids)}\n")

    def new_file(self, path: str) -> None:
        """Make a file that every process in the container can write and only root can read. Raises WatchdogLost."""
        self._send(f"n {path}\n")
        self._answer("N")

    def runs(self, pid: int) -> bool:
        """Whether a process has not ended. Raises WatchdogLost."""
        self._send(f"e {pid}\n")
        return self._answer("N")[-1] == "N 1"

    def zombies(self) -> list[int]:
        """The keeper's children that have ended and that it has not waited for. Raises WatchdogLost."""
        self._send("z\n")
        return [int(word) for word in self._answer("N")[-1].split()[1:]]

    def others(self, ours: Iterable[int]) -> list[int]:
        """All but these, the keeper and itself; some may have ended and wait to be waited for. Raises WatchdogLost."""
        self._send(f"o {' '.join(map(str, ours))}\n")
        return [int(word) for word in self._answer("N")[-1].split()[1:]]

    def descriptors(self, pid: int) -> list[Descriptor]:
        """What a process holds open; nothing of one that is gone or may not be looked at. Raises WatchdogLost."""
        self._send(f"f {pid}\n")
        words = [line.split(" ") for line in self._answer("E")[:-1]]
        return [
            Descriptor(int(fd), kind, int(flags, 8), int(mount), int(file), lock == "1")
            for _, fd, kind, flags, mount, file, lock in (each for each in words if len(each) == 7)
            if flags and mount and file
        ]

    def directory(self, pid: int) -> bytes | None:
        """A process's directory; None for one that is gone, or whose directory is. Raises WatchdogLost."""
        self._send(f"c {pid}\n")
        lines = self._lines("E", _ANSWER_S)[:-1]
        return b"\n".join(line[1:] for line in lines) or None

    def is_in(self, pid: int, directory: str) -> bool:
        """Whether a process is in this directory, whose name has no newline. Raises WatchdogLost."""
        self._send(f"d {pid} {directory}\n")
        return self._answer("N")[-1] == "N 1"

    def file_number(self, path: str) -> tuple[int, int] | None:
        """The number of a file's mount in the container and its own; None where the kernel does not tell. Raises WatchdogLost."""
        self._send(f"i {path}\n")
        words = self._answer("N")[-1].split()
        return (int(words[1]), int(words[2])) if len(words) == 3 else None

    def give(self, path: str) -> bytes:
        """What is in a file in the container, NUL bytes left out. Raises WatchdogLost."""
        self._send(f"g {path}\n")
        return b"".join(line[1:] + b"\n" for line in self._lines("E", _ANSWER_S)[:-1])

    def send_signal(self, name: str, pids: Iterable[int]) -> None:
        """Send a signal (a name without SIG) to processes, to whole groups by negative numbers. Raises WatchdogLost."""
        self._send(f"s {name} {' '.join(map(str, pids))}\n")
        self._answer("K")

    def listens(self, port: int) -> bool:
        """Whether some process in the container's network listens on a TCP port, of IPv4 or IPv6. Raises WatchdogLost."""
        self._send(f"p {port:04X}\n")
        return self._answer("N")[-1] == "N 1"

    def _send(self, text: str) -> None:
        try:
            self._attached.write(text.encode())
        except EngineError as error:
            raise WatchdogLost(str(error)) from error

    def _answer(self, last: str, usual_s: float = _ANSWER_S) -> list[str]:
        return [line.decode(errors="backslashreplace") for line in self._lines(last, usual_s)]

    def _lines(self, last: str, usual_s: float) -> list[bytes]:
        """The lines up to the first that begins with one of the letters in `last`."""
        timeout_s = self._container.patience_s(usual_s) * self._patience
        deadline = time.monotonic() + timeout_s
        is_late = False
        lines: list[bytes] = []
        while True:
            while b"\n" in self._buffer:
                raw, self._buffer = self._buffer.split(b"\n", 1)
                lines.append(raw)
                if raw[:1] and raw[:1] in last.encode():
                    return lines
            left_ms = max(0, int((deadline - time.monotonic()) * 1000))
            if self._poll.poll(left_ms):
                self._read()
            elif is_late or not self._container.state().is_at_work:
                raise WatchdogLost(f"the watchdog did not answer within {timeout_s:g} s")
            else:
                is_late = True
                timeout_s *= _LONGER
                deadline = time.monotonic() + timeout_s

    def _read(self) -> None:
        try:
            for stream, data in self._attached.read():
                if stream == 1:
                    self._buffer += data
        except EOFError:
            raise WatchdogLost("the watchdog ended") from None
        except EngineError as error:
            raise WatchdogLost(str(error)) from error
