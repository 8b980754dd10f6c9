"""One captured stream: exact up to its limit, then its last bytes, in memory or in a file."""

from __future__ import annotations

import hashlib
import os
import resource
import select
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testronaut_lab.capture import stream
from testronaut_lab.capture.stream import INLINE_BYTES, StreamCapture
from testronaut_lab.errors import CaptureError
from testronaut_lab.model.result import Captured
from testronaut_lab.store.blobs import BlobStore

TAIL = 64 * 1024


def captured(folder: Path, pieces: list[bytes], limit: int) -> Captured:
    capture = StreamCapture(BlobStore(folder), limit)
    for piece in pieces:
        capture.feed(piece)
    return capture.finish(open_=False)


@given(st.lists(st.binary(max_size=60), max_size=12), st.integers(0, 300))
def test_what_is_kept_dropped_and_hashed_adds_up(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], limit: int
) -> None:
    whole = b"".join(pieces)
    kept = captured(tmp_path_factory.getbasetemp(), pieces, limit)
    assert kept.read() == whole  # the tail has room for everything above so small a limit
    assert (kept.size_bytes, kept.dropped_bytes, kept.truncated) == (len(whole), 0, False)
    assert kept.sha256 == hashlib.sha256(whole).hexdigest()


@given(st.integers(0, 5), st.integers(0, 3 * TAIL), st.integers(1, 70_000), st.integers(0, 20_000))
@settings(max_examples=40, deadline=None)
def test_head_and_tail_are_kept_of_too_much(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int, piece: int, limit: int
) -> None:
    whole = (bytes([seed]) + bytes(range(256))) * (size // 257 + 1)
    pieces = [whole[i : i + piece] for i in range(0, len(whole), piece)]
    kept = captured(tmp_path_factory.getbasetemp() / "blobs", pieces, limit)
    head, tail = whole[:limit], whole[limit:][-TAIL:]
    assert kept.read() == head + tail
    assert kept.dropped_bytes == len(whole) - len(head) - len(tail)
    assert kept.truncated == (kept.dropped_bytes > 0)
    assert kept.sha256 == hashlib.sha256(head + tail).hexdigest()


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_small_streams_are_kept_inline_and_large_ones_in_a_file(tmp_path: Path, size: int) -> None:
    kept = captured(tmp_path, [b"x" * size], 10 * 2**20)
    assert (kept.data is None) == (size > INLINE_BYTES) == (kept.path is not None)
    assert kept.read() == b"x" * size


def test_memory_is_bounded(tmp_path: Path) -> None:
    capture = StreamCapture(BlobStore(tmp_path), 4 * 2**20)
    for _ in range(64):
        capture.feed(b"x" * 2**17)
        assert len(capture._head) <= stream._SPILL_BYTES + 2**17
        assert len(capture._tail) <= TAIL
    assert capture.finish(open_=False).size_bytes == 4 * 2**20 + TAIL


def test_a_stream_is_over_its_limit_with_the_first_byte_above(tmp_path: Path) -> None:
    capture = StreamCapture(BlobStore(tmp_path), 3)
    capture.feed(b"123")
    assert not capture.over_limit
    capture.feed(b"4")
    assert capture.over_limit


def test_every_piece_is_told_also_above_the_limit(tmp_path: Path) -> None:
    told: list[tuple[bytes, int]] = []
    capture = StreamCapture(BlobStore(tmp_path), 2, lambda data, offset, _: told.append((data, offset)))
    for piece in (b"1", b"234", b"5"):
        capture.feed(piece)
    assert told == [(b"1", 0), (b"234", 1), (b"5", 4)]


def test_an_open_end_is_kept_in_mind(tmp_path: Path) -> None:
    assert StreamCapture(BlobStore(tmp_path), 1).finish(open_=True).open


def test_a_disk_that_takes_no_more_is_a_capture_error(tmp_path: Path) -> None:
    class Full:
        def new_spool(self) -> Path:
            return Path("/dev/full")

        def adopt(self, spool: Path, sha256: str) -> Path:
            raise AssertionError("nothing was written")

    capture = StreamCapture(Full(), 10 * 2**20)
    with pytest.raises(CaptureError, match="/dev/full") as caught:
        capture.feed(b"x" * (2**20 + 1))
    assert caught.value.hint is not None
    capture._file.close()  # type: ignore[union-attr]


def test_a_spool_that_cannot_be_opened_is_a_capture_error(tmp_path: Path) -> None:
    class NoRoom(BlobStore):
        def new_spool(self) -> Path:
            return tmp_path / "gone" / "spool"

    capture = StreamCapture(NoRoom(tmp_path), 10 * 2**20)
    with pytest.raises(CaptureError, match="opening a file"):
        capture.feed(b"x" * (2**20 + 1))


@given(st.lists(st.integers(1, 300_000), min_size=1, max_size=8), st.sampled_from([2**21, 2**23, 2**25]))
@settings(max_examples=25, deadline=None)
def test_what_is_moved_from_a_pipe_unseen_is_kept_hashed_and_told_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int
) -> None:
    whole = bytes(range(256)) * 9000 + b"".join(bytes([i % 251]) * size for i, size in enumerate(sizes))
    told: list[tuple[bytes, int]] = []
    capture = StreamCapture(
        BlobStore(tmp_path_factory.getbasetemp() / "poured"), limit, lambda data, offset, _s: told.append((data, offset))
    )
    out, into = os.pipe()
    writer = threading.Thread(target=write_all, args=(into, whole))
    writer.start()
    while (moved := poured(capture, out)) != 0:
        if moved is None:
            data = os.read(out, 2**20)
            if not data:
                break
            capture.feed(data)
    writer.join()
    os.close(out)
    kept = capture.finish(open_=False)
    head, tail = whole[:limit], whole[limit:][-TAIL:]
    assert (kept.read(), kept.sha256) == (head + tail, hashlib.sha256(head + tail).hexdigest())
    assert all(whole[offset : offset + len(data)] == data for data, offset in told)
    assert told[-1][1] + len(told[-1][0]) == len(whole)


def write_all(fd: int, data: bytes) -> None:
    with open(fd, "wb") as file:
        file.write(data)


def poured(capture: StreamCapture, pipe: int) -> int | None:
    """Call `pour`, and wait for the pipe if it is empty."""
    while True:
        try:
            return capture.pour(pipe)
        except BlockingIOError:
            select.select([pipe], [], [])


def test_a_disk_that_takes_no_more_of_a_poured_stream_is_an_error(tmp_path: Path) -> None:
    capture = StreamCapture(BlobStore(tmp_path), 2**30)
    capture.feed(bytes(2**21))
    out, into = os.pipe()
    os.write(into, b"x" * 1000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal_before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**21, before[1]))
    try:
        with pytest.raises(CaptureError, match="writing a large stream"):
            capture.pour(out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signal_before)
        os.close(out)
        os.close(into)
    assert capture.finish(open_=True).read() == bytes(2**21)
