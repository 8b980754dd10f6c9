"""Content of a session's files, by SHA-256, for as long as the session may be undone: stored when it is seen, before it is lost.

It lies in a directory of the session's own, so that no sweep of the project's blobs takes it away; what the project stores
anyway is linked to. What is too large is not kept, and whoever asks for it is told so.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testronaut_lab.capture import sparse
from testronaut_lab.capture.stream import BlobSink
from testronaut_lab.errors import CaptureError


@dataclass(frozen=True, slots=True)
class KeepLimits:
    """Files above `file_bytes` are not kept, and nothing more once all that is kept and may be asked for takes `total_bytes`."""

    file_bytes: int = 64 * 1024 * 1024
    total_bytes: int = 1024 * 1024 * 1024


class UndoCache:
    """A BlobSink whose `folder`, the caller's to remove, is made with the first content. From the session's thread only."""

    def __init__(self, folder: Path, limits: KeepLimits | None = None) -> None:
        self.limits = limits or KeepLimits()
        self.in_use: Callable[[], set[str]] = set  # what may still be asked for; the rest makes room
        self.recent: set[str] = set()  # what was seen since whoever answers that last looked, who clears this
        self._folder = folder
        self._sizes: dict[str, int] = {}
        self._total = 0
        self._spools = 0

    def new_spool(self) -> Path:
        """Raises CaptureError."""
        self._spools += 1
        with _Keeping():
            self._folder.mkdir(mode=0o700, exist_ok=True)
        return self._folder / f"spool.{self._spools}"

    def adopt(self, spool: Path, sha256: str) -> Path:
        """Take a file over, or remove it if it is not to be kept. Raises CaptureError."""
        target = self._folder / sha256
        with _Keeping():
            if self._has_room(sha256, spool):
                os.replace(spool, target)
            else:
                os.unlink(spool)
        return target

    def add(self, blob: Path, sha256: str) -> None:
        """Keep what somebody else stores, whatever becomes of it there. Raises CaptureError."""
        with _Keeping():
            if not self._has_room(sha256, blob):
                return
            self._folder.mkdir(mode=0o700, exist_ok=True)
            try:
                os.link(blob, self._folder / sha256)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                    raise
                with open(blob, "rb", buffering=0) as source, open(self._folder / sha256, "wb", buffering=0) as target:
                    sparse.copy(source.fileno(), target.fileno())

    def path(self, sha256: str) -> Path | None:
        """Where this content lies; None if it was not kept."""
        return self._folder / sha256 if sha256 in self._sizes else None

    def move(self, folder: Path) -> None:
        """Take what is kept to another session's directory, on the same file system. Raises CaptureError."""
        with _Keeping():
            if self._folder.exists():
                self._folder.rename(folder)
        self._folder = folder

    def _has_room(self, sha256: str, path: Path) -> bool:
        """Whether it is to be stored now; it counts as stored then."""
        self.recent.add(sha256)
        if sha256 in self._sizes:
            return False
        size = path.stat().st_size
        if size > self.limits.file_bytes:
            return False
        if self._total + size > self.limits.total_bytes:
            self._make_room()
        if self._total + size > self.limits.total_bytes:
            return False
        self._sizes[sha256] = size
        self._total += size
        return True

    def _make_room(self) -> None:
        for sha256 in self._sizes.keys() - self.in_use() - self.recent:
            (self._folder / sha256).unlink(missing_ok=True)
            self._total -= self._sizes.pop(sha256)


class KeepToo:
    """A BlobSink that stores as `blobs` does and keeps what it stored."""

    def __init__(self, blobs: BlobSink, keep: UndoCache) -> None:
        self._blobs = blobs
        self._keep = keep

    def new_spool(self) -> Path:
        return self._blobs.new_spool()

    def adopt(self, spool: Path, sha256: str) -> Path:
        stored = self._blobs.adopt(spool, sha256)
        self._keep.add(stored, sha256)
        return stored


class _Keeping:
    """Turns what the file system says into a CaptureError."""

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError):
            raise CaptureError(f"keeping a file's content for undo: {error}", hint="df -h ~/.cache") from error
