"""What came out of a step, a case, a plan and a run.

Times are seconds unless the name says otherwise; `started` and `finished` are ISO 8601 in UTC. How a result is written as
JSON is in `report/files/json.py`; how it is judged is in `judge/`.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ConfigDict, Field

from testronaut_lab.errors import ExitStatus, StepFailed
from testronaut_lab.model.ending import ExitKind as ExitKind
from testronaut_lab.model.files import FileChange
from testronaut_lab.model.normalizing import Normalized

if TYPE_CHECKING:
    from testronaut_lab.model.comparison import SideBySide


StreamName = Literal["stdout", "stderr"]


class Status(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    XPASSED = "xpassed"
    FLAKY = "flaky"


class Phase(StrEnum):
    SETUP = "setup"
    STEPS = "steps"
    TEARDOWN = "teardown"


class ShellState(StrEnum):
    KEPT = "kept"
    RESTORED = "restored"  # the shell ended in this step; the one parked before it goes on
    LOST = "lost"  # every shell ended; a new one has the last cwd and exported environment only


@dataclass(frozen=True, slots=True)
class Exit:
    """`code` as the shell tells it (None when there is none); `signal` is the name derived from a code above 128.

    Of exact arguments `signal` is what ended the program; with `in_doubt` nobody can tell whether that was the signal that the
    code stands for, or the program ended with this code itself.
    """

    kind: ExitKind
    code: int | None = None
    signal: str | None = None
    in_doubt: bool = False

    def describe(self) -> str:
        """In words: `exit status 5`, `exit status 137 (SIGKILL)`, `timeout`."""
        if self.kind is not ExitKind.EXITED:
            return self.kind.value.replace("_", " ")
        return f"exit status {self.code}" + (f" (SIG{self.signal})" if self.signal else "")


@dataclass(frozen=True)
class Captured:
    """One stream of one step, byte-exact.

    `data` holds the bytes up to 16 KiB, `path` the file that holds them above that (never stored; a loaded run finds it
    again by `sha256`). `size_bytes` and `sha256` are of what was kept; `dropped_bytes` counts what an output limit cut out.
    `open` says that a process left behind still held the stream when the step's record was complete. `chunks` are (seconds
    since the step's start, offset) of what came at once, at most 256 of them; of a cut stream only those before the cut.
    """

    __pydantic_config__ = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    size_bytes: int = 0
    sha256: str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    data: bytes | None = b""
    truncated: bool = False
    dropped_bytes: int = 0
    open: bool = False
    path: Annotated[str | None, Field(exclude=True)] = None
    chunks: tuple[tuple[float, int], ...] = ()

    def read(self) -> bytes:
        """All kept bytes. Reads the file for a large stream; raises FileNotFoundError if that was removed meanwhile."""
        if self.data is not None:
            return self.data
        if self.path is None:
            raise FileNotFoundError(f"no file is known for the stream {self.sha256}")
        return Path(self.path).read_bytes()

    @property
    def text(self) -> str:
        """For reading: UTF-8, what is not UTF-8 as `\\xNN`."""
        return self.read().decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class Late:
    """What a job wrote to a stream of its step after that step had ended, while one other step ran or between two.

    `during` is the other step's node id, None between two. `captured.dropped_bytes` counts what is over the limit of a stream.
    """

    stream: StreamName
    captured: Captured
    during: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds and peak memory of all that ran in the container during the step, background jobs of earlier ones too.

    `method` says how the peak was come by. `sampled`: the most of several looks, first after 20 ms, then every 100 ms, at
    what processes hold as their own. `reset`: the kernel's own peak during the step, and `since_start`: since the container
    started; both have page cache and tmpfs in them, which are no process's memory. `unseen` are ends that the step may have
    had and that nobody can tell, since the container's counters of them cannot be read.
    """

    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    method: Literal["reset", "sampled", "since_start"] | None = None
    unseen: tuple[ExitKind, ...] = ()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One expectation that did not hold. `aspect` is its key in the plan (`stdout.contains`, `exit`, `golden` …)."""

    aspect: str
    expected: str
    actual: str
    path: str | None = None
    diff: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    class_: str
    message: str
    hint: str | None = None

    @property
    def text(self) -> str:
        """The message, and on a line of its own the hint; not safe to show."""
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


@dataclass(frozen=True, slots=True)
class OutsideChange:
    change: str
    path: str


@dataclass(frozen=True, slots=True)
class StepResult:
    """Everything known of one step. `run` is the script or `argv` the exact arguments; the other one is None.

    `screen` is what a step's own terminal showed at its end, None for a step without one. `normalized` says by which rules
    its golden was compared, None for a step without any rules. `merged`: what the step wrote to stderr is on stdout, in its
    place.

    Fresh from a session `status` is PASSED for exit code 0, FAILED for any other end, ERROR where a byte, the status or
    the end is in doubt; with a plan the judge replaces it. Of a step that was run `attempts` times this is the last time.

    `transient` are paths of the workspace that came and went within the step, as far as they were heard of; in a directory
    that the step itself made that is not from its first moment. Notes say where more is missing. No verdict hangs on them.

    `late` is what its jobs wrote after its end, in the order in which it came; no verdict and no golden knows of it.

    `pids` are the numbers of processes that its script can have named as `$$` or `$!`, as far as the shell told them.

    `line` is where in the plan's file the step begins, None where that is not known.
    """

    id: str
    nodeid: str
    exit: Exit
    status: Status
    phase: Phase = Phase.STEPS
    run: str | None = None
    argv: tuple[str, ...] | None = None
    attempts: int = 1
    stdout_stream: Captured = field(default_factory=Captured)
    stderr_stream: Captured = field(default_factory=Captured)
    changes: tuple[FileChange, ...] = ()
    transient: tuple[str, ...] = ()
    outside: tuple[OutsideChange, ...] = ()
    usage: Usage = Usage()
    duration_s: float = 0.0
    cwd: str | None = None
    state: ShellState = ShellState.KEPT
    left_behind: tuple[str, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    error: ErrorInfo | None = None
    notes: tuple[str, ...] = ()
    screen: str | None = None
    normalized: Normalized | None = None
    merged: bool = False
    line: int | None = None
    late: tuple[Late, ...] = ()
    pids: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        return self.status is Status.PASSED

    @property
    def stdout(self) -> bytes:
        return self.stdout_stream.read()

    @property
    def stderr(self) -> bytes:
        return self.stderr_stream.read()

    @property
    def out(self) -> str:
        return self.stdout_stream.text

    @property
    def err(self) -> str:
        return self.stderr_stream.text

    def check(self) -> StepResult:
        """Itself when it passed; raises StepFailed with its end, what did not hold and the last lines of both streams."""
        if self.ok:
            return self
        why = [f"$ {self.command}", f"ended with {self.exit.describe()}"]
        why += [f"{mismatch.aspect}: expected {mismatch.expected}, got {mismatch.actual}" for mismatch in self.mismatches]
        why += [self.error.message] if self.error else []
        why += [*self.out.splitlines()[-5:], *self.err.splitlines()[-5:]]
        raise StepFailed("\n".join(why))

    @property
    def command(self) -> str:
        """The step as one would type it, for display."""
        return self.run if self.run is not None else shlex.join(self.argv or ())

    def _repr_html_(self) -> str:
        """How a notebook shows it. Imported on demand: reports know results, not the other way round."""
        html: str = import_module("testronaut_lab.report.html.results").step_html(self)
        return html


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """`name` is docker or podman, `driver` how steps are run (`fast` or `plain`), `endpoint` where it was found.

    `copies` is how the fast driver copies the shells of sessions, `traced` or `forked`; None before one was started.
    """

    name: str
    version: str
    api: str
    driver: str = "fast"
    endpoint: str = ""
    copies: str | None = None

    @property
    def words(self) -> str:
        """As it is shown. Forked copies are told, since scripts can see them."""
        copies = ", copies forked" if self.copies == "forked" else ""
        return f"{self.name} {self.version}, API {self.api}, driver {self.driver}{copies}"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """`ref` as the plan names it, `id` the local image, `source` how it was come by: local, pull, bootstrap …

    `digests` are a registry's names for it, `REPOSITORY@sha256:…`, if it came from one; `diff_ids` the contents of its layers.
    """

    ref: str
    id: str
    source: str
    digests: tuple[str, ...] = ()
    diff_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Package:
    """A package as the manager that knows it (dpkg, rpm, apk, pip, npm) tells it."""

    manager: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class ToolInfo:
    """An installed tool: `spec` is what was asked of `strategy`, `program` the path of what was started to prove it.

    `packages` are all that its installation added to the image, those of a package manager that had to come first too. It was
    `built` at that time (ISO 8601, UTC), into the image that is cached under `key`.
    """

    name: str
    version: str
    strategy: str
    spec: str = ""
    program: str | None = None
    packages: tuple[Package, ...] = ()
    built: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class CaseAttempt:
    """One time that a case failed, before it was run again in a session as new."""

    status: Status
    steps: tuple[StepResult, ...]
    duration_s: float = 0.0
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """`expect_fail` is the reason why the case was expected to fail; None for one that was to pass.

    Of a case that was run `attempts` times, steps, duration and error are those of the last time, and `earlier` are the
    others; it is FLAKY if it passed then. `line` is where in the plan's file it begins.
    """

    id: str
    nodeid: str
    status: Status
    steps: tuple[StepResult, ...]
    tags: tuple[str, ...] = ()
    attempts: int = 1
    duration_s: float = 0.0
    session: Literal["fresh", "recycled"] = "fresh"
    error: ErrorInfo | None = None
    expect_fail: str | None = None
    earlier: tuple[CaseAttempt, ...] = ()
    line: int | None = None

    @property
    def took_s(self) -> float:
        """How long all attempts took together."""
        return self.duration_s + sum(attempt.duration_s for attempt in self.earlier)


@dataclass(frozen=True, slots=True)
class PlanResult:
    """`error` is what kept the plan from running its cases at all (image, installation); None otherwise.

    `notes` are about the plan as a whole and change no status. `started` is None where the plan's beginning is not known.
    `ignore` are the patterns of changes that are recorded and not judged.
    """

    name: str
    file: str | None
    status: Status
    cases: tuple[CaseResult, ...]
    image: ImageInfo | None = None
    tools: tuple[ToolInfo, ...] = ()
    network: str = "none"
    user: str = "lab"
    cell: tuple[tuple[str, str], ...] = ()
    error: ErrorInfo | None = None
    notes: tuple[str, ...] = ()
    started: str | None = None
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run. `exit_status` is what the command line exits with for it."""

    run: str
    started: str
    finished: str | None
    status: Status
    engine: EngineInfo | None
    plans: tuple[PlanResult, ...]
    exit_status: ExitStatus = ExitStatus.OK
    error: ErrorInfo | None = None

    @property
    def totals(self) -> dict[str, int]:
        """How many cases ended in which status; every status is a key."""
        counts = Counter(case.status for plan in self.plans for case in plan.cases)
        return {status.value: counts[status] for status in Status}

    def side_by_side(self) -> tuple[SideBySide, ...]:
        """For each plan with a matrix: its cells beside each other, and where the same step did something else.

        Reads what steps wrote, and compares it normalised, as their goldens are. Empty without a matrix.
        """
        beside: tuple[SideBySide, ...] = import_module("testronaut_lab.report.sidebyside").side_by_side(self)
        return beside

    def _repr_html_(self) -> str:
        """How a notebook shows it, as for a step."""
        html: str = import_module("testronaut_lab.report.html.results").run_html(self)
        return html


def combine(statuses: Iterable[Status]) -> Status:
    """The status of a whole from those of its parts: error, then failed, xpassed, flaky; skipped only if all are."""
    seen = set(statuses)
    for status in (Status.ERROR, Status.FAILED, Status.XPASSED, Status.FLAKY):
        if status in seen:
            return Status.FAILED if status is Status.XPASSED else status
    return Status.SKIPPED if seen == {Status.SKIPPED} else Status.PASSED
