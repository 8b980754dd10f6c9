"""What a view knows of plans, cases and steps, as mutable records. Only `view.py` and `outcome.py` change them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from testronaut_lab.model.cells import bracketed
from testronaut_lab.model.events import InstallLogged, PlanStarted, StepStarted, UsageSampled
from testronaut_lab.model.result import ErrorInfo, ImageInfo, Late, Phase, Status, StepResult, ToolInfo

TAIL_BYTES = 64 * 1024
_LINE_BYTES = 4096
_INSTALL_LINES = 2000
TOUCHED_PATHS = 200


class Stage(StrEnum):
    """The state of a part of a run that has no status yet."""

    WAITING = "waiting"
    RUNNING = "running"


class Tail:
    """The last 64 KiB that a running step wrote to one stream. `seen_bytes` counts all bytes."""

    __slots__ = ("_data", "seen_bytes")

    def __init__(self) -> None:
        self._data = bytearray()
        self.seen_bytes = 0

    def feed(self, data: bytes, offset_bytes: int | None = None) -> None:
        """Add data. `offset_bytes` is where it begins in the stream, if known: chunks in between may have been dropped."""
        self.seen_bytes = (self.seen_bytes if offset_bytes is None else offset_bytes) + len(data)
        self._data += data[-TAIL_BYTES:]
        del self._data[:-TAIL_BYTES]

    @property
    def data(self) -> bytes:
        return bytes(self._data)

    @property
    def last_line(self) -> str:
        """Return the last line that is not blank. Raw text, not safe to show."""
        end = bytes(self._data[-_LINE_BYTES:])
        if len(end) < self.seen_bytes:
            end = end.lstrip(bytes(range(0x80, 0xC0)))  # the rest of a cut character
        lines = end.decode(errors="backslashreplace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "")


@dataclass(slots=True)
class StepView:
    """One step. In a plan, it counts as running until it is judged; `result` is set as soon as its capture is complete.

    `usage` is the latest sample; short steps have none. `attempt` counts from 1. `touched` are the paths that were last seen
    being written while the step runs.
    """

    id: str
    nodeid: str
    phase: Phase
    command: str
    started_mono: float
    status: Stage | Status = Stage.RUNNING
    result: StepResult | None = None
    stdout: Tail = field(default_factory=Tail)
    stderr: Tail = field(default_factory=Tail)
    last_stream: str = "stdout"
    usage: UsageSampled | None = None
    attempt: int = 1
    touched: deque[str] = field(default_factory=lambda: deque(maxlen=TOUCHED_PATHS))
    late: tuple[Late, ...] = ()

    def captured(self, result: StepResult) -> None:
        """Set the result of the ended step. Late output of an earlier attempt stays with the step."""
        self.result = replace(result, late=self.late)

    def add_late(self, late: Late) -> None:
        self.late = (*self.late, late)
        if self.result is not None:
            self.result = replace(self.result, late=self.late)

    @property
    def last_line(self) -> str:
        return (self.stderr if self.last_stream == "stderr" else self.stdout).last_line


@dataclass(slots=True)
class AttemptView:
    """A failed attempt of a case that ran again."""

    status: Status
    steps: list[StepView]
    duration_s: float = 0.0
    error: ErrorInfo | None = None


@dataclass(slots=True)
class CaseView:
    """One case. `attempts` is the number of the present or last attempt. All fields except `earlier` are about that attempt."""

    id: str
    nodeid: str
    tags: tuple[str, ...] = ()
    step_count: int = 0
    planned: bool = True
    status: Stage | Status = Stage.WAITING
    steps: list[StepView] = field(default_factory=list)
    attempts: int = 1
    duration_s: float = 0.0
    error: ErrorInfo | None = None
    expect_fail: str | None = None
    earlier: list[AttemptView] = field(default_factory=list)

    def step(self, nodeid: str) -> StepView | None:
        """Return the step that started last under this node id."""
        return next((step for step in reversed(self.steps) if step.nodeid == nodeid), None)

    def start(self, body: StepStarted, mono: float) -> StepView:
        """Return the view of a step that begins. A step that is retried keeps its place and starts over."""
        again = self.step(body.nodeid) if body.attempt > 1 else None
        if again is None:
            return self.add(StepView(body.id, body.nodeid, body.phase, body.command, mono, attempt=body.attempt))
        again.result, again.usage, again.attempt = None, None, body.attempt
        again.touched.clear()
        return again

    def drop(self, nodeid: str) -> None:
        """Remove the step that started last under this node id."""
        if (found := self.step(nodeid)) is not None:
            self.steps = [step for step in self.steps if step is not found]

    def add(self, step: StepView) -> StepView:
        self.steps.append(step)
        return step


@dataclass(slots=True)
class PlanView:
    """One plan. `planned` is False for a session without a PlanStarted event: its steps are not judged.

    `lines` are the lines of cases and steps in the plan file, by node id. `started_wall` is Unix time.
    """

    number: int
    name: str
    file: str | None = None
    image_ref: str = ""
    network: str = "none"
    user: str = "lab"
    cell: tuple[tuple[str, str], ...] = ()
    planned: bool = True
    partial: bool = False
    ignore: tuple[str, ...] = ()
    status: Stage | Status = Stage.RUNNING
    image: ImageInfo | None = None
    image_note: str | None = None
    tools: list[tuple[ToolInfo, bool]] = field(default_factory=list)  # True: the tool came from the cache
    install_log: deque[InstallLogged] = field(default_factory=lambda: deque(maxlen=_INSTALL_LINES))
    cases: list[CaseView] = field(default_factory=list)
    error: ErrorInfo | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    started_wall: float | None = None

    @property
    def title(self) -> str:
        """Return the plan's name and its cell of a matrix."""
        return f"{self.name} {bracketed(self.cell)}" if self.cell else self.name

    def case(self, name: str) -> CaseView:
        """Return the case with this node id or id. Makes one if no event announced it."""
        found = next((case for case in self.cases if case.nodeid == name), None)
        found = found or next((case for case in self.cases if case.id == name), None)
        if found is None:
            found = CaseView(name.rpartition("::")[2], name, planned=self.planned)
            self.cases.append(found)
        return found


def announced(body: PlanStarted, wall: float) -> PlanView:
    """Return the view of a plan whose cases are known and waiting."""
    plan = PlanView(
        body.plan, body.name, body.file, body.image, body.network, body.user, body.cell, partial=body.partial, ignore=body.ignore
    )
    plan.lines, plan.started_wall = dict(body.lines), wall
    plan.cases = [CaseView(case_id, nodeid, tags, count) for case_id, nodeid, tags, count in body.cases]
    return plan
