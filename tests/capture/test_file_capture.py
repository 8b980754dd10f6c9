"""The changes between two scans of a tree, even if the tree is hostile."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testronaut_lab.capture import file_capture
from testronaut_lab.capture.file_capture import EMPTY, ScanLimits, Scanner, Snapshot, diff
from testronaut_lab.errors import CaptureError
from testronaut_lab.model.files import FileChange, FileType, path_bytes
from testronaut_lab.store.blobs import BlobStore

CANARY = b"what a link leads to must never be read"


class Tree:
    """A directory and its last scan; `changes` scans again and returns the changes."""

    def __init__(self, root: Path, blobs: Path, limits: ScanLimits | None = None) -> None:
        self.root = root
        self.blobs = BlobStore(blobs)
        self.scanner = Scanner(root, self.blobs, limits)
        self.seen: Snapshot = EMPTY

    def changes(self) -> tuple[FileChange, ...]:
        before, self.seen = self.seen, self.scanner.scan(self.seen)
        return diff(before, self.seen)

    def told(self) -> list[str]:
        return [f"{change.change.letter} {change.type.value} {change.path}" for change in self.changes()]

    def stored(self) -> bytes:
        """The content of every blob ever stored."""
        return b"\0".join(path.read_bytes() for path in self.blobs.root.rglob("*") if path.is_file())


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "tree").mkdir()
    return Tree(tmp_path / "tree", tmp_path / "blobs")


def limited(tmp_path: Path, limits: ScanLimits) -> Tree:
    (tmp_path / "tree").mkdir()
    return Tree(tmp_path / "tree", tmp_path / "blobs", limits)


def test_nothing_done_is_no_change(tree: Tree) -> None:
    (tree.root / "a").write_text("x")
    tree.changes()
    assert tree.changes() == ()


def test_a_new_file_is_added_with_all_that_is_known_of_it(tree: Tree) -> None:
    (tree.root / "a").write_bytes(b"hello")
    (tree.root / "a").chmod(0o640)
    (change,) = tree.changes()
    sha = hashlib.sha256(b"hello").hexdigest()
    assert (change.change, change.path, change.mode, change.size_bytes, change.sha256) == ("added", "a", 0o640, 5, sha)
    assert tree.blobs.read(sha) == b"hello"


def test_other_content_of_the_same_size_is_modified(tree: Tree) -> None:
    (tree.root / "a").write_text("x")
    tree.changes()
    (tree.root / "a").write_text("y")
    assert tree.told() == ["M file a"]


def test_content_put_back_with_its_old_times_is_still_seen(tree: Tree) -> None:
    file = tree.root / "a"
    file.write_text("x")
    info = file.stat()
    tree.changes()
    file.write_text("y")
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert tree.told() == ["M file a"]


def test_a_removed_file_is_deleted(tree: Tree) -> None:
    (tree.root / "a").write_text("x")
    tree.changes()
    (tree.root / "a").unlink()
    assert tree.told() == ["D file a"]


def test_a_removed_directory_is_deleted_with_what_was_in_it(tree: Tree) -> None:
    (tree.root / "d").mkdir()
    (tree.root / "d/a").write_text("x")
    tree.changes()
    (tree.root / "d/a").unlink()
    (tree.root / "d").rmdir()
    assert tree.told() == ["D dir d", "D file d/a"]


def test_a_file_in_place_of_a_directory_is_retyped(tree: Tree) -> None:
    (tree.root / "d").mkdir()
    tree.changes()
    (tree.root / "d").rmdir()
    (tree.root / "d").write_text("x")
    assert tree.told() == ["T file d"]


def test_a_renamed_file_is_deleted_and_added(tree: Tree) -> None:
    (tree.root / "a").write_text("x")
    tree.changes()
    (tree.root / "a").rename(tree.root / "b")
    assert tree.told() == ["D file a", "A file b"]


@pytest.mark.parametrize("make", [lambda path: path.write_text("x"), lambda path: path.mkdir()], ids=["file", "dir"])
def test_another_mode_is_modified(tree: Tree, make: object) -> None:
    make(tree.root / "a")  # type: ignore[operator]
    tree.changes()
    (tree.root / "a").chmod(0o700)
    tree.changes()
    (tree.root / "a").chmod(0o711)
    (change,) = tree.changes()
    assert (change.change, change.mode) == ("modified", 0o711)


def test_a_touched_file_is_no_change(tree: Tree) -> None:
    (tree.root / "a").write_text("x")
    tree.changes()
    os.utime(tree.root / "a", (1, 1))
    assert tree.changes() == ()


def test_the_same_content_written_again_is_no_change(tree: Tree) -> None:
    (tree.root / "a").write_text("x")
    tree.changes()
    (tree.root / "a").unlink()
    (tree.root / "a").write_text("x")
    assert tree.changes() == ()


def test_a_directory_in_which_things_changed_is_no_change_itself(tree: Tree) -> None:
    (tree.root / "d").mkdir()
    tree.changes()
    (tree.root / "d/a").write_text("x")
    assert tree.told() == ["A file d/a"]


@pytest.mark.parametrize("target", ["secret", "..", "/", "nowhere", "loop", "../outside/secret"])
def test_links_are_told_and_never_followed(tree: Tree, target: str) -> None:
    outside = tree.root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(CANARY)
    (tree.root / "loop").symlink_to(target)
    (change,) = tree.changes()
    assert (change.type, change.target, change.sha256) == (FileType.LINK, target, None)
    assert CANARY not in tree.stored()


def test_a_link_that_leads_elsewhere_is_modified(tree: Tree) -> None:
    (tree.root / "l").symlink_to("a")
    tree.changes()
    (tree.root / "l").unlink()
    (tree.root / "l").symlink_to("b")
    assert tree.told() == ["M link l"]


def test_special_files_are_named_and_never_opened(tree: Tree) -> None:
    os.mkfifo(tree.root / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tree.root / "sock"))
        assert [(change.type, change.note) for change in tree.changes()] == [("other", "fifo"), ("other", "socket")]


@pytest.mark.parametrize("name", [b"a\nb", b"\x1b[2J", b"\xff\xfe", b"-rf", b"a\\b", "\u202egnp".encode(), b"x" * 255, b" "])
def test_names_come_back_as_they_are(tree: Tree, name: bytes) -> None:
    with open(os.fsencode(tree.root) + b"/" + name, "wb") as file:
        file.write(b"x")
    (change,) = tree.changes()
    assert path_bytes(change.path) == name
    assert tree.scanner.read(os.fsdecode(name), 10) == b"x"


def test_a_link_may_lead_to_bytes_that_are_no_text(tree: Tree) -> None:
    os.symlink(b"\xff\\", os.fsencode(tree.root) + b"/l")
    (change,) = tree.changes()
    assert change.target is not None and path_bytes(change.target) == b"\xff\\"


def nest(root: Path, depth: int, name: str) -> None:
    """Directories too deep to be named by a path."""
    fd = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


def test_what_is_deeper_than_a_path_can_name_is_found(tree: Tree) -> None:
    nest(tree.root, 60, "d" * 200)
    assert tree.changes()[-1].path.endswith("/leaf")


def test_what_is_too_deep_is_said_and_not_silently_left_out(tree: Tree) -> None:
    nest(tree.root, file_capture.MAX_DEPTH + 5, "d")
    assert len(tree.changes()) == file_capture.MAX_DEPTH + 1
    assert any("directories deep" in note for note in tree.seen.notes)


def test_a_file_that_is_replaced_while_it_is_looked_at_is_captured_whole(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.root / "f").write_text("A")
    real_open = os.open

    def replaced_first(path: str, flags: int, *mode: int, **more: int) -> int:
        if path == "f":
            (tree.root.parent / "b").write_text("BB")
            os.rename(tree.root.parent / "b", tree.root / "f")
        return real_open(path, flags, *mode, **more)

    monkeypatch.setattr(file_capture.os, "open", replaced_first)
    [change] = tree.changes()
    assert (change.sha256, change.size_bytes, change.note) == (hashlib.sha256(b"BB").hexdigest(), 2, None)


@pytest.mark.parametrize("place", ["/dev/shm", None])
def test_every_write_through_one_mapping_is_told(tmp_path: Path, place: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=place or tmp_path) as folder:
        tree = limited(Path(folder), ScanLimits())
        (tree.root / "mapped").write_bytes(b"\0" * 4096)
        with open(tree.root / "mapped", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
            tree.told()
            told = []
            for number in range(1, 6):
                mapping[0] = number
                told += tree.told()
            assert told == ["M file mapped"] * 5
            assert tree.told() == []
        assert tree.told() == []
        assert not tree.seen.entries["mapped"].is_open


def test_what_is_written_to_a_mapping_right_before_it_ends_is_told(tree: Tree) -> None:
    (tree.root / "mapped").write_bytes(b"\0" * 4096)
    with open(tree.root / "mapped", "r+b") as file:
        mapping = mmap.mmap(file.fileno(), 0)
    mapping[0] = 1
    tree.told()
    mapping[0] = 2
    mapping.close()
    assert tree.told() == ["M file mapped"]


def test_a_file_that_is_linked_into_a_directory_that_was_seen_empty_is_found_on_tmpfs() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        tree = limited(Path(folder), ScanLimits())
        for _ in range(50):
            made = os.open(tree.root, os.O_TMPFILE | os.O_WRONLY)
            os.link(f"/proc/self/fd/{made}", tree.root / "f", src_dir_fd=made, follow_symlinks=True)
            os.close(made)
            assert tree.told() == ["A file f"]
            (tree.root / "f").unlink()
            assert tree.told() == ["D file f"]


def test_the_mode_of_the_tree_itself_is_told(tree: Tree) -> None:
    tree.told()
    tree.root.chmod(0o711)
    [change] = tree.changes()
    assert (change.change.letter, change.path, change.type, change.mode) == ("M", ".", FileType.DIR, 0o711)
    assert tree.told() == []


@pytest.mark.parametrize("name", ["f", "d"])
def test_an_extended_attribute_that_changes_is_told(tree: Tree, name: str) -> None:
    (tree.root / "f").write_text("x")
    (tree.root / "d").mkdir()
    tree.told()
    os.setxattr(tree.root / name, "user.origin", b"somewhere")
    [change] = tree.changes()
    assert (change.change.letter, change.path, change.note) == ("M", name, "its extended attributes are others")
    os.setxattr(tree.root / name, "user.origin", b"somewhere")
    assert tree.told() == []
    os.removexattr(tree.root / name, "user.origin")
    assert [change.path for change in tree.changes()] == [name]


def test_what_is_stored_of_a_sparse_file_takes_as_little_room(tree: Tree) -> None:
    with open(tree.root / "sparse", "wb") as file:
        file.write(b"a")
        file.seek(50_000_000)
        file.write(b"b")
        file.truncate(60_000_000)
    [change] = tree.changes()
    assert change.sha256 == hashlib.sha256((tree.root / "sparse").read_bytes()).hexdigest()
    blob = tree.blobs.path(change.sha256)
    assert (blob.stat().st_size, blob.stat().st_blocks * 512 < 200_000) == (60_000_000, True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes files of others; what is one's own is read all the same")
def test_what_may_not_be_read_is_said(tmp_path: Path) -> None:
    """Run as an ordinary user, because root may read everything."""
    (tmp_path / "tree/closed").mkdir(parents=True)
    (tmp_path / "tree/secret").write_text("x")
    code = f"""
        import os, sys
        from pathlib import Path
        from testronaut_lab.capture.file_capture import Scanner
        for name in ("closed", "secret"):
            os.chmod({str(tmp_path / "tree")!r} + "/" + name, 0)
        scanner = Scanner(Path({str(tmp_path / "tree")!r}))
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        seen = scanner.scan()
        print(*seen.notes, seen.entries["secret"].note, sep="\\n")
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        "closed may not be read and was not looked into",
        f"content not read: {os.strerror(errno.EACCES)}",
    ]


