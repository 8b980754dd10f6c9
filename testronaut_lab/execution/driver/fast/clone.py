"""A shell that sleeps reading its program is made to clone itself, with one stop of it: x86-64, see `ptrace.py`.

The stop puts the shell at a text of ours, and lets it go. All else it does by itself: it clones; the clone opens another program
in place of the shell's and goes into a process group of its own; and both begin the read anew that the shell slept in. The text
stands where the pages of the shell's programs are filled up with zeros, so that nothing of theirs is overwritten, and is
written once: clones have it too. What it has to keep is below the shell's stack meanwhile: a random number, what the call told,
and registers. The clone is found among the children of the shell's parent by that number.
"""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import signal
import struct
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import count

from testronaut_lab.execution.driver.fast import procfile, ptrace
from testronaut_lab.execution.driver.fast.ptrace import Tracee

_MMAP, _READ_EXEC, _PRIVATE_ANONYMOUS, _PAGE_BYTES = 9, 5, 0x22, 4096
# When it begins, rcx is where the read is, r11 the number, rax the path's address: a system call overwrites these three anyway.
_CODE = bytes.fromhex(
    "488da42400ffffff"  # lea rsp, [rsp - 256]
    "51 4150 4152 52 56 57 53 50 6a00 4153 4889e3"  # push rcx, r8, r10, rdx, rsi, rdi, rbx, rax, 0, r11; mov rbx, rsp
    "b838000000 bf11800000 31f6 31d2 4531d2 4531c0 0f05 4885c0 7555"  # clone(CLONE_PARENT | SIGCHLD, 0, 0, 0, 0); jnz both
    "b801010000 bf9cffffff 488b7310 ba00000800 4531d2 0f05 85c0 7868"  # openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0)
    "4189c0 89c7 8b7320 ba00000800 b824010000 0f05 85c0 7850"  # dup3(that, the descriptor of the read, O_CLOEXEC)
    "4489c7 b803000000 0f05"  # close(that)
    "f60301 740b 31ff 31f6 b86d000000 0f05"  # setpgid(0, 0), if the number is odd
    "b827000000 0f05"  # getpid()
    # both: keep the result, load the registers as they were, and begin the read anew
    "48894308 488b7b20 488b7328 488b5330 4c8b5338 4c8b4340 4c8b5b48 4889d9 488b5918 31c0 488da150010000 41ffe3"
    "4863c0 48894308 b822000000 0f05 ebf7"  # what could not be done: keep the error, pause() until it is ended
)
_KEPT_AT = -336  # from the shell's stack: the number and the result
_FIXED_PATH_AT, _PATH_AT, _TEXT_BYTES, _PATH_BYTES = 208, 272, 336, 64
_MAPPED = re.compile(rb"^[0-9a-f]+-([0-9a-f]+) r-xp \S+ \S+ [1-9]\d* +/", re.MULTILINE)
_SPARE_BYTES = 2 * _TEXT_BYTES  # that many zeros at a page's end are no program's text
_SPINS = 60
_LOOK_S = 0.0002
_KEPT = struct.Struct("=Qq")

_libc = ctypes.CDLL(None, use_errno=True)


class _Piece(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("length", ctypes.c_size_t)]


_libc.process_vm_readv.argtypes = [
    ctypes.c_int, ctypes.POINTER(_Piece), ctypes.c_ulong, ctypes.POINTER(_Piece), ctypes.c_ulong, ctypes.c_ulong
]  # fmt: skip
_libc.process_vm_readv.restype = ctypes.c_ssize_t


