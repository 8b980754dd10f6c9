"""Lets the owner read what a step locked: files and directories of the caller that lack the owner's own permission bits.

Root reads everything. An ordinary user is refused a file of mode 000, and may give the permission back as its owner. So the
missing bits are lent for as long as the file is opened or the directory is walked. The mode ends as it was; the time of the
last status change (ctime) does not. Nothing is lent where the caller is not the owner: that stays unread, and is told.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

ENTER = stat.S_IRUSR | stat.S_IXUSR
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def is_locked(mode: int, uid: int, bits: int) -> bool:
    """Whether only these missing permission bits keep us out, as the owner."""
    return mode & bits != bits and uid == os.geteuid() != 0


@contextmanager
def lent(name: str, dir_fd: int, bits: int) -> Iterator[None]:
    """Give the owner these bits of `name` in an open directory while in the `with`; links are not followed.

    No-op where they are not missing, and where there is no such name any more: opening it says so.
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
    """The same for what is open. What changes the mode meanwhile has the last word."""
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
    """os.open, also of the caller's own file or directory that is locked. Raises what os.open raises."""
    try:
        return os.open(name, flags, dir_fd=dir_fd)
    except PermissionError:
        bits = ENTER if flags & os.O_DIRECTORY else stat.S_IRUSR
        with lent_by_fd(dir_fd, stat.S_IXUSR), lent(name, dir_fd, bits):
            return os.open(name, flags, dir_fd=dir_fd)


def _chmod(fd: int, mode: int) -> None:
    # By its name in /proc, since fchmod refuses a descriptor that is only a path.
    os.chmod(f"/proc/self/fd/{fd}", mode)
