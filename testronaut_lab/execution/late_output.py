"""Collects what the jobs of steps write after their steps have ended, and tells of it, as events, whose it is.

The driver hands over pieces as they come, on a thread of its own. They are put together by step, stream and the step that ran
meanwhile, and told at a step's end and at the session's. Of one stream of a step no more is kept than a step may write to it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from testronaut_lab.capture.stream import BlobSink, StreamCapture
from testronaut_lab.errors import CaptureError
from testronaut_lab.execution.driver.late import LateOutput as Piece
from testronaut_lab.model.events import Body, LateOutput
from testronaut_lab.model.result import Captured, Late, StreamName


class _Segment:
    """What came by one stream while one step ran. `room_bytes` of it are kept."""

    def __init__(self, blobs: BlobSink, room_bytes: int) -> None:
        self._room = room_bytes
        self._seen = 0
        self._capture: StreamCapture | None = StreamCapture(blobs, room_bytes) if room_bytes > 0 else None

    def feed(self, data: bytes) -> None:
        self._seen += len(data)
        try:
            if self._capture is not None:
                self._capture.feed(data[: max(self._room - self._seen + len(data), 0)])
        except CaptureError:
            self._capture = None  # the disk takes no more: what is not kept is counted

    def finish(self) -> Captured:
        kept = Captured()
        try:
            kept = kept if self._capture is None else self._capture.finish(open_=False)
        except CaptureError:
            pass
        dropped = self._seen - kept.size_bytes
        return Captured(kept.size_bytes, kept.sha256, kept.data, dropped > 0, dropped, path=kept.path)


class LateKeeper:
    """For one session. `hear` from any thread, everything else from the session's."""

    def __init__(self, blobs: BlobSink, limit_bytes: int, emit: Callable[[Body], object]) -> None:
        self._blobs = blobs
        self._limit = limit_bytes
        self._emit = emit
        self._steps: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()
        self._segments: dict[tuple[str, StreamName, str | None], _Segment] = {}
        self._heard: Counter[tuple[str, StreamName]] = Counter()

    def begin(self, nodeid: str, plan: int, case: str) -> None:
        """A step begins: by its node id its jobs will be known."""
        self._steps[nodeid] = plan, case

    def hear(self, piece: Piece) -> None:
        """Take in what a job wrote."""
        key = piece.by, piece.stream, piece.during
        with self._lock:
            if key not in self._segments:
                self._segments[key] = _Segment(self._blobs, self._limit - self._heard[key[:2]])
            self._heard[key[:2]] += len(piece.data)
            self._segments[key].feed(piece.data)

    def tell(self) -> None:
        """Emit what has come since the last call. What is no step's any more, because it was undone, is nobody's."""
        with self._lock:
            segments, self._segments = self._segments, {}
        for (by, stream, during), segment in segments.items():
            captured = segment.finish()
            if by in self._steps:
                plan, case = self._steps[by]
                self._emit(LateOutput(plan, case, by, Late(stream, captured, during)))
