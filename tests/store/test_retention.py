"""Which earlier runs and blobs are removed, and above all which are not."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.command_line import Project

from testronaut_lab.errors import ExitStatus
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import RunFinished, RunStarted, StepFinished
from testronaut_lab.model.files import ChangeKind, FileChange, FileType
from testronaut_lab.model.result import Captured, Exit, ExitKind, Status, StepResult
from testronaut_lab.model.runs import ArtifactPolicy
from testronaut_lab.store.blobs import BlobStore
from testronaut_lab.store.database import Store
from testronaut_lab.store.retention import apply, exceeds

DAY_S = 86400.0
NOW = time.time()
MONTH = ArtifactPolicy(max_age_s=30 * DAY_S)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / ".testronaut" / "blobs")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / ".testronaut" / "results.db")


def add_run(store: Store, blobs: BlobStore, name: str, days_ago: float, *contents: bytes, aged: int = 9) -> list[str]:
    """A stored run, whose last `aged` blobs are as old as it is; the hashes of all."""
    log = EventLog()
    writer = store.writer(name, log, blobs)
    log.emit(RunStarted(name, datetime.fromtimestamp(NOW - days_ago * DAY_S, UTC).isoformat().replace("+00:00", "Z")))
    hashes = [blobs.add_bytes(content) for content in contents]
    stdout = [Captured(99_999, sha256, None) for sha256 in hashes[:1]]
    changes = tuple(FileChange(ChangeKind.ADDED, "x", FileType.FILE, 0o644, 1, sha256) for sha256 in hashes[1:])
    result = StepResult("a", "p::c::a", Exit(ExitKind.EXITED, 0), Status.PASSED, run="x", changes=changes)
    log.emit(StepFinished(0, "p::c", StepResult(**{**_fields(result), "stdout_stream": (*stdout, Captured())[0]})))
    log.emit(RunFinished("f", Status.PASSED, ExitStatus.OK))
    writer.close()
    for sha256 in hashes[-aged:]:
        os.utime(blobs.path(sha256), (NOW - days_ago * DAY_S,) * 2)
    return hashes


def _fields(result: StepResult) -> dict[str, object]:
    return {name: getattr(result, name) for name in result.__dataclass_fields__}


def left(store: Store, blobs: BlobStore) -> tuple[list[str], set[str]]:
    return [run.id for run in store.runs()], set(blobs.sizes())


def test_runs_over_the_age_go_with_what_only_they_named(store: Store, blobs: BlobStore) -> None:
    old = add_run(store, blobs, "old", 40, b"only old", b"both")
    new = add_run(store, blobs, "new", 2, b"only new", b"both")
    freed = apply(store, blobs, MONTH, now=NOW)
    assert (freed.runs, freed.swept.blobs, freed.swept.size_bytes) == (("old",), 1, len(b"only old"))
    assert left(store, blobs) == (["new"], set(new))
    assert old[1] == new[1] and blobs.read(new[1]) == b"both"
    assert list(store.events("old")) == []


def test_a_dry_run_says_the_same_and_removes_nothing(store: Store, blobs: BlobStore) -> None:
    add_run(store, blobs, "old", 40, b"a", b"b")
    before = left(store, blobs)
    dry = apply(store, blobs, MONTH, now=NOW, dry_run=True)
    assert left(store, blobs) == before
    freed = apply(store, blobs, MONTH, now=NOW)
    assert (dry.runs, dry.swept) == (freed.runs, freed.swept) == (("old",), freed.swept)


def test_without_a_policy_only_what_nothing_names_goes(store: Store, blobs: BlobStore) -> None:
    named = add_run(store, blobs, "old", 4000, b"a")
    orphan = blobs.add_bytes(b"orphan")
    os.utime(blobs.path(orphan), (NOW - DAY_S,) * 2)
    assert apply(store, blobs, ArtifactPolicy(), now=NOW).swept.blobs == 1
    assert left(store, blobs) == (["old"], set(named))


def test_over_the_size_the_oldest_go_first_and_the_newest_stays(store: Store, blobs: BlobStore) -> None:
    for number, days in enumerate((9, 6, 3)):
        add_run(store, blobs, f"run-{number}", days, bytes([number]) * 200_000)
    policy = ArtifactPolicy(max_size_bytes=450_000)
    assert exceeds(store, blobs, policy)
    assert apply(store, blobs, policy, now=NOW).runs == ("run-0",)
    assert not exceeds(store, blobs, policy)
    assert apply(store, blobs, ArtifactPolicy(max_size_bytes=1), now=NOW).runs == ("run-1",)
    assert [run.id for run in store.runs()] == ["run-2"]


def test_a_run_that_is_being_written_stays_with_all_that_it_stored(store: Store, blobs: BlobStore) -> None:
    log = EventLog()
    writer = store.writer("running", log, blobs)
    writer.wait(log.emit(RunStarted("running", datetime.fromtimestamp(NOW - 90 * DAY_S, UTC).isoformat())).seq)
    unnamed = blobs.add_bytes(b"stored, its row will follow")
    os.utime(blobs.path(unnamed), (NOW - 80 * DAY_S,) * 2)
    assert apply(store, blobs, ArtifactPolicy(0.0, 1), now=NOW).runs == ()
    writer.close()
    assert blobs.read(unnamed) == b"stored, its row will follow"
    assert apply(store, blobs, ArtifactPolicy(0.0), now=NOW).runs == ("running",)


def test_what_a_run_in_another_database_names_stays(tmp_path: Path, store: Store, blobs: BlobStore) -> None:
    (mine,) = add_run(Store.open(tmp_path / "elsewhere" / "x.db"), blobs, "other", 10, b"named elsewhere")
    (usual,) = add_run(store, blobs, "usual", 10, b"named by the usual one")
    elsewhere = Store.open(tmp_path / "elsewhere" / "x.db")
    apply(store, blobs, ArtifactPolicy(), now=NOW)
    apply(elsewhere, blobs, ArtifactPolicy(), now=NOW)
    assert set(blobs.sizes()) == {mine, usual}
    elsewhere.file.unlink()
    assert apply(store, blobs, ArtifactPolicy(), now=NOW).swept.blobs == 1


def test_a_database_is_noted_once(tmp_path: Path, blobs: BlobStore) -> None:
    for name in ("a.db", "b\n.db", "a.db"):
        (tmp_path / name).touch()
        blobs.named_by(tmp_path / name)
    assert blobs.databases() == [tmp_path / "a.db", tmp_path / "b\n.db"]


def test_runs_that_are_written_while_others_are_removed_lose_nothing(store: Store, blobs: BlobStore) -> None:
    done = threading.Event()

    def tidy() -> int:
        removed = 0
        while not done.is_set():
            removed += apply(store, blobs, ArtifactPolicy(DAY_S), now=NOW).swept.blobs
        return removed

    kept: dict[str, list[str]] = {}
    with ThreadPoolExecutor(1) as thread:
        tidying = thread.submit(tidy)
        for number in range(12):
            add_run(store, blobs, f"old-{number}", 5, b"shared", b"old %d" % number, aged=1)
            kept[f"new-{number}"] = add_run(store, blobs, f"new-{number}", 0, b"shared", b"new %d" % number)
        done.set()
    assert tidying.result() + apply(store, blobs, ArtifactPolicy(DAY_S), now=NOW).swept.blobs == 12
    assert {run.id for run in store.runs()} == set(kept)
    assert all(blobs.read(sha256) for hashes in kept.values() for sha256 in hashes)


# On the command line


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_clean_says_what_was_freed_and_needs_no_engine(project: Project, store: Store, blobs: BlobStore) -> None:
    add_run(store, blobs, "20260101-000000-0001", 40, b"x" * 2048)
    nowhere = {"DOCKER_HOST": "unix:///nonexistent"}
    dry = project.here("clean", "--artifacts", "--older-than", "30d", "--dry-run", env=nowhere)
    assert dry.out == "would remove 1 run (20260101-000000-0001), 1 blob of 2.0 KiB\n"
    said = project.here("clean", "--artifacts", "--older-than", "30d", env=nowhere)
    assert (said.status, said.out.partition(":")[0]) == (0, "removed 1 run (20260101-000000-0001), 1 blob")
    assert left(store, blobs) == ([], set())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--older-than", "30d"], "need --artifacts"),
        (["--artifacts", "--kept"], "one at a time"),
        (["--artifacts", "--older-than", "yesterday"], "expected an age such as 30d"),
    ],
)
def test_a_wrong_clean_is_refused(project: Project, words: list[str], message: str) -> None:
    said = project.here("clean", *words)
    assert (said.status, message in said.err) == (ExitStatus.USAGE, True)


@pytest.mark.engine
def test_the_policy_of_a_project_holds_after_each_run(project: Project, store: Store, blobs: BlobStore) -> None:
    add_run(store, blobs, "20260101-000000-0001", 40, b"x")
    project.write()
    (project.root / "testronaut-lab.toml").write_text('artifacts = {max_age = "30d"}\n')
    said = project.here("run")
    assert (said.status, "removed 1 run (20260101-000000-0001), 1 blob" in said.err) == (0, True)
    assert [run.id for run in store.runs()] == [said.run_id]
    assert project.here("run").err == ""
