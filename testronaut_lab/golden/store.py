"""Goldens on disk: one folder of readable files a step, below `snapshots/` of the project.

A golden is replaced as a whole or not at all, links are never followed, bytes come back as they went in. What the files say
is decided in `golden/render.py`, how two goldens differ in `golden/compare.py`.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.golden.names import name_problem
from testronaut_lab.golden.render import GoldenTree, check_names

_SUFFIX = re.compile(r"\.lab\.(?:yaml|yml|json)\Z")
_NODEID = re.compile(r"(?P<plan>.+?)::(?P<case>[^:\[]+)(?:\[[^\]]*\])?::(?P<step>[^:]+)")
_TOP_LEVEL = frozenset({"cmd.txt", "stdout.txt", "stderr.txt", "changes.txt", "files"})
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class GoldenKey:
    """Whose golden it is. `plan` is relative to the project root, without its suffix; `cell` only what `per:` splits by."""

    plan: str
    case: str
    step: str
    cell: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, nodeid: str, cell: tuple[tuple[str, str], ...] = ()) -> GoldenKey:
        """The key of `PATH::CASE[KEY=VALUE,…]::STEP`. Raises UsageError for anything else."""
        match = _NODEID.fullmatch(nodeid)
        if match is None:
            raise UsageError(f"finding the golden of {nodeid!r}: it is not PATH::CASE::STEP")
        return cls(_SUFFIX.sub("", match["plan"]), match["case"], match["step"], cell)


class GoldenStore:
    """The goldens below `root`, which is `snapshots/` of the project. Several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def directory(self, key: GoldenKey) -> Path:
        """Where a golden is kept, whether it exists or not. Raises UsageError for a name that cannot be a folder's."""
        step = key.step + "".join(f"@{name}={quote(value, safe='')}" for name, value in key.cell)
        for part in (key.plan, key.case, step):
            if problem := name_problem(part):
                raise UsageError(f"looking for a golden under the name {part!r}: {problem}")
        for part in (key.case, step):
            if part.startswith(".") or "/" in part:
                raise UsageError(f"looking for a golden under the name {part!r}: it begins with a dot or holds a slash")
        return self.root / key.plan / key.case / step

    def read(self, key: GoldenKey) -> GoldenTree | None:
        """The golden, or None if there is none. Raises UsageError for links and for what is no file of a golden."""
        directory = self.directory(key)
        with self._locked(fcntl.LOCK_SH):
            self._refuse_links(directory)
            present = next((each for each in (directory, _retired(directory)) if each.exists()), None)
            return None if present is None else _read_tree(present)

    def write(self, key: GoldenKey, tree: GoldenTree) -> Path:
        """Puts `tree` in the place of the golden, at once and durably; returns where.

        Whoever looks after a crash finds the whole golden from before or the whole new one. Raises CaptureError for names that
        cannot be kept and when writing fails, UsageError if links or files that are no golden's are in the way.
        """
        directory = self.directory(key)
        check_names(tree)
        if strangers := sorted({name.split("/")[0] for name in tree} - _TOP_LEVEL):
            raise CaptureError(f"writing the golden {directory}: {strangers[0]!r} is no part of a golden")
        with self._locked(fcntl.LOCK_EX):
            self._refuse_links(directory)
            try:
                directory.parent.mkdir(parents=True, exist_ok=True)
                _recover(directory)
                _replace(directory, tree)
            except OSError as error:
                raise CaptureError(f"writing the golden {directory}: {error}") from error
        return directory

    def shown(self, key: GoldenKey) -> str:
        """The golden's folder as it is spoken of: relative to the project root."""
        return self.directory(key).relative_to(self.root.parent).as_posix()

    @contextmanager
    def _locked(self, operation: int) -> Iterator[None]:
        """One writer, or many readers, over all processes. Blocks until the others are done, which takes milliseconds."""
        state = self.root.parent / ".testronaut"
        try:
            state.mkdir(parents=True, exist_ok=True)
            if not (state / ".gitignore").exists():
                (state / ".gitignore").write_text("*\n")
            lock = os.open(state / "golden.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise CaptureError(f"locking the goldens in {self.root}: {error}") from error
        try:
            fcntl.flock(lock, operation)
            yield
        finally:
            os.close(lock)

    def _refuse_links(self, directory: Path) -> None:
        """No part of the way to a golden may be a link or a file: a checkout must not decide where we read and write."""
        for folder in (directory, _fresh(directory), _retired(directory)):
            here = self.root
            for part in ("", *folder.relative_to(self.root).parts):
                here = here / part
                if not _is_directory(here):
                    break


def _fresh(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.new")


def _retired(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.old")


def _is_directory(path: Path) -> bool:
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


def _recover(directory: Path) -> None:
    """Ends what a writer that was killed had begun: its new files go; if the golden is away, the old one comes back."""
    fresh, retired = _fresh(directory), _retired(directory)
    if fresh.exists():
        shutil.rmtree(fresh)
    if directory.exists() and retired.exists():
        shutil.rmtree(retired)
    elif retired.exists():
        retired.rename(directory)


def _replace(directory: Path, tree: GoldenTree) -> None:
    if directory.exists():
        _read_tree(directory)  # for its refusals: what is not ours must not be swept away with the old golden
    fresh, retired = _fresh(directory), _retired(directory)
    _write_tree(fresh, tree)
    if directory.exists():
        directory.rename(retired)
    fresh.rename(directory)
    _sync(directory.parent)
    if retired.exists():
        shutil.rmtree(retired)


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


def _read_tree(directory: Path) -> GoldenTree:
    tree: dict[str, bytes] = {}
    try:
        for path, kind in _walk(directory):
            name = path.relative_to(directory).as_posix()
            if name.split("/")[0] not in _TOP_LEVEL:
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


def _walk(directory: Path) -> Iterator[tuple[Path, int]]:
    """Everything below that is not a directory, with its mode, in order of names; links are told, not followed."""
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                yield from _walk(Path(entry.path))
            else:
                yield Path(entry.path), mode


def _read_file(path: Path) -> bytes:
    with open(os.open(path, _READ_FLAGS), "rb") as file:
        return file.read()
