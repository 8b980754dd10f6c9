"""Reads and writes the raw stream of an exec over our own connection to the engine's unix socket.

docker-py returns the socket below its buffered reader, and loses data that arrived with the headers of the upgrade
(docker-py#425, #3332). It also takes a cut in the middle of a frame for a normal end (docker-py#3160). So we send the HTTP
upgrade ourselves, and a short frame is an error. A terminal's stream has no frames. TCP is not supported.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from testronaut_lab.container.engine.pace import Pace
from testronaut_lab.errors import EngineError

_HEADER_BYTES = 8
_MAX_HEAD_BYTES = 64 * 1024
_UPGRADE_TIMEOUT_S = 10.0  # the engine answers before it starts anything
_READS = 8


class FrameReader:
    """Takes the engine's multiplexed stream in any pieces, and returns (stream, payload) for each complete frame.

    A frame is one byte for the stream (0 stdin, 1 stdout, 2 stderr), three zero bytes, four bytes for the length, the payload.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take the next bytes; return the frames that they complete. Raises EngineError for bytes that cannot be a header."""
        self._buffer += data
        frames: list[tuple[int, bytes]] = []
        while len(self._buffer) >= _HEADER_BYTES:
            stream, zeros, length = struct.unpack(">B3sI", self._buffer[:_HEADER_BYTES])
            if stream > 2 or zeros != b"\0\0\0":
                raise EngineError(
                    f"the engine's stream is out of step: {bytes(self._buffer[:_HEADER_BYTES])!r} is not a frame header"
                )
            if len(self._buffer) < _HEADER_BYTES + length:
                break
            frames.append((stream, bytes(self._buffer[_HEADER_BYTES : _HEADER_BYTES + length])))
            del self._buffer[: _HEADER_BYTES + length]
        return frames

    @property
    def mid_frame(self) -> bool:
        """Whether a frame is incomplete, so that an end now loses data."""
        return bool(self._buffer)


class _Hijacked:
    """The connection of an exec. Reads give the engine's bytes; writes are the exec's input."""

    def __init__(self, exec_id: str, sock: socket.socket, what: str, input_: str) -> None:
        """`what` names the stream, `input_` the writing, in messages."""
        self._id = exec_id
        self._sock = sock
        self._what = what
        self._input = input_
        self._sock.setblocking(False)

    @property
    def id(self) -> str:
        return self._id

    def fileno(self) -> int:
        return self._sock.fileno()

    def write(self, data: bytes) -> None:
        with self._writing():
            try:
                self._sock.setblocking(True)
                self._sock.sendall(data)
            finally:
                self._sock.setblocking(False)

    def close(self) -> None:
        self._sock.close()

    def _receive(self, size: int) -> bytes | None:
        """The data that has arrived, b"" at the end, None if there is none yet."""
        try:
            return self._sock.recv(size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise EngineError(f"reading the {self._what} of an exec: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EngineError(f"{self._input}: {error}") from error


class HijackedExec(_Hijacked):
    """An exec's stdin, stdout and stderr; see `protocol.Attached`."""

    def __init__(self, exec_id: str, sock: socket.socket) -> None:
        super().__init__(exec_id, sock, "stream", "writing to an exec's stdin")
        self._frames = FrameReader()

    def read(self) -> list[tuple[int, bytes]]:
        frames: list[tuple[int, bytes]] = []
        for _ in range(_READS):  # bounded: the caller must get back to its deadlines even if a command never stops writing
            data = self._receive(256 * 1024)
            if data is None:
                return frames
            if not data:
                return self._at_end(frames)
            frames += self._frames.feed(data)
        return frames

    def _at_end(self, frames: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        if frames:
            return frames
        if self._frames.mid_frame:
            raise EngineError("the engine closed the stream of an exec in the middle of a frame")
        raise EOFError


class HijackedTerminal(_Hijacked):
    """An exec's terminal; see `protocol.AttachedTerminal`.

    Without frames, a lost connection looks like a normal end. Ask for the exit status to tell them apart.
    """

    def __init__(self, exec_id: str, sock: socket.socket) -> None:
        super().__init__(exec_id, sock, "terminal", "typing into an exec's terminal")

    def read(self) -> list[tuple[int, bytes]]:
        """Read at most 64 KiB, because a terminal may never stop writing."""
        data = self._receive(64 * 1024)
        if data is None:
            return []
        if not data:
            raise EOFError
        return [(1, data)]

    def _receive(self, size: int) -> bytes | None:
        try:
            return super()._receive(size)
        except EngineError as error:
            if isinstance(error.__cause__, ConnectionResetError):
                return b""  # the engine resets the connection if typed input was never read: a normal end
            raise

    def write_some(self, data: bytes) -> int:
        with self._writing():
            try:
                return self._sock.send(data)
            except BlockingIOError:
                return 0


def start_exec(socket_path: str, api: str, exec_id: str, pace: Pace) -> HijackedExec:
    """Start a created exec and take over its connection. Raises EngineError if the engine refuses or cannot be reached."""
    return HijackedExec(exec_id, _started(socket_path, api, exec_id, pace, tty=False))


def start_terminal(socket_path: str, api: str, exec_id: str, pace: Pace) -> HijackedTerminal:
    """Like `start_exec`, for an exec that was created with a terminal."""
    return HijackedTerminal(exec_id, _started(socket_path, api, exec_id, pace, tty=True))


def _started(socket_path: str, api: str, exec_id: str, pace: Pace, *, tty: bool) -> socket.socket:
    """Start the exec; return the connection, with the whole stream still unread."""
    what = f"starting exec {exec_id[:12]} on {socket_path}"
    timeout_s = pace.deadline_s(_UPGRADE_TIMEOUT_S)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    started = time.monotonic()
    try:
        sock.settimeout(timeout_s)
        sock.connect(socket_path)
        sock.sendall(_request(api, exec_id, tty=tty))
        status = _response(sock, what)
        pace.note(time.monotonic() - started)
        if status not in (101, 200):
            rest = sock.recv(_MAX_HEAD_BYTES)
            raise EngineError(f"{what}: the engine answered {status}: {rest.decode(errors='backslashreplace').strip()}")
    except TimeoutError as error:
        sock.close()
        raise EngineError(f"{what}: no answer within {timeout_s:g} s", hint="testronaut-lab engine status") from error
    except OSError as error:
        sock.close()
        raise EngineError(f"{what}: {error}", hint="testronaut-lab engine status") from error
    except EngineError:
        sock.close()
        raise
    return sock


def _request(api: str, exec_id: str, *, tty: bool) -> bytes:
    body = json.dumps({"Detach": False, "Tty": tty})
    head = (
        f"POST /v{api}/exec/{exec_id}/start HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


def _response(sock: socket.socket, what: str) -> int:
    """Read the HTTP answer up to the end of its headers, and not one byte more; return its status.

    Output may arrive together with the headers. If we read it here, poll would never report it.
    """
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        seen = sock.recv(4096, socket.MSG_PEEK)
        if not seen or len(head) > _MAX_HEAD_BYTES:
            raise EngineError(f"{what}: the engine closed the connection before it answered")
        end = (head[-3:] + seen).find(b"\r\n\r\n")
        head += sock.recv(len(seen) if end < 0 else end + 4 - len(head[-3:]))
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[1].isdigit():
        raise EngineError(f"{what}: not an HTTP answer: {head[:60]!r}")
    return int(words[1])
