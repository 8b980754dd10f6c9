"""What happens in a run, in order: facts, which are stored and decide everything, and hints, which may be dropped.

Every reader (screen, notebook, report, test, database) is a fold over these events. `to_json` and `from_json` are the stored
form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from testronaut_lab.errors import ExitStatus
from testronaut_lab.model.normalizing import Normalized
from testronaut_lab.model.result import (
    Captured,
    EngineInfo,
    ErrorInfo,
    ImageInfo,
    Late,
    Mismatch,
    Phase,
    Status,
    StepResult,
    ToolInfo,
)
from testronaut_lab.model.undo import UndoHow

_BASE64 = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


@dataclass(frozen=True, slots=True)
class RunStarted:
    run: str
    started: str
    kind: Literal["run_started"] = "run_started"


@dataclass(frozen=True, slots=True)
class EngineFound:
    engine: EngineInfo
    kind: Literal["engine_found"] = "engine_found"


@dataclass(frozen=True, slots=True)
class PlanStarted:
    """A plan begins. `plan` is its number in the run, from 0; `cases` are (id, node id, tags, number of steps in all phases).

    `partial` says that cases or steps were left out. `lines` are (node id, line in the plan file) of cases and steps, where
    known. `ignore` are the plan's patterns of changes that are not judged.
    """

    plan: int
    name: str
    file: str | None
    image: str
    network: str
    user: str
    cases: tuple[tuple[str, str, tuple[str, ...], int], ...]
    cell: tuple[tuple[str, str], ...] = ()
    partial: bool = False
    lines: tuple[tuple[str, int], ...] = ()
    ignore: tuple[str, ...] = ()
    kind: Literal["plan_started"] = "plan_started"


@dataclass(frozen=True, slots=True)
class PlanRecorded:
    """The text of a plan: `resolved` is JSON with every default (`model/plan_json.py`), `written` is its file, if there
    is one.
    """

    plan: int
    resolved: Captured
    written: Captured | None = None
    kind: Literal["plan_recorded"] = "plan_recorded"


@dataclass(frozen=True, slots=True)
class ImageReady:
    """The image is ready. `note` is set if it is a substitute for the named one, and says so."""

    plan: int
    image: ImageInfo
    note: str | None = None
    kind: Literal["image_ready"] = "image_ready"


@dataclass(frozen=True, slots=True)
class InstallLogged:
    """One line that a package manager wrote."""

    plan: int
    tool: str
    line: str
    kind: Literal["install_logged"] = "install_logged"


@dataclass(frozen=True, slots=True)
class ToolReady:
    plan: int
    tool: ToolInfo
    cached: bool
    kind: Literal["tool_ready"] = "tool_ready"


@dataclass(frozen=True, slots=True)
class CaseStarted:
    """A case begins. With `attempt` above 1, its last attempt failed and it runs again in a new session."""

    plan: int
    nodeid: str
    attempt: int = 1
    kind: Literal["case_started"] = "case_started"


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step begins. With `attempt` above 1, its last attempt failed and it runs again."""

    plan: int
    case: str
    id: str
    nodeid: str
    phase: Phase
    command: str
    attempt: int = 1
    kind: Literal["step_started"] = "step_started"


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step as captured, before it is judged. One comes for each attempt; only the last attempt is judged."""

    plan: int
    case: str
    result: StepResult
    kind: Literal["step_finished"] = "step_finished"


@dataclass(frozen=True, slots=True)
class LateOutput:
    """A background job wrote to a stream of the step `nodeid` after that step had ended.

    It comes at the end of the next step, and at the end of the session.
    """

    plan: int
    case: str
    nodeid: str
    late: Late
    kind: Literal["late_output"] = "late_output"


@dataclass(frozen=True, slots=True)
class StepJudged:
    """The verdict on the last attempt of a step. A skipped step has only this and its StepStarted."""

    plan: int
    case: str
    nodeid: str
    status: Status
    mismatches: tuple[Mismatch, ...] = ()
    error: ErrorInfo | None = None
    notes: tuple[str, ...] = ()
    normalized: Normalized | None = None
    kind: Literal["step_judged"] = "step_judged"


@dataclass(frozen=True, slots=True)
class StepOverruled:
    """A passed step fails afterwards, because of what another cell did. Its case and its plan fail with it.

    `mismatches` and `notes` are added to those that it has.
    """

    plan: int
    case: str
    nodeid: str
    mismatches: tuple[Mismatch, ...]
    notes: tuple[str, ...] = ()
    kind: Literal["step_overruled"] = "step_overruled"


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt of a case failed, and the case runs again. The result of the case comes later, in CaseFinished."""

    plan: int
    nodeid: str
    attempt: int
    status: Status
    duration_s: float
    error: ErrorInfo | None = None
    kind: Literal["attempt_failed"] = "attempt_failed"


