"""Scans of hostile trees: endless, enormous, unreadable, and changed while they are scanned."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count, takewhile
from pathlib import Path

import pytest
from conftest import SOAK

from testronaut_lab.capture.file_capture import EMPTY, Entry, ScanLimits, Scanner, diff
from testronaut_lab.model.files import FileType, path_bytes
from testronaut_lab.store.blobs import BlobStore

CANARY = b"the host's own secret, which no scan may ever read"
ROUNDS = 10_000 if SOAK else 500
FILES = 1_000_000 if SOAK else 20_000
as_root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root makes devices and files of others")


def stored(blobs: Path) -> Iterator[bytes]:
    return (path.read_bytes() for path in blobs.rglob("*") if path.is_file())


@contextmanager
def goes_on(work: Callable[[], object]) -> Iterator[None]:
    """Repeat an action in the background, as fast as possible."""
    stop = threading.Event()
    begun = threading.Event()
    errors: list[BaseException] = []

    def loop() -> None:
        try:
            while not stop.is_set():
                work()
                begun.set()
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)
            begun.set()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        assert begun.wait(30)
        yield
    finally:
        stop.set()
        thread.join()
    assert errors == []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A directory of the host with the same names in it as a directory of the tree."""
    (tmp_path / "host/d").mkdir(parents=True)
    for name in ("secret", "d/secret"):
        (tmp_path / "host" / name).write_bytes(CANARY)
    return tmp_path / "host"


def rounds(shapes: set[FileType]) -> Iterator[int]:
    """Scan until both shapes of the thing were seen, so that the race did happen."""
    return takewhile(lambda number: number < ROUNDS or len(shapes) < 2, count())


def swap_in(root: Path, make: Callable[[Path], object]) -> Callable[[], None]:
    """Replace the directory `real` and its content by another thing, and put it back."""
    (root / "real/d").mkdir(parents=True)
    for name in ("secret", "d/secret"):
        (root / "real" / name).write_bytes(b"harmless")

    def swap() -> None:
        make(root / "new")
        (root / "real").rename(root / "old")
        (root / "new").rename(root / "real")
        (root / "real").rename(root / "new")
        (root / "old").rename(root / "real")
        (root / "new").unlink()

    return swap


@pytest.mark.parametrize("kind", ["link", "fifo", pytest.param("device", marks=as_root_only)])
@pytest.mark.timeout(1800)
def test_a_directory_swapped_during_scans_shows_nothing_of_the_host(root: Path, secret: Path, tmp_path: Path, kind: str) -> None:
    make: dict[str, Callable[[Path], object]] = {
        "link": lambda path: path.symlink_to(secret),
        "fifo": os.mkfifo,
        "device": lambda path: os.mknod(path, stat.S_IFBLK, os.makedev(250, 250)),
    }
    scanner = Scanner(root, BlobStore(tmp_path / "blobs"))
    seen = EMPTY
    shapes: set[FileType] = set()
    with goes_on(swap_in(root, make[kind])):
        for number in rounds(shapes):
            # against nothing every other time, so that everything is opened again
            seen = scanner.scan(EMPTY if number % 2 else seen)
            shapes |= {entry.type for path, entry in seen.entries.items() if path == "real"}
            with suppress(FileNotFoundError):
                assert scanner.read("real/secret", 100) == b"harmless"
            scanner.measure(1000, 2**30)
    assert all(CANARY not in blob for blob in stored(tmp_path / "blobs"))