class Cloning:
    """One clone of the shell `pid`. Call `launch` on the thread that has seized it, then `collect`.

    `stub` is where our text stands in it, 0 before that. The clone is to read the file `fixed`, the same for all of a session's
    shells and their clones, or `path` if that is given; both as the shell sees them. The shell's parent is the clone's too:
    `children` are all of that one's, and `known` some of them that are not the clone.
    """

    def __init__(
        self, pid: int, stub: int, fixed: str, path: str | None, children: Callable[[], list[int]], known: Collection[int],
        *, own_group: bool,
    ) -> None:  # fmt: skip
        self.stub = stub
        self._pid = pid
        self._fixed = fixed
        self._path = path
        self._children = children
        self._known = known
        self._token = secrets.randbits(63) << 1 | own_group
        self._kept_at = 0

    def launch(self, tracee: Tracee) -> None:
        """Let the stopped shell go at our text. Raises NotAsleep, OSError; it goes on as it was then."""
        with tracee:
            call = tracee.arrive()
            if call.rax or call.rdi < ptrace.FIRST_SPARE:  # not reading its program any more
                tracee.leave()
                raise ptrace.NotAsleep
            if not self.stub or self._path is not None:
                self._prepare(tracee)
            self._kept_at = call.rsp + _KEPT_AT
            call.rcx, call.r11 = call.rip, self._token
            call.rax = self.stub + (_FIXED_PATH_AT if self._path is None else _PATH_AT)
            call.rip = self.stub

    def _prepare(self, tracee: Tracee) -> None:
        """Put our text and the path into the shell."""
        memory = os.open(f"/proc/{self._pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            if not self.stub:
                stub = _room(memory, self._pid) or tracee.run(_MMAP, 0, _PAGE_BYTES, _READ_EXEC, _PRIVATE_ANONYMOUS, -1, 0)
                os.pwrite(memory, _CODE, stub)
                os.pwrite(memory, _path(self._fixed), stub + _FIXED_PATH_AT)
                self.stub = stub
            if self._path is not None:
                os.pwrite(memory, _path(self._path), self.stub + _PATH_AT)
        finally:
            os.close(memory)

    def collect(self) -> tuple[int, int]:
        """The clone's number out here, and in there, once it is ready. Raises OSError, ProcessLookupError if it was killed."""
        pid = told = 0
        for tries in count():
            if not pid:
                pid, told = self._find()
            elif (now := self._told(pid)) is not None:
                told = now
            else:
                raise self._killed()
            if told > 0:
                return pid, told
            if told < 0 or (not pid and (told := self._told(self._pid) or 0) < 0):
                self._end(pid)
                raise OSError(-told, os.strerror(-told))
            if tries < _SPINS:
                os.sched_yield()
                continue
            self._known = ()  # by then a number may have come round
            if not pid and self._has_lost():
                raise self._killed()
            time.sleep(_LOOK_S)
        raise AssertionError("unreachable")

    def _killed(self) -> ProcessLookupError:
        return ProcessLookupError(f"the clone of process {self._pid} was killed")

    def _find(self) -> tuple[int, int]:
        """A new child that has our number, and what it tells; two zeros if there is none yet."""
        for pid in self._children():
            if pid not in self._known and pid != self._pid and (told := self._told(pid)) is not None:
                return pid, told
        return 0, 0

    def _told(self, pid: int) -> int | None:
        """What the call told in this process, 0 before it does; None in one without our number, or that has ended."""
        kept = ctypes.create_string_buffer(_KEPT.size)
        here, there = _Piece(ctypes.addressof(kept), _KEPT.size), _Piece(self._kept_at, _KEPT.size)
        if _libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) != _KEPT.size:
            return None
        token, told = _KEPT.unpack(kept.raw)
        return int(told) if token == self._token else None

    def _has_lost(self) -> bool:
        """Whether the shell has cloned itself, or never will, and there is no clone."""
        try:
            is_over = not os.path.exists(f"/proc/{self._pid}") or ptrace.read_of(self._pid) is not None
        except PermissionError:
            is_over = True  # it has ended
        return is_over and not self._find()[0]

    @staticmethod
    def _end(pid: int) -> None:
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _path(path: str) -> bytes:
    encoded = path.encode() + b"\0"
    assert len(encoded) <= _PATH_BYTES
    return encoded


def _room(memory: int, pid: int) -> int:
    """Where there is room for our text behind a program's, 0 if there is none."""
    for found in _MAPPED.finditer(procfile.read(f"/proc/{pid}/maps")):
        end = int(found[1], 16)
        if not os.pread(memory, _SPARE_BYTES, end - _SPARE_BYTES).strip(b"\0"):
            return end - _TEXT_BYTES
    return 0
