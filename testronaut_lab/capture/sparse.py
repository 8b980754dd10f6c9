"""Files with holes: copied and stored so that a hole stays one and takes no room."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

_PIECE_BYTES = 16 * 1024
_ZEROS = bytes(_PIECE_BYTES)


def is_sparse(info: os.stat_result) -> bool:
    return info.st_blocks * 512 < info.st_size


def pieces(file: int, size: int) -> Iterator[tuple[bytes, bool]]:
    """At most `size` bytes in small pieces, and whether each is nothing but zeros."""
    left = size
    while left > 0 and (data := os.read(file, min(left, _PIECE_BYTES))):
        yield data, data == _ZEROS[: len(data)]
        left -= len(data)


def copy(source: int, target: int) -> None:
    """Copy a whole file, its holes as holes."""
    size, at = os.fstat(source).st_size, 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole up to the end
        end = os.lseek(source, at, os.SEEK_HOLE)
        os.lseek(target, at, os.SEEK_SET)
        while at < end:
            sent = os.sendfile(target, source, at, end - at)
            if not sent:
                break  # it became shorter meanwhile
            at += sent
    os.ftruncate(target, size)
