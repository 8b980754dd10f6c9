"""Copies sparse files so that their holes stay holes and take no space."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

_PIECE_BYTES = 16 * 1024
_ZEROS = bytes(_PIECE_BYTES)


def is_sparse(info: os.stat_result) -> bool:
    return info.st_blocks * 512 < info.st_size


def pieces(file: int, size: int) -> Iterator[tuple[bytes, bool]]:
    """Yield at most `size` bytes in small pieces, each with whether it is all zeros."""
    left = size
    while left > 0 and (data := os.read(file, min(left, _PIECE_BYTES))):
        yield data, data == _ZEROS[: len(data)]
        left -= len(data)


def copy(source: int, target: int) -> None:
    """Copy a whole file and keep its holes."""
    size, at = os.fstat(source).st_size, 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # only a hole is left
        end = os.lseek(source, at, os.SEEK_HOLE)
        os.lseek(target, at, os.SEEK_SET)
        while at < end:
            sent = os.sendfile(target, source, at, end - at)
            if not sent:
                break  # the file became shorter during the copy
            at += sent
    os.ftruncate(target, size)
