"""Pending goldens: kept as golden folders, accepted as a whole or not at all, and only in the state that the person saw."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.golden.pending import Broken, Pending, PendingStore
from testronaut_lab.golden.places import GoldenKey
from testronaut_lab.golden.store import GoldenStore, tree_sha256

KEY = GoldenKey("examples/jq", "select", "plain")
NODEID = "examples/jq.lab.yaml::select::plain"
OLD = {"cmd.txt": b"$ jq .      (exit 0)\n", "stdout.txt": b"1\n"}
NEW = {"cmd.txt": b"$ jq .      (exit 0)\n", "stdout.txt": b"2\n", "files/out/a.json": b"{}"}


@pytest.fixture
def goldens(tmp_path: Path) -> GoldenStore:
    return GoldenStore(tmp_path / "snapshots")


@pytest.fixture
def store(goldens: GoldenStore) -> PendingStore:
    return PendingStore(goldens)


def propose(store: PendingStore, tree: dict[str, bytes], nodeid: str = NODEID, run: str = "r1", key: GoldenKey = KEY) -> None:
    store.propose(key, tree, nodeid=nodeid, run=run)


def the_one(store: PendingStore) -> Pending:
    (entry,) = store.pending()
    assert isinstance(entry, Pending), entry
    return entry


def the_broken_one(store: PendingStore) -> Broken:
    (entry,) = store.pending()
    assert isinstance(entry, Broken), entry
    return entry


def test_nothing_is_pending_where_nothing_was_proposed(store: PendingStore, tmp_path: Path) -> None:
    assert store.pending() == []
    assert not (tmp_path / "snapshots").exists() and not store.root.exists()


def test_what_is_pending_has_the_shape_of_its_golden(store: PendingStore, goldens: GoldenStore) -> None:
    goldens.write(KEY, OLD)
    propose(store, NEW)
    folder = store.root / "examples/jq/select/plain"
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    index = json.loads(files.pop("pending.json"))
    assert files == NEW
    assert index.pop("when").endswith("Z")
    assert index == {
        "version": 1,
        "id": "examples/jq/select/plain",
        "nodeid": NODEID,
        "run": "r1",
        "base_sha256": tree_sha256(OLD),
        "sha256": tree_sha256(NEW),
        "maker": "plan",
        "clash": None,
        "also": [],
    }


def test_proposing_leaves_the_golden_alone(store: PendingStore, goldens: GoldenStore) -> None:
    goldens.write(KEY, OLD)
    propose(store, NEW)
    assert goldens.read(KEY) == OLD


def test_what_differs_is_told_file_by_file(store: PendingStore, goldens: GoldenStore) -> None:
    goldens.write(KEY, OLD)
    propose(store, NEW)
    changes = the_one(store).changes
    assert [(change.file, change.expected, change.actual) for change in changes] == [
        ("files/out/a.json", None, b"{}"),
        ("stdout.txt", b"1\n", b"2\n"),
    ]


def test_accepted_is_the_golden_and_not_pending_any_more(store: PendingStore, goldens: GoldenStore) -> None:
    goldens.write(KEY, OLD)
    propose(store, NEW)
    store.accept([the_one(store)])
    assert (goldens.read(KEY), store.pending()) == (NEW, [])
    assert list(store.root.iterdir()) == []


def test_golden_that_did_not_exist_is_accepted(store: PendingStore, goldens: GoldenStore) -> None:
    propose(store, NEW)
    assert the_one(store).origin.base_sha256 == "none"
    store.accept([the_one(store)])
    assert goldens.read(KEY) == NEW


def test_rejected_is_gone_and_the_golden_as_it_was(store: PendingStore, goldens: GoldenStore) -> None:
    goldens.write(KEY, OLD)
    propose(store, NEW)
    entry = the_one(store)
    store.reject([entry])
    store.reject([entry])
    assert (goldens.read(KEY), store.pending()) == (OLD, [])


def test_latest_proposal_takes_the_place_of_the_one_before(store: PendingStore) -> None:
    propose(store, OLD)
    propose(store, NEW, run="r2")
    assert (the_one(store).actual, the_one(store).origin.run) == (NEW, "r2")


@pytest.mark.parametrize("data", [b"a\r\nb\r", b"a\0b", b"\xff\xfe\x80", b"no newline", b""])
def test_any_bytes_come_through(store: PendingStore, goldens: GoldenStore, data: bytes) -> None:
    propose(store, {"cmd.txt": b"$", "stdout.txt": data})
    store.accept([the_one(store)])
    assert (goldens.read(KEY) or {})["stdout.txt"] == data


def test_golden_that_moved_is_not_written_over(store: PendingStore, goldens: GoldenStore) -> None:
    goldens.write(KEY, OLD)
    propose(store, NEW)
    seen = the_one(store)
    goldens.write(KEY, OLD | {"stdout.txt": b"by somebody else"})
    assert the_one(store).problem == "the golden has changed since then"
    with pytest.raises(
        UsageError, match=r"accepting examples/jq\.lab\.yaml::select::plain: the golden has changed since then"
    ) as told:
        store.accept([seen])
    assert told.value.hint == "testronaut-lab run examples/jq.lab.yaml"
    assert (goldens.read(KEY) or {})["stdout.txt"] == b"by somebody else"


def test_golden_that_was_removed_has_moved_too(store: PendingStore, goldens: GoldenStore) -> None:
    goldens.write(KEY, OLD)
    propose(store, NEW)
    goldens.remove([KEY.place])
    with pytest.raises(UsageError, match="the golden has changed since then"):
        store.accept([the_one(store)])
    assert goldens.read(KEY) is None


def test_what_was_replaced_after_the_look_is_not_accepted(store: PendingStore, goldens: GoldenStore) -> None:
    propose(store, OLD)
    seen = the_one(store)
    propose(store, NEW, run="r2")
    with pytest.raises(UsageError, match="another run has put something else in its place"):
        store.accept([seen])
    assert goldens.read(KEY) is None


def test_none_is_accepted_where_one_cannot_be(store: PendingStore, goldens: GoldenStore) -> None:
    other = GoldenKey("a", "c", "s")
    propose(store, NEW, "a.lab.yaml::c::s", key=other)
    propose(store, NEW)
    goldens.write(KEY, OLD)
    with pytest.raises(UsageError, match="the golden has changed"):
        store.accept([each for each in store.pending() if isinstance(each, Pending)])
    assert goldens.read(other) is None
    assert len(store.pending()) == 2


def test_golden_that_became_the_same_by_other_means_is_not_pending(store: PendingStore, goldens: GoldenStore) -> None:
    propose(store, NEW)
    goldens.write(KEY, NEW)
    assert store.pending() == []


def test_step_that_agrees_again_drops_what_an_earlier_run_left(store: PendingStore, goldens: GoldenStore) -> None:
    goldens.write(KEY, OLD)
    propose(store, NEW, run="r1")
    store.settle(KEY, nodeid=NODEID, run="r2")
    assert store.pending() == []


def test_proposing_what_is_the_golden_drops_what_was_pending(store: PendingStore, goldens: GoldenStore) -> None:
    goldens.write(KEY, OLD)
    propose(store, NEW, run="r1")
    propose(store, OLD, run="r2")
    assert store.pending() == []


def test_later_attempt_that_agrees_drops_what_the_first_left(store: PendingStore, goldens: GoldenStore) -> None:
    goldens.write(KEY, OLD)
    propose(store, NEW)
    store.settle(KEY, nodeid=NODEID, run="r1")
    assert store.pending() == []


@pytest.mark.parametrize("second", [OLD, NEW | {"stdout.txt": b"3\n"}], ids=["agrees", "differs"])
def test_cells_of_one_run_that_differ_cannot_be_accepted(
    store: PendingStore, goldens: GoldenStore, second: dict[str, bytes]
) -> None:
    goldens.write(KEY, OLD)
    propose(store, NEW, "examples/jq.lab.yaml::select[image=a]::plain")
    propose(store, second, "examples/jq.lab.yaml::select[image=b]::plain")
    with pytest.raises(UsageError, match=r"select\[image=.\]::plain gave something else for the same golden") as told:
        store.accept([the_one(store)])
    assert told.value.hint == "`golden: {per: [image]}` in the plan keeps one for each value"
    assert goldens.read(KEY) == OLD


def test_whoever_proposes_what_another_cell_contradicts_is_told_at_once(store: PendingStore) -> None:
    cells = [f"examples/jq.lab.yaml::select[image={image},n=1]::plain" for image in "ab"]
    assert store.propose(KEY, NEW, nodeid=cells[0], run="r1") is None
    assert store.propose(KEY, OLD, nodeid=cells[1], run="r1") == (
        f"{cells[0]} gave something else for the same golden in the same run; "
        "`golden: {per: [image]}` in the plan keeps one for each value"
    )


@pytest.mark.parametrize("agrees", [False, True])
def test_what_was_pending_before_the_plan_split_the_golden_is_dropped(
    store: PendingStore, goldens: GoldenStore, agrees: bool
) -> None:
    cells = {image: f"examples/jq.lab.yaml::select[image={image}]::plain" for image in "ab"}
    for image, nodeid in cells.items():
        propose(store, NEW | {"stdout.txt": image.encode()}, nodeid)
    other = GoldenKey("examples/jq", "select", "plain-2")
    propose(store, NEW, "examples/jq.lab.yaml::select[image=a]::plain-2", key=other)
    split = GoldenKey("examples/jq", "select", "plain", (("image", "a"),))
    if agrees:
        goldens.write(split, NEW)
        store.settle(split, nodeid=cells["a"], run="r2")
    else:
        propose(store, NEW, cells["a"], "r2", split)
    left = [entry.place for entry in store.pending()]
    assert left == [other.place] if agrees else [other.place, split.place]


def test_what_other_cells_left_under_their_own_goldens_stays(store: PendingStore) -> None:
    keys = {image: GoldenKey("examples/jq", "select", "plain", (("image", image),)) for image in "ab"}
    for image, key in keys.items():
        propose(store, NEW, f"examples/jq.lab.yaml::select[image={image}]::plain", key=key)
    propose(store, OLD, "examples/jq.lab.yaml::select[image=a]::plain", "r2", keys["a"])
    assert [entry.place for entry in store.pending()] == [key.place for key in keys.values()]


def test_cells_that_find_the_same_are_accepted(store: PendingStore, goldens: GoldenStore) -> None:
    for image in "ab":
        propose(store, NEW, f"examples/jq.lab.yaml::select[image={image}]::plain")
    assert the_one(store).nodeids == tuple(f"examples/jq.lab.yaml::select[image={image}]::plain" for image in "ba")
    store.accept([the_one(store)])
    assert goldens.read(KEY) == NEW


def test_cells_of_an_earlier_run_are_not_among_those_of_the_latest(store: PendingStore) -> None:
    propose(store, NEW, "examples/jq.lab.yaml::select[image=a]::plain", "r1")
    propose(store, NEW, "examples/jq.lab.yaml::select[image=b]::plain", "r2")
    assert the_one(store).nodeids == ("examples/jq.lab.yaml::select[image=b]::plain",)


def test_second_attempt_of_a_step_does_not_clash_with_its_first(store: PendingStore, goldens: GoldenStore) -> None:
    propose(store, OLD)
    propose(store, NEW)
    store.accept([the_one(store)])
    assert goldens.read(KEY) == NEW


def test_cell_with_a_golden_of_its_own_is_pending_under_it(store: PendingStore, goldens: GoldenStore) -> None:
    key = GoldenKey("examples/jq", "select", "plain", (("image", "debian:12"),))
    propose(store, NEW, "examples/jq.lab.yaml::select[image=debian:12]::plain", key=key)
    store.accept([the_one(store)])
    assert (goldens.read(key), goldens.read(KEY)) == (NEW, None)


def test_single_file_is_accepted_and_the_rest_stays_pending(store: PendingStore, goldens: GoldenStore) -> None:
    goldens.write(KEY, OLD)
    propose(store, NEW)
    store.accept_files(the_one(store), ["files/out/a.json"])
    assert goldens.read(KEY) == OLD | {"files/out/a.json": b"{}"}
    assert [change.file for change in the_one(store).changes] == ["stdout.txt"]
    store.accept([the_one(store)])
    assert goldens.read(KEY) == NEW


def test_single_file_that_is_gone_is_accepted_as_gone(store: PendingStore, goldens: GoldenStore) -> None:
    goldens.write(KEY, NEW)
    propose(store, OLD)
    store.accept_files(the_one(store), ["files/out/a.json", "stdout.txt"])
    assert (goldens.read(KEY), store.pending()) == (OLD, [])


def test_golden_that_does_not_exist_is_not_accepted_in_parts(store: PendingStore) -> None:
    propose(store, NEW)
    with pytest.raises(UsageError, match="it has no golden yet, which is accepted as a whole"):
        store.accept_files(the_one(store), ["stdout.txt"])


def edit(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def set_index(**fields: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        index = json.loads((folder / "pending.json").read_text())
        (folder / "pending.json").write_text(json.dumps({**index, **fields}))

    return change


TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "edited": (edit("stdout.txt", b"evil"), "its files are not those that the run wrote"),
    "added": (edit("stderr.txt", b"evil"), "its files are not those that the run wrote"),
    "stranger": (edit("evil.sh", b""), "'evil.sh' is not part of a golden"),
    "removed": (lambda folder: (folder / "stdout.txt").unlink(), "its files are not those that the run wrote"),
    "link": (lambda folder: (folder / "stderr.txt").symlink_to("/etc/passwd"), "'stderr.txt' is a symbolic link"),
    "no index": (lambda folder: (folder / "pending.json").unlink(), "it has no pending.json"),
    "no JSON": (edit("pending.json", b"{"), "its pending.json is not JSON"),
    "deep": (edit("pending.json", b"[" * 200_000), "its pending.json is not JSON"),
    "no object": (edit("pending.json", b"[]"), "its pending.json is not of version 1"),
    "newer": (set_index(version=2), "its pending.json is not of version 1"),
    "other id": (set_index(id="../../etc"), "its pending.json is of another golden"),
    "other step": (set_index(nodeid="examples/jq.lab.yaml::select::other"), "its pending.json is of another golden"),
    "no node id": (set_index(nodeid="x"), "it is not PATH::CASE::STEP"),
    "other maker": (set_index(maker="me"), "its pending.json is of another golden"),
    "no text": (set_index(run=1), "does not have the fields"),
    "no list": (set_index(also="x"), "does not have the fields"),
    "no texts": (set_index(also=[1]), "does not have the fields"),
    "more": (set_index(more="1"), "does not have the fields"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_tampered_entry_is_refused_and_can_be_rejected(store: PendingStore, goldens: GoldenStore, how: str) -> None:
    propose(store, NEW)
    seen = the_one(store)
    tamper, problem = TAMPERED[how]
    tamper(store.root / KEY.place)
    assert problem in the_broken_one(store).problem
    with pytest.raises(UsageError, match=r"accepting examples/jq\.lab\.yaml::select::plain: ") as told:
        store.accept([seen])
    assert problem in told.value.message
    assert told.value.hint == "testronaut-lab reject examples/jq/select/plain"
    assert goldens.read(KEY) is None
    store.reject(store.pending())
    assert store.pending() == []


@pytest.mark.parametrize("place", ["../.testronaut", ".", "examples", "examples/jq/select", "examples/jq/select/plain"])
def test_link_on_the_way_to_what_is_pending_is_refused(store: PendingStore, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = (store.root / place) if place != "../.testronaut" else store.root.parent
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    with pytest.raises(UsageError, match="it is a symbolic link"):
        propose(store, NEW)
    if place != "../.testronaut":
        with pytest.raises(UsageError, match="it is a symbolic link"):
            store.pending()
    assert not any(path.is_file() and path.name not in (".gitignore", "golden.lock") for path in outside.rglob("*"))


def test_golden_folder_that_is_a_link_is_told_and_nothing_written(
    store: PendingStore, goldens: GoldenStore, tmp_path: Path
) -> None:
    propose(store, NEW)
    seen = the_one(store)
    goldens.root.mkdir()
    (goldens.root / "examples").symlink_to(tmp_path)
    assert "it is a symbolic link" in the_broken_one(store).problem
    with pytest.raises(UsageError, match="it is a symbolic link"):
        store.accept([seen])
    assert not (tmp_path / "jq").exists()


@pytest.mark.parametrize("key", [GoldenKey("../p", "c", "s"), GoldenKey("/etc", "c", "s"), GoldenKey("p", "c", "a/b")])
def test_name_that_leads_elsewhere_is_refused_before_any_io(store: PendingStore, tmp_path: Path, key: GoldenKey) -> None:
    with pytest.raises(UsageError, match="looking for a golden under the name"):
        propose(store, NEW, key=key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["files/../../x", "/etc/passwd", "pending.json", "other.txt"])
def test_file_name_that_no_golden_has_is_refused_before_any_io(store: PendingStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(CaptureError):
        propose(store, {"cmd.txt": b"", name: b""})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "key", [GoldenKey("Examples/jq", "select", "plain"), GoldenKey("examples/jq", "select", "Plain")], ids=["folder", "step"]
)
def test_name_that_differs_by_case_only_is_refused(store: PendingStore, goldens: GoldenStore, key: GoldenKey) -> None:
    goldens.write(KEY, OLD)
    with pytest.raises(UsageError, match="some file systems take both for one"):
        propose(store, NEW, key=key)
    with pytest.raises(UsageError, match="some file systems take both for one"):
        goldens.write(key, NEW)
    assert store.pending() == []


ACCEPT = """
import pathlib, sys
from testronaut_lab.errors import UsageError
from testronaut_lab.golden.pending import PendingStore
from testronaut_lab.golden.store import GoldenStore
store = PendingStore(GoldenStore(pathlib.Path(sys.argv[1])))
entries = store.pending()
print(len(entries), flush=True)
sys.stdin.readline()
accepted = 0
for entry in entries:
    try:
        store.accept([entry])
        accepted += 1
    except UsageError as error:
        assert "it is not pending any more" in error.message, error