def test_a_large_file_is_listed_without_its_content(tmp_path: Path) -> None:
    tree = limited(tmp_path, ScanLimits(file_bytes=1000))
    with open(tree.root / "sparse", "wb") as file:
        file.truncate(2**40)
    (change,) = tree.changes()
    assert (change.size_bytes, change.sha256) == (2**40, None)
    assert change.note is not None and "larger than 1000" in change.note
    assert tree.seen.bytes_total < 10_000


def test_a_large_file_that_changed_is_modified(tmp_path: Path) -> None:
    tree = limited(tmp_path, ScanLimits(file_bytes=3))
    (tree.root / "a").write_text("large")
    tree.changes()
    (tree.root / "a").write_text("LARGE")
    assert tree.told() == ["M file a"]


def test_a_file_that_grows_while_it_is_read_is_marked(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.root / "log").write_bytes(b"1\n")
    pieces = file_capture._pieces

    def grow_first(fd: int, size: int) -> object:
        with open(tree.root / "log", "ab") as file:
            file.write(b"2\n")
        return pieces(fd, size)

    monkeypatch.setattr(file_capture, "_pieces", grow_first)
    (change,) = tree.changes()
    assert change.note == "changed while read"
    assert change.sha256 == hashlib.sha256(b"1\n").hexdigest()


