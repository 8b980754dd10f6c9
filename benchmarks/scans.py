"""What it costs to see what a step did to files: a scan and its diff by the size of the tree, and keeping 1 GiB of new files."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

from process import MIB
from table import Figure, Row, in_turn, print_rows, timed

from testronaut_lab.capture.file_capture import Scanner, Snapshot, diff
from testronaut_lab.store.blobs import BlobStore

ROUNDS = 100
# entries in the tree, and the most milliseconds that seeing them may take; None: 1.5 × a bare walk
SIZES = {100: 1.3, 1_000: 7.0, 10_000: 60.0, 100_000: None}
FOLDER_ENTRIES = 100
STORE_FILES = 64
STORE_FILE_BYTES = 16 * MIB
STORE_ROUNDS = 3


def measure(_image: str, rounds: int = ROUNDS) -> list[Figure]:
    """Print the tables of scans. No container is needed for it."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for entries, limit_ms in SIZES.items():
            root = Path(folder) / str(entries)
            _make_tree(root, entries)
            figures.append(_scans(root, entries, limit_ms, max(5, min(rounds, rounds * 10_000 // entries))))
            shutil.rmtree(root)
        figures.append(_storing(Path(folder)))
    return figures


def walk_s(root: Path) -> float:
    """A bare scandir and lstat walk by directory fd, in seconds: what any scan has to do at least."""
    started = time.perf_counter()
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    _walk(fd)
    os.close(fd)
    return time.perf_counter() - started


def _walk(fd: int) -> None:
    below: list[str] = []
    with os.scandir(fd) as listing:
        for found in listing:
            found.stat(follow_symlinks=False)
            if found.is_dir(follow_symlinks=False):
                below.append(found.name)
    for name in below:
        child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
        _walk(child)
        os.close(child)


def _make_tree(root: Path, entries: int) -> None:
    """So many entries, one folder in every hundred; all old enough that no clock leaves a doubt about them."""
    root.mkdir()
    for number in range(entries):
        folder = root / f"folder-{number // FOLDER_ENTRIES}"
        if number % FOLDER_ENTRIES == 0:
            folder.mkdir()
        else:
            (folder / f"file-{number}").write_bytes(b"")
    time.sleep(0.05)


class _Looks:
    """What a session does after each step, again and again, with one file that is written meanwhile."""

    def __init__(self, root: Path) -> None:
        self.scanner = Scanner(root)
        self._file = root / "folder-0" / "file-1"
        self._count = 0
        self._seen: Snapshot = self.scanner.scan()

    def look_s(self) -> float:
        self._count += 1
        self._file.write_text(str(self._count))
        started = time.perf_counter()
        after = self.scanner.scan(self._seen)
        changes = diff(self._seen, after)
        taken_s = time.perf_counter() - started
        assert len(changes) == 1, changes
        self._seen = after
        return taken_s


def _scans(root: Path, entries: int, limit_ms: float | None, rounds: int) -> Figure:
    looks = _Looks(root)
    rows = in_turn({"bare scandir + lstat": partial(walk_s, root), "scan and diff, one file changed": looks.look_s}, rounds)
    looks.scanner.close()
    bare, ours = rows.values()
    print_rows(f"Seeing what a step changed, {entries} entries", [bare, ours], bare)
    what = f"scan and diff at {entries} entries"
    if limit_ms is not None:
        return Figure(what, f"≤ {limit_ms:g} ms", f"{ours.median_ms:.2f} ms", ours.median_ms <= limit_ms)
    ratio = ours.median_ms / bare.median_ms
    return Figure(what, "≤ 1.5 × a bare walk", f"{ratio:.2f} ×", ratio <= 1.5)


def _storing(folder: Path) -> Figure:
    root = folder / "new"
    root.mkdir()
    for number in range(STORE_FILES):
        (root / f"{number}").write_bytes(os.urandom(STORE_FILE_BYTES))
    files = sorted(root.iterdir())
    hash_all = partial(subprocess.run, ["sha256sum", "--", *map(str, files)], check=True, stdout=subprocess.DEVNULL)
    turns: list[tuple[float, float]] = []
    for _ in range(STORE_ROUNDS):
        os.sync()  # what was written before must not be paid for here
        turns.append((timed(hash_all)(), _store_s(root, folder / "blobs")))
    theirs, ours = (
        Row(name, times) for name, times in zip(("sha256sum", "hash and store"), zip(*turns, strict=True), strict=True)
    )
    print_rows(f"{STORE_FILES} new files of {STORE_FILE_BYTES // MIB} MiB", [theirs, ours], theirs)
    ratio = statistics.median(theirs.times_s) / statistics.median(ours.times_s)
    return Figure("hash and store 1 GiB of new files", "≥ 0.6 × sha256sum", f"{ratio:.2f} ×", ratio >= 0.6)


def _store_s(root: Path, blobs: Path) -> float:
    scanner = Scanner(root, BlobStore(blobs))
    taken_s = timed(scanner.scan)()
    scanner.close()
    shutil.rmtree(blobs)
    return taken_s
