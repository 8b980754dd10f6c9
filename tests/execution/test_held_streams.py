"""What the plain driver reads of an exec whose step has ended, with an exec that says what the test wants."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from testronaut_lab.errors import EngineError
from testronaut_lab.execution.driver.late import LateOutput
from testronaut_lab.execution.driver.plain.late_output import HeldStreams
from testronaut_lab.execution.driver.plain.markers import ExecWatch, MarkedStream, Words

MARK = b"@mark."


class Said:
    """An exec that has said these pieces of (stream, bytes), then ends or fails."""

    id = "exec"

    def __init__(self, *pieces: tuple[int, bytes], end: type[Exception] = EOFError) -> None:
        self.pieces, self.end = list(pieces), end
        self.is_closed = False

    def fileno(self) -> int:
        raise AssertionError("nobody waits for it")

    def read(self) -> list[tuple[int, bytes]]:
        if not self.pieces:
            raise self.end("gone")
        return [self.pieces.pop(0)]

    def write(self, data: bytes) -> None:
        raise AssertionError("nobody writes to it")

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def wake() -> Iterator[int]:
    fd = os.eventfd(0)
    yield fd
    os.close(fd)


def held(said: Said, wake: int) -> tuple[HeldStreams, list[LateOutput]]:
    heard: list[LateOutput] = []
    streams = (MarkedStream(Words(), MARK), MarkedStream(Words(), MARK))
    for stream in streams:
        stream.feed(b"in time" + MARK)
    held_streams = HeldStreams(heard.append)
    held_streams.add(ExecWatch(said, wake, streams), streams, "x::a")
    return held_streams, heard


def test_what_comes_behind_the_mark_is_the_steps_late_output(wake: int) -> None:
    streams, heard = held(Said((1, b"late"), (2, b"oops")), wake)
    streams.read("x::b")
    streams.close()
    assert sorted(heard, key=lambda piece: piece.stream, reverse=True)[0] == LateOutput("stdout", b"late", "x::a", "x::b")
    assert streams.bytes_seen == 8


def test_an_engine_that_fails_ends_what_is_read_and_nothing_else(wake: int) -> None:
    said = Said((1, b"late"), end=EngineError)
    streams, heard = held(said, wake)
    for _ in range(3):
        streams.read(None)
    assert [piece.data for piece in heard] == [b"late"]
    assert said.is_closed
