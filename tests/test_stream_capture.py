"""One stream in bounded memory: what is kept of too much of it, and that the rest is counted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from testronaut_lab.capture.stream import StreamCapture
from testronaut_lab.store.blobs import BlobStore

KIB = 1024
TAIL = 64 * KIB
# numbered lines of 8 bytes, so that every byte kept tells where it came from
WRITTEN = b"".join(b"%07d\n" % number for number in range(512 * KIB // 8))


@pytest.mark.parametrize("piece", [1000, TAIL, 300 * KIB, len(WRITTEN)])
def test_head_and_last_bytes_are_kept_and_the_rest_is_counted(tmp_path: Path, piece: int) -> None:
    capture = StreamCapture(BlobStore(tmp_path), 100 * KIB)
    for start in range(0, len(WRITTEN), piece):
        capture.feed(WRITTEN[start : start + piece])
    kept = capture.finish(open_=False)
    assert kept.read() == WRITTEN[: 100 * KIB] + WRITTEN[-TAIL:]
    assert (kept.truncated, kept.dropped_bytes, kept.size_bytes) == (True, len(WRITTEN) - 164 * KIB, 164 * KIB)
    assert kept.sha256 == hashlib.sha256(kept.read()).hexdigest()


def test_a_little_too_much_is_kept_whole_and_not_truncated(tmp_path: Path) -> None:
    capture = StreamCapture(BlobStore(tmp_path), 100)
    capture.feed(b"x" * 99)
    capture.feed(b"yz")
    kept = capture.finish(open_=False)
    assert capture.over_limit
    assert (kept.read(), kept.truncated, kept.dropped_bytes) == (b"x" * 99 + b"yz", False, 0)


def test_exactly_the_limit_is_not_over_it(tmp_path: Path) -> None:
    capture = StreamCapture(BlobStore(tmp_path), 100)
    capture.feed(b"x" * 100)
    assert not capture.over_limit
    assert capture.finish(open_=True).open
