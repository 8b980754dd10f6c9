"""One process of a session's shell as the host sees it: its program, its sleep, its descriptors, and how it ended.

Which of them runs steps and which wait as copies is in `supervisor.py`. A dead shell stays a zombie until the keeper is told to
wait for its children, so that how it ended can be read.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import select
import signal
import stat
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from testronaut_lab.execution.driver.fast import procfile, ptrace

_INNER = re.compile(rb"^NSpid:.*?(\d+)$", re.MULTILINE)
_NESTED_FIRST = re.compile(rb"^NSpid:(?:\s+\d+)+\s+1$", re.MULTILINE)
_FLAGS = re.compile(rb"^flags:\s*([0-7]+)", re.MULTILINE)
_EXIT_CODE = 50  # field of /proc/PID/stat, the state being the first
_NOFILE = re.compile(rb"^Max open files\s+(\d+)", re.MULTILINE)
_MANY = 1 << 20
_LIMITS_BYTES = 4096
_LOOK_S = 0.0005
_DELETED = " (deleted)"
_KCMP, _KCMP_FILE = 312 if ptrace.is_supported() else -1, 0
_FEWEST_FILES = 4  # the three streams and the program
FIRST_OWN_FD = 10  # shells keep their own descriptors above those that a script can name
_PIDFD_GET_INFO, _INFO_BYTES, _INFO_EXIT = 0xC040FF0B, 64, 1 << 3

_libc = ctypes.CDLL(None, use_errno=True)

Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Held:
    """An open descriptor of a process: what it is open on, and its number."""

    fd: int
    link: str
    identity: Identity


class Shell:
    """`pid` is its number out here, `inner` the one in the container, `called` what `$$` is in it: of a copy the original's
    number. `program` is the write end of the FIFO that it reads, -1 of a copy that only waits. `stub` is where a text of ours
    stands in it, 0 for none, see `clone.py`. Close it with `close`.

    Where it `tells_end`, poll tells when it has ended; elsewhere it has to be asked.
    """

    tells_end = True

    stub = 0

    def __init__(
        self, pid: int, program: int, *, is_bash: bool, called: int | None = None, inner: int | None = None, stub: int = 0
    ) -> None:  # fmt: skip
        self.pid = pid
        self.is_bash = is_bash
        self.inner = inner_pid(pid) if inner is None else inner
        self.stub = stub
        self.called = self.inner if called is None else called
        self.program = program
        self._files = self._limits = -1
        self._told_limits, self._most_files = b"", _MANY
        self._pidfd = os.pidfd_open(pid)

    def fileno(self) -> int:
        """For poll: readable when it has ended."""
        return self._pidfd

    def close(self) -> None:
        """Forget it; a running one goes on."""
        self.end_program()
        for fd in (self._pidfd, self._files, self._limits):
            if fd >= 0:
                os.close(fd)
        self._pidfd = self._files = self._limits = -1

    def send(self, data: bytes) -> bytes:
        """Put as much as fits into its program; the rest."""
        try:
            return data[os.write(self.program, data) :]
        except BlockingIOError:
            return data

    def end_program(self) -> None:
        """Let it read the end of its program."""
        if self.program >= 0:
            os.close(self.program)
            self.program = -1

    def kill(self) -> None:
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wake(self) -> None:
        """Let it go on, if a step has stopped it."""
        if procfile.stat(self.pid)[:1] == [b"T"]:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)
            while procfile.stat(self.pid)[:1] == [b"T"]:
                time.sleep(_LOOK_S)

    @property
    def has_ended(self) -> bool:
        return self.await_end(0)

    @property
    def is_gone(self) -> bool:
        """Whether somebody has waited for it."""
        return not os.path.exists(f"/proc/{self.pid}")

    def await_end(self, timeout_s: float, *, reaped: bool = False) -> bool:
        """Wait until it has ended; `reaped`: and its parent has waited for it, which kernels that remember it (6.15) tell.

        Whether that is so.
        """
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, 0 if reaped else select.POLLIN)
        return bool(poll.poll(int(timeout_s * 1000)))

    def status(self) -> int | None:
        """How it ended, as shells number it; None if nobody can tell any more. Call it once it `has_ended`."""
        told = zombie_status(self.pid)
        if told is None:
            told = ended_by(self._pidfd)
        return None if told is None else _as_shells_tell(told)

    @property
    def has_read_all(self) -> bool:
        return self.program < 0 or not pending(self.program)

    def program_fd(self) -> int | None:
        """The descriptor that it sleeps reading its program from, all of which it has read; None while it does anything else.

        Raises PermissionError where the kernel does not let us see that.
        """
        if not self.has_read_all:
            return None
        try:
            fd = ptrace.read_of(self.pid)
        except PermissionError:
            if not procfile.has_memory(self.pid):
                return None
            raise
        return fd if fd is not None and fd >= FIRST_OWN_FD else None

    def held(self) -> list[Held]:
        """What it holds open and its programs have too; empty for one that has ended. Raises PermissionError."""
        return [held for held in descriptors(self.pid) if held.fd < FIRST_OWN_FD or not _is_own(self.pid, held.fd)]

    def holds_same(self, plain: Shell) -> bool:
        """Whether it holds as little as another shell, and the same files. False also where a quick look does not tell."""
        try:
            if self._files < 0:
                self._files = os.open(f"/proc/{self.pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if os.fstat(self._files).st_size != _FEWEST_FILES:
                return False
        except OSError:  # it died since its report: the next step finds that out, and restores it
            return False
        return not any(_libc.syscall(_KCMP, self.pid, plain.pid, _KCMP_FILE, fd, fd) for fd in (0, 1, 2))

    def holds_only(self, stdin: Identity, out: Identity, err: Identity) -> bool:
        """Whether it holds nothing but its program, and these, without a lock. False also before Linux 6.2."""
        try:
            if os.stat(f"/proc/{self.pid}/fd").st_size != _FEWEST_FILES:
                return False
            return (self.identity(0), self.identity(1), self.identity(2)) == (stdin, out, err) and not _has_lock(self.pid, 0)
        except OSError:
            return False

    def holds_on(self, held: Held) -> bool:
        """Whether a copy of it would hold a pipe or a socket open by this descriptor, or a lock."""
        return not held.link.startswith("/") or _is_fifo(self.pid, held.fd) or _has_lock(self.pid, held.fd)

    def is_in(self, directory: str) -> bool:
        """Whether it is in this directory of its container's."""
        try:
            return os.path.samestat(os.stat(f"/proc/{self.pid}/cwd"), os.stat(f"/proc/{self.pid}/root{directory}"))
        except OSError:
            return False

    def identity(self, fd: int) -> Identity | None:
        """What a descriptor is open on; None for one that is closed, or of a shell that has ended. Raises PermissionError."""
        try:
            info = os.stat(f"/proc/{self.pid}/fd/{fd}")
        except (FileNotFoundError, ProcessLookupError):
            return None
        except PermissionError:
            if procfile.has_memory(self.pid):
                raise
            return None
        return info.st_dev, info.st_ino

    def cwd(self) -> str | None:
        """Its directory, without the name's links; None for one that has ended."""
        path = f"/proc/{self.pid}/cwd"
        try:
            name = os.readlink(path)
            return name.removesuffix(_DELETED) if name.endswith(_DELETED) and os.stat(path).st_nlink == 0 else name
        except OSError:
            return None

    def most_files(self) -> int:
        """How many files it may have open, as far as that is known."""
        try:
            if self._limits < 0:
                self._limits = os.open(f"/proc/{self.pid}/limits", os.O_RDONLY | os.O_CLOEXEC)
            told = os.pread(self._limits, _LIMITS_BYTES, 0)
        except OSError:
            return _MANY
        if told != self._told_limits:
            self._told_limits, self._most_files = told, most_files_in(told)
        return self._most_files


