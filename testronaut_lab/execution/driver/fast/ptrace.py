"""Makes a sleeping process run system calls that are not in its program: x86-64, where the kernel lets us trace it.

The process must sleep in a system call. It is seized for a moment, made to run the calls, and let go as it was: it begins the
call that was broken off anew and never learns of it. Each use seizes and lets go on the thread that it is called on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType

from testronaut_lab.execution.driver.fast import procfile

_CONT, _GETREGS, _SETREGS, _DETACH, _SINGLESTEP = 7, 12, 13, 17, 9
_SEIZE, _INTERRUPT, _EVENT_STOP = 0x4206, 0x4207, 128
_WALL = 0x40000000
_AT_FDCWD = -100
_CALL = "/proc/self/syscall"
_CLOSE, _FCNTL, _OPENAT, _DUP3 = 3, 72, 257, 292
_DUPFD_CLOEXEC = 1030
FIRST_SPARE = 10  # above the descriptors that a script can name
_WORD = (1 << 64) - 1
_RESTARTS = (-512, -513, -514, -516)  # what a system call that was broken off has for a result: the kernel begins it anew
_RED_ZONE = 128  # bytes below the stack pointer that a function may use, by the x86-64 ABI
_REGISTERS = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class NotAsleep(Exception):
    """The process is not in a system call just now."""


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in _REGISTERS.split()]


def is_supported() -> bool:
    """Whether this is a machine whose system calls we know, and a kernel that tells in which one a process sleeps.

    User-Mode Linux has no such file.
    """
    return platform.machine() == "x86_64" and ctypes.sizeof(ctypes.c_void_p) == 8 and os.path.exists(_CALL)


def read_of(pid: int) -> int | None:
    """The descriptor that the process sleeps reading from, None if it does not. Raises PermissionError where that is secret."""
    words = procfile.read(f"/proc/{pid}/syscall").split()
    return int(words[1], 16) if words[:1] == [b"0"] else None  # x86-64: system call 0 is read


def redirect(pid: int, targets: Mapping[int, str]) -> None:
    """Open files, as the process sees their paths, for writing in place of its descriptors. Raises NotAsleep, OSError."""
    with Tracee(pid) as tracee:
        for fd, path in targets.items():
            tracee.open_as(fd, path, os.O_WRONLY)


def lend(pid: int, stdin: str | None, *, merge: bool) -> dict[int, int | None]:
    """Give the process another stdin, or its stdout as stderr, until `take_back`, which wants what this returns.

    That is where each descriptor is kept meanwhile, None for one that was closed. Raises NotAsleep, OSError.
    """
    kept: dict[int, int | None] = {}
    with Tracee(pid) as tracee:
        if stdin is not None:
            kept[0] = tracee.spare(0)
            tracee.open_as(0, stdin, os.O_RDONLY)
        if merge:
            kept[2] = tracee.spare(2)
            tracee.run(_DUP3, 1, 2, 0)
    return kept


def lend_files(pid: int, paths: Mapping[int, str]) -> dict[int, int | None]:
    """Let the process write to these files, as it sees their paths, by its descriptors, until `take_back`.

    Raises NotAsleep, OSError; then nothing is lent.
    """
    kept: dict[int, int | None] = {}
    with Tracee(pid) as tracee:
        try:
            for fd, path in paths.items():
                kept[fd] = tracee.spare(fd)
                tracee.open_as(fd, path, os.O_WRONLY)
        except OSError:
            _restore(tracee, kept)
            raise
    return kept


def take_back(pid: int, kept: Mapping[int, int | None]) -> None:
    """Undo what was lent. Raises NotAsleep, OSError."""
    with Tracee(pid) as tracee:
        _restore(tracee, kept)


def _restore(tracee: Tracee, kept: Mapping[int, int | None]) -> None:
    for fd, spare in kept.items():
        if spare is None:
            with suppress(OSError):  # closed all the time
                tracee.run(_CLOSE, fd)
        else:
            tracee.run(_DUP3, spare, fd, 0)
            tracee.run(_CLOSE, spare)


class Held:
    """A process that is stopped until it is released, wherever it is. A call that this broke off the kernel begins anew.

    Raises ProcessLookupError, PermissionError.
    """

    def __init__(self, pid: int, *, waits: bool = True) -> None:
        """Unless it `waits`, whoever made it calls `await_stop`."""
        self._pid = pid
        self._missed: list[int] = []  # signals that came meanwhile
        self._is_gone = False
        _ptrace(_SEIZE, pid)
        _ptrace(_INTERRUPT, pid)
        if waits:
            self.await_stop()

    def await_stop(self) -> None:
        """Block until it is stopped. Raises ProcessLookupError."""
        while self._stopped() >> 16 != _EVENT_STOP:
            _ptrace(_CONT, self._pid)

    def release(self) -> None:
        try:
            self._let_go()
        except ProcessLookupError:  # it was killed meanwhile
            self._bury()

    def _stopped(self) -> int:
        """Wait for the next stop. A signal that caused it is sent again later. Raises ProcessLookupError if it was killed."""
        status = os.waitpid(self._pid, _WALL)[1]
        if not os.WIFSTOPPED(status):
            self._is_gone = True
            raise ProcessLookupError(f"process {self._pid} was killed")
        if not status >> 16 and os.WSTOPSIG(status) != signal.SIGTRAP:
            self._missed.append(os.WSTOPSIG(status))
        return status

    def _let_go(self) -> None:
        _ptrace(_DETACH, self._pid)
        for number in self._missed:
            os.kill(self._pid, number)

    def _bury(self) -> None:
        """Its parent, and so its whole container, waits for us to wait."""
        self._is_gone = True
        with suppress(ChildProcessError):
            while os.WIFSTOPPED(os.waitpid(self._pid, _WALL)[1]):
                pass


class Tracee(Held):
    """A process that is stopped and ours within the `with`. `call` is what it goes on with, the call that was broken off.

    Unless it `waits`, its maker calls `arrive` before anything else.
    """

    def __init__(self, pid: int, *, waits: bool = True) -> None:
        super().__init__(pid, waits=False)
        self.call = Registers()
        self._is_there = False
        if waits:
            self.arrive()

    def arrive(self) -> Registers:
        """Block until it is stopped; its call. Raises NotAsleep, ProcessLookupError, and it is let go."""
        self.await_stop()
        self.call = self._at_the_call()
        self._is_there = True
        return self.call

    def forgo(self) -> None:
        """Let it go as it is stopped, as soon as it is."""
        try:
            self.await_stop()
            self._let_go()
        except ProcessLookupError:
            if not self._is_gone:
                self._bury()

    def leave(self) -> None:
        """Let it go as it was stopped."""
        self._is_there = False
        self._let_go()

    def __enter__(self) -> Tracee:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None) -> None:
        if self._is_gone or not self._is_there:
            return
        try:
            self._set(self.call)
            self._let_go()
        except ProcessLookupError:  # it was killed meanwhile
            self._bury()

    def run(self, number: int, *words: int) -> int:
        """Run a system call. Raises OSError as it does."""
        self._load(number, *words)
        self._step()
        return self._result(f"system call {number}")

    def open_as(self, fd: int, path: str, flags: int, own_flags: int = 0) -> None:
        """Open a file in place of a descriptor, which is closed in the programs it starts if `own_flags` say so."""
        opened = self.run(_OPENAT, _AT_FDCWD, self.store(path.encode()), flags | os.O_CLOEXEC)
        if opened == fd:  # it was closed
            self.run(_FCNTL, fd, 2, own_flags and 1)
            return
        self.run(_DUP3, opened, fd, own_flags)
        self.run(_CLOSE, opened)

    def spare(self, fd: int) -> int | None:
        """A duplicate of a descriptor where no script looks; None for one that is closed."""
        try:
            return self.run(_FCNTL, fd, _DUPFD_CLOEXEC, FIRST_SPARE)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            return None

    def store(self, text: bytes) -> int:
        """Put a C string where the process does not look; its address."""
        address = self._below_the_stack(text)
        with open(f"/proc/{self._pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(address)
            memory.write(text + b"\0")
        return address

    def _below_the_stack(self, text: bytes) -> int:
        address: int = (self.call.rsp - _RED_ZONE - len(text) - 1) & ~0xF
        return address

    def _at_the_call(self) -> Registers:
        """The registers to begin the interrupted call anew with."""
        now = Registers()
        _ptrace(_GETREGS, self._pid, ctypes.byref(now))
        is_broken_off = ctypes.c_longlong(now.rax).value in _RESTARTS
        if ctypes.c_longlong(now.orig_rax).value < 0 or not is_broken_off:  # of one that is over, the result would be lost
            self._let_go()
            raise NotAsleep
        now.rip -= 2  # the two bytes of `syscall`
        now.rax = now.orig_rax
        now.orig_rax = _WORD  # no restart by the kernel
        return now

    def _load(self, number: int, *words: int) -> None:
        registers = Registers.from_buffer_copy(self.call)
        registers.rax = number
        arguments = [word & _WORD for word in (*words, 0, 0, 0, 0, 0, 0)]
        registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9 = arguments[:6]
        self._set(registers)

    def _result(self, what: str) -> int:
        after = Registers()
        _ptrace(_GETREGS, self._pid, ctypes.byref(after))
        result = ctypes.c_longlong(after.rax).value
        if -4096 < result < 0:
            raise OSError(-result, f"{what}: {os.strerror(-result)}")
        return result

    def _step(self) -> int:
        return self._resume(_SINGLESTEP)

    def _resume(self, how: int) -> int:
        """Let it go on to the next stop that is its own doing."""
        while True:
            _ptrace(how, self._pid)
            status = self._stopped()
            if status >> 16 == _EVENT_STOP:
                continue  # a SIGCONT came: of the step itself nothing has happened yet
            if status >> 16 or os.WSTOPSIG(status) == signal.SIGTRAP:
                return status

    def _set(self, registers: Registers) -> None:
        _ptrace(_SETREGS, self._pid, ctypes.byref(registers))


def _ptrace(request: int, pid: int, data: object = None) -> None:
    if _libc.ptrace(request, pid, None, data) < 0:
        error = ctypes.get_errno()
        if error == errno.EPERM and not procfile.has_memory(pid):  # what the kernel says of a process that is ending
            error = errno.ESRCH
        raise OSError(error, f"ptrace {request:#x} of {pid}: {os.strerror(error)}")
