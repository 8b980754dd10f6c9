"""Reads files and directories that a step made unreadable for their own owner.

Root reads everything. An ordinary user cannot read a file of mode 000, but may change the mode as its owner. So this module
*lends* the missing permission bits while a file is opened or a directory is walked, and takes them back. The mode ends as it
was; the ctime does not. A file of another user stays unread, and gets a note.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

ENTER = stat.S_IRUSR | stat.S_IXUSR
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def is_locked(mode: int, uid: int, bits: int) -> bool:
    """Whether we own the file, are not root, and some of these permission bits are missing."""
    return mode & bits != bits and uid == os.geteuid() != 0


@contextmanager
def lent(name: str, dir_fd: int, bits: int) -> Iterator[None]:
    """Give the owner these bits of `name` in an open directory during the `with`. Links are not followed.

    No-op if no bit is missing, or if the name is gone (the later open then fails).
    """
    try:
        fd = os.open(name, _LOOK, dir_fd=dir_fd)
    except OSError:
        yield
        return
    try:
        with lent_by_fd(fd, bits):
            yield
    finally:
        os.close(fd)


@contextmanager
def lent_by_fd(fd: int, bits: int) -> Iterator[None]:
    """The same for an open file or directory. If another process changes the mode during the `with`, that mode stays."""
    info = os.fstat(fd)
    before = stat.S_IMODE(info.st_mode)
    if stat.S_ISLNK(info.st_mode) or not is_locked(before, info.st_uid, bits):
        yield
        return
    _chmod(fd, before | bits)
    try:
        yield
    finally:
        if stat.S_IMODE(os.fstat(fd).st_mode) == before | bits:
            _chmod(fd, before)


def open_anyhow(name: str, flags: int, dir_fd: int) -> int:
    """Like os.open, but also opens our own files and directories that lack permission bits. Raises what os.open raises."""
    try:
        return os.open(name, flags, dir_fd=dir_fd)
    except PermissionError:
        bits = ENTER if flags & os.O_DIRECTORY else stat.S_IRUSR
        with lent_by_fd(dir_fd, stat.S_IXUSR), lent(name, dir_fd, bits):
            return os.open(name, flags, dir_fd=dir_fd)


def _chmod(fd: int, mode: int) -> None:
    # Through /proc, because fchmod refuses a descriptor opened with O_PATH.
    os.chmod(f"/proc/self/fd/{fd}", mode)
