"""Reads, replaces and removes the folder of one golden, as a whole and never through a link.

How a folder `x` is replaced: the new files are written to `.x.new`, `x` is renamed to `.x.old`, `.x.new` is renamed to `x`,
and `.x.old` is deleted. A writer that is killed between the renames leaves `.x.old`: readers then read `.x.old`, and the next
writer renames it back. To remove a folder, `x` is renamed to `.x.gone` and then deleted. `golden/store.py` and
`golden/pending.py` decide which folder it is, who may write it, and take the lock.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.golden.places import twin
from testronaut_lab.golden.render import GoldenTree

TOP_LEVEL: Final = frozenset({"cmd.txt", "stdout.txt", "stderr.txt", "changes.txt", "files"})
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_DEPTH = 64


def way_to(root: Path, place: str) -> Path:
    """Return the folder `place` below `root`, after a check that no part of its path is a link or a file.

    A link in a checkout could make us read and write anywhere. Raises UsageError for a link or a file, CaptureError if
    a folder cannot be looked at.
    """
    directory = root / place
    for folder in (directory, _fresh(directory), _retired(directory), _gone(directory)):
        here = root
        for part in ("", *folder.relative_to(root).parts):
            here = here / part
            if not is_directory(here):
                break
    return directory


def refuse_neighbours(root: Path, place: str) -> None:
    """Check the name of a new folder before it is made.

    Raises UsageError for a name that differs from an existing one only by case or Unicode composition, and for a folder inside
    a golden.
    """
    here = root
    for part in Path(place).parts:
        names = os.listdir(here) if here.is_dir() else []
        if other := twin(part, names):
            raise UsageError(
                f"writing the golden {root / place}: {str(here / other)!r} is there, and some file systems take both for one",
                hint="rename the case or step, or remove the goldens that have no step: `testronaut-lab prune`",
            )
        if here != root and "cmd.txt" in names:
            raise UsageError(f"writing the golden {root / place}: it would lie inside the golden {here}", hint="rename the case")
        here = here / part


def present(directory: Path) -> Path | None:
    """Return the folder to read: the golden's own, or the old one that a killed writer left; None if there is neither."""
    return next((each for each in (directory, _retired(directory)) if each.exists()), None)


def read_tree(directory: Path, top_level: frozenset[str] = TOP_LEVEL) -> GoldenTree:
    """Return every file with its bytes.

    Raises UsageError for a link, a special file or a file that no golden has, CaptureError if reading fails.
    """
    tree: dict[str, bytes] = {}
    try:
        for path, kind in _files(directory):
            name = path.relative_to(directory).as_posix()
            if name.split("/")[0] not in top_level:
                raise UsageError(
                    f"using the golden {directory}: {name!r} is not part of a golden",
                    hint=f"mv {shlex.quote(str(path))} ELSEWHERE",
                )
            if not stat.S_ISREG(kind):
                what = "a symbolic link" if stat.S_ISLNK(kind) else "not a regular file"
                raise UsageError(f"using the golden {directory}: {name!r} is {what}", hint=f"rm {shlex.quote(str(path))}")
            tree[name] = _read_file(path)
    except OSError as error:
        raise CaptureError(f"reading the golden {directory}: {error}") from error
    return MappingProxyType(tree)


def replace_tree(directory: Path, tree: GoldenTree, top_level: frozenset[str] = TOP_LEVEL) -> None:
    """Replace the whole folder by `tree`, atomically and durably. Raises OSError, and UsageError where `read_tree` does."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    _recover(directory)
    if directory.exists():
        read_tree(directory, top_level)  # raises for files that are not ours, before they are deleted with the old golden
    fresh, retired = _fresh(directory), _retired(directory)
    _write_tree(fresh, tree)
    if directory.exists():
        directory.rename(retired)
    fresh.rename(directory)
    _sync(directory.parent)
    if retired.exists():
        shutil.rmtree(retired)


def remove_tree(directory: Path, root: Path) -> None:
    """Remove a folder atomically, then the empty folders above it, up to but without `root`. Raises OSError.

    A link is removed, not followed. A folder that does not exist is not an error.
    """
    gone = _gone(directory)
    for left in (gone, _fresh(directory), _retired(directory)):
        _delete(left)
    with suppress(FileNotFoundError):
        directory.rename(gone)
    _delete(gone)
    for folder in directory.parents:
        if folder == root or not folder.is_relative_to(root):
            break
        with suppress(OSError):  # it is not empty, or another process has removed it
            folder.rmdir()


def folders(root: Path, is_place: Callable[[frozenset[str]], bool], place: str = "") -> Iterator[str]:
    """Yield the outermost folders below `root` for which `is_place` is true, sorted by name.

    `is_place` gets the names of a folder's files, links included. The temporary folders of a killed writer are left out.
    Raises UsageError for a link to a folder, OSError.
    """
    with os.scandir(root / place) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    if place and is_place(frozenset(entry.name for entry in inside if not entry.is_dir(follow_symlinks=False))):
        yield place
        return
    for entry in inside:
        if entry.is_dir() and not is_in_hand(entry.name) and is_directory(Path(entry.path)) and place.count("/") < _MAX_DEPTH:
            yield from folders(root, is_place, f"{place}/{entry.name}".lstrip("/"))


def is_directory(path: Path) -> bool:
    """Return False if nothing is there. Raises UsageError for a link, a file or a special file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CaptureError(f"looking for a golden in {path}: {error}") from error
    if not stat.S_ISDIR(mode):
        what = "a symbolic link" if stat.S_ISLNK(mode) else "not a directory"
        raise UsageError(f"looking for a golden in {path}: it is {what}", hint=f"rm {shlex.quote(str(path))}")
    return True


def is_in_hand(name: str) -> bool:
    """Whether this is the name of a writer's temporary folder. Only a killed writer leaves one."""
    return name.startswith(".") and name.endswith((".new", ".old", ".gone"))


def _fresh(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.new")


def _retired(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.old")


def _gone(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.gone")


def _recover(directory: Path) -> None:
    """Clean up after a killed writer: delete its new files, and put the old golden back if the golden is missing."""
    fresh, retired = _fresh(directory), _retired(directory)
    if fresh.exists():
        shutil.rmtree(fresh)
    if directory.exists() and retired.exists():
        shutil.rmtree(retired)
    elif retired.exists():
        retired.rename(directory)


def _delete(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _write_tree(directory: Path, tree: GoldenTree) -> None:
    directory.mkdir()
    folders = {directory}
    for name, data in tree.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        folders.update(parent for parent in path.parents if parent.is_relative_to(directory))
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    for folder in folders:
        _sync(folder)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _files(directory: Path) -> Iterator[tuple[Path, int]]:
    """Yield the path and mode of everything below that is not a directory, sorted by name. Links are not followed."""
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                yield from _files(Path(entry.path))
            else:
                yield Path(entry.path), mode


def _read_file(path: Path) -> bytes:
    with open(os.open(path, _READ_FLAGS), "rb") as file:
        return file.read()
