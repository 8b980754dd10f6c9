"""Finds changes of a container's root file system in its overlay on this host: the image's layers and the upper directory.

Only root can read them, and only if the kernel copies whole files up (`readable`). Every look goes by directory descriptors and
follows no link. The paths that a deletion or a replaced directory hides are looked up in the layers. `engine_diff.py` does the
same where the overlay cannot be read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from testronaut_lab.capture.file_capture import (
    DIR_FLAGS,
    EMPTY,
    Entry,
    ScanLimits,
    Scanner,
    Snapshot,
    look_at,
    open_inside,
    read_inside,
)
from testronaut_lab.errors import CaptureError
from testronaut_lab.model.files import FileType

_T = TypeVar("_T")
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_REDIRECT = ("trusted.overlay.redirect", "user.overlay.redirect")
_PARAMETERS = Path("/sys/module/overlay/parameters")
_CAP_SYS_ADMIN = 21
_NO_CONTENT = ScanLimits(file_bytes=-1)


def readable(upper: Path, parameters: Path = _PARAMETERS) -> bool:
    """Whether we can read the files and trusted attributes of the upper directory, and the kernel stores whole files in it."""
    try:
        status = Path("/proc/self/status").read_text()
        held = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
        partial = [name for name in ("metacopy", "redirect_dir") if (parameters / name).read_text().strip() not in ("N", "0")]
    except (OSError, StopIteration, ValueError):
        return False
    return not partial and bool(held >> _CAP_SYS_ADMIN & 1) and os.access(upper, os.R_OK | os.X_OK)


class ImageLayers:
    """The unchanged root file system: the lower layers, topmost first. Close it when done."""

    def __init__(self, layers: Sequence[Path], limits: ScanLimits) -> None:
        self._limits = limits
        self._fds: list[int] = []
        try:
            self._fds += (os.open(layer, DIR_FLAGS) for layer in layers)
        except OSError as error:
            self.close()
            raise CaptureError(f"opening the layers of an image: {error}") from error

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def entry(self, path: str) -> Entry | None:
        """The image's entry for a path, a regular file hashed; None if there is none."""
        return self._topmost(path, lambda fd, name, info: look_at(fd, name, info, self._limits))

    def bare(self, path: str) -> Entry | None:
        """The entry without its content."""
        return self._topmost(path, lambda fd, name, info: look_at(fd, name, info, _NO_CONTENT))

    def read(self, path: str, limit_bytes: int) -> bytes:
        """Like `Scanner.read`."""
        content = self._topmost(path, lambda fd, name, _info: read_inside(fd, name, limit_bytes))
        if content is None:
            raise FileNotFoundError(errno.ENOENT, "no such file in the image", path)
        return content

    def below(self, path: str) -> Mapping[str, Entry]:
        """Everything below a directory of the image, without content; empty if the path is not a directory."""
        found: dict[str, Entry] = {}
        waiting = [path]
        while waiting:
            parent = waiting.pop()
            for name, entry in self._children(parent).items():
                found[f"{parent}/{name}"] = entry
                if entry.type is FileType.DIR:
                    waiting.append(f"{parent}/{name}")
        return found

    def _topmost(self, path: str, look: Callable[[int, str, os.stat_result], _T]) -> _T | None:
        """Call `look` on the topmost layer's entry for the path, with its open parent directory; None if there is none."""
        *parents, name = path.split("/")
        for layer in self._fds:
            fd, is_last = _descend(layer, parents)
            if fd is None:
                if is_last:
                    return None
                continue
            try:
                info = _stat(fd, name)
                if info is not None:
                    return None if _is_whiteout(info) else look(fd, name, info)
            finally:
                os.close(fd)
            if is_last:
                return None
        return None

    def _children(self, path: str) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        hidden: set[str] = set()
        for layer in self._fds:
            fd, is_last = _descend(layer, path.split("/"))
            if fd is not None:
                try:
                    for name in os.listdir(fd):
                        info = _stat(fd, name)
                        if info is None or name in found or name in hidden:
                            continue
                        if _is_whiteout(info):
                            hidden.add(name)
                        else:
                            found[name] = look_at(fd, name, info, _NO_CONTENT)
                finally:
                    os.close(fd)
            if is_last:
                break
        return found


