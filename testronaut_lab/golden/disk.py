"""A golden's folder on disk: read whole, replaced whole or not at all, taken away whole, and never through a link.

Which folder it is, who may write it and under which lock is for `golden/store.py` and `golden/pending.py`.
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
    """The folder `place` below `root`. No part of the way may be a link or a file: a checkout must not decide where we
    read and write. Nor may a folder on the way be there under a name that some file systems take for this one.

    Raises UsageError, CaptureError.
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
    """Before a new folder is made: raises UsageError for a name that differs from another one by case or composition only,
    and for a folder inside a golden."""
    here = root
    for part in Path(place).parts:
        names = os.listdir(here) if here.is_dir() else []
        if other := twin(part, names):
            raise UsageError(
                f"writing the golden {root / place}: {str(here / other)!r} is there, and some file systems take both for one",
                hint="rename the case or step, or remove what no step has any more: `testronaut-lab prune`",
            )
        if here != root and "cmd.txt" in names:
            raise UsageError(f"writing the golden {root / place}: it would lie inside the golden {here}", hint="rename the case")
        here = here / part


def present(directory: Path) -> Path | None:
    """Where the golden is to be read: its folder, or where a writer that was killed had set it aside; None if there is none."""
    return next((each for each in (directory, _retired(directory)) if each.exists()), None)


def read_tree(directory: Path, top_level: frozenset[str] = TOP_LEVEL) -> GoldenTree:
    """Every file with its bytes. Raises UsageError for links and for what is no file of a golden, CaptureError."""
    tree: dict[str, bytes] = {}
    try:
        for path, kind in _files(directory):
            name = path.relative_to(directory).as_posix()
            if name.split("/")[0] not in top_level:
                raise UsageError(
                    f"using the golden {directory}: {name!r} is no part of a golden",
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
    """Put `tree` in the place of what is there, at once and durably. Raises OSError, and what `read_tree` refuses."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    _recover(directory)
    if directory.exists():
        read_tree(directory, top_level)  # for its refusals: what is not ours must not be swept away with the old golden
    fresh, retired = _fresh(directory), _retired(directory)
    _write_tree(fresh, tree)
    if directory.exists():
        directory.rename(retired)
    fresh.rename(directory)
    _sync(directory.parent)
    if retired.exists():
        shutil.rmtree(retired)


def remove_tree(directory: Path, root: Path) -> None:
    """Take a folder away, at once, and the folders above it that are empty then, up to `root`. Raises OSError.

    A link is removed as such, and nothing is followed. What is not there is no error.
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
        with suppress(OSError):  # it is not empty, or another one has removed it
            folder.rmdir()


def folders(root: Path, is_place: Callable[[frozenset[str]], bool], place: str = "") -> Iterator[str]:
    """The folders below `root` for whose files (by name, links included) `is_place` holds, in order of names, outermost only.

    What a writer had in hand when it was killed is left out. Raises UsageError for a link to a folder, OSError.
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
    """False if there is nothing. Raises UsageError for anything but a true directory."""
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
    """Whether a writer made this name for a moment; one that was killed leaves it."""
    return name.startswith(".") and name.endswith((".new", ".old", ".gone"))


def _fresh(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.new")


def _retired(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.old")


def _gone(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.gone")


def _recover(directory: Path) -> None:
    """Ends what a writer that was killed had begun: its new files go; if the golden is away, the old one comes back."""
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
    """Everything below that is not a directory, with its mode, in order of names; links are told, not followed."""
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
