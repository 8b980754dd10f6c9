"""A sleeping shell is made to clone itself, with one stop of it: x86-64, see `ptrace.py`.

The stop puts the shell at a text of ours, and lets it go. All else it does by itself: it clones, the clone opens its program in
place of the shell's and goes into a process group of its own, and both begin the call anew that the shell slept in. The text
stands where the pages of the shell's programs are filled up with zeros, so that nothing of theirs is overwritten, and is
written once: clones have it too. What it needs is in a block far below the stack, where signal handlers do not reach, and so is
what it tells. The clone is found among the children of the shell's parent by the block's random first word.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import signal
import struct
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import count

from testronaut_lab.execution.driver.fast import ptrace
from testronaut_lab.execution.driver.fast.ptrace import Registers, Tracee

_CLONE, _GETPID, _SETPGID, _MMAP = 56, 39, 109, 9
_CLONE_PARENT = 0x8000
_READ_EXEC, _PRIVATE_ANONYMOUS, _PAGE_BYTES = 5, 0x22, 4096
# Of the block, behind which a path stands.
_WORDS = 13
_BELOW_BYTES = (16 * 1024, 1024)  # how far the block is below the stack, the second where a limit leaves no more
_TEXT = bytes.fromhex(
    "0f05 4885c0 754e"  # syscall (clone); test rax, rax; jnz both
    # openat(AT_FDCWD, the path behind the block, O_RDONLY | O_CLOEXEC, 0)
    "b801010000 bf9cffffff 488d7368 ba00000800 4531d2 0f05 85c0 7860"
    "4189c0 89c7 8b7358 ba00000800 b824010000 0f05 85c0 7848"  # dup3(that, the program's descriptor, O_CLOEXEC)
    "4489c7 b803000000 0f05"  # close(that)
    "31ff 31f6 8b4360 0f05"  # setpgid(0, 0), or getpid
    "b827000000 0f05"  # getpid()
    # both: tell the result, load the registers of the call that was broken off, and begin it anew
    "48894308 488b4310 488b7b18 488b7320 488b5328 4c8b5330 4c8b4338 4c8b5b40 488b4b48 488b5b50 4889cc 41ffe3"
    "4863c0 48894308 b822000000 0f05 ebf7"  # what could not be done: tell the error, pause() until it is ended
)
_MAPPED = re.compile(rb"^[0-9a-f]+-([0-9a-f]+) r-xp \S+ \S+ [1-9]\d* +/", re.MULTILINE)
_SPARE_BYTES = 2 * len(_TEXT)  # that many zeros at a page's end are no program's text
_SPINS = 400
_LOOK_S = 0.0002


class Cloning:
    """One clone of a shell that sleeps reading its program. Call `launch` on the same thread, then `collect`.

    `path` is what the clone is to read in place of that, as the shell sees it. The shell is a `parent` of none of ours: the clone
    is its sibling, and `children` lists all of these. `known` are those of them that are no such clone.
    """

    def __init__(
        self, pid: int, stub: int, path: str, children: Callable[[], list[int]], known: Collection[int], *, own_group: bool
    ) -> None:  # fmt: skip
        self.stub = stub
        self._pid = pid
        self._path = path.encode() + b"\0"
        self._children = children
        self._known = known
        self._group = _SETPGID if own_group else _GETPID
        self._token = secrets.randbits(64) or 1
        self._at = 0

    def launch(self, tracee: Tracee) -> None:
        """Let the stopped shell go at our text. Raises NotAsleep, OSError; it goes on as it was then."""
        with tracee:
            call = tracee.arrive()
            if call.rax or call.rdi < ptrace.FIRST_SPARE:  # not reading its program any more
                tracee.leave()
                raise ptrace.NotAsleep
            memory = os.open(f"/proc/{self._pid}/mem", os.O_RDWR | os.O_CLOEXEC)
            try:
                if not self.stub:
                    self.stub = _place_text(tracee, self._pid, memory)
                self._at = self._write_block(memory, call)
            finally:
                os.close(memory)
            tracee.call = self._start(call)

    def _write_block(self, memory: int, call: Registers) -> int:
        for below in _BELOW_BYTES:
            at: int = (call.rsp - below) & ~0xFF
            with suppress(OSError):
                if os.pwrite(memory, self._block(call), at):
                    return at
        raise OSError(errno.ENOMEM, "the shell's stack has no room")

    def _block(self, call: Registers) -> bytes:
        words = struct.pack(
            f"={_WORDS}Q", self._token, 0, call.rax, call.rdi, call.rsi, call.rdx, call.r10, call.r8, call.rip, call.rsp,
            call.rbx, call.rdi, self._group,
        )  # fmt: skip
        return words + self._path

    def _start(self, call: Registers) -> Registers:
        start = Registers.from_buffer_copy(call)
        start.rax, start.rdi = _CLONE, _CLONE_PARENT | signal.SIGCHLD
        start.rsi = start.rdx = start.r10 = start.r8 = 0
        start.rbx, start.rsp, start.rip = self._at, self._at - 128, self.stub
        return start

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
        """A new child that has our block, and what it tells; two zeros if there is none yet."""
        new = (pid for pid in self._children() if pid not in self._known and pid != self._pid)
        return next(((pid, told) for pid in new if (told := self._told(pid)) is not None), (0, 0))

    def _told(self, pid: int) -> int | None:
        """What stands in this process's block, 0 before it does; None where that is another one, or the process has ended."""
        try:
            memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            words = os.pread(memory, 16, self._at)
        except OSError:
            return None
        finally:
            os.close(memory)
        token, told = struct.unpack("=Qq", words) if len(words) == 16 else (0, 0)
        return told if token == self._token else None

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


def _place_text(tracee: Tracee, pid: int, memory: int) -> int:
    """Put our text where there is room behind a program's, or in a page of its own; its address. Raises OSError."""
    with open(f"/proc/{pid}/maps", "rb", buffering=0) as file:
        mapped = file.read()
    for found in _MAPPED.finditer(mapped):
        end = int(found[1], 16)
        if not os.pread(memory, _SPARE_BYTES, end - _SPARE_BYTES).strip(b"\0"):
            at = end - len(_TEXT)
            break
    else:
        at = tracee.run(_MMAP, 0, _PAGE_BYTES, _READ_EXEC, _PRIVATE_ANONYMOUS, -1, 0)
    os.pwrite(memory, _TEXT, at)
    return at
