"""Whether a step's shell ever opened a stream of it, which a FIFO without a writer does not tell by its end alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from testronaut_lab.capture.stream import StreamCapture
from testronaut_lab.execution.driver.watch import Stream
from testronaut_lab.store.blobs import BlobStore


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    os.mkfifo(tmp_path / "1.o")
    fd = os.open(tmp_path / "1.o", os.O_RDONLY | os.O_NONBLOCK)
    yield Stream(fd, StreamCapture(BlobStore(tmp_path / "blobs"), 1000))
    os.close(fd)


def test_what_nobody_opened_was_not_opened(stream: Stream) -> None:
    assert (stream.was_opened(), stream.ended) == (False, False)


def test_what_a_silent_job_holds_was_opened(stream: Stream, tmp_path: Path) -> None:
    with open(tmp_path / "1.o", "wb"):
        assert (stream.was_opened(), stream.ended) == (True, False)


def test_what_a_silent_job_held_and_has_let_go_was_opened(stream: Stream, tmp_path: Path) -> None:
    open(tmp_path / "1.o", "wb").close()
    assert (stream.was_opened(), stream.ended) == (True, True)


def test_what_was_written_while_it_is_asked_is_kept(stream: Stream, tmp_path: Path) -> None:
    (tmp_path / "1.o").write_bytes(b"late")
    assert stream.was_opened()
    assert stream.capture.finish(open_=False).data == b"late"
