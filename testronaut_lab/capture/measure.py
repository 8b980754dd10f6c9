"""Counts the entries and bytes of a directory tree up to a bound, while a tool may still write to it."""

from __future__ import annotations

import os
import stat

DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MAX_WAITING = 200  # directories that `measure` holds open; it leaves the rest to the scan after the step


def measure(root_fd: int, device: int, max_entries: int, max_bytes: int) -> tuple[int, int]:
    """Return the number of entries and their bytes on the disk. Counting stops at a maximum."""
    entries = size_bytes = 0
    waiting = [os.open(".", DIR_FLAGS, dir_fd=root_fd)]
    try:
        while waiting and entries < max_entries and size_bytes < max_bytes:
            fd = waiting.pop()
            try:
                below, count, taken = _measure_one(fd, device)
                room = _MAX_WAITING - len(waiting)
                waiting += [child for name in below[:room] if (child := _open_below(name, fd)) is not None]
            finally:
                os.close(fd)
            entries, size_bytes = entries + count, size_bytes + taken
    finally:
        for fd in waiting:
            os.close(fd)
    return entries, size_bytes


def _measure_one(fd: int, device: int) -> tuple[list[str], int, int]:
    below: list[str] = []
    count = taken = 0
    with os.scandir(fd) as listing:
        for found in listing:
            try:
                info = found.stat(follow_symlinks=False)
            except (FileNotFoundError, PermissionError):
                continue  # do not lend permissions under a running tool; the scan after the step does
            count += 1
            taken += info.st_blocks * 512
            if stat.S_ISDIR(info.st_mode) and info.st_dev == device:
                below.append(found.name)
    return below, count, taken


def _open_below(name: str, fd: int) -> int | None:
    try:
        return os.open(name, DIR_FLAGS, dir_fd=fd)
    except OSError:
        return None  # gone, replaced or unreadable: the scan after the step notes it
