"""When a stream's bytes came, how they are passed on live, and both streams as one text."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testronaut_lab.capture.chunks import MAX_CHUNKS, TOLD_TAIL_BYTES, TOLD_WHOLE_BYTES, ChunkTimes, Teller, incomplete
from testronaut_lab.capture.digest import INLINE_BYTES, Digest
from testronaut_lab.capture.stream import StreamCapture
from testronaut_lab.model.result import Captured, Exit, ExitKind, Status, StepResult
from testronaut_lab.report.html.results import step_html
from testronaut_lab.report.text.interleaved import interleaved
from testronaut_lab.store.blobs import BlobStore


class Told:
    """Collects what was passed on, and when."""

    def __init__(self) -> None:
        self.chunks: list[tuple[int, bytes, float]] = []
        self.teller = Teller(lambda data, offset, elapsed_s: self.chunks.append((offset, data, elapsed_s)))


def step(stdout: bytes, out: tuple[tuple[float, int], ...], stderr: bytes, err: tuple[tuple[float, int], ...]) -> StepResult:
    streams = (Captured(len(stdout), data=stdout, chunks=out), Captured(len(stderr), data=stderr, chunks=err))
    exit_ = Exit(ExitKind.EXITED, 0)
    return StepResult("s", "p::c::s", exit_, Status.PASSED, run="x", stdout_stream=streams[0], stderr_stream=streams[1])


@given(st.text(max_size=40), st.integers(1, 5))
def test_characters_are_told_whole_wherever_they_are_split(text: str, size: int) -> None:
    data = text.encode(errors="replace")
    told = Told()
    for at in range(0, len(data), size):
        told.teller.feed(data[at : at + size], 0.0)
    told.teller.finish(0.0)
    assert "".join(chunk.decode() for _, chunk, _ in told.chunks) == data.decode()
    assert [offset for offset, _, _ in told.chunks] == [
        sum(len(chunk) for _, chunk, _ in told.chunks[:i]) for i in range(len(told.chunks))
    ]


@given(st.lists(st.binary(max_size=8), max_size=10))
def test_what_is_no_text_is_told_to_the_last_byte(pieces: list[bytes]) -> None:
    told = Told()
    for piece in pieces:
        told.teller.feed(piece, 0.0)
    told.teller.finish(0.0)
    assert b"".join(chunk for _, chunk, _ in told.chunks) == b"".join(pieces)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", 0),
        (b"a", 0),
        (b"\xe2", 1),
        (b"a\xe2\x82", 2),
        ("a€".encode(), 0),
        (b"\xf0\x9f\x98", 3),
        (b"\x82" * 5, 0),
        (b"\xff", 0),
    ],
)
def test_the_beginning_of_a_character_is_known(data: bytes, count: int) -> None:
    assert incomplete(data) == count


def test_of_bulk_the_end_is_told_now_and_then() -> None:
    told = Told()
    piece = b"x" * 2**20
    for turn in range(64):
        told.teller.feed(piece, turn / 1000)
    told.teller.feed(b"the end", 0.064)
    told.teller.finish(0.064)
    assert sum(len(chunk) for _, chunk, _ in told.chunks) < TOLD_WHOLE_BYTES + 4 * TOLD_TAIL_BYTES
    offset, last, _ = told.chunks[-1]
    assert (offset + len(last), last[-7:]) == (64 * 2**20 + 7, b"the end")


def test_the_times_of_many_chunks_are_bounded_and_in_order() -> None:
    times = ChunkTimes()
    for i in range(100_000):
        times.add(i / 1000, i * 10)
    assert MAX_CHUNKS // 8 < len(times.chunks) <= MAX_CHUNKS
    assert list(times.chunks) == sorted(times.chunks) and times.chunks[0] == (0.0, 0)
    assert all(abs(elapsed_s * 10_000 - offset) < 1 for elapsed_s, offset in times.chunks)


def test_a_stream_keeps_when_its_chunks_came_up_to_its_limit(tmp_path: Path) -> None:
    capture = StreamCapture(BlobStore(tmp_path), 5, started=0.0)
    for piece in (b"abc", b"def", b"ghi", b"jkl"):
        capture.feed(piece)
    chunks = capture.finish(open_=False).chunks
    assert [offset for _, offset in chunks] == [0, 3]
    assert 0 < chunks[0][0] <= chunks[1][0]


def test_a_digest_is_the_same_however_the_pieces_are_cut() -> None:
    data = random.Random(1).randbytes(6 * INLINE_BYTES)
    whole, pieces = Digest(), Digest()
    whole.update(data)
    for start, end in ((0, 10), (10, INLINE_BYTES * 2), (INLINE_BYTES * 2, INLINE_BYTES * 4), (INLINE_BYTES * 4, len(data))):
        pieces.update(data[start:end])
    assert whole.hexdigest() == pieces.hexdigest()


def test_two_streams_are_one_text_in_the_order_of_their_chunks() -> None:
    result = step(b"one\ntwo\n", ((0.1, 0), (0.3, 4)), b"oh\n", ((0.2, 0),))
    assert interleaved(result) == [("stdout", "one\n"), ("stderr", "oh\n"), ("stdout", "two\n")]


def test_a_character_over_two_chunks_comes_whole() -> None:
    euro = "€".encode()
    result = step(b"a" + euro, ((0.1, 0), (0.3, 2)), b"!", ((0.2, 0),))
    assert interleaved(result) == [("stdout", "a"), ("stderr", "!"), ("stdout", "€")]


def test_a_result_without_times_has_one_stream_after_the_other() -> None:
    assert interleaved(step(b"a", (), b"b", ())) == [("stdout", "a"), ("stderr", "b")]


def test_a_page_shows_both_streams_as_they_came_and_nothing_of_it_is_markup() -> None:
    html = step_html(step(b"<b>1\n", ((0.1, 0),), b"\x1b[2J</pre>", ((0.2, 0),)))
    shown = html.partition("as they came")[2]
    assert "&lt;b&gt;1" in shown and "&lt;/pre&gt;" in shown and "\x1b" not in html
    assert "as they came" not in step_html(step(b"1\n", ((0.1, 0),), b"", ()))
