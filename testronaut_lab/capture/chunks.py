"""When a stream's bytes came, and how it is told live: in pieces that hold whole characters, of bulk only what a screen needs.

What is kept of the stream itself is in `stream.py`.
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
    """(seconds, offset) of the chunks of a stream, at most 256: where there are more, those close to each other become one."""

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
    """Tells of a stream. The first MiB is told whole and at once; after that the last 64 KiB, twenty times a second."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._held = b""  # told with what follows: the beginning of a character, or bulk
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
        """So much of bulk has passed unseen; `last` gives so many of the last bytes, when they are to be told."""
        self._end += size_bytes
        self._passed = last
        if elapsed_s - self._told_s >= TELL_EVERY_S:
            self._fetch()
            self._say(len(self._held) - incomplete(self._held), elapsed_s)

    def finish(self, elapsed_s: float) -> None:
        """No more comes: what was taken for the beginning of a character was none."""
        self._fetch()
        self._say(len(self._held), elapsed_s)

    @property
    def is_bulk(self) -> bool:
        """Whether only the end of what comes will be told."""
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
    """How many of the last bytes are the beginning of a UTF-8 character whose end is missing."""
    for count, byte in enumerate(data[:-4:-1], 1):
        if byte & 0xC0 != 0x80:
            needed = 4 if 0xF0 <= byte <= 0xF4 else 3 if 0xE0 <= byte < 0xF0 else 2 if 0xC2 <= byte < 0xE0 else 1
            return count if needed > count else 0
    return 0


def without_rest(data: bytes) -> bytes:
    """Without the rest of a character at its beginning, where something was cut off."""
    return data[:3].lstrip(_CONTINUATIONS) + data[3:]
