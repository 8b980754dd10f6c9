"""The raw stream of an exec: frames in any pieces, no loss at either end, and refusals as errors."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testronaut_lab.container.engine import hijack
from testronaut_lab.container.engine.hijack import FrameReader, HijackedExec, start_exec
from testronaut_lab.container.engine.pace import Pace
from testronaut_lab.errors import EngineError

FRAMES = st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.binary(max_size=300)), max_size=6)
UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\n\r\n"


def framed(frames: list[tuple[int, bytes]]) -> bytes:
    return b"".join(struct.pack(">BxxxI", stream, len(payload)) + payload for stream, payload in frames)


@given(FRAMES, st.data())
def test_any_split_gives_the_same_frames(frames: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = framed(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = FrameReader()
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [frame for piece in pieces for frame in reader.feed(piece)] == frames
    assert not reader.mid_frame


@given(st.binary(min_size=1, max_size=50), st.data())
def test_a_cut_inside_a_frame_is_known(payload: bytes, data: st.DataObject) -> None:
    stream = framed([(1, payload)])
    reader = FrameReader()
    assert reader.feed(stream[: data.draw(st.integers(1, len(stream) - 1))]) == []
    assert reader.mid_frame


@pytest.mark.parametrize("head", [b"\x03\0\0\0\0\0\0\1x", b"\x01\0\1\0\0\0\0\1x", b"HTTP/1.1 200 OK\r\n"])
def test_bytes_that_are_no_frame_head_are_refused(head: bytes) -> None:
    with pytest.raises(EngineError, match="out of step"):
        FrameReader().feed(head)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, HijackedExec]]:
    ours, theirs = socket.socketpair()
    attached = HijackedExec("e", ours)
    yield theirs, attached
    attached.close()
    theirs.close()


def test_reading_without_data_does_not_block(pair: tuple[socket.socket, HijackedExec]) -> None:
    assert pair[1].read() == []


def test_the_end_comes_after_the_last_frame(pair: tuple[socket.socket, HijackedExec]) -> None:
    theirs, attached = pair
    theirs.sendall(framed([(1, b"last")]))
    theirs.shutdown(socket.SHUT_WR)
    assert attached.read() == [(1, b"last")]
    with pytest.raises(EOFError):
        attached.read()


def test_an_end_in_the_middle_of_a_frame_is_no_end(pair: tuple[socket.socket, HijackedExec]) -> None:
    theirs, attached = pair
    theirs.sendall(framed([(1, b"whole"), (2, b"cut off")])[:-3])
    theirs.shutdown(socket.SHUT_WR)
    assert attached.read() == [(1, b"whole")]
    with pytest.raises(EngineError, match="middle of a frame"):
        attached.read()


def test_what_is_written_reaches_the_other_side_whole(pair: tuple[socket.socket, HijackedExec]) -> None:
    theirs, attached = pair
    data, received = bytes(range(256)) * 8000, bytearray()

    def receive() -> None:
        while len(received) < len(data):
            received.extend(theirs.recv(65536))

    reader = threading.Thread(target=receive)
    reader.start()
    attached.write(data)
    reader.join()
    assert bytes(received) == data


def test_writing_to_a_closed_stream_is_an_engine_error(pair: tuple[socket.socket, HijackedExec]) -> None:
    theirs, attached = pair
    theirs.close()
    with pytest.raises(EngineError, match="stdin"):
        attached.write(b"x" * 1_000_000)


@pytest.fixture
def engine_that_says(tmp_path: Path) -> Iterator[Callable[[bytes], str]]:
    """A server on a unix socket that answers one request with these bytes and closes; gives the socket's path."""
    threads: list[threading.Thread] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "engine.sock"))
    listener.listen(1)

    def serve(answer: bytes) -> None:
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(65536)
            assert request.startswith(b"POST /v1.41/exec/abc/start HTTP/1.1\r\n")
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    def say(answer: bytes) -> str:
        threads.append(threading.Thread(target=serve, args=(answer,)))
        threads[-1].start()
        return str(tmp_path / "engine.sock")

    yield say
    for thread in threads:
        thread.join()
    listener.close()


def read_all(attached: HijackedExec) -> list[tuple[int, bytes]]:
    frames: list[tuple[int, bytes]] = []
    try:
        while True:
            select.select([attached], [], [], 5)
            frames += attached.read()
    except EOFError:
        return frames
    finally:
        attached.close()


def test_bytes_that_come_with_the_headers_are_kept(engine_that_says: Callable[[bytes], str]) -> None:
    path = engine_that_says(UPGRADED + framed([(1, b"early"), (2, b"too")]))
    assert read_all(start_exec(path, "1.41", "abc", Pace())) == [(1, b"early"), (2, b"too")]


def test_bytes_that_come_with_the_headers_can_be_polled_for(engine_that_says: Callable[[bytes], str]) -> None:
    attached = start_exec(engine_that_says(UPGRADED + framed([(1, b"early")])), "1.41", "abc", Pace())
    poll = select.poll()
    poll.register(attached.fileno(), select.POLLIN)
    assert poll.poll(5000)[0][1] & select.POLLIN
    assert attached.read() == [(1, b"early")]
    attached.close()


@pytest.mark.parametrize("cut", range(1, len(UPGRADED) + 12, 7))
def test_headers_may_arrive_in_pieces(cut: int) -> None:
    ours, theirs = socket.socketpair()
    answer = UPGRADED + framed([(1, b"in two halves")])

    def say() -> None:
        theirs.sendall(answer[:cut])
        theirs.sendall(answer[cut:])
        theirs.shutdown(socket.SHUT_WR)

    with theirs:
        speaker = threading.Thread(target=say)
        speaker.start()
        assert hijack._response(ours, "test") == 101
        assert read_all(HijackedExec("e", ours)) == [(1, b"in two halves")]
        speaker.join()


def test_a_terminal_that_ends_with_unread_input_has_ended() -> None:
    ours, theirs = socket.socketpair()
    terminal = hijack.HijackedTerminal("e", ours)
    terminal.write(b"nobody reads this")
    theirs.close()
    with pytest.raises(EOFError):
        terminal.read()
    terminal.close()


@pytest.mark.parametrize("status", [404, 409, 500])
def test_a_refusal_is_an_engine_error_with_the_engines_words(engine_that_says: Callable[[bytes], str], status: int) -> None:
    path = engine_that_says(b'HTTP/1.1 %d Oops\r\nContent-Length: 21\r\n\r\n{"message":"no exec"}' % status)
    with pytest.raises(EngineError, match=rf"{status}: .*no exec"):
        start_exec(path, "1.41", "abc", Pace())


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 UPGRADED\r\nConn", b"garbage\r\n\r\n", b"\r\n\r\n"])
def test_an_answer_that_is_none_is_an_engine_error(engine_that_says: Callable[[bytes], str], answer: bytes) -> None:
    with pytest.raises(EngineError, match="starting exec abc"):
        start_exec(engine_that_says(answer), "1.41", "abc", Pace())


def test_an_engine_that_is_not_there_is_an_engine_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        start_exec(str(tmp_path / "none.sock"), "1.41", "abc", Pace())
    assert caught.value.hint == "testronaut-lab engine status"
