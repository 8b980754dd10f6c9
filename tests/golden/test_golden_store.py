"""Goldens on disk: exact bytes, whole or not at all, and never through a link."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.golden.places import GoldenKey
from testronaut_lab.golden.store import GoldenStore

KEY = GoldenKey("examples/jq", "select", "plain")
TREE = {"cmd.txt": b"$ jq .      (exit 0)\n", "stdout.txt": b"1\n", "files/out/a.json": b"{}"}


@pytest.fixture
def store(tmp_path: Path) -> GoldenStore:
    return GoldenStore(tmp_path / "snapshots")


def test_golden_lies_where_a_reader_looks_for_it(store: GoldenStore, tmp_path: Path) -> None:
    assert store.write(KEY, TREE) == tmp_path / "snapshots/examples/jq/select/plain"
    assert (tmp_path / "snapshots/examples/jq/select/plain/files/out/a.json").read_bytes() == b"{}"
    assert store.shown(KEY) == "snapshots/examples/jq/select/plain"


def test_golden_is_read_back_as_it_was_written(store: GoldenStore) -> None:
    store.write(KEY, TREE)
    assert store.read(KEY) == TREE


@pytest.mark.parametrize("data", [b"a\r\nb\r", b"a\0b", b"\xff\xfe\x80", b"no newline", b""])
def test_any_bytes_come_back(store: GoldenStore, data: bytes) -> None:
    store.write(KEY, {"cmd.txt": b"$", "stdout.txt": data})
    assert (store.read(KEY) or {})["stdout.txt"] == data


def test_golden_that_does_not_exist_is_none(store: GoldenStore) -> None:
    assert store.read(KEY) is None


def test_writing_again_leaves_nothing_of_the_former_golden(store: GoldenStore) -> None:
    store.write(KEY, TREE)
    directory = store.write(KEY, {"cmd.txt": b"$ new"})
    assert store.read(KEY) == {"cmd.txt": b"$ new"}
    assert [path.name for path in directory.parent.iterdir()] == ["plain"]


def test_edit_by_hand_is_read(store: GoldenStore) -> None:
    directory = store.write(KEY, TREE)
    (directory / "stdout.txt").write_bytes(b"2\n")
    (directory / "stderr.txt").write_bytes(b"warn\n")
    assert store.read(KEY) == TREE | {"stdout.txt": b"2\n", "stderr.txt": b"warn\n"}


@pytest.mark.parametrize(
    ("nodeid", "key"),
    [
        ("examples/jq.lab.yaml::select::plain", KEY),
        ("examples/jq.lab.json::select[image=debian:bookworm]::plain", KEY),
        ("a.lab.yml::c::s-2", GoldenKey("a", "c", "s-2")),
    ],
)
def test_node_id_names_its_golden(nodeid: str, key: GoldenKey) -> None:
    assert GoldenKey.of(nodeid) == key


@pytest.mark.parametrize("nodeid", ["", "a::b", "a::b::c::d::", "::b::c"])
def test_what_is_no_node_id_names_none(nodeid: str) -> None:
    with pytest.raises(UsageError, match="it is not PATH::CASE::STEP"):
        GoldenKey.of(nodeid)


def test_cell_is_part_of_the_folder_and_cannot_leave_it(store: GoldenStore, tmp_path: Path) -> None:
    key = GoldenKey("p", "c", "s", (("image", "reg/debian:12"),))
    assert store.directory(key) == tmp_path / "snapshots/p/c/s@image=reg%2Fdebian%3A12"


@pytest.mark.parametrize(
    "key",
    [
        GoldenKey("../p", "c", "s"),
        GoldenKey("/etc", "c", "s"),
        GoldenKey("p", "..", "s"),
        GoldenKey("p", "c", ".s"),
        GoldenKey("p", "c", "a/b"),
        GoldenKey("a/b", "a/b", "s"),
        GoldenKey("p", "", "s"),
        GoldenKey("p", "c", "s\0"),
        GoldenKey("p", "c", "x" * 256),
    ],
)
def test_name_that_leads_elsewhere_is_refused_before_any_io(store: GoldenStore, tmp_path: Path, key: GoldenKey) -> None:
    for use in (store.read, lambda key: store.write(key, TREE)):
        with pytest.raises(UsageError, match="looking for a golden under the name"):
            use(key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["files/../../x", "/etc/passwd", "", "files//a", "files/a\0b", "files/a\nb", "files/" + "x" * 256]
)
def test_file_name_that_leads_elsewhere_is_refused_before_any_io(store: GoldenStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(CaptureError, match="in a golden"):
        store.write(KEY, {"cmd.txt": b"", name: b""})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "names",
    [("files/A", "files/a"), ("files/A/x", "files/a/y"), ("files/a", "files/A/x"), ("files/\u00e9", "files/e\u0301")],
)
def test_names_that_some_file_system_takes_for_one_are_refused(store: GoldenStore, names: tuple[str, str]) -> None:
    with pytest.raises(CaptureError, match="some file systems take them for one name"):
        store.write(KEY, dict.fromkeys(names, b""))


def test_file_that_is_no_part_of_a_golden_is_not_written(store: GoldenStore) -> None:
    with pytest.raises(CaptureError, match=r"'other\.txt' is not part of a golden"):
        store.write(KEY, {"other.txt": b""})


@pytest.mark.parametrize("place", [".", "examples", "examples/jq/select", "examples/jq/select/plain"])
def test_link_on_the_way_to_a_golden_is_refused(store: GoldenStore, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    (outside / "jq/select/plain").mkdir(parents=True)
    link = store.root / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    for use in (store.read, lambda key: store.write(key, TREE)):
        with pytest.raises(UsageError, match="it is a symbolic link"):
            use(KEY)
    assert [path.name for path in outside.rglob("*")] == ["jq", "select", "plain"]


def test_link_inside_a_golden_is_refused(store: GoldenStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    directory = store.write(KEY, TREE)
    (directory / "stderr.txt").symlink_to(secret)
    for use in (store.read, lambda key: store.write(key, TREE)):
        with pytest.raises(UsageError, match=r"'stderr\.txt' is a symbolic link"):
            use(KEY)
    assert secret.read_text() == "s"


def test_link_in_the_place_of_a_set_aside_golden_is_refused(store: GoldenStore, tmp_path: Path) -> None:
    (store.root / "examples/jq/select").mkdir(parents=True)
    (store.root / "examples/jq/select/.plain.old").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="it is a symbolic link"):
        store.read(KEY)


def test_fifo_in_a_golden_is_refused_and_not_opened(store: GoldenStore) -> None:
    directory = store.write(KEY, TREE)
    os.mkfifo(directory / "stderr.txt")
    with pytest.raises(UsageError, match="not a regular file"):
        store.read(KEY)


def test_golden_that_holds_something_else_is_not_swept_away(store: GoldenStore) -> None:
    directory = store.write(KEY, TREE)
    (directory / "notes.md").write_text("mine")
    with pytest.raises(UsageError, match=r"'notes\.md' is not part of a golden"):
        store.write(KEY, {"cmd.txt": b""})
    assert (directory / "notes.md").read_text() == "mine"


CRASH = """
import os, pathlib, sys
from testronaut_lab.golden.places import GoldenKey
from testronaut_lab.golden.store import GoldenStore
left = int(sys.argv[2])
def dying(event, args):
    global left
    if event in ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "open") and "plain" in str(args[0]):
        if left == 0:
            os._exit(9)
        left -= 1
