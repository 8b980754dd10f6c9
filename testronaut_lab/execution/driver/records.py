"""What the session's shells tell the host, over a FIFO that anything in the container may write to.

A record is a head line `@SECRET TAG words`, a body, and `@SECRET .`. Only the shells' own functions hold the secret, so
whatever else arrives was written by somebody who should not: it is kept aside as foreign, and the step that it came in is
in doubt. The FIFO cannot be read from inside.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """`tag`: L leader's pid, R driver's pid, S step's end, D driver's end, K parked copy, P a step could not start."""

    tag: str
    words: tuple[str, ...]
    body: bytes


class RecordReader:
    """Takes bytes in any pieces, gives complete records. `foreign` holds bytes that belong to none."""

    def __init__(self, secret: str) -> None:
        self._mark = b"@" + secret.encode() + b" "
        self._end = self._mark + b".\n"
        self._buffer = b""
        self.foreign = b""

    def feed(self, data: bytes) -> list[Record]:
        self._buffer += data
        records: list[Record] = []
        while (end := self._buffer.find(self._end)) >= 0:
            text, self._buffer = self._buffer[:end], self._buffer[end + len(self._end) :]
            record = self._parse(text)
            if record is not None:
                records.append(record)
        return records

    def take_foreign(self) -> bytes:
        """The foreign bytes so far, also those that wait for a record to follow; they are forgotten here."""
        if self._buffer and not self._mark.startswith(self._buffer[: len(self._mark)]):
            start = self._buffer.find(self._mark)
            stray, self._buffer = (self._buffer, b"") if start < 0 else (self._buffer[:start], self._buffer[start:])
            self.foreign += stray
        taken, self.foreign = self.foreign, b""
        return taken

    def _parse(self, text: bytes) -> Record | None:
        start = text.rfind(self._mark)
        if start < 0:
            self.foreign += text + self._end
            return None
        # a shell that is killed while it writes leaves the beginning of a record, which is ours and says nothing
        self.foreign += text[: text.find(self._mark.rstrip())]
        head, _, body = text[start + len(self._mark) :].partition(b"\n")
        words = head.decode(errors="backslashreplace").split()
        if not words:
            self.foreign += head
            return None
        return Record(words[0], tuple(words[1:]), body)
