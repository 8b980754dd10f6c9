"""Finds what a step changes outside the workspace: in /tmp, in home, and in a writable root file system.

/tmp and home are directories of the host and are scanned like the workspace. The root file system is an image with changes over
it, which `overlay.py` or `engine_diff.py` reads. Temporary file systems (/run, /var/tmp, /dev/shm) are in memory and not seen.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from testronaut_lab.capture.file_capture import (
    DIR_FLAGS,
    EMPTY,
    Entry,
    ScanLimits,
    Scanner,
    Snapshot,
    diff,
    look_at,
    read_inside,
)
from testronaut_lab.capture.stream import BlobSink
from testronaut_lab.errors import CaptureError, EngineError
from testronaut_lab.model.files import FileChange, path_bytes
from testronaut_lab.model.globs import is_glob
from testronaut_lab.model.result import OutsideChange

# These are in memory, in the kernel, or mounted by the engine: nothing below them belongs to the root file system.
_NOT_THE_ROOTS = ("proc", "sys", "dev", "run", "var/tmp", "workspace", "tmp")
# Files that the engine mounts one by one.
ENGINE_FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf")
# Files that we or the engine write.
_SKIPPED = frozenset({".dockerenv", "etc/passwd", "etc/group"})


_Look = Mapping[str, Entry | None]


class Image(Protocol):
    """A root file system before any change. Paths are `os.fsdecode`d and relative to the root."""

    def entry(self, path: str) -> Entry | None: ...
    def bare(self, path: str) -> Entry | None:
        """The entry without its content, if only its type is needed."""
        ...

    def close(self) -> None: ...


class Layer(Protocol):
    """The changes over an image. `look` returns the paths that may differ from it (None if deleted), and notes."""

    @property
    def method(self) -> str: ...
    def look(self, skip: _Skip) -> tuple[_Look, tuple[str, ...]]: ...
    def read(self, path: str, limit_bytes: int) -> bytes: ...
    def close(self) -> None: ...


class _Skip(Protocol):
    def __call__(self, path: str, /) -> bool: ...


class Root:
    """A writable root file system. Each look returns the changes since the last look; the first look returns none."""

    def __init__(self, above: Layer, image: Image, home: str, mounted: Mapping[str, Path | None] | None = None) -> None:
        """`home` is a mount, like the workspace and /tmp, and does not belong to the root.

        `mounted` are the host's files that the engine mounts, by path in the container; None for one that we cannot read.
        Without `mounted`, all ENGINE_FILES count as mounted and are not looked at.
        """
        self._above = above
        self._image = image
        self._mounts = (*_NOT_THE_ROOTS, home.strip("/"))
        self._mounted = mounted or {}
        self._skipped = _SKIPPED.union(ENGINE_FILES if mounted is None else mounted)
        self._seen: _Look | None = None
        self._of_image: dict[str, Entry | None] = {}

    @property
    def method(self) -> str:
        """How the changes are found, in words."""
        return self._above.method

    def close(self) -> None:
        self._above.close()
        self._image.close()

    def look(self) -> tuple[tuple[FileChange, ...], tuple[str, ...]]:
        """Return the changes since the last look, and notes on what could not be seen. Raises CaptureError, EngineError."""
        above, notes = self._above.look(self._skip)
        now = {**above, **self._look_at_mounted()}
        before, self._seen = self._seen, now
        if before is None:
            unseen = [f"/{path}" for path, file in self._mounted.items() if file is None]
            return (), (*notes, f"what is done to {', '.join(unseen)} is not seen") if unseen else notes
        paths = {path for path, _ in before.items() ^ now.items()}
        return diff(self._state(before, now, paths), self._state(now, before, paths)), notes

    def _look_at_mounted(self) -> _Look:
        found: dict[str, Entry | None] = {}
        for path, file in self._mounted.items():
            if file is not None:
                fd = os.open(file.parent, DIR_FLAGS)
                try:
                    found[path] = look_at(fd, file.name, os.stat(file.name, dir_fd=fd, follow_symlinks=False), ScanLimits())
                finally:
                    os.close(fd)
        return found

    def changed(self) -> Mapping[str, Entry]:
        """The entries over the image that exist, by path."""
        return {path: entry for path, entry in (self._seen or {}).items() if entry is not None}

    def entry(self, path: str) -> Entry | None:
        """The entry at the last look, of the image too. Raises CaptureError for a path on another file system."""
        if self._is_elsewhere(path):
            raise CaptureError(f"looking at /{path}: it is not part of the root file system, and is not captured")
        seen = self._seen or {}
        return seen[path] if path in seen else self._image.entry(path)

    def read(self, path: str, limit_bytes: int) -> bytes:
        """Like `Scanner.read`. Raises FileNotFoundError for a path on another file system."""
        if self._is_elsewhere(path):
            raise FileNotFoundError(errno.ENOENT, "it is not part of the root file system, and is not captured", path)
        if (file := self._mounted.get(path)) is not None:
            fd = os.open(file.parent, DIR_FLAGS)
            try:
                return read_inside(fd, file.name, limit_bytes)
            finally:
                os.close(fd)
        return self._above.read(path, limit_bytes)

    def _state(self, look: _Look, other: _Look, paths: Iterable[str]) -> Snapshot:
        states = {path: look[path] if path in look else self._image_entry(path, other[path]) for path in paths}
        return Snapshot({path: entry for path, entry in states.items() if entry is not None})

    def _image_entry(self, path: str, compared_to: Entry | None) -> Entry | None:
        if compared_to is None:
            return self._image.bare(path)
        if path not in self._of_image:
            self._of_image[path] = self._image.entry(path)
        return self._of_image[path]

    def _is_elsewhere(self, path: str) -> bool:
        return any(path == mount or path.startswith(f"{mount}/") for mount in self._mounts)

    def _skip(self, path: str) -> bool:
        return path in self._skipped or self._is_elsewhere(path)


@dataclass(frozen=True, slots=True)
class OutsideLook:
    """`entries` and `bytes_total` are the totals of /tmp and home together, for the session's limits."""

    changes: tuple[OutsideChange, ...]
    notes: tuple[str, ...]
    entries: int
    bytes_total: int


