"""How much a directory tree holds, counted while a tool may still be writing to it; no more than up to a bound."""

from __future__ import annotations

import os
import stat

DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MAX_WAITING = 200  # directories held open by `measure`; what is beyond is left to the scan after the step


def measure(root_fd: int, device: int, max_entries: int, max_bytes: int) -> tuple[int, int]:
    """How many entries there are and how many bytes they take on the disk; counting ends where a maximum is reached."""
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
                continue  # the scan after the step looks into what its owner locked; a running tool is left alone
            count += 1
            taken += info.st_blocks * 512
            if stat.S_ISDIR(info.st_mode) and info.st_dev == device:
                below.append(found.name)
    return below, count, taken


def _open_below(name: str, fd: int) -> int | None:
    try:
        return os.open(name, DIR_FLAGS, dir_fd=fd)
    except OSError:
        return None  # gone, replaced or unreadable: the scan after the step says so
