"""Blobs: stored once, found by hash, verified when read, removed when no row names them."""

import hashlib
import multiprocessing
import os
import stat
import time
from pathlib import Path

import pytest

from testronaut_lab.errors import CaptureError
from testronaut_lab.model.events import Event, Problem, StepFinished
from testronaut_lab.model.result import Captured, Exit, ExitKind, Status, StepResult
from testronaut_lab.store.blobs import GRACE_S, BlobStore, with_paths

SHA = hashlib.sha256(b"data").hexdigest()


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(tmp_path / ".testronaut" / "blobs")


def spooled(blobs: BlobStore, data: bytes) -> Path:
    spool = blobs.new_spool()
    spool.write_bytes(data)
    return spool


def dead_pid() -> int:
    child = multiprocessing.get_context("fork").Process(target=int)
    child.start()
    pid = child.pid
    child.join()
    return pid


def test_bytes_come_back_by_their_hash(blobs):
    assert blobs.add_bytes(b"data") == SHA
    assert blobs.read(SHA) == b"data"


def test_a_blob_lies_under_its_hash_and_is_read_only(blobs):
    blobs.add_bytes(b"data")
    assert blobs.path(SHA) == blobs.root / SHA[:2] / SHA[2:]
    assert stat.S_IMODE(blobs.path(SHA).stat().st_mode) == 0o400


def test_a_spool_is_moved_into_place(blobs):
    spool = spooled(blobs, b"data")
    assert blobs.adopt(spool, SHA).read_bytes() == b"data"
    assert not spool.exists()


def test_the_same_content_is_stored_once(blobs):
    first = blobs.adopt(spooled(blobs, b"data"), SHA)
    inode = first.stat().st_ino
    assert blobs.adopt(spooled(blobs, b"data"), SHA).stat().st_ino == inode
    assert list((blobs.root / "tmp").iterdir()) == []


def test_a_blob_of_the_wrong_size_is_replaced(blobs):
    blobs.add_bytes(b"data")
    blobs.path(SHA).chmod(0o600)
    blobs.path(SHA).write_bytes(b"da")
    blobs.add_bytes(b"data")
    assert blobs.read(SHA) == b"data"


def test_a_file_is_copied_and_stays(blobs, tmp_path):
    source = tmp_path / "a.bin"
    source.write_bytes(bytes(range(256)) * 10_000)
    sha = blobs.add_file(source)
    assert blobs.read(sha) == source.read_bytes()


def test_a_link_is_not_followed(blobs, tmp_path):
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(CaptureError, match="writing"):
        blobs.add_file(tmp_path / "link")
    assert list((blobs.root / "tmp").iterdir()) == []


def test_a_damaged_blob_is_told(blobs):
    blobs.add_bytes(b"data")
    blobs.path(SHA).chmod(0o600)
    blobs.path(SHA).write_bytes(b"dada")
    with pytest.raises(CaptureError, match="is damaged"):
        blobs.read(SHA)


def test_a_missing_blob_is_told(blobs):
    with pytest.raises(CaptureError, match=f"reading blob {SHA[:12]}"):
        blobs.read(SHA)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, SHA[:-1]])
def test_what_is_no_hash_names_no_path(blobs, name):
    with pytest.raises(CaptureError, match="is not a SHA-256"):
        blobs.path(name)


def test_the_results_folder_is_kept_out_of_version_control(blobs):
    blobs.add_bytes(b"data")
    assert (blobs.root.parent / ".gitignore").read_text() == "*\n"


def test_a_folder_of_another_name_gets_no_gitignore(tmp_path):
    BlobStore(tmp_path / "elsewhere" / "blobs").add_bytes(b"data")
    assert list(tmp_path.rglob(".gitignore")) == []


def test_a_failed_write_is_a_capture_error_and_leaves_no_spool(blobs):
    blobs.new_spool().unlink()
    (blobs.root / SHA[:2]).write_text("in the way")
    with pytest.raises(CaptureError, match="storing blob"):
        blobs.add_bytes(b"data")
    assert list((blobs.root / "tmp").iterdir()) == []


def test_collect_keeps_what_is_named_and_what_is_young(blobs):
    old, named, young = (blobs.add_bytes(data) for data in (b"old", b"named", b"young"))
    now = time.time() + GRACE_S + 60
    os.utime(blobs.path(young), (now, now))
    assert blobs.collect({named}, now=now).blobs == 1
    assert [blobs.path(sha).exists() for sha in (old, named, young)] == [False, True, True]


def test_content_stored_again_is_young_again(blobs):
    sha = blobs.add_bytes(b"data")
    os.utime(blobs.path(sha), (1, 1))
    blobs.add_bytes(b"data")
    assert blobs.collect(set()).blobs == 0


def test_collect_sweeps_spools_of_dead_processes_only(blobs):
    ours = blobs.new_spool()
    theirs = ours.with_name(f"{dead_pid()}-abc")
    theirs.touch()
    assert blobs.collect(set(), now=time.time() + GRACE_S + 60).blobs == 1
    assert (ours.exists(), theirs.exists()) == (True, False)


def test_collect_of_a_store_never_used_does_nothing(blobs):
    assert blobs.collect(set()).blobs == 0
    assert not blobs.root.exists()


def step_finished(stdout: Captured) -> Event:
    result = StepResult("a", "p::c::a", Exit(ExitKind.EXITED, 0), Status.PASSED, run="x", stdout_stream=stdout)
    return Event(1, 0.0, 0.0, StepFinished(0, "p::c", result))


def test_a_large_stream_finds_its_file_again(blobs):
    sha = blobs.add_bytes(b"x" * 20_000)
    event = with_paths(step_finished(Captured(20_000, sha, None)), blobs)
    assert event.body.result.stdout == b"x" * 20_000


def test_events_without_large_streams_are_left_as_they_are(blobs):
    for event in (step_finished(Captured()), Event(1, 0.0, 0.0, Problem("x"))):
        assert with_paths(event, blobs) is event
