"""What jobs go on writing to the streams of their step's exec, for as long as the engine reads it: 2 s after the step's end."""

from __future__ import annotations

from dataclasses import dataclass

from testronaut_lab.errors import EngineError
from testronaut_lab.execution.driver.late import STREAMS, LateOutput, Tell
from testronaut_lab.execution.driver.plain.markers import ExecWatch, MarkedStream


@dataclass(frozen=True, slots=True)
class _Held:
    watch: ExecWatch
    streams: tuple[MarkedStream, MarkedStream]
    nodeid: str


class HeldStreams:
    """The execs of steps that have ended, with streams that something still holds. `tell` hears what comes by them."""

    def __init__(self, tell: Tell) -> None:
        self.bytes_seen = 0
        self._tell = tell
        self._held: list[_Held] = []

    def add(self, watch: ExecWatch, streams: tuple[MarkedStream, MarkedStream], nodeid: str) -> None:
        self._held.append(_Held(watch, streams, nodeid))

    def read(self, during: str | None) -> None:
        """Take what has come; must be called now and then, since an unread stream stops its writer."""
        for held in self._held:
            try:
                held.watch.pump()
            except EngineError:
                held.watch.is_closed = True  # it belongs to no step
            self._take(held, during)
            if held.watch.is_closed:
                held.watch.close()
        self._held = [held for held in self._held if not held.watch.is_closed]

    def close(self) -> None:
        self.read(None)
        for held in self._held:
            held.watch.close()
        self._held.clear()

    def _take(self, held: _Held, during: str | None) -> None:
        for name, stream in zip(STREAMS, held.streams, strict=True):
            if data := stream.take_late():
                self.bytes_seen += len(data)
                self._tell(LateOutput(name, data, held.nodeid, during))