class Outside:
    """The places of one session outside its workspace. Close it before its container is removed."""

    def __init__(
        self, places: Mapping[str, Path], limits: ScanLimits, root: Root | None = None, blobs: BlobSink | None = None
    ) -> None:
        """`places` maps mount points to directories of the host. With `blobs`, the content of their files is stored."""
        self._scanners = {target: Scanner(path, blobs, limits) for target, path in places.items()}
        self._seen: dict[str, Snapshot] = {}
        self._root = root

    @property
    def scanners(self) -> Iterable[Scanner]:
        """The scanners of the places; these count for the limits."""
        return self._scanners.values()

    @property
    def seen(self) -> Mapping[str, Snapshot]:
        """The snapshots of the last look, by mount point."""
        return dict(self._seen)

    def close(self) -> None:
        for scanner in self._scanners.values():
            scanner.close()
        if self._root is not None:
            self._root.close()

    def look(self) -> OutsideLook:
        """Return the changes since the last look. Raises CaptureError, EngineError."""
        changes: list[OutsideChange] = []
        notes: list[str] = []
        entries = size_bytes = 0
        for target, scanner in self._scanners.items():
            before = self._seen.get(target, EMPTY)
            after = self._seen[target] = scanner.scan(before)
            if after is before:
                continue
            changes += (_outside(target, change) for change in diff(before, after))
            notes += after.notes
            entries += len(after.entries)
            size_bytes += after.bytes_total
        if self._root is not None:
            changed, said = _root_look(self._root)
            changes += (OutsideChange(change.change.value, f"/{change.path}") for change in changed)
            notes += said
            if changed:
                notes.append(f"changes of the root file system are told by {self._root.method}")
        return OutsideLook(tuple(changes), tuple(notes), entries, size_bytes)

    def entries(self, pattern: str) -> Mapping[str, Entry]:
        """Return the entries of the last look that an absolute pattern in text form may match, by `os.fsdecode`d absolute path.

        For /tmp and home: all their entries. For the root file system: the entry of a path, or for a glob the entries over the
        image. Raises CaptureError for a place that is not captured.
        """
        for target, seen in self._seen.items():
            if pattern.startswith(f"{target}/"):
                return {f"{target}/{path}": entry for path, entry in seen.entries.items()}
        if self._root is None:
            raise CaptureError(
                f"looking at {pattern}: the root file system is read-only, so it is not captured", hint="rootfs: writable"
            )
        path = os.fsdecode(path_bytes(pattern)).lstrip("/")
        entry = self._root.entry(path)
        if entry is not None or not is_glob(pattern):
            return {} if entry is None else {f"/{path}": entry}
        return {f"/{path}": entry for path, entry in self._root.changed().items()}

    def read(self, path: str, limit_bytes: int) -> bytes:
        """Return the content of a regular file by its absolute path in text form, as it is now. Links are not followed.

        Raises FileNotFoundError for anything else and for a place that is not captured, CaptureError above the limit.
        """
        absolute = posixpath.normpath(os.fsdecode(path_bytes(path)))
        for target, scanner in self._scanners.items():
            if absolute.startswith(f"{target}/"):
                return scanner.read(absolute.removeprefix(f"{target}/"), limit_bytes)
        if self._root is None:
            raise FileNotFoundError(errno.ENOENT, "the root file system is read-only, so it is not captured", path)
        return self._root.read(absolute.lstrip("/"), limit_bytes)


def _outside(target: str, change: FileChange) -> OutsideChange:
    return OutsideChange(change.change.value, target if change.path == "." else f"{target}/{change.path}")


def _root_look(root: Root) -> tuple[tuple[FileChange, ...], tuple[str, ...]]:
    try:
        return root.look()
    except EngineError as error:
        raise CaptureError(f"looking for changes in the root file system: {error.message}", hint=error.hint) from error
