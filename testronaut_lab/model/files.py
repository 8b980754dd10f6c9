"""What a scan sees and how two scans differ, as data. `capture/file_capture.py` scans."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class FileType(StrEnum):
    FILE = "file"
    DIR = "dir"
    LINK = "link"
    OTHER = "other"  # fifo, socket, device: named, never opened


class ChangeKind(StrEnum):
    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    RETYPED = "retyped"  # one path, another type: a file became a directory

    @property
    def letter(self) -> str:
        """One letter for lists and goldens: A, M, D, T."""
        return {"added": "A", "modified": "M", "deleted": "D", "retyped": "T"}[self.value]


@dataclass(frozen=True, slots=True)
class FileState:
    """One path as it was seen. `mode` is the permission bits, `target` the text of a link.

    `owner` is `lab` or `root` for the users that a plan knows, otherwise the number of the user; None if it cannot be known.
    """

    type: FileType
    mode: int
    target: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class FileChange:
    """One path that a step changed.

    `path` is POSIX, relative to the workspace, in the reversible text form of `path_text`. `mode` is the permission bits.
    `mode`, `size_bytes` and `sha256` describe the path after the step and are None for a deleted one. `sha256` is also None for
    a path without content and for one that was not read (`note` says why). `target` is the text of a link.
    """

    change: ChangeKind
    path: str
    type: FileType
    mode: int | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    target: str | None = None
    note: str | None = None


def path_text(raw: bytes) -> str:
    """Return a name as reversible text: itself if it is UTF-8 without a backslash, else `\\xNN` for bad bytes and `\\\\`."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    return text.replace("\\", "\\\\")


def path_bytes(text: str) -> bytes:
    """The inverse of `path_text`."""
    parts = re.split(rb"\\(\\|x[0-9a-f]{2})", text.encode())
    return b"".join(
        part if i % 2 == 0 else b"\\" if part == b"\\" else bytes.fromhex(part[1:].decode()) for i, part in enumerate(parts)
    )
