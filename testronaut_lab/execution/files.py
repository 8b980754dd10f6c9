"""Puts files into a workspace that a hostile tool may be writing to: by directory fd, through no link, owned by the step's user.

What a plan's `files:` means is decided by the loader; reading files back is `capture/file_capture.py`.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from testronaut_lab.errors import CaptureError, UsageError

_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Placer:
    """Writes below one directory. `owner` is (uid, gid) to give what is made to, or None to leave it the caller's."""

    def __init__(self, root: Path, owner: tuple[int, int] | None) -> None:
        self._root = root
        self._owner = owner
        self._linked: dict[tuple[int, int], str] = {}  # of the folder that is copied: hard links, and where the first is

    def put(self, path: str, content: bytes, mode: int | None = None, mtime_ns: int | None = None) -> None:
        """Write a file, replacing what stands under that name; parents are made. `mode` defaults to 0644, the time to now.

        Raises UsageError for a path that leads out, CaptureError for what the file system refuses.
        """
        with _FileErrors(f"writing {path} into the workspace"):
            parent, name = self._parent(path)
            try:
                _clear(parent, name)
                fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
                with open(fd, "wb") as file:
                    file.write(content)
                    file.flush()
                    self._give(fd, 0o644 if mode is None else mode, mtime_ns)
            finally:
                os.close(parent)

    def has(self, path: str) -> bool:
        """Whether anything stands at this path, by its `os.fsdecode`d form; a link counts as itself."""
        *parents, name = _parts(path) or ["."]
        fd = os.open(self._root, _DIR_FLAGS)
        try:
            for part in parents:
                below = os.open(part, _DIR_FLAGS, dir_fd=fd)
                os.close(fd)
                fd = below
            os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError:
            return False  # not there, or behind a link or a folder that cannot be entered
        finally:
            os.close(fd)
        return True

    def copy(self, path: str, source: Path, mode: int | None = None) -> None:
        """Copy a file or folder with modes, times, inner links and hard links. Raises UsageError for a link that leads out."""
        with _FileErrors(f"copying {source} to {path} in the workspace"):
            if not source.is_dir():
                info = source.stat()
                self.put(path, source.read_bytes(), stat.S_IMODE(info.st_mode) if mode is None else mode, info.st_mtime_ns)
                return
            self._linked.clear()
            for folder, folders, names in os.walk(source, topdown=False, onerror=_raise):
                here = f"{path}/{Path(folder).relative_to(source)}"
                for name in sorted(folders + names):
                    self._one(f"{here}/{name}", Path(folder, name), source)
                self._folder(here, Path(folder))  # last, since its mode may forbid to write in it

    def _one(self, path: str, source: Path, top: Path) -> None:
        if source.is_symlink():
            self._link(path, source, top)
        elif source.is_dir():
            return  # has been put with what is in it
        elif source.is_file():
            self._file(path, source)
        else:
            raise UsageError(f"{source} is neither file, folder nor link and cannot be put into a workspace")

    def _file(self, path: str, source: Path) -> None:
        info = source.stat()
        first = self._linked.setdefault((info.st_dev, info.st_ino), path) if info.st_nlink > 1 else path
        if first == path:
            self.put(path, source.read_bytes(), stat.S_IMODE(info.st_mode), info.st_mtime_ns)
            return
        (there, known), (parent, name) = self._parent(first), self._parent(path)
        try:
            _clear(parent, name)
            os.link(known, name, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(there)
            os.close(parent)

    def _link(self, path: str, source: Path, top: Path) -> None:
        target = os.readlink(source)
        if not Path(os.path.realpath(source)).is_relative_to(top.resolve()) or os.path.isabs(target):
            raise UsageError(
                f"{source} is a link to {target}, which leads out of {top}", hint="copy what it points to into the folder"
            )
        parent, name = self._parent(path)
        try:
            _clear(parent, name)
            os.symlink(target, name, dir_fd=parent)
            if self._owner is not None:
                os.chown(name, *self._owner, dir_fd=parent, follow_symlinks=False)
            os.utime(name, ns=(source.lstat().st_mtime_ns,) * 2, dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)

    def _folder(self, path: str, source: Path) -> None:
        parts = _parts(path)
        fd = self._descend(parts)
        try:
            if parts:  # the workspace itself stays as it is
                info = source.stat()
                self._give(fd, stat.S_IMODE(info.st_mode), info.st_mtime_ns)
        finally:
            os.close(fd)

    def _parent(self, path: str) -> tuple[int, str]:
        *parents, name = _parts(path) or [""]
        if not name:
            raise UsageError(f"{path!r} is not a path below the workspace")
        return self._descend(parents), name

    def _descend(self, parts: list[str]) -> int:
        """An fd of the directory, which is made where it is missing; the caller closes it."""
        fd = os.open(self._root, _DIR_FLAGS)
        for part in parts:
            try:
                try:
                    os.mkdir(part, 0o700, dir_fd=fd)
                    made = True
                except FileExistsError:
                    made = False
                below = os.open(part, _DIR_FLAGS, dir_fd=fd)
                if made:
                    self._give(below, 0o755)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _give(self, fd: int, mode: int, mtime_ns: int | None = None) -> None:
        if self._owner is not None:
            os.fchown(fd, *self._owner)
        os.fchmod(fd, mode)
        if mtime_ns is not None:
            os.utime(fd, ns=(mtime_ns, mtime_ns))


class _FileErrors:
    """Turns what the file system says into a CaptureError that tells what was attempted."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError):
            raise CaptureError(f"{self._what}: {error.strerror or error}") from error


def _parts(path: str) -> list[str]:
    """The names of a path below the workspace; none for the workspace itself. Raises UsageError for any other path."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or path.startswith("/") or "\0" in path or not _is_encodable(path):
        raise UsageError(f"{path!r} is not a path below the workspace")
    return parts


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def _raise(error: OSError) -> None:
    raise error


def _clear(parent: int, name: str) -> None:
    """Remove what stands under that name, a folder with what is in it; no link is followed."""
    try:
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(info.st_mode):
        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)
