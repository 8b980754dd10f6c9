"""Whether an open directory is empty, by three system calls where `os.scandir` takes eight."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_BUFFER_BYTES = 512
_LENGTH_AT, _NAME_AT = 16, 19  # in a `struct linux_dirent64`
_OWN = (b".", b"..")


def is_empty(directory: int) -> bool:
    """Its offset is at the beginning before and after. Raises OSError as reading it does."""
    read = getattr(_libc, "getdents64", None)
    if read is None:
        with os.scandir(directory) as listing:
            return next(listing, None) is None
    buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
    try:
        while (size := read(directory, buffer, _BUFFER_BYTES)) > 0:
            if any(name not in _OWN for name in _names(buffer.raw[:size])):
                return False
        if size < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return True
    finally:
        os.lseek(directory, 0, os.SEEK_SET)


def _names(entries: bytes) -> list[bytes]:
    names = []
    at = 0
    while at < len(entries):
        end = at + int.from_bytes(entries[at + _LENGTH_AT : at + _LENGTH_AT + 2], "little")
        names.append(entries[at + _NAME_AT : end].split(b"\0", 1)[0])
        at = end
    return names