print(accepted)
"""


def test_two_processes_that_accept_at_once_share_the_work(store: PendingStore, goldens: GoldenStore) -> None:
    keys = [GoldenKey("p", "c", f"s{number}") for number in range(20)]
    for key in keys:
        propose(store, NEW, f"p.lab.yaml::c::{key.step}", key=key)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ACCEPT, str(goldens.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "20\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(counts) == 20
    assert all(goldens.read(key) == NEW for key in keys)
    assert store.pending() == []


CRASH = """
import os, pathlib, signal, sys
from testronaut_lab.golden.pending import PendingStore
from testronaut_lab.golden.store import GoldenStore
store = PendingStore(GoldenStore(pathlib.Path(sys.argv[1])))
left, entries = int(sys.argv[2]), store.pending()
def dying(event, args):
    global left
    written = event in ("os.rename", "os.mkdir", "open") and "plain" in str(args[0])
    if written or event in ("os.rmdir", "os.remove", "shutil.rmtree"):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
sys.addaudithook(dying)
store.accept(entries)
"""


def test_accepting_that_is_killed_at_any_moment_leaves_the_old_or_the_new(store: PendingStore, goldens: GoldenStore) -> None:
    old, new = {"cmd.txt": b"old"}, {"cmd.txt": b"new", "stdout.txt": b"new"}
    seen = []
    for moment in range(200):
        goldens.write(KEY, old)
        propose(store, new)
        ended = subprocess.run([sys.executable, "-c", CRASH, str(goldens.root), str(moment)], timeout=60, check=False)
        golden, waits = goldens.read(KEY), [each for each in store.pending() if isinstance(each, Pending)]
        assert golden in (old, new)
        assert golden == new or [each.actual for each in waits] == [new], f"at {moment} the new one was lost"
        assert not [each for each in store.pending() if isinstance(each, Broken)]
        seen.append(golden)
        if ended.returncode == 0:
            break
        assert ended.returncode == -9
    assert old in seen and seen.count(new) > 2
    assert sorted(path.name for path in (goldens.root / KEY.place).parent.iterdir()) == ["plain"]
    assert list(store.root.iterdir()) == []
