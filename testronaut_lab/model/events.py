"""What happens in a run, in order: facts, which are stored and decide everything, and hints, which may be dropped.

Every reader (screen, notebook, report, test, database) is a fold over these. `to_json`/`from_json` are the stored form.
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
    """`plan` is its number in the run, from 0; `cases` are (id, node id, tags, number of steps in all phases).

    `partial` says that cases or steps were left out. `lines` are (node id, line in the file) of cases and steps, where known.
    `ignore` are the plan's patterns of changes that are not judged.
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
    """What a plan says: `resolved`, JSON with every default in it (`model/plan_json.py`), and as it was `written`, if it was."""

    plan: int
    resolved: Captured
    written: Captured | None = None
    kind: Literal["plan_recorded"] = "plan_recorded"


@dataclass(frozen=True, slots=True)
class ImageReady:
    """`note` is set when the image is a substitute for the one named, and says so in words."""

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
    """`attempt` above 1: the case that was started before under this node id has failed and is run again, in a new session."""

    plan: int
    nodeid: str
    attempt: int = 1
    kind: Literal["case_started"] = "case_started"


@dataclass(frozen=True, slots=True)
class StepStarted:
    """`attempt` above 1: the step that was started before under this node id has failed and is run again."""

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
    """The step as captured, before it is judged; once for each attempt, of which only the last is judged."""

    plan: int
    case: str
    result: StepResult
    kind: Literal["step_finished"] = "step_finished"


@dataclass(frozen=True, slots=True)
class LateOutput:
    """A job wrote to a stream of the step `nodeid`, which had ended: told at the next end of a step, and at the session's end."""

    plan: int
    case: str
    nodeid: str
    late: Late
    kind: Literal["late_output"] = "late_output"


@dataclass(frozen=True, slots=True)
class StepJudged:
    """The verdict on the step that finished last under this node id; a skipped step has only this and its StepStarted."""

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
    """A step that had passed fails after all, by what was seen after it in another cell; its case and plan fail with it.

    `mismatches` and `notes` stand behind those that it has.
    """

    plan: int
    case: str
    nodeid: str
    mismatches: tuple[Mismatch, ...]
    notes: tuple[str, ...] = ()
    kind: Literal["step_overruled"] = "step_overruled"


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """A case failed and is run again: what came of it is not this, but its CaseFinished."""

    plan: int
    nodeid: str
    attempt: int
    status: Status
    duration_s: float
    error: ErrorInfo | None = None
    kind: Literal["attempt_failed"] = "attempt_failed"


@dataclass(frozen=True, slots=True)
class StepsUndone:
    """The last steps of a session, by node id as they had run, are no part of it any more. Their node ids may come again."""

    plan: int
    case: str
    nodeids: tuple[str, ...]
    how: UndoHow
    notes: tuple[str, ...] = ()
    kind: Literal["steps_undone"] = "steps_undone"


@dataclass(frozen=True, slots=True)
class CaseFinished:
    """`expect_fail` is the plan's reason why the case was expected to fail."""

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
    """Something the user must hear of that belongs to no step, or that did not stop the run."""

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
    """Hint: bytes that a step wrote, `elapsed_s` after it started. Order holds within a stream, roughly between the two.

    No UTF-8 character is cut in two by it. `offset_bytes` is where in the stream it begins: of much output some is not told.
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
    """Hint: what a running step takes, a few times a second. `cpu_s` since it started, `memory_bytes` at this moment.

    Both are of the whole container; None where the host cannot read its counters.
    """

    nodeid: str
    cpu_s: float | None
    memory_bytes: int | None
    elapsed_s: float
    kind: Literal["usage_sampled"] = "usage_sampled"


@dataclass(frozen=True, slots=True)
class Progress:
    """Hint: what is being waited for (`stage`: engine, image, install), for people."""

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
    """`seq` counts from 1 without a gap over facts and hints; `wall` is Unix time and `mono` the monotonic clock, in seconds."""

    seq: int
    wall: float
    mono: float
    body: Body

    @property
    def is_hint(self) -> bool:
        return isinstance(self.body, Hint)


_BODY: TypeAdapter[Body] = TypeAdapter(Annotated[Body, Field(discriminator="kind")])


def to_json(body: Body) -> bytes:
    """The stored form of an event's body, one JSON object; bytes are base64."""
    return _BODY.dump_json(body)


def from_json(data: bytes) -> Body:
    """The inverse of `to_json`. Raises pydantic.ValidationError for what is no event of this version."""
    return _BODY.validate_json(data)
