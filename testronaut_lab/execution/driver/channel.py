"""The FIFOs and files in a session's run directory, through which the host and the session's shell talk.

The host makes everything; the container sees the directory read-only. Commands go in by `cmd` (which no step can write),
records come out by `ctl`, those of parked copies by `parked0` and `parked1` (which no step can read), each step has its two
output FIFOs (which only the host reads), each parked shell its `k.N`. What is said over them is in `script.py` and `records.py`.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from types import TracebackType

from testronaut_lab.errors import CaptureError

_FROM_HOST = 0o444
_TO_HOST = 0o222


class Channel:
    """Opens `cmd`, `ctl` and `parked` for the life of the session. Raises CaptureError for what the file system refuses."""

    def __init__(self, run_dir: Path) -> None:
        self._dir = str(run_dir)
        with self._faults("preparing the run directory"):
            self.put("driver", files(__package__).joinpath("driver.sh").read_bytes())
            self.put("empty", b"")
            # both ends held, so that neither side ever sees an end of file or blocks in open
            self._cmd = self._fifo("cmd", _FROM_HOST, os.O_RDWR)
            self.ctl = self._fifo("ctl", _TO_HOST, os.O_RDWR)
            # a copy tells of itself while its original may be telling of a step, and the next copy of itself, and a record
            # is more than one write: those with even and with odd numbers have each their own
            self.parked = tuple(self._fifo(name, _TO_HOST, os.O_RDWR) for name in ("parked0", "parked1"))
            self._texts = {name: self._text(name) for name in ("step", "line")}
        self._gates: dict[str, int] = {}
        self._streams: dict[int, tuple[int, int]] = {}
        self._litter: list[str] = []

    def close(self) -> None:
        streams = (fd for pair in self._streams.values() for fd in pair)
        for fd in (self._cmd, self.ctl, *self.parked, *self._texts.values(), *self._gates.values(), *streams):
            os.close(fd)
        self._gates.clear()
        self._streams.clear()

    def send(self, line: str) -> None:
        """One line to the shell that reads commands now; kept in the FIFO until one does."""
        self._write(self._cmd, line)

    def drain_commands(self) -> None:
        """Forget lines that no shell has read."""
        try:
            while os.read(self._cmd, 65536):
                pass
        except BlockingIOError:
            return

    def open_gate(self, name: str) -> None:
        """A FIFO on which one shell waits for one line. Opening one that stands ready does nothing."""
        if name in self._gates:
            return
        with self._faults(f"making the FIFO {name}"):
            self._gates[name] = self._fifo(name, _FROM_HOST, os.O_RDWR)

    def pass_gate(self, name: str, line: str) -> None:
        """Send the line that a gate's shell waits for. The gate stays until `close_gate`, for a shell that has yet to open it."""
        self._write(self._gates[name], line)

    def close_gate(self, name: str) -> None:
        """Its name goes with the next `tidy`. Closing one that is not there does nothing."""
        if name in self._gates:
            os.close(self._gates.pop(name))
            self._litter.append(name)

    def open_streams(self, number: int) -> tuple[int, int]:
        """Make a step's FIFOs and return their read ends (stdout, stderr), which the caller closes."""
        self.prepare_streams(number)
        return self._streams.pop(number)

    def prepare_streams(self, number: int) -> None:
        """Make a step's FIFOs ahead of time, for `open_streams`."""
        if number in self._streams:
            return
        with self._faults("making a step's FIFOs"):
            out = self._fifo(f"{number}.o", _TO_HOST, os.O_RDONLY)
            err = self._fifo(f"{number}.e", _TO_HOST, os.O_RDONLY)
        self._streams[number] = out, err

    def forget_streams(self, number: int) -> None:
        """Remove the names; whoever still holds the FIFOs keeps them. Done with the next `tidy`."""
        self._litter += f"{number}.o", f"{number}.e"

    def tidy(self) -> None:
        """Remove the names that nobody needs any more, at a moment when there is nothing else to do."""
        for name in self._litter:
            os.unlink(f"{self._dir}/{name}")
        self._litter.clear()

    def write_step(self, name: str, text: bytes) -> None:
        """Write `step` or `line` anew, in place: only the shell that is about to run the step will read it."""
        with self._faults(f"writing {name} for a step"):
            fd = self._texts[name]
            os.ftruncate(fd, 0)
            done = 0
            while done < len(text):
                done += os.pwrite(fd, text[done:], done)

    def put(self, name: str, text: bytes) -> None:
        """Write a file whole; a shell that still reads the one before keeps that."""
        with self._faults(f"writing {name} for a step"):
            draft = os.open(f"{self._dir}/draft", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o444)
            try:
                os.fchmod(draft, 0o444)  # whatever the umask is
                view = memoryview(text)
                while view:
                    view = view[os.write(draft, view) :]
            finally:
                os.close(draft)
            os.rename(f"{self._dir}/draft", f"{self._dir}/{name}")

    def _text(self, name: str) -> int:
        fd = os.open(f"{self._dir}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o444)
        os.fchmod(fd, 0o444)  # whatever the umask is
        return fd

    def _fifo(self, name: str, mode: int, flags: int) -> int:
        """Make a FIFO and open it before it gets its mode, which keeps an ordinary user from opening it for both directions."""
        path = f"{self._dir}/{name}"
        os.mkfifo(path, 0o600)
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
        os.chmod(path, mode)
        return fd

    def _write(self, fd: int, line: str) -> None:
        data = line.encode(errors="surrogateescape") + b"\n"
        with self._faults("sending a command to the session's shell"):
            while data:
                try:
                    data = data[os.write(fd, data) :]
                except BlockingIOError as error:
                    raise CaptureError("sending a command to the session's shell: nobody reads it") from error

    def _faults(self, what: str) -> _Faults:
        return _Faults(what, self._dir)


class _Faults:
    """A `with` of these costs a third of what `contextlib` takes, and each step has seven."""

    __slots__ = ("_directory", "_what")

    def __init__(self, what: str, directory: str) -> None:
        self._what = what
        self._directory = directory

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if isinstance(error, OSError):
            hint = f"df -h {self._directory}"
            raise CaptureError(f"{self._what} in {self._directory}: {error}", hint=hint) from error
