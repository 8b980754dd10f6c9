"""A live session as the tests use it: one call is one step, and what the session emitted can be looked at and reacted to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testronaut_lab.execution.context import StepRequest
from testronaut_lab.execution.factory import SessionFactory, SessionSettings
from testronaut_lab.execution.runner import LiveSession
from testronaut_lab.model.events import Body, Event, OutputChunk
from testronaut_lab.model.result import StepResult
from testronaut_lab.report.state.view import RunView
from testronaut_lab.store.blobs import BlobStore


@dataclass
class Events:
    """Everything emitted, in order. A reaction runs on the session's own thread when its bytes come out, once."""

    seen: list[Body] = field(default_factory=list)
    reactions: list[tuple[bytes, Callable[[], object]]] = field(default_factory=list)

    def emit(self, body: Body) -> None:
        self.seen.append(body)
        if isinstance(body, OutputChunk):
            for reaction in [reaction for reaction in self.reactions if reaction[0] in body.data]:
                self.reactions.remove(reaction)
                reaction[1]()


class Lab:
    """A started session; `run` takes a script, `argv` exact words, both the other fields of a StepRequest."""

    def __init__(self, session: LiveSession, events: Events, blobs: Path) -> None:
        self.session = session
        self.events = events
        self.blobs = blobs

    def run(
        self,
        script: str,
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout_s: float = 120.0,
        exports: Mapping[str, str] | None = None,
        nodeid: str = "x.lab.yaml::case::step",
    ) -> StepResult:
        request = StepRequest(
            "step", nodeid, run=script, stdin=stdin, env=env or {}, cwd=cwd, timeout_s=timeout_s,
            exports=exports or {},
        )  # fmt: skip
        return self.session.run(request)

    def argv(
        self, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, cwd: str | None = None,
        timeout_s: float = 120.0,
    ) -> StepResult:  # fmt: skip
        request = StepRequest(
            "step", "x.lab.yaml::case::step", argv=words, stdin=stdin, env=env or {}, cwd=cwd, timeout_s=timeout_s
        )  # fmt: skip
        return self.session.run(request)

    def out(self, script: str) -> str:
        """What a script that must succeed writes to stdout."""
        return self.run(script).check().out

    def when(self, text: bytes, react: Callable[[], object]) -> None:
        """React, once, as soon as these bytes come out of a step."""
        self.events.reactions.append((text, react))


class Listener:
    """Hears of everything; `when` a note of the first event that fits it reacts once."""

    def __init__(self, fits: Callable[[Event], bool] = lambda _: False, react: Callable[[], object] = lambda: None) -> None:
        self.events: list[Event] = []
        self._fits, self._react = fits, react

    def event(self, view: RunView, event: Event) -> None:
        self.events.append(event)
        if self._fits(event):
            self._fits = lambda _: False
            self._react()

    def end(self, view: RunView) -> None:
        pass

    def count(self, kind: type) -> int:
        return sum(isinstance(event.body, kind) for event in self.events)


@contextmanager
def open_lab(image_id: str, blobs: Path, settings: SessionSettings, env: Mapping[str, str] | None = None) -> Iterator[Lab]:
    """A session of its own; gone at the end of the `with`."""
    events = Events()
    bench = SessionFactory(events.emit, BlobStore(blobs))
    try:
        session = bench.session(image_id, settings, env or {})
        try:
            yield Lab(session, events, blobs)
        finally:
            session.close()
    finally:
        bench.close()