@pytest.mark.parametrize("kind", ["link", "hard link of a fifo", pytest.param("device", marks=as_root_only)])
@pytest.mark.timeout(1800)
def test_a_file_swapped_during_scans_shows_nothing_of_the_host(root: Path, secret: Path, tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    make: dict[str, Callable[[Path], object]] = {
        "link": lambda path: path.symlink_to(secret / "secret"),
        "hard link of a fifo": lambda path: os.link(tmp_path / "fifo", path),
        "device": lambda path: os.mknod(path, stat.S_IFCHR, os.makedev(1, 5)),  # /dev/zero, which never ends
    }

    def swap() -> None:
        make[kind](root / "new")
        (root / "new").replace(root / "f")
        (root / "new").write_bytes(b"harmless")
        (root / "new").replace(root / "f")

    scanner = Scanner(root, BlobStore(tmp_path / "blobs"))
    shapes: set[FileType] = set()
    with goes_on(swap):
        for _ in rounds(shapes):
            shapes |= {entry.type for path, entry in scanner.scan().entries.items() if path == "f"}
            with suppress(FileNotFoundError):
                assert scanner.read("f", 100) in (b"harmless", b"")
    assert {blob for blob in stored(tmp_path / "blobs") if blob} == {b"harmless"}


def test_a_file_that_grows_for_ever_is_read_to_the_size_it_had_and_marked(root: Path, tmp_path: Path) -> None:
    scanner = Scanner(root, BlobStore(tmp_path / "blobs"))
    (root / "log").write_bytes(b"x" * 4 * 2**20)
    seen: list[Entry] = []
    with open(root / "log", "ab", buffering=0) as log, goes_on(lambda: log.write(b"more\n")):
        while not seen or seen[-1].note != "changed while read":
            seen.append(scanner.scan().entries["log"])
    content = (root / "log").read_bytes()
    assert [entry.sha256 for entry in seen] == [hashlib.sha256(content[: entry.size_bytes]).hexdigest() for entry in seen]
    assert scanner.scan().entries["log"].note is None


def test_a_sparse_file_of_a_tebibyte_is_neither_read_nor_counted(root: Path, tmp_path: Path) -> None:
    with open(root / "sparse", "wb") as file:
        file.truncate(2**40)
    scanner = Scanner(root, BlobStore(tmp_path / "blobs"))
    seen = scanner.scan()
    (change,) = diff(EMPTY, seen)
    assert (change.size_bytes, change.sha256) == (2**40, None)
    assert change.note is not None and "content not read" in change.note
    assert seen.bytes_total < 10_000 and scanner.measure(10, 10**6)[1] < 10_000
    assert list(stored(tmp_path / "blobs")) == []


def test_a_directory_that_gets_ever_more_files_ends_the_scan_at_the_limit(root: Path) -> None:
    scanner = Scanner(root, None, ScanLimits(entries=1000))
    names = iter(range(10**9))
    with goes_on(lambda: (root / str(next(names))).touch()):
        while not scanner.scan().notes:
            pass
        seen = scanner.scan()
    assert len(seen.entries) == 1000
    assert seen.notes == ("more than 1000 entries in tree: not all of them were looked at",)


@pytest.mark.timeout(1800)
def test_very_many_files_are_told_as_too_many_in_bounded_memory(root: Path) -> None:
    """Run in a process of its own, because the kernel gives the peak of memory by process."""
    for i in range(FILES // 1000):
        (root / str(i)).mkdir()
        folder = os.open(root / str(i), os.O_RDONLY)
        for j in range(1000):
            os.mknod(str(j), dir_fd=folder)
        os.close(folder)
    code = f"""
        import resource
        from pathlib import Path
        from testronaut_lab.capture.file_capture import EMPTY, Entry, ScanLimits, Scanner
        scanner = Scanner(Path({str(root)!r}), None, ScanLimits(entries=10_000))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seen = scanner.scan(scanner.scan())
        print(len(seen.entries), *seen.notes, scanner.measure(10_000, 2**40)[0] >= 10_000, sep="|")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    told, grown_kib = result.stdout.splitlines()
    assert told == "10000|more than 10000 entries in tree: not all of them were looked at|True"
    assert int(grown_kib) < 64 * 1024


@as_root_only
def test_a_closed_directory_of_somebody_else_is_told_and_the_rest_is_seen(tmp_path: Path) -> None:
    (tmp_path / "tree/closed/below").mkdir(parents=True)
    (tmp_path / "tree/open").mkdir()
    (tmp_path / "tree/open/f").write_text("x")
    (tmp_path / "tree/closed").chmod(0)
    code = f"""
        import os
        from pathlib import Path
        from testronaut_lab.capture.file_capture import Scanner
        scanner = Scanner(Path({str(tmp_path / "tree")!r}))
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        seen = scanner.scan()
        print(*sorted(seen.entries), *seen.notes, oct(seen.entries["closed"].mode), sep="|")
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "closed|open|open/f|closed may not be read and was not looked into|0o0"


@as_root_only
def test_devices_are_named_and_never_opened(root: Path) -> None:
    os.mknod(root / "c", stat.S_IFCHR, os.makedev(1, 5))
    os.mknod(root / "b", stat.S_IFBLK, os.makedev(250, 250))
    os.mkfifo(root / "p")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "s"))
        changes = diff(EMPTY, Scanner(root).scan())
    assert [(change.path, change.type, change.note) for change in changes] == [
        ("b", "other", "block device"), ("c", "other", "character device"), ("p", "other", "fifo"), ("s", "other", "socket"),
    ]  # fmt: skip


def test_one_special_file_in_place_of_another_is_a_change(root: Path) -> None:
    scanner = Scanner(root)
    os.mkfifo(root / "x")
    before = scanner.scan()
    (root / "x").unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "x"))
        os.chmod(root / "x", 0o644)
        assert [(change.change, change.note) for change in diff(before, scanner.scan(before))] == [("modified", "socket")]


@pytest.mark.parametrize("name", [b"a\nb", b"\x1b]0;x\x07", b"\xff\xfe\x80", b"y" * 255, b"\\xff", "\u202ea".encode()])
def test_odd_names_come_back_from_directories_links_and_deletions_too(root: Path, name: bytes) -> None:
    place = os.fsencode(root) + b"/" + name
    scanner = Scanner(root)
    os.mkdir(place)
    os.symlink(name, place + b"/" + name)
    before = scanner.scan()
    added = diff(EMPTY, before)
    os.unlink(place + b"/" + name)
    os.rmdir(place)
    deleted = diff(before, scanner.scan(before))
    assert [path_bytes(change.path) for change in (*added, *deleted)] == [name, name + b"/" + name] * 2
    assert added[1].target is not None and path_bytes(added[1].target) == name


def test_links_in_a_circle_end_nowhere(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    (root / "d").mkdir()
    (root / "d/up").symlink_to("..")
    (root / "d/self").symlink_to(".")
    assert sorted(Scanner(root).scan().entries) == ["a", "b", "d", "d/self", "d/up"]


def test_a_write_through_one_of_many_names_changes_all_of_them(root: Path) -> None:
    scanner = Scanner(root)
    (root / "d").mkdir()
    (root / "a").write_text("x")
    for name in ("b", "d/c"):
        os.link(root / "a", root / name)
    before = scanner.scan()
    with open(root / "d/c", "r+b") as file:
        file.write(b"y")
    assert [(change.change, change.path) for change in diff(before, scanner.scan(before))] == [
        ("modified", "a"), ("modified", "b"), ("modified", "d/c"),
    ]  # fmt: skip
