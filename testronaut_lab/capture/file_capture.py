"""Scans a directory tree, and finds exactly what a step changed in it, even if the tool under test is hostile.

The walk goes by directory descriptors and never follows a link. Only regular files are opened, and only if their `Key` changed
since the last scan. A change is new content, mode, type, link target or extended attributes; a new time alone is not a change.
A `BlobSink` stores the content.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import stat
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from testronaut_lab.capture import sparse
from testronaut_lab.capture.inode import attributes_of, has_writer
from testronaut_lab.capture.locked import ENTER, is_locked, lent, lent_by_fd, open_anyhow
from testronaut_lab.capture.measure import DIR_FLAGS as DIR_FLAGS
from testronaut_lab.capture.measure import measure
from testronaut_lab.capture.stream import BlobSink
from testronaut_lab.errors import CaptureError
from testronaut_lab.model.files import ChangeKind, FileChange, FileType, path_text

MAX_DEPTH = 400
_READ_BYTES = 1024 * 1024
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

# (mode, size, mtime_ns, ctime_ns, inode, links, uid, gid): if these are unchanged, so is the content.
Key = tuple[int, int, int, int, int, int, int, int]


def _clock_is_coarse() -> bool:
    """Before Linux 6.13, two writes within one timer tick could give the same ctime."""
    try:
        major, minor = (int(part) for part in platform.release().split(".")[:2])
    except ValueError:
        return True
    return (major, minor) < (6, 13)


CLOCK_IS_COARSE = _clock_is_coarse()
_RACY_NS = 10_000_000 if CLOCK_IS_COARSE else 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One path as the scan saw it. `sha256` is the digest of a regular file, None if it was not read (`note` says why).

    `is_open`: a process could still write to the file when it was read, perhaps without changing its times.
    """

    key: Key
    type: FileType
    sha256: str | None = None
    target: str | None = None
    note: str | None = None
    is_open: bool = False
    attributes: bytes = b""  # digest of the extended attributes, access control lists included

    @property
    def mode(self) -> int:
        return stat.S_IMODE(self.key[0])

    @property
    def size_bytes(self) -> int:
        return self.key[1]

    def same_as(self, other: Entry) -> bool:
        """Whether a user would call both the same. Both have one type."""
        if (self.key[0], self.target, self.attributes) != (other.key[0], other.target, other.attributes):
            return False
        if self.type is not FileType.FILE:
            return True
        if self.sha256 is None or other.sha256 is None:
            return self.key == other.key
        return self.sha256 == other.sha256


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every path of a tree, as `os.fsdecode`d names relative to its root, and notes on what could not be seen.

    `bytes_total` is the space of the regular files on the disk, so a sparse file counts little.
    """

    entries: Mapping[str, Entry]
    bytes_total: int = 0
    notes: tuple[str, ...] = ()
    started_ns: int = 0
    root_key: tuple[int, int] | None = None  # the root's own mtime and ctime, from before it was listed
    root_mode: int | None = None


EMPTY = Snapshot({})


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """A scan ends after `entries` paths. A file above `file_bytes` is listed without its content.

    A file above `stored_bytes` is hashed but not stored.
    """

    entries: int = 1_000_000
    file_bytes: int = 1024 * 1024 * 1024
    stored_bytes: int = 1024 * 1024 * 1024


class Scanner:
    """Scans one tree again and again. `blobs` stores the content of new and changed regular files. Close it when done."""

    def __init__(self, root: Path, blobs: BlobSink | None = None, limits: ScanLimits | None = None) -> None:
        self._blobs = blobs
        self._limits = limits or ScanLimits()
        try:
            self._root_fd = os.open(root, DIR_FLAGS)
        except OSError as error:
            raise CaptureError(f"opening {root} to see what changes in it: {error}") from error
        self._device = os.fstat(self._root_fd).st_dev
        self._root = root

    def close(self) -> None:
        if self._root_fd >= 0:
            os.close(self._root_fd)
            self._root_fd = -1

    def scan(self, before: Snapshot = EMPTY) -> Snapshot:
        """Return the tree as it is now. Content is read only where it may differ from `before`.

        Raises CaptureError if a directory cannot be looked into, other than for its permissions.
        """
        info = os.fstat(self._root_fd)
        root_key, root_mode = (info.st_mtime_ns, info.st_ctime_ns), stat.S_IMODE(info.st_mode)
        if before.root_mode == root_mode and self._is_empty_still(before):
            return before
        walk = _Walk(before, self._limits, self._blobs, self._device)
        started_ns = time.time_ns()
        with lent_by_fd(self._root_fd, ENTER):
            fd = os.open(".", DIR_FLAGS, dir_fd=self._root_fd)
            try:
                walk.directory(fd, "", 0)
            except _TooMany:
                walk.notes.append(
                    f"more than {self._limits.entries} entries in {self._root.name}: not all of them were looked at"
                )
            finally:
                os.close(fd)
        walk.forget_what_is_gone()
        return Snapshot(walk.entries, walk.bytes_total, tuple(walk.notes), started_ns, root_key, root_mode)

    def _is_empty_still(self, before: Snapshot) -> bool:
        """List the root itself: on tmpfs a new hard link sets the directory's time to the file's, which may be unchanged."""
        if before is EMPTY or before.entries or before.notes:
            return False
        try:
            return not os.listdir(self._root_fd)  # half as dear as to ask for its first entry alone
        except PermissionError:
            return False

    def measure(self, max_entries: int, max_bytes: int) -> tuple[int, int]:
        """Return the number of entries and their bytes on the disk. Counting stops at a maximum."""
        return measure(self._root_fd, self._device, max_entries, max_bytes)

    def read(self, path: str, limit_bytes: int) -> bytes:
        """Return the content of a regular file by its `os.fsdecode`d relative path, never through a link.

        Raises FileNotFoundError if there is no such regular file, CaptureError if it is larger than the limit.
        """
        return read_inside(self._root_fd, path, limit_bytes)


def read_inside(root_fd: int, path: str, limit_bytes: int) -> bytes:
    """Return the content of a regular file below an open directory; see `Scanner.read`."""
    fd = open_inside(root_fd, path, _FILE_FLAGS)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file", path)
        if info.st_size > limit_bytes:
            raise CaptureError(f"{path_text(os.fsencode(path))} has {info.st_size} bytes, more than {limit_bytes} are not read")
        return _read_all(fd, limit_bytes)
    finally:
        os.close(fd)


def open_inside(root_fd: int, path: str, flags: int = DIR_FLAGS) -> int:
    """Open a path below an open directory, never through a link. Raises FileNotFoundError for a link, too."""
    directory = os.dup(root_fd)
    try:
        *parents, name = [part for part in path.split("/") if part not in ("", ".")] or [""]
        if ".." in (*parents, name) or not name or "\0" in path:
            raise FileNotFoundError(errno.ENOENT, "no such file below the workspace", path)
        for parent in parents:
            below = open_anyhow(parent, DIR_FLAGS, directory)
            os.close(directory)
            directory = below
        return open_anyhow(name, flags, directory)
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, "a parent is not a directory", path) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise FileNotFoundError(errno.ENOENT, "a link or special file, not followed", path) from error
        raise
    finally:
        os.close(directory)


def look_at(fd: int, name: str, info: os.stat_result, limits: ScanLimits) -> Entry:
    """Return the `Entry` of one name in an open directory, with its content hashed. `info` is its lstat."""
    return _Walk(EMPTY, limits, None, info.st_dev)._look(fd, name, info, _key(info))


def diff(before: Snapshot, after: Snapshot) -> tuple[FileChange, ...]:
    """Return the changes between two snapshots of one tree, sorted by path."""
    paths = {path for path, _ in before.entries.items() ^ after.entries.items()}
    changes = [_change(path, before.entries.get(path), after.entries.get(path)) for path in paths]
    if None is not before.root_mode != after.root_mode is not None:
        changes.append(FileChange(ChangeKind.MODIFIED, ".", FileType.DIR, after.root_mode))
    return tuple(sorted((change for change in changes if change is not None), key=lambda change: change.path))


def _key(info: os.stat_result) -> Key:
    return (
        info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_nlink, info.st_uid, info.st_gid
    )  # fmt: skip


def _change(path: str, before: Entry | None, after: Entry | None) -> FileChange | None:
    text = path_text(os.fsencode(path))
    if after is None:
        assert before is not None
        return FileChange(ChangeKind.DELETED, text, before.type)
    if before is None:
        kind = ChangeKind.ADDED
    elif before.type is not after.type:
        kind = ChangeKind.RETYPED
    elif before.same_as(after):
        return None
    else:
        kind = ChangeKind.MODIFIED
    size = after.size_bytes if after.type is FileType.FILE else None
    note = after.note
    if kind is ChangeKind.MODIFIED and before is not None and before.attributes != after.attributes:
        note = "; ".join(filter(None, (note, "its extended attributes are others")))
    return FileChange(kind, text, after.type, after.mode, size, after.sha256, after.target, note)


class _TooMany(Exception):
    """More entries than the limit."""


class _Walk:
    """One pass over a tree."""

    def __init__(self, before: Snapshot, limits: ScanLimits, blobs: BlobSink | None, device: int) -> None:
        self.entries = dict(before.entries)  # entries that did not change stay
        self.notes: list[str] = []
        self.bytes_total = 0
        self._listed: list[tuple[str, list[str]]] = []
        self._count = 0
        self._racy_from_ns = before.started_ns - _RACY_NS if _RACY_NS else 0
        self._limits = limits
        self._blobs = blobs
        self._device = device

    def directory(self, fd: int, prefix: str, depth: int) -> None:
        # A scan spends its time in this loop: attributes are in locals, and an unchanged path costs one look-up.
        entries, racy_from_ns, device, room = self.entries, self._racy_from_ns, self._device, self._limits.entries - self._count
        known, is_file, is_dir = entries.get, FileType.FILE, FileType.DIR
        names: list[str] = []
        below: list[str] = []
        blocks = 0
        self._listed.append((prefix, names))
        with os.scandir(fd) as listing:
            for found in islice(listing, room):
                name = found.name
                try:
                    info = found.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # gone between the listing and the look
                mode, inode, on_device, links, uid, gid, size, _, _, _ = info
                ctime_ns = info.st_ctime_ns
                key = (mode, size, info.st_mtime_ns, ctime_ns, inode, links, uid, gid)
                entry = known(prefix + name)
                if entry is None or entry.key != key or entry.is_open or (racy_from_ns and ctime_ns >= racy_from_ns):
                    entry = entries[prefix + name] = self._look(fd, name, info, key, entry)
                names.append(name)
                kind = entry.type
                if kind is is_file:
                    blocks += info.st_blocks
                elif kind is is_dir and on_device == device:
                    below.append(name)
            if next(listing, None) is not None:
                raise _TooMany
        self._count += len(names)
        self.bytes_total += blocks * 512
        for name in below:
            self._descend(fd, prefix + name, name, depth)

    def forget_what_is_gone(self) -> None:
        """Remove the entries that this walk did not list. A directory that changes during the walk may list a name twice."""
        if sum(len(set(names)) for _, names in self._listed) != len(self.entries):
            listed = {prefix + name for prefix, names in self._listed for name in names}
            self.entries = {path: entry for path, entry in self.entries.items() if path in listed}

    def _descend(self, fd: int, path: str, name: str, depth: int) -> None:
        if depth >= MAX_DEPTH:
            self.notes.append(
                f"{path_text(os.fsencode(path))[:200]}… is more than {MAX_DEPTH} directories deep and was not looked into"
            )
            return
        entry = self.entries[path]
        try:
            with lent(name, fd, ENTER) if is_locked(entry.mode, entry.key[6], ENTER) else nullcontext():
                child = os.open(name, DIR_FLAGS, dir_fd=fd)
                try:
                    self.directory(child, path + "/", depth + 1)
                finally:
                    os.close(child)
        except PermissionError:
            self.notes.append(f"{path_text(os.fsencode(path))} may not be read and was not looked into")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise CaptureError(f"looking into {path_text(os.fsencode(path))}: {error}") from error
            # it was replaced during the walk: the next scan sees what it is now

    def _look(self, fd: int, name: str, info: os.stat_result, key: Key, before: Entry | None = None) -> Entry:
        if stat.S_ISDIR(info.st_mode):
            # attributes only: size, times and link count of a directory follow from its entries
            return Entry(key, FileType.DIR, attributes=attributes_of(f"/proc/self/fd/{fd}/{name}"))
        if stat.S_ISLNK(info.st_mode):
            try:
                return Entry(key, FileType.LINK, target=path_text(os.readlink(os.fsencode(name), dir_fd=fd)))
            except OSError as error:
                return Entry(key, FileType.LINK, note=f"its target was not read: {error.strerror}")
        if not stat.S_ISREG(info.st_mode):
            return Entry(key, FileType.OTHER, note=_special(info.st_mode))
        if info.st_size > self._limits.file_bytes:
            return Entry(key, FileType.FILE, note=f"larger than {self._limits.file_bytes} bytes: content not read")
        return self._content(fd, name, info, key, before)

    def _content(self, fd: int, name: str, info: os.stat_result, key: Key, before: Entry | None) -> Entry:
        try:
            file = open_anyhow(name, _FILE_FLAGS, fd)
        except OSError as error:
            return Entry(key, FileType.FILE, note=f"content not read: {error.strerror}")
        try:
            opened = os.fstat(file)
            if not stat.S_ISREG(opened.st_mode):
                return Entry(key, FileType.FILE, note="changed while read")
            is_another = (opened.st_dev, opened.st_ino) != (info.st_dev, info.st_ino)  # it got this name after the lstat
            if is_another or is_locked(info.st_mode, info.st_uid, stat.S_IRUSR):  # lending a permission changes the ctime
                info, key = opened, _key(opened)
            is_open = has_writer(file)  # before the read: a writer that opens the file later changes its times
            known = None if before is None or before.key != key else before.sha256
            sha = self._store(file, info.st_size, known)
            attributes = attributes_of(file)
            now = os.fstat(file)
        finally:
            os.close(file)
        changed = (now.st_size, now.st_mtime_ns, now.st_ctime_ns) != (info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        note = "changed while read" if changed else None
        return Entry(key, FileType.FILE, sha, note=note, is_open=is_open, attributes=attributes)

    def _store(self, file: int, size: int, known: str | None) -> str:
        """Hash at most `size` bytes (a file may grow for ever) and store them. `known` is the hash of content already stored."""
        if self._blobs is None or size > self._limits.stored_bytes:
            return _hashed(file, size)
        if known is not None:
            if _hashed(file, size) == known:
                return known
            os.lseek(file, 0, os.SEEK_SET)
        digest = hashlib.sha256()
        spool = self._blobs.new_spool()
        with open(spool, "wb", buffering=0) as out:
            if sparse.is_sparse(os.fstat(file)):
                for data, is_hole in sparse.pieces(file, size):
                    digest.update(data)
                    out.seek(len(data), os.SEEK_CUR) if is_hole else out.write(data)
                out.truncate(out.tell())
            else:
                for data in _pieces(file, size):
                    digest.update(data)
                    out.write(data)
        self._blobs.adopt(spool, digest.hexdigest())
        return digest.hexdigest()


def _hashed(file: int, size: int) -> str:
    digest = hashlib.sha256()
    for data in _pieces(file, size):
        digest.update(data)
    return digest.hexdigest()


def _pieces(fd: int, size: int) -> Iterable[bytes]:
    left = size
    while left > 0:
        data = os.read(fd, min(left, _READ_BYTES))
        if not data:
            return
        left -= len(data)
        yield data


def _read_all(fd: int, limit: int) -> bytes:
    return b"".join(_pieces(fd, limit))


def _special(mode: int) -> str:
    names = (
        (stat.S_ISFIFO, "fifo"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISCHR, "character device"),
        (stat.S_ISBLK, "block device"),
    )
    return next((name for test, name in names if test(mode)), "special file")