sys.addaudithook(dying)
GoldenStore(pathlib.Path(sys.argv[1])).write(GoldenKey("p", "c", "plain"), {"cmd.txt": b"new", "stdout.txt": b"new"})
"""


def test_writer_that_dies_at_any_moment_leaves_the_old_golden_or_the_new_one(store: GoldenStore) -> None:
    key = GoldenKey("p", "c", "plain")
    old, new = {"cmd.txt": b"old", "stderr.txt": b"old"}, {"cmd.txt": b"new", "stdout.txt": b"new"}
    seen = []
    for moment in range(100):
        store.write(key, old)
        ended = subprocess.run([sys.executable, "-c", CRASH, str(store.root), str(moment)], timeout=60, check=False)
        seen.append(store.read(key))
        if ended.returncode == 0:
            break
        assert ended.returncode == 9
    assert len(seen) > 8
    assert all(tree in (old, new) for tree in seen)
    assert seen[0] == old
    assert seen[-2] == new
    assert sorted(path.name for path in (store.root / "p/c").iterdir()) == ["plain"]


def test_what_a_dead_writer_left_is_cleared_by_the_next_one(store: GoldenStore) -> None:
    directory = store.write(KEY, TREE)
    directory.rename(directory.with_name(".plain.old"))
    directory.with_name(".plain.new").mkdir()
    assert store.read(KEY) == TREE
    store.write(KEY, {"cmd.txt": b"new"})
    assert [path.name for path in directory.parent.iterdir()] == ["plain"]


def test_writers_at_once_leave_one_whole_golden(store: GoldenStore) -> None:
    script = (
        "import sys, pathlib\nfrom testronaut_lab.golden.places import GoldenKey\n"
        "from testronaut_lab.golden.store import GoldenStore\n"
        "store, key = GoldenStore(pathlib.Path(sys.argv[1])), GoldenKey('p', 'c', 's')\n"
        "for n in range(20):\n"
        "    store.write(key, {'cmd.txt': sys.argv[2].encode(), 'stdout.txt': sys.argv[2].encode()})\n"
        "    assert len(set(store.read(key).values())) == 1\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(store.root), str(number)]) for number in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert len(set((store.read(GoldenKey("p", "c", "s")) or {}).values())) == 1


def test_locking_writes_nothing_into_the_snapshots(store: GoldenStore, tmp_path: Path) -> None:
    assert store.read(KEY) is None
    assert [path.name for path in tmp_path.iterdir()] == [".testronaut"]
    assert (tmp_path / ".testronaut/.gitignore").read_text() == "*\n"
