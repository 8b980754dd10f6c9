"""Makes a directory tree what an earlier scan saw, from content that was kept: by directory fd, through no link.

What differs is found by comparing two scans; making them, and saying what came of it, is `undo.py`'s business.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from testronaut_lab.capture import sparse
from testronaut_lab.capture.file_capture import DIR_FLAGS, Entry, Snapshot, open_inside
from testronaut_lab.errors import CaptureError
from testronaut_lab.model.files import FileType, path_bytes

_Content = Callable[[str], Path | None]
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL = {stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a character device", stat.S_IFBLK: "a block device"}


@dataclass(slots=True)
class Restored:
    """`lost` are paths that are not what they were, each with the reason; `copies` were hard links and are files of their own."""

    lost: dict[str, str] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)


class Restorer:
    """Writes below one directory. `content` finds what was kept by its hash, `why_not` says why something was not."""

    def __init__(self, root: Path, content: _Content, why_not: str) -> None:
        self._root = root
        self._content = content
        self._why_not = why_not

    def unlock(self, now: Snapshot) -> bool:
        """Let us into directories that even their owner may not enter, for the next scan; whether there was one."""
        if os.geteuid() == 0:
            return False
        self._root.chmod(stat.S_IMODE(self._root.stat().st_mode) | stat.S_IRWXU)
        locked = [path for path, entry in now.entries.items() if _is_locked(entry)]
        with _Place(self._root) as place:
            for path in sorted(locked):
                with suppress(OSError):  # then it stays as it is, and what could not be restored in it is told
                    place.chmod(path, stat.S_IRWXU)
        return bool(locked)

    def restore(self, now: Snapshot, then: Snapshot, root_mode: int) -> Restored:
        """Make what is `now` into what was `then`. A path that cannot be is left as it is.

        Raises CaptureError when the directory itself cannot be opened.
        """
        done = Restored()
        changed = [path for path in _differing(now, then) if not _is_hidden(path, then)]
        for path in changed:
            entry = then.entries.get(path)
            reason = None if entry is None or not _is_other(now.entries.get(path), entry) else self._obstacle(entry)
            if reason is not None:
                done.lost[path] = reason
        with _Place(self._root) as place:
            rest = [path for path in changed if path not in done.lost]
            self._remove(place, rest, now, then, done)
            self._make(place, rest, now, then, done)
            self._settle(place, rest, then, done)
        self._settle_root(then, root_mode)
        return done

    def _obstacle(self, entry: Entry) -> str | None:
        """Why this cannot be made again."""
        if entry.type is FileType.FILE:
            if entry.sha256 is None:
                return entry.note or "its content was not read"
            return None if self._content(entry.sha256) is not None else self._why_not
        if entry.type is FileType.LINK:
            return None if entry.target is not None else entry.note or "its target was not read"
        return _SPECIAL.get(stat.S_IFMT(entry.key[0]))

    @staticmethod
    def _remove(place: _Place, paths: Iterable[str], now: Snapshot, then: Snapshot, done: Restored) -> None:
        removed = "\0"
        for path in paths:
            before, entry = now.entries.get(path), then.entries.get(path)
            if before is None or path.startswith(removed) or (entry is not None and not _is_other(before, entry)):
                continue
            try:
                place.remove(path)
            except OSError as error:
                done.lost[path] = error.strerror or str(error)
            else:
                removed = f"{path}/"

    def _make(self, place: _Place, paths: Iterable[str], now: Snapshot, then: Snapshot, done: Restored) -> None:
        for path in paths:
            entry = then.entries.get(path)
            if entry is None or path in done.lost:
                continue
            try:
                if _is_other(now.entries.get(path), entry):
                    self._one(place, path, entry)
                    if entry.type is FileType.FILE and entry.key[5] > 1:
                        done.copies.append(path)
                if entry.type is not FileType.DIR:
                    place.settle(path, entry)
            except OSError as error:
                done.lost[path] = error.strerror or str(error)

    def _one(self, place: _Place, path: str, entry: Entry) -> None:
        match entry.type:
            case FileType.DIR:
                place.mkdir(path)
            case FileType.LINK:
                place.symlink(path, path_bytes(entry.target or ""))
            case FileType.FILE:
                source = self._content(entry.sha256 or "")
                assert source is not None
                place.copy(path, source)
            case FileType.OTHER:
                place.mkfifo(path)

    @staticmethod
    def _settle(place: _Place, paths: Iterable[str], then: Snapshot, done: Restored) -> None:
        """Modes and times of directories last, the innermost first: what is made or removed in one changes its time."""
        touched = {path for path in paths if path in then.entries and then.entries[path].type is FileType.DIR}
        touched |= {parent for path in paths if (parent := path.rpartition("/")[0]) in then.entries}
        for path in sorted(touched - done.lost.keys(), key=_parts, reverse=True):
            try:
                place.settle(path, then.entries[path])
            except OSError as error:
                done.lost[path] = error.strerror or str(error)

    def _settle_root(self, then: Snapshot, mode: int) -> None:
        with _RestoreErrors(self._root):
            if stat.S_IMODE(self._root.stat().st_mode) != mode:
                self._root.chmod(mode)
            if then.root_key is not None:
                os.utime(self._root, ns=(self._root.stat().st_atime_ns, then.root_key[0]))


class _Place:
    """A directory tree open for changes; paths are `os.fsdecode`d and relative. Keeps the last parent open."""

    def __init__(self, root: Path) -> None:
        with _RestoreErrors(root):
            self._root_fd = os.open(root, DIR_FLAGS)
        self._parent = ""
        self._fd = os.dup(self._root_fd)

    def __enter__(self) -> _Place:
        return self

    def __exit__(self, _kind: object, _error: object, _traceback: object) -> None:
        os.close(self._fd)
        os.close(self._root_fd)

    def remove(self, path: str) -> None:
        fd, name = self._at(path)
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                shutil.rmtree(name, dir_fd=fd)
            else:
                os.unlink(name, dir_fd=fd)

    def mkdir(self, path: str) -> None:
        fd, name = self._at(path)
        os.mkdir(name, 0o700, dir_fd=fd)

    def symlink(self, path: str, target: bytes) -> None:
        fd, name = self._at(path)
        os.symlink(target, os.fsencode(name), dir_fd=fd)

    def mkfifo(self, path: str) -> None:
        fd, name = self._at(path)
        os.mkfifo(name, 0o600, dir_fd=fd)

    def copy(self, path: str, source: Path) -> None:
        fd, name = self._at(path)
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
        with open(made, "wb", buffering=0) as out, open(source, "rb", buffering=0) as content:
            sparse.copy(content.fileno(), out.fileno())

    def settle(self, path: str, entry: Entry) -> None:
        """Give it the owner, mode and time of change that it had, as far as it has not."""
        fd, name = self._at(path)
        info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        mode, _, mtime_ns, _, _, _, uid, gid = entry.key
        if os.geteuid() == 0 and (info.st_uid, info.st_gid) != (uid, gid):
            os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if info.st_mode != mode and not stat.S_ISLNK(mode):
            self.chmod(path, stat.S_IMODE(mode))
        if info.st_mtime_ns != mtime_ns:
            os.utime(name, ns=(info.st_atime_ns, mtime_ns), dir_fd=fd, follow_symlinks=False)

    def chmod(self, path: str, mode: int) -> None:
        fd, name = self._at(path)
        looked = os.open(name, _LOOK, dir_fd=fd)  # a link in its place would be refused
        try:
            os.chmod(f"/proc/self/fd/{looked}", mode)
        finally:
            os.close(looked)

    def _at(self, path: str) -> tuple[int, str]:
        parent, _, name = path.rpartition("/")
        if parent != self._parent:
            fd = open_inside(self._root_fd, parent) if parent else os.dup(self._root_fd)
            os.close(self._fd)
            self._fd, self._parent = fd, parent
        return self._fd, name


class _RestoreErrors:
    """Turns what the file system says of a session's directory into a CaptureError."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError):
            raise CaptureError(f"restoring files in {self._root}: {error}") from error


