"""What a step changes outside the workspace: in /tmp and home, and in the root file system where that can be written to.

/tmp and home are directories of the host and are scanned like the workspace. The root is an image with something over it,
seen by `overlay.py` or `engine_diff.py`. Temporary file systems (/run, /var/tmp, /dev/shm) are in memory and not seen at all.
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

# In memory, in the kernel, or mounted there by the engine: nothing below is the root file system's.
_NOT_THE_ROOTS = ("proc", "sys", "dev", "run", "var/tmp", "workspace", "tmp")
# Mounted there by the engine, each a file of its own.
ENGINE_FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf")
# Ours, or the engine's own.
_SKIPPED = frozenset({".dockerenv", "etc/passwd", "etc/group"})


_Look = Mapping[str, Entry | None]


class Image(Protocol):
    """What a root file system held before anything changed; paths are `os.fsdecode`d and relative to the root."""

    def entry(self, path: str) -> Entry | None: ...
    def bare(self, path: str) -> Entry | None:
        """The same without content, for what only its type is wanted of."""
        ...

    def close(self) -> None: ...


class Above(Protocol):
    """What lies over an image. `look` has the paths that may differ from it, None for what is gone, and notes."""

    @property
    def method(self) -> str: ...
    def look(self, skip: _Skip) -> tuple[_Look, tuple[str, ...]]: ...
    def read(self, path: str, limit_bytes: int) -> bytes: ...
    def close(self) -> None: ...


class _Skip(Protocol):
    def __call__(self, path: str, /) -> bool: ...


class Root:
    """A writable root file system. Each look tells what changed since the one before, the first one nothing."""

    def __init__(self, above: Above, image: Image, home: str, mounted: Mapping[str, Path | None] | None = None) -> None:
        """`home` is mounted, like the workspace and /tmp, and is not the root's.

        `mounted` are the host's files that the engine mounts there, None where we cannot read them. Without, all of ENGINE_FILES
        are taken for mounted, and are not looked at.
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
        """In words, how the changes are come by."""
        return self._above.method

    def close(self) -> None:
        self._above.close()
        self._image.close()

    def look(self) -> tuple[tuple[FileChange, ...], tuple[str, ...]]:
        """What changed, and what could not be seen. Raises CaptureError, EngineError."""
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
        """What lies over the image and is there, by path."""
        return {path: entry for path, entry in (self._seen or {}).items() if entry is not None}

    def entry(self, path: str) -> Entry | None:
        """What was there at the last look, also of the image. Raises CaptureError for what is on a file system of its own."""
        if self._is_elsewhere(path):
            raise CaptureError(f"looking at /{path}: it is no part of the root file system, and is not captured")
        seen = self._seen or {}
        return seen[path] if path in seen else self._image.entry(path)

    def read(self, path: str, limit_bytes: int) -> bytes:
        """Like `Scanner.read`. Raises FileNotFoundError for what is on a file system of its own."""
        if self._is_elsewhere(path):
            raise FileNotFoundError(errno.ENOENT, "it is no part of the root file system, and is not captured", path)
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
    """`entries` and `bytes_total` are those of /tmp and home together, for the session's limits."""

    changes: tuple[OutsideChange, ...]
    notes: tuple[str, ...]
    entries: int
    bytes_total: int


class Outside:
    """The places of one session outside its workspace. Close it before its container is removed."""

    def __init__(
        self, places: Mapping[str, Path], limits: ScanLimits, root: Root | None = None, blobs: BlobSink | None = None
    ) -> None:
        """`places` are the host's directories by where they are mounted. With `blobs` the content of their files is stored."""
        self._scanners = {target: Scanner(path, blobs, limits) for target, path in places.items()}
        self._seen: dict[str, Snapshot] = {}
        self._root = root

    @property
    def scanners(self) -> Iterable[Scanner]:
        """Those of the places that count for the limits."""
        return self._scanners.values()

    @property
    def seen(self) -> Mapping[str, Snapshot]:
        """What the last look saw of the places, by where they are mounted."""
        return dict(self._seen)

    def close(self) -> None:
        for scanner in self._scanners.values():
            scanner.close()
        if self._root is not None:
            self._root.close()

    def look(self) -> OutsideLook:
        """What changed since the look before. Raises CaptureError, EngineError."""
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
        """What the last look saw where an absolute pattern in text form looks, by absolute paths as the host has them.

        In the root file system that is the path itself, or for a pattern what lies over the image. Raises CaptureError for what
        is not captured.
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
        """A regular file by its absolute path in text form, as it is now; no link is followed.

        Raises FileNotFoundError for anything else and for what is not captured, CaptureError when it is larger.
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