@dataclass(frozen=True, slots=True)
class StepsUndone:
    """The last steps of a session were undone; `nodeids` are in the order in which they ran. The same node ids may come again."""

    plan: int
    case: str
    nodeids: tuple[str, ...]
    how: UndoHow
    notes: tuple[str, ...] = ()
    kind: Literal["steps_undone"] = "steps_undone"


@dataclass(frozen=True, slots=True)
class CaseFinished:
    """A case has ended. `expect_fail` is the plan's reason why it was expected to fail."""

    plan: int
    nodeid: str
    status: Status
    duration_s: float
    attempts: int = 1
    error: ErrorInfo | None = None
    expect_fail: str | None = None
    kind: Literal["case_finished"] = "case_finished"


@dataclass(frozen=True, slots=True)
class PlanFinished:
    plan: int
    status: Status
    error: ErrorInfo | None = None
    kind: Literal["plan_finished"] = "plan_finished"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that the user must know, but that belongs to no step or did not stop the run."""

    message: str
    hint: str | None = None
    nodeid: str | None = None
    kind: Literal["problem"] = "problem"


@dataclass(frozen=True, slots=True)
class RunFinished:
    finished: str
    status: Status
    exit_status: ExitStatus
    error: ErrorInfo | None = None
    kind: Literal["run_finished"] = "run_finished"


@dataclass(frozen=True)
class OutputChunk:
    """Hint: bytes that a step wrote, `elapsed_s` after its start. The order is exact within a stream, rough between the two.

    A chunk never splits a UTF-8 character. `offset_bytes` is where it begins in the stream; some of a large output is left out.
    """

    __pydantic_config__ = _BASE64

    nodeid: str
    stream: Literal["stdout", "stderr"]
    data: bytes
    elapsed_s: float
    offset_bytes: int | None = None
    kind: Literal["output_chunk"] = "output_chunk"


@dataclass(frozen=True, slots=True)
class FileTouched:
    """Hint: a path in the workspace that is being written."""

    nodeid: str | None
    path: str
    kind: Literal["file_touched"] = "file_touched"


@dataclass(frozen=True, slots=True)
class UsageSampled:
    """Hint: usage of a running step, a few times a second: `cpu_s` since its start, `memory_bytes` now.

    Both are of the whole container; None if the host cannot read its counters.
    """

    nodeid: str
    cpu_s: float | None
    memory_bytes: int | None
    elapsed_s: float
    kind: Literal["usage_sampled"] = "usage_sampled"


@dataclass(frozen=True, slots=True)
class Progress:
    """Hint: what the run waits for (`stage`: engine, image, install), for people."""

    stage: str
    text: str
    kind: Literal["progress"] = "progress"


Fact = (
    RunStarted
    | EngineFound
    | PlanStarted
    | PlanRecorded
    | ImageReady
    | InstallLogged
    | ToolReady
    | CaseStarted
    | StepStarted
    | StepFinished
    | LateOutput
    | StepJudged
    | StepOverruled
    | AttemptFailed
    | StepsUndone
    | CaseFinished
    | PlanFinished
    | Problem
    | RunFinished
)
Hint = OutputChunk | FileTouched | UsageSampled | Progress
Body = Fact | Hint


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `seq` counts facts and hints from 1 without a gap. `wall` is Unix time, `mono` the monotonic clock, in
    seconds.
    """

    seq: int
    wall: float
    mono: float
    body: Body

    @property
    def is_hint(self) -> bool:
        return isinstance(self.body, Hint)


_BODY: TypeAdapter[Body] = TypeAdapter(Annotated[Body, Field(discriminator="kind")])


def to_json(body: Body) -> bytes:
    """Return the stored form of an event's body: one JSON object, bytes as base64."""
    return _BODY.dump_json(body)


def from_json(data: bytes) -> Body:
    """The inverse of `to_json`. Raises pydantic.ValidationError for anything that is no event of this version."""
    return _BODY.validate_json(data)