class UpperDirectory:
    """The changes over the image, from the overlay's upper directory. Close it when done."""

    method = "the overlay's upper directory"

    def __init__(self, upper: Path, image: ImageLayers, limits: ScanLimits) -> None:
        self._image = image
        self._scanner = Scanner(upper, None, limits)
        self._root_fd = os.open(upper, DIR_FLAGS)
        self._seen: Snapshot = EMPTY
        self._known: dict[str, _Known] = {}

    def close(self) -> None:
        self._scanner.close()
        if self._root_fd >= 0:
            os.close(self._root_fd)
            self._root_fd = -1

    def look(self, skip: Callable[[str], bool]) -> tuple[Mapping[str, Entry | None], tuple[str, ...]]:
        """Return the entries that replace the image's (None if deleted), and notes on what could not be seen."""
        self._seen = self._scanner.scan(self._seen)
        before, self._known = self._known, {}
        found: dict[str, Entry | None] = {}
        for path, entry in self._seen.entries.items():
            if skip(path):
                continue
            known = before.get(path)
            if known is None or known.entry is not entry:
                known = self._meaning(path, entry)
            self._known[path] = known
            found[path] = None if known.is_gone else entry
        for known in self._known.values():
            for path in known.hides:
                found.setdefault(path, None)
        return found, self._seen.notes

    def read(self, path: str, limit_bytes: int) -> bytes:
        """Like `Scanner.read`."""
        try:
            return read_inside(self._root_fd, path, limit_bytes)
        except FileNotFoundError:
            if path in self._known or any(path in known.hides for known in self._known.values()):
                raise
        return self._image.read(path, limit_bytes)

    def _meaning(self, path: str, entry: Entry) -> _Known:
        try:
            if stat.S_ISCHR(entry.key[0]):
                is_gone = hides = self._is_whiteout(path)
            else:
                is_gone, hides = False, entry.type is not FileType.DIR or self._is_opaque(path)
        except FileNotFoundError:  # it was replaced after the scan: the next look sees what it is now
            is_gone = hides = False
        return _Known(entry, is_gone, frozenset(self._image.below(path)) if hides else frozenset())

    def _is_whiteout(self, path: str) -> bool:
        parent, _, name = path.rpartition("/")
        fd = open_inside(self._root_fd, parent) if parent else os.dup(self._root_fd)
        try:
            info = _stat(fd, name)
        finally:
            os.close(fd)
        return info is not None and _is_whiteout(info)

    def _is_opaque(self, path: str) -> bool:
        fd = open_inside(self._root_fd, path)
        try:
            return _opaque(fd)
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class _Known:
    """What an entry of the upper directory means; `hides` are the paths of the image that it hides."""

    entry: Entry
    is_gone: bool
    hides: frozenset[str]


def _descend(layer: int, parents: Sequence[str]) -> tuple[int | None, bool]:
    """Open the directory of that path in one layer. Also returns whether this layer hides all layers below it there."""
    fd = os.dup(layer)
    is_last = False
    for name in parents:
        info = _stat(fd, name)
        if info is None or not stat.S_ISDIR(info.st_mode):
            os.close(fd)
            return None, is_last or info is not None
        below = os.open(name, DIR_FLAGS, dir_fd=fd)
        os.close(fd)
        fd = below
        is_last = is_last or _opaque(fd)
    return fd, is_last


def _stat(fd: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _opaque(fd: int) -> bool:
    names = os.listxattr(fd)
    if any(name in _REDIRECT for name in names):
        raise CaptureError("a directory of the container's overlay was renamed: its changes cannot be found")
    return any(name in _OPAQUE and os.getxattr(fd, name) == b"y" for name in names)
