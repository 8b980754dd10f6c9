"""Keeps the goldens of a project: one folder of readable files for each step, below `snapshots/`.

A golden is replaced as a whole or not at all, and links are never followed. `golden/render.py` decides what the files say,
`golden/compare.py` compares two goldens, `golden/pending.py` keeps those that wait to be accepted.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.golden import disk
from testronaut_lab.golden.names import PYTEST_MARK
from testronaut_lab.golden.places import GoldenKey, Maker
from testronaut_lab.golden.render import GoldenTree, check_names

NO_GOLDEN: Final = "none"
_FILES: Final = disk.TOP_LEVEL - {"files"}
_NOT_WRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_MARK_TEXT: Final = b"The goldens in this folder are made by tests: `testronaut-lab prune` leaves them alone.\n"


def tree_sha256(tree: GoldenTree | None) -> str:
    """The SHA-256 of a golden's names and contents, in the order of names; `none` for a golden that does not exist."""
    if tree is None:
        return NO_GOLDEN
    whole = hashlib.sha256()
    for name in sorted(tree):
        encoded = name.encode(errors="surrogateescape")
        whole.update(b"%d:%s%d:" % (len(encoded), encoded, len(tree[name])))
        whole.update(tree[name])
    return whole.hexdigest()


@dataclass(frozen=True, slots=True)
class Orphan:
    """A golden that no step uses. `strange` says why it cannot be removed; None if it can."""

    place: str
    strange: str | None = None


class GoldenStore:
    """The goldens below `root`, which is `snapshots/` of the project. Several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def directory(self, key: GoldenKey) -> Path:
        """The golden's folder, whether it exists or not. Raises UsageError for a name that no folder can have."""
        return self.root / key.place

    def read(self, key: GoldenKey) -> GoldenTree | None:
        """Return the golden, or None if there is none. Raises UsageError for a link and for a file that no golden has."""
        place = key.place
        with self.locked(fcntl.LOCK_SH):
            return self.read_at(place)

    def write(self, key: GoldenKey, tree: GoldenTree) -> Path:
        """Replace the whole golden by `tree`, atomically and durably. Returns its folder.

        After a crash, readers find the whole old golden or the whole new one. Raises CaptureError for names that cannot be kept
        and if writing fails. Raises UsageError if a link, a foreign file or another name for the same folder is in the way.
        """
        place = key.place
        check_tree(place, tree)
        with self.locked(fcntl.LOCK_EX):
            self.write_at(place, tree, key.maker)
        return self.root / place

    def shown(self, key: GoldenKey) -> str:
        """The golden's folder for messages: relative to the project root."""
        return f"{self.root.name}/{key.place}"

    def orphans(self, known: Iterable[GoldenKey], maker: Maker = "plan") -> list[Orphan]:
        """Return the goldens of `maker` that have no key in `known`, sorted by place.

        A golden is a test's if its module's folder has the mark that `write` makes, or if its module still exists.
        """
        wanted = {key.place for key in known}
        with self.locked(fcntl.LOCK_SH):
            found = [place for place in self._places() if place not in wanted and self._maker(place) == maker]
            return [Orphan(place, self._strange(place)) for place in found]

    def remove(self, places: Iterable[str]) -> None:
        """Remove the goldens at these places, each atomically. Stops and raises as `read` does at one with foreign files."""
        with self.locked(fcntl.LOCK_EX):
            for place in places:
                self.read_at(place)
                try:
                    disk.remove_tree(self.root / place, self.root)
                except OSError as error:
                    raise CaptureError(f"removing the golden {self.root / place}: {error}") from error

    @contextmanager
    def locked(self, operation: int) -> Iterator[None]:
        """Hold the lock of the goldens and of the pending entries: one writer (LOCK_EX) or many readers (LOCK_SH).

        Blocks until other processes release the lock, usually milliseconds. Taking it twice deadlocks. On a read-only file
        system readers go on without a lock.
        """
        try:
            lock = self._lock_file()
        except OSError as error:
            if operation != fcntl.LOCK_SH or error.errno not in _NOT_WRITABLE:
                raise CaptureError(f"locking the goldens in {self.root}: {error}") from error
            yield
            return
        try:
            fcntl.flock(lock, operation)
            yield
        finally:
            os.close(lock)

    def _lock_file(self) -> int:
        state = self.root.parent / ".testronaut"
        state.mkdir(parents=True, exist_ok=True)
        if not (state / ".gitignore").exists():
            (state / ".gitignore").write_text("*\n")
        return os.open(state / "golden.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)

    def read_at(self, place: str) -> GoldenTree | None:
        """As `read`, but the caller holds the lock."""
        there = disk.present(disk.way_to(self.root, place))
        return None if there is None else disk.read_tree(there)

    def write_at(self, place: str, tree: GoldenTree, maker: Maker) -> None:
        """As `write`, but the caller holds the lock and has called `check_tree`."""
        directory = disk.way_to(self.root, place)
        disk.refuse_neighbours(self.root, place)
        try:
            disk.replace_tree(directory, tree)
            if maker == "pytest":
                self._mark(directory.parent.parent)
        except OSError as error:
            raise CaptureError(f"writing the golden {directory}: {error}") from error

    def _places(self) -> Iterator[str]:
        try:
            if disk.is_directory(self.root):
                yield from disk.folders(self.root, lambda files: not files.isdisjoint(_FILES))
        except OSError as error:
            raise CaptureError(f"looking for goldens in {self.root}: {error}") from error

    def _maker(self, place: str) -> Maker:
        marked = any((self.root / each / PYTEST_MARK).exists() for each in PurePosixPath(place).parents)
        module = self.root.parent / f"{place.rsplit('/', 2)[0]}.py"
        is_tests = module.name.startswith("test_") or module.stem.endswith("_test")
        return "pytest" if marked or (is_tests and module.exists()) else "plan"

    def _mark(self, module: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(module / PYTEST_MARK, flags, 0o666), "ab") as mark:
            if not os.fstat(mark.fileno()).st_size:
                mark.write(_MARK_TEXT)

    def _strange(self, place: str) -> str | None:
        try:
            self.read_at(place)
        except UsageError as error:
            return error.message
        return None


def check_tree(place: str, tree: GoldenTree) -> None:
    """Raise CaptureError for names that no golden can have. Nothing is read or written."""
    check_names(tree)
    if strangers := sorted({name.split("/")[0] for name in tree} - disk.TOP_LEVEL):
        raise CaptureError(f"writing the golden {place}: {strangers[0]!r} is not part of a golden")
