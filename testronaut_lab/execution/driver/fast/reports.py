"""How the session's shell says that it has come to the end of a text: it makes a file in `end/`, and the name is the report.

    NONCE,STATUS,OPTIONS[,COUNT,STATUS of each command of the last pipeline][,pNUMBER of a process …]

Anything in the container may make a file there. Where the host may ask (root, Linux 5.9), fanotify tells which process made
it, and only the shell's own counts. Elsewhere inotify tells the name alone, and the nonce decides: it is new for each text. Who
makes many files there slows the step that runs, and no more: when the kernel's queue of them was full, the directory is listed.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)
_REPORT_DFID_NAME, _NONBLOCK, _CLOEXEC = 0xC00, 2, 1
_MARK_ADD, _MARK_ONLYDIR, _FAN_CREATE, _AT_FDCWD = 1, 8, 0x100, -100
_IN_CREATE = 0x100
_READ_BYTES = 64 * 1024
_MOST_AT_ONCE = 256 * 1024  # who makes files as fast as they are read must not keep us here


@dataclass(frozen=True, slots=True)
class Report:
    """What the shell said: the last status, its options as in `$-`, the statuses of the last pipeline where it tells them.

    `pids` are what `$$`, `$!` and `$PPID` are, those that the text names.
    """

    nonce: str
    status: int
    options: str
    pipeline: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """A file that was made. `pid` is its maker's number out here, None where that is not told."""

    name: str
    pid: int | None

    def report(self, nonce: str, pid: int) -> Report | None:
        """The report of the shell `pid` on the text with this nonce; None if it is not that."""
        words = self.name.split(",")
        if words[0] != nonce or len(words) < 3 or not words[1].isdecimal() or self.pid not in (None, pid):
            return None
        pipeline = tuple(words[4 : 4 + int(words[3])]) if len(words) > 4 and words[3].isdecimal() else ()
        pids = tuple(int(word[1:]) for word in words[3:] if word[:1] == "p" and word[1:].isdecimal())
        return Report(nonce, int(words[1]), words[2], pipeline, pids)


class Reports:
    """Hears of the files that are made in one directory, and removes them. Raises OSError when that cannot be done."""

    def __init__(self, directory: str, *, knows_makers: bool = True) -> None:
        """`knows_makers`: whether who asks knows processes by the numbers that fanotify tells."""
        self._directory = directory
        self.tells_makers = knows_makers
        try:
            self._fd = _fanotify(directory) if knows_makers else _inotify(directory)
        except OSError:
            self.tells_makers = False
            self._fd = _inotify(directory)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def take(self) -> list[Made]:
        """Those that were made since the last call, in order; of all that were made before this one."""
        found: list[Made] = []
        while len(found) <= _MOST_AT_ONCE:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            for made in _fanotify_events(data) if self.tells_makers else _inotify_events(data):
                if made.name:
                    found.append(made)
                else:
                    found += self._all()
        for made in found:
            self._remove(made.name)
        return found

    def _all(self) -> list[Made]:
        """The queue was full: what is there, whoever made it."""
        try:
            return [Made(name, None) for name in os.listdir(self._directory)]
        except OSError:
            return []

    def _remove(self, name: str) -> None:
        path = f"{self._directory}/{name}"
        try:
            os.unlink(path)
        except OSError:  # what somebody else made there may be anything
            with suppress(OSError):
                os.rmdir(path)


def _fanotify(directory: str) -> int:
    fd: int = _libc.fanotify_init(_REPORT_DFID_NAME | _NONBLOCK | _CLOEXEC, os.O_RDONLY)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "fanotify_init")
    mask = ctypes.c_uint64(_FAN_CREATE)
    if _libc.fanotify_mark(fd, _MARK_ADD | _MARK_ONLYDIR, mask, _AT_FDCWD, directory.encode()) < 0:
        error = ctypes.get_errno()
        os.close(fd)
        raise OSError(error, "fanotify_mark")
    return fd


def _fanotify_events(data: bytes) -> Iterator[Made]:
    at = 0
    while at < len(data):
        length, _, _, head, _, _, pid = struct.unpack_from("=IBBHQii", data, at)
        handle_bytes = struct.unpack_from("=I", data, at + head + 12)[0] if length > head else 0
        name = data[at + head + 20 + handle_bytes : at + length].split(b"\0")[0]
        yield Made(os.fsdecode(name), pid or None)  # an ordinary user may ask, and is told 0 for all processes but its own
        at += length


def _inotify(directory: str) -> int:
    fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0 or _libc.inotify_add_watch(fd, directory.encode(), _IN_CREATE) < 0:
        raise OSError(ctypes.get_errno(), f"watching {directory}")
    return fd


def _inotify_events(data: bytes) -> Iterator[Made]:
    at = 0
    while at < len(data):
        _, _, _, length = struct.unpack_from("iIII", data, at)
        yield Made(os.fsdecode(data[at + 16 : at + 16 + length].rstrip(b"\0")), None)
        at += 16 + length