def _differing(now: Snapshot, then: Snapshot) -> list[str]:
    """Every path that is not entirely the same, parents before what is in them and each subtree together."""
    return sorted({path for path, _ in now.entries.items() ^ then.entries.items()}, key=_parts)


def _parts(path: str) -> list[str]:
    return path.split("/")


def _is_other(now: Entry | None, then: Entry) -> bool:
    """Whether it has to be made anew; else its mode, owner and time are all that may differ."""
    if now is None or now.type is not then.type or stat.S_IFMT(now.key[0]) != stat.S_IFMT(then.key[0]):
        return True
    if then.type is FileType.FILE and (now.sha256 is None or then.sha256 is None):
        return (now.key[1:3], now.key[4]) != (then.key[1:3], then.key[4])  # of one that was not read: size, time, inode
    return (now.sha256, now.target) != (then.sha256, then.target)


def _is_locked(entry: Entry) -> bool:
    return entry.type is FileType.DIR and entry.mode & stat.S_IRWXU != stat.S_IRWXU


def _is_hidden(path: str, then: Snapshot) -> bool:
    """Whether that scan could not see it, so that it says nothing of whether it was there."""
    if os.geteuid() == 0:
        return False
    parents = path.split("/")[:-1]
    above = ("/".join(parents[: i + 1]) for i in range(len(parents)))
    return any((entry := then.entries.get(parent)) is not None and _is_closed(entry) for parent in above)


def _is_closed(entry: Entry) -> bool:
    """Whether the directory is one that even a scan does not look into: it lets only another user in."""
    return entry.mode & 0o500 != 0o500 and entry.key[6] != os.geteuid()
