"""The folders of goldens: no two collide, and a golden that no step uses is an orphan."""

from __future__ import annotations

from pathlib import Path

import pytest

from testronaut_lab.errors import UsageError
from testronaut_lab.golden.places import GoldenKey, check_apart
from testronaut_lab.golden.store import GoldenStore, Orphan

TREE = {"cmd.txt": b"$ x      (exit 0)\n", "files/a": b"1"}
KEY = GoldenKey("a", "c", "s")
TEST = GoldenKey("tests/test_x", "test_it[a-b]", "1", maker="pytest")


@pytest.fixture
def store(tmp_path: Path) -> GoldenStore:
    return GoldenStore(tmp_path / "snapshots")


def apart(*nodeids: str) -> None:
    check_apart((nodeid, GoldenKey.of(nodeid)) for nodeid in nodeids)


def test_steps_with_folders_of_their_own_are_apart() -> None:
    apart("a.lab.yaml::c::s", "a.lab.yaml::c::s-2", "a.lab.yaml::d::s", "b/a.lab.yaml::c::s")


def test_cells_of_one_step_may_share_a_golden() -> None:
    apart("a.lab.yaml::c[image=a]::s", "a.lab.yaml::c[image=b]::s")


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("a.lab.yaml::c::s", "a.lab.json::c::s", "one folder"),
        ("a.lab.yaml::c::s", "A.lab.yaml::c::s", "one folder"),
        ("a/b.lab.yaml::c::files", "a.lab.yaml::b::c", "one inside the other"),
        ("a.lab.yaml::b::c", "a/b.lab.yaml::c::d", "one inside the other"),
    ],
)
def test_steps_that_would_share_a_folder_are_refused(one: str, other: str, why: str) -> None:
    with pytest.raises(UsageError, match=rf"the goldens of .* and .* would lie in .* and .*: {why}"):
        apart(one, other)


def test_golden_inside_another_is_not_written(store: GoldenStore) -> None:
    store.write(GoldenKey("a", "b", "c"), TREE)
    with pytest.raises(UsageError, match="it would lie inside the golden"):
        store.write(GoldenKey("a/b", "c", "d"), TREE)
    assert store.read(GoldenKey("a", "b", "c")) == TREE


def test_golden_that_nobody_asks_for_is_an_orphan(store: GoldenStore) -> None:
    for step in ("s", "t", "u"):
        store.write(GoldenKey("a", "c", step), TREE)
    assert store.orphans([KEY]) == [Orphan("a/c/t"), Orphan("a/c/u")]


def test_project_without_goldens_has_no_orphans(store: GoldenStore) -> None:
    assert store.orphans([KEY]) == []


def test_cells_are_asked_for_one_by_one(store: GoldenStore) -> None:
    cells = [GoldenKey("a", "c", "s", (("image", image),)) for image in ("x", "y")]
    for key in cells:
        store.write(key, TREE)
    assert store.orphans(cells[:1]) == [Orphan("a/c/s@image=y")]


def test_golden_of_a_test_is_no_orphan_of_plans(store: GoldenStore) -> None:
    store.write(TEST, TREE)
    assert store.orphans([]) == []
    assert store.orphans([], "pytest") == [Orphan("tests/test_x/test_it[a-b]/1")]
    assert "made by tests" in (store.root / "tests/test_x/.pytest").read_text()


def test_golden_of_a_test_without_its_mark_is_known_by_the_module(store: GoldenStore, tmp_path: Path) -> None:
    store.write(TEST, TREE)
    (store.root / "tests/test_x/.pytest").unlink()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_x.py").touch()
    assert store.orphans([]) == []


def test_other_files_beside_goldens_are_nobodys_business(store: GoldenStore) -> None:
    store.write(KEY, TREE)
    (store.root / "README.md").write_text("mine")
    (store.root / "a/notes").mkdir()
    (store.root / "a/notes/x.md").write_text("mine")
    assert store.orphans([]) == [Orphan("a/c/s")]


def test_removing_takes_the_folders_that_are_empty_then(store: GoldenStore) -> None:
    store.write(KEY, TREE)
    store.write(GoldenKey("a", "d", "s"), TREE)
    store.remove(["a/c/s"])
    assert [path.name for path in (store.root / "a").iterdir()] == ["d"]
    store.remove(["a/d/s"])
    assert list(store.root.iterdir()) == []


def test_orphan_with_a_file_of_somebody_else_is_told_and_not_removed(store: GoldenStore) -> None:
    directory = store.write(KEY, TREE)
    (directory / "notes.md").write_text("mine")
    (orphan,) = store.orphans([])
    assert orphan.strange is not None and "'notes.md' is not part of a golden" in orphan.strange
    with pytest.raises(UsageError, match="not part of a golden"):
        store.remove([orphan.place])
    assert (directory / "notes.md").read_text() == "mine"


def test_link_among_goldens_is_refused_and_not_followed(store: GoldenStore, tmp_path: Path) -> None:
    store.write(GoldenKey("p", "c", "s"), TREE)
    (store.root / "a").symlink_to(store.root / "p")
    with pytest.raises(UsageError, match="it is a symbolic link"):
        store.orphans([])


def test_what_a_killed_remover_left_is_no_golden(store: GoldenStore) -> None:
    directory = store.write(KEY, TREE)
    directory.rename(directory.with_name(".s.gone"))
    assert (store.read(KEY), store.orphans([])) == (None, [])
    store.write(KEY, TREE)
    store.remove([KEY.place])
    assert list(store.root.iterdir()) == []
