"""Writes a folder that appears as a whole or not at all, and records every file in it.

Names are checked before any I/O. No existing file is overwritten, and no link is followed. `evidence/bundle.py` decides what
the files say.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from testronaut_lab.errors import CaptureError, UsageError

_NAME = re.compile(r"(?!\.\.?(/|$))[A-Za-z0-9._-]{1,120}(/(?!\.\.?(/|$))[A-Za-z0-9._-]{1,120})*")
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Written:
    """One file of the folder; `path` is POSIX and relative to it."""

    path: str
    size_bytes: int
    sha256: str


class NewFolder:
    """A folder that is being written. Files are added once and never changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._written: dict[str, Written] = {}
        self._taken: set[str] = set()

    @property
    def written(self) -> list[Written]:
        """Every file so far, sorted by path."""
        return [self._written[path] for path in sorted(self._written)]

    def free_name(self, parent: str, wanted: str) -> str:
        """Return a path in `parent` made from `wanted`. No other call gets the same path, not even in other letter case."""
        base = re.sub(r"[^A-Za-z0-9_.-]+", "-", wanted)[:80].strip(".-") or "unnamed"
        names = (f"{parent}/{base}" if count == 1 else f"{parent}/{base}-{count}" for count in range(1, 1_000_000))
        name = next(name for name in names if name.lower() not in self._taken)
        self._taken.add(name.lower())
        return name

    def add(self, path: str, data: bytes) -> str:
        """Write a file; returns its path."""
        return self.pour(path, lambda out: out.write(data))

    def pour(self, path: str, pour: Callable[[BinaryIO], object]) -> str:
        """Create a file and let `pour` write its content; returns the file's path."""
        if not _NAME.fullmatch(path) or path in self._written:
            raise CaptureError(f"adding {path!r} to a bundle: it is not a valid name for a new file")
        file = self._root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(file, _NEW_FILE, 0o644), "wb") as out:
            pour(out)
            out.flush()
            os.fsync(out.fileno())
        self._written[path] = Written(path, *_measured(file))
        return path


@contextmanager
def new_folder(target: Path) -> Iterator[NewFolder]:
    """Yield a folder that is renamed to `target` when the block ends; an exception in the block deletes it.

    Raises UsageError if `target` exists and is not an empty folder, CaptureError if it cannot be written.
    """
    target = target.absolute()
    _refuse_taken(target)
    draft = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        yield NewFolder(draft)
        _refuse_taken(target)
        draft.rename(target)  # replaces an empty folder; fails if somebody filled it in the meantime
        _sync(target.parent)
    except OSError as error:
        raise CaptureError(f"writing {target}: {error}", hint=f"df -h {shlex.quote(str(target.parent))}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _refuse_taken(target: Path) -> None:
    hint = "-o NAME of a folder that is not there yet"
    try:
        mode = target.lstat().st_mode
        if not stat.S_ISDIR(mode):
            what = "a symbolic link" if stat.S_ISLNK(mode) else "not a folder"
            raise UsageError(f"writing a bundle to {target}: it is {what}", hint=hint)
        if any(target.iterdir()):
            raise UsageError(f"writing a bundle to {target}: it is not empty", hint=hint)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"writing a bundle to {target}: {error.strerror}", hint=hint) from error


def _measured(file: Path) -> tuple[int, str]:
    """The size and SHA-256 of the file as it is on the disk."""
    with file.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256")
        return written.tell(), digest.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
