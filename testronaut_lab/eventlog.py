"""The one ordered log of everything that happens, and the readers that follow it.

This module stamps events, orders them and hands them to readers, nothing else. `model/events.py` says what an event means,
`store/` keeps facts on disk, `report/` shows them.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType

from testronaut_lab.model.events import Body, Event

MAX_QUEUED_HINTS = 1000


class EventLog:
    """An append-only log. Every method may be called from any thread. `wall` and `mono` are the clocks, in seconds."""

    def __init__(self, wall: Callable[[], float] = time.time, mono: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._mono = mono
        self._lock = threading.Lock()
        self._seq = 0
        self._facts: list[Event] = []
        self._readers: list[Subscription] = []
        self._closed = False

    def emit(self, body: Body) -> Event:
        """Stamp `body`, append it and hand it to every reader. Never blocks on a reader.

        After `close()`, a hint is dropped and a fact raises RuntimeError: nobody would store it.
        """
        with self._lock:
            event = Event(self._seq + 1, self._wall(), self._mono(), body)
            hint = event.is_hint
            if self._closed and not hint:
                raise RuntimeError(f"the event log is closed, and {body.kind} came after that")
            self._seq += 1
            if not hint:
                self._facts.append(event)
            for reader in self._readers:
                reader._offer(event, hint=hint)
        return event

    def subscribe(self, *, hints: bool = True) -> Subscription:
        """Return a reader that gets all facts so far, in order, then everything new. `hints=False` leaves hints out."""
        with self._lock:
            reader = Subscription(self._forget, hints=hints)
            for event in self._facts:
                reader._offer(event, hint=False)
            if self._closed:
                reader._finish()
            else:
                self._readers.append(reader)
        return reader

    def last_fact(self, up_to: int | None = None) -> int:
        """Return the `seq` of the last fact (not after `up_to`), 0 if there is none."""
        with self._lock:
            count = len(self._facts) if up_to is None else bisect_right(self._facts, up_to, key=lambda event: event.seq)
            return self._facts[count - 1].seq if count else 0

    def close(self) -> None:
        """End every reader's iteration once its queue is empty. A second call does nothing."""
        with self._lock:
            self._closed = True
            for reader in self._readers:
                reader._finish()
            self._readers.clear()

    def _forget(self, reader: Subscription) -> None:
        with self._lock:
            if reader in self._readers:
                self._readers.remove(reader)


class Subscription:
    """One reader's queue, for one reading thread. Iterating blocks until the log or this queue is closed and the queue is
    empty.

    Facts are never dropped. Hints are dropped while 1000 of them wait; `dropped_hints` counts them.
    """

    def __init__(self, forget: Callable[[Subscription], None], *, hints: bool) -> None:
        self._forget = forget
        self._hints = hints
        self._ready = threading.Condition()
        self._queue: deque[Event] = deque()
        self._queued_hints = 0
        self._ended = False
        self.dropped_hints = 0

    def __iter__(self) -> Iterator[Event]:
        while (event := self.get()) is not None:
            yield event

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    @property
    def ended(self) -> bool:
        """Whether nothing is queued and nothing will come."""
        with self._ready:
            return self._ended and not self._queue

    def get(self, timeout_s: float | None = None) -> Event | None:
        """Return the next event; None after the end, or if `timeout_s` passes without one (`ended` tells which)."""
        with self._ready:
            self._ready.wait_for(lambda: self._queue or self._ended, timeout_s)
            if not self._queue:
                return None
            event = self._queue.popleft()
            self._queued_hints -= event.is_hint
            return event

    def drain(self) -> list[Event]:
        """Return everything that is queued now, without waiting."""
        with self._ready:
            events = list(self._queue)
            self._queue.clear()
            self._queued_hints = 0
        return events

    def close(self) -> None:
        """Stop following. Queued events are dropped, and a waiting reader returns."""
        self._forget(self)
        with self._ready:
            self._queue.clear()
            self._queued_hints = 0
            self._ended = True
            self._ready.notify_all()

    def _offer(self, event: Event, *, hint: bool) -> None:
        with self._ready:
            if hint and not self._hints:
                return
            if hint and self._queued_hints >= MAX_QUEUED_HINTS:
                self.dropped_hints += 1
                return
            self._queue.append(event)
            self._queued_hints += hint
            self._ready.notify_all()

    def _finish(self) -> None:
        with self._ready:
            self._ended = True
            self._ready.notify_all()