class Looping(Shell):
    """A bash that sources a FIFO for each text, whole: mixed into what a shell is. `path` is the FIFO's, out here."""

    path = ""

    def send(self, data: bytes) -> bytes:
        """Blocks until it has read everything, or has ended."""
        writer = self._open()
        if writer is None:
            return b""
        os.set_blocking(writer, True)
        with open(writer, "wb", buffering=0) as file, suppress(BrokenPipeError):
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        return b""

    def _open(self) -> int | None:
        while not self.has_ended:
            try:
                return os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:  # it has yet to open it
                time.sleep(_LOOK_S)
        return None


def pending(pipe: int) -> bool:
    """Whether something was written to a pipe that nobody has read yet."""
    return fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0") != b"\0\0\0\0"


def inner_pid(pid: int) -> int:
    """A process's number in its own namespace, 0 for one that is gone."""
    found = _INNER.search(procfile.read(f"/proc/{pid}/status"))
    return int(found[1]) if found else 0


def is_first_inside(pid: int) -> bool:
    """Whether this is the first process of another namespace than ours: a number from another process table is mostly not."""
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            found = _NESTED_FIRST.search(file.read())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return found is not None


def descriptors(pid: int) -> Iterator[Held]:
    """What a process holds open. Raises PermissionError where we may not see that."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except (FileNotFoundError, ProcessLookupError):
        return
    except PermissionError:
        if procfile.has_memory(pid):
            raise
        return
    for name in names:
        path = f"/proc/{pid}/fd/{name}"
        try:
            info = os.stat(path)
            yield Held(int(name), os.readlink(path), (info.st_dev, info.st_ino))
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:
            if procfile.has_memory(pid):
                raise
            return


def _is_own(pid: int, fd: int) -> bool:
    """Whether the programs that a shell starts do not have this descriptor."""
    try:
        found = _FLAGS.search(procfile.read(f"/proc/{pid}/fdinfo/{fd}"))
    except OSError:
        return True
    return found is None or bool(int(found[1], 8) & os.O_CLOEXEC)


def _is_fifo(pid: int, fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(f"/proc/{pid}/fd/{fd}").st_mode)
    except OSError:
        return False


def _has_lock(pid: int, fd: int) -> bool:
    """Whether a process holds a lock by this descriptor, which a copy of it would hold too."""
    try:
        return b"\nlock:" in b"\n" + procfile.read(f"/proc/{pid}/fdinfo/{fd}")
    except OSError:
        return False


@cache
def kernel_remembers() -> bool:
    """Whether the kernel tells how a process ended after somebody has waited for it (Linux 6.15)."""
    child = subprocess.Popen(["/bin/false"], stdin=subprocess.DEVNULL)
    pidfd = os.pidfd_open(child.pid)
    try:
        child.wait()
        return ended_by(pidfd) is not None
    finally:
        os.close(pidfd)


def runs(pid: int) -> bool:
    """Whether a process does something just now, or would if there were a processor for it."""
    return procfile.stat(pid)[:1] == [b"R"]


def zombies(parent: int) -> list[int]:
    """The children of a process that have ended and that it has not waited for."""
    return [pid for pid in children(parent) if zombie_status(pid) is not None]


def was_killed(status: int | None) -> bool | None:
    """Whether a signal ended the process that ended with this, as `waitpid` tells it; None if nobody could tell."""
    return None if status is None else os.WIFSIGNALED(status)


def children(pid: int) -> list[int]:
    return [int(word) for word in procfile.read(f"/proc/{pid}/task/{pid}/children").split()]


def most_files_in(limits: bytes) -> int:
    """How many files a process with these limits, as /proc has them, may have open."""
    found = _NOFILE.search(limits)
    return int(found[1]) if found else _MANY


def status_of(words: list[bytes]) -> int | None:
    """How a process ended, as shells number it, by what /proc says of it from its state on; None for none that is known."""
    told = _zombie_status_in(words)
    return None if told is None else _as_shells_tell(told)


def _as_shells_tell(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def zombie_status(pid: int) -> int | None:
    """How a process ended, as `waitpid` tells it, while nobody has waited for it."""
    return _zombie_status_in(procfile.stat(pid))


def _zombie_status_in(words: list[bytes]) -> int | None:
    return int(words[_EXIT_CODE - 1]) if words[:1] == [b"Z"] else None


def ended_by(pidfd: int) -> int | None:
    """The same from a kernel that remembers it in the pidfd (Linux 6.15), for a process that somebody has waited for."""
    info = bytearray(_INFO_BYTES)
    struct.pack_into("=Q", info, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.ESRCH):
            return None
        raise
    (mask,) = struct.unpack_from("=Q", info, 0)
    return int(ctypes.c_int32.from_buffer(info, 60).value) if mask & _INFO_EXIT else None
