"""Records when the bytes of a stream came, and passes them on live: whole characters, and of bulk output only the end.

`stream.py` keeps the stream itself.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_CHUNKS = 256
TOLD_WHOLE_BYTES = 1024 * 1024
TOLD_TAIL_BYTES = 64 * 1024
TELL_EVERY_S = 0.05

_CONTINUATIONS = bytes(range(0x80, 0xC0))

# (data, its offset in the stream, seconds since the step's start)
Tell = Callable[[bytes, int, float], None]


class ChunkTimes:
    """(seconds, offset) of the chunks of a stream, at most 256; if there are more, chunks close in time are merged."""

    def __init__(self) -> None:
        self._chunks: list[tuple[float, int]] = []
        self._gap_s = 0.0

    def add(self, elapsed_s: float, offset: int) -> None:
        if self._chunks and elapsed_s - self._chunks[-1][0] < self._gap_s:
            return
        self._chunks.append((round(elapsed_s, 6), offset))
        if len(self._chunks) > MAX_CHUNKS:
            self._gap_s = max(2 * self._gap_s, 2 * elapsed_s / MAX_CHUNKS)
            del self._chunks[1::2]

    @property
    def chunks(self) -> tuple[tuple[float, int], ...]:
        return tuple(self._chunks)


class Teller:
    """Passes a stream on to `tell`: the first MiB whole and at once; after that (*bulk*) the last 64 KiB, 20 times a second."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._held = b""  # not passed on yet: the start of a character, or bulk
        self._end = 0
        self._told_end = 0
        self._told_s = 0.0
        self._passed: Callable[[int], bytes] | None = None

    def feed(self, data: bytes, elapsed_s: float) -> None:
        self._fetch()
        self._end += len(data)
        self._held = self._held + data if len(data) < TOLD_TAIL_BYTES else (self._held if not self.is_bulk else b"") + data
        if self.is_bulk:
            self._held = self._held[-TOLD_TAIL_BYTES:]
            if elapsed_s - self._told_s < TELL_EVERY_S:
                return
        self._say(len(self._held) - incomplete(self._held), elapsed_s)

    def passed(self, size_bytes: int, elapsed_s: float, last: Callable[[int], bytes]) -> None:
        """Count `size_bytes` of bulk that went past us; `last(n)` returns its last n bytes when they are needed."""
        self._end += size_bytes
        self._passed = last
        if elapsed_s - self._told_s >= TELL_EVERY_S:
            self._fetch()
            self._say(len(self._held) - incomplete(self._held), elapsed_s)

    def finish(self, elapsed_s: float) -> None:
        """Pass on the rest at the end of the stream, an incomplete character too."""
        self._fetch()
        self._say(len(self._held), elapsed_s)

    @property
    def is_bulk(self) -> bool:
        """Whether so much came that only the end of new data is passed on."""
        return self._end > TOLD_WHOLE_BYTES

    def _fetch(self) -> None:
        if self._passed is not None:
            self._held = self._passed(min(TOLD_TAIL_BYTES, self._end - self._told_end))
            self._passed = None

    def _say(self, size: int, elapsed_s: float) -> None:
        data, offset = self._held[:size], self._end - len(self._held)
        self._held = self._held[size:]
        self._told_end = self._end - len(self._held)
        if self.is_bulk and len(data) == TOLD_TAIL_BYTES:
            data = without_rest(data)
            offset += size - len(data)
        if data:
            self._told_s = elapsed_s
            self._tell(data, offset, elapsed_s)


def incomplete(data: bytes) -> int:
    """The number of bytes at the end that begin a UTF-8 character without completing it."""
    for count, byte in enumerate(data[:-4:-1], 1):
        if byte & 0xC0 != 0x80:
            needed = 4 if 0xF0 <= byte <= 0xF4 else 3 if 0xE0 <= byte < 0xF0 else 2 if 0xC2 <= byte < 0xE0 else 1
            return count if needed > count else 0
    return 0


def without_rest(data: bytes) -> bytes:
    """Drop the rest of a cut UTF-8 character at the start."""
    return data[:3].lstrip(_CONTINUATIONS) + data[3:]