def test_a_file_that_was_marked_is_read_again(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        test_a_file_that_grows_while_it_is_read_is_marked(tree, patch)
    (change,) = tree.changes()
    assert (change.sha256, change.note) == (hashlib.sha256(b"1\n2\n").hexdigest(), None)


def test_hard_links_change_together(tree: Tree) -> None:
    (tree.root / "a").write_text("x")
    os.link(tree.root / "a", tree.root / "b")
    assert tree.told() == ["A file a", "A file b"]
    (tree.root / "b").write_text("y")
    assert tree.told() == ["M file a", "M file b"]


def test_another_hard_link_is_no_change_of_the_first(tree: Tree) -> None:
    (tree.root / "a").write_text("x")
    tree.changes()
    os.link(tree.root / "a", tree.root / "b")
    assert tree.told() == ["A file b"]


def test_a_directory_swapped_for_a_link_is_never_looked_through(tree: Tree) -> None:
    outside = tree.root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(CANARY)
    (tree.root / "real").mkdir()
    (tree.root / "real/secret").write_bytes(b"harmless")
    (tree.root / "link").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        names = [tree.root / name for name in ("real", "x", "link")]
        while not stop.is_set():
            names[0].rename(names[1])
            names[2].rename(names[0])
            names[0].rename(names[2])
            names[1].rename(names[0])

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(1000):
            tree.scanner.scan()
            try:
                assert tree.scanner.read("real/secret", 100) == b"harmless"
            except FileNotFoundError:
                pass
    finally:
        stop.set()
        swapper.join()
    assert CANARY not in tree.stored()


def test_more_entries_than_the_limit_are_said(tmp_path: Path) -> None:
    tree = limited(tmp_path, ScanLimits(entries=10))
    for i in range(20):
        (tree.root / str(i)).touch()
    tree.changes()
    assert any("more than 10 entries" in note for note in tree.seen.notes)


def test_measuring_counts_entries_and_bytes_and_stops_at_a_maximum(tree: Tree) -> None:
    for i in range(20):
        (tree.root / f"d{i}").mkdir()
        (tree.root / f"d{i}/f").write_bytes(b"x" * 5000)
    entries, size_bytes = tree.scanner.measure(1000, 2**30)
    assert entries == 40
    assert size_bytes >= 20 * 5000
    assert tree.scanner.measure(20, 2**30)[0] < 40


@pytest.mark.parametrize(
    "path", ["missing", "d", "d/..", "../outside", "/etc/passwd", "", ".", "link", "link/x", "fifo", "a/x", "a\0"]
)
def test_reading_what_is_no_file_of_the_tree_finds_none(tree: Tree, path: str) -> None:
    (tree.root.parent / "outside").write_bytes(CANARY)
    (tree.root / "d").mkdir()
    (tree.root / "a").write_text("x")
    (tree.root / "link").symlink_to("../outside")
    os.mkfifo(tree.root / "fifo")
    with pytest.raises(FileNotFoundError):
        tree.scanner.read(path, 100)


def test_reading_more_than_asked_for_is_refused(tree: Tree) -> None:
    (tree.root / "a").write_text("four")
    assert tree.scanner.read("a", 4) == b"four"
    with pytest.raises(CaptureError, match="4 bytes"):
        tree.scanner.read("a", 3)


def test_a_tree_that_is_not_there_is_a_capture_error(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="nowhere"):
        Scanner(tmp_path / "nowhere")


def test_no_descriptor_is_left_open(tree: Tree) -> None:
    nest(tree.root, 5, "d")
    before = len(os.listdir("/proc/self/fd"))
    tree.changes()
    tree.scanner.measure(1000, 1000)
    tree.scanner.read("d/d/d/d/d/leaf", 1)
    assert len(os.listdir("/proc/self/fd")) == before


# --- any edits against a model that knows nothing of scanning

NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a"])
EDITS = st.tuples(st.sampled_from(["write", "mkdir", "link", "chmod", "remove"]), NAMES, st.sampled_from(["1", "2"]))


def edit(root: Path, what: str, name: str, value: str) -> None:
    """Do it if it can be done, as a tool would."""
    path = root / name
    try:
        match what:
            case "write":
                path.write_text(value)
            case "mkdir":
                path.mkdir()
            case "link":
                path.symlink_to(f"target{value}")
            case "chmod":
                path.chmod(0o700 if value == "1" else 0o744, follow_symlinks=True)
            case _:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError:
        return


def model(root: Path) -> dict[str, tuple[str, object, int]]:
    """Type, content and mode by path, the plain way."""
    found: dict[str, tuple[str, object, int]] = {}
    for path in root.rglob("*"):
        mode = path.lstat().st_mode & 0o7777
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path), 0)
        else:
            found[name] = ("dir", None, mode) if path.is_dir() else ("file", path.read_bytes(), mode)
    return found


def expected(before: dict[str, tuple[str, object, int]], after: dict[str, tuple[str, object, int]]) -> list[str]:
    told = [f"D {before[name][0]} {name}" for name in before.keys() - after.keys()]
    told += [f"A {after[name][0]} {name}" for name in after.keys() - before.keys()]
    for name in before.keys() & after.keys():
        if before[name] != after[name]:
            told.append(f"{'M' if before[name][0] == after[name][0] else 'T'} {after[name][0]} {name}")
    return sorted(told, key=lambda line: line.split(" ", 2)[2])


@given(st.lists(st.lists(EDITS, max_size=8), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_edits_are_told_as_a_plain_comparison_tells_them(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[tuple[str, str, str]]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    scanner = Scanner(root)
    seen, before = scanner.scan(), model(root)
    for edits in rounds:
        for what, name, value in edits:
            edit(root, what, name, value)
        seen_before, seen, after = seen, scanner.scan(seen), model(root)
        told = [f"{change.change.letter} {change.type.value} {change.path}" for change in diff(seen_before, seen)]
        assert told == expected(before, after)
        before = after
    scanner.close()
