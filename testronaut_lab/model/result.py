"""The results of a step, a case, a plan and a run.

Times are seconds unless the name says otherwise; `started` and `finished` are ISO 8601 in UTC. `judge/` judges a result;
`report/files/json.py` writes it as JSON.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from testronaut_lab.errors import ErrorKind, ExitStatus, LabError, StepFailed
from testronaut_lab.model.comparison import SideBySide, side_by_side
from testronaut_lab.model.display import html
from testronaut_lab.model.ending import ExitKind as ExitKind
from testronaut_lab.model.files import FileChange
from testronaut_lab.model.normalizing import Normalized

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
    RESTORED = "restored"  # the shell ended in this step, and the copy that was made before the step goes on
    LOST = "lost"  # every shell ended; a new one has only the last cwd and exported environment


@dataclass(frozen=True, slots=True)
class Exit:
    """How a step ended. `code` is the shell's (None if there is none); `signal` is derived from a code above 128.

    For exact arguments, `signal` is what ended the program. With `in_doubt`, nobody can tell whether that signal ended it or it
    exited with this code itself.
    """

    kind: ExitKind
    code: int | None = None
    signal: str | None = None
    in_doubt: bool = False

    def describe(self) -> str:
        """Say it in words: `exit status 5`, `exit status 137 (SIGKILL)`, `timeout`."""
        if self.kind is not ExitKind.EXITED:
            return self.kind.value.replace("_", " ")
        return f"exit status {self.code}" + (f" (SIG{self.signal})" if self.signal else "")


@dataclass(frozen=True)
class Captured:
    """One stream of one step, byte-exact.

    `data` holds up to 16 KiB. A larger stream is in the file `path`, which is never stored; a loaded run finds the file by
    `sha256`. `size_bytes` and `sha256` are of the kept bytes; `dropped_bytes` counts what an output limit cut off. `open` says
    that a left-over process still held the stream when the step's record was complete. `chunks` are (seconds since the step's
    start, offset) of bytes that came together, at most 256; for a cut stream, only those before the cut.
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
        """Return all kept bytes. Reads the file of a large stream; raises FileNotFoundError if it was removed."""
        if self.data is not None:
            return self.data
        if self.path is None:
            raise FileNotFoundError(f"no file is known for the stream {self.sha256}")
        return Path(self.path).read_bytes()

    @property
    def text(self) -> str:
        """Return the text for reading: UTF-8, other bytes as `\\xNN`."""
        return self.read().decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class Late:
    """What a background job wrote to a stream of its step after that step had ended, during one other step or between two.

    `during` is the other step's node id, None between two. `captured.dropped_bytes` counts what is over the limit of a stream.
    """

    stream: StreamName
    captured: Captured
    during: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds and peak memory of everything that ran in the container during the step, background jobs included.

    `method` says how the peak was measured. `sampled`: the highest of several samples of anonymous memory, the first after 20
    ms, then every 100 ms. `reset`: the kernel's own peak during the step. `since_start`: the kernel's peak since the container
    started. The last two include page cache and tmpfs, which belong to no process.

    `unseen` are limits that may have ended something in the step; nobody can tell, because the container's counters of them
    cannot be read.
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
    class_: Annotated[ErrorKind, WithJsonSchema({"type": "string"})]  # open: a later version may have more kinds
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, error: LabError) -> ErrorInfo:
        return cls(error.kind, error.message, error.hint)

    @property
    def text(self) -> str:
        """Return the message, and the hint on its own line. Not safe to show."""
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


@dataclass(frozen=True, slots=True)
class OutsideChange:
    change: str
    path: str


@dataclass(frozen=True, slots=True)
class StepResult:
    """Everything known about one step. `run` is the script or `argv` the exact arguments; the other one is None.

    Without a plan, `status` is PASSED for exit code 0, FAILED for any other end, ERROR if a byte, the exit status or the end is
    in doubt. With a plan, the judge replaces it. After several `attempts`, everything is of the last one.

    `screen` is the last screen of the step's terminal, None without one. `normalized` are the rules by which its golden was
    compared, None without rules. `merged`: stderr is in stdout, in exact order. `transient` are workspace paths that came and
    went within the step, best effort: in a directory that the step itself made, the first moments are missing. Notes say where
    more is missing. No verdict depends on them. `late` is what its background jobs wrote after its end, in order; no verdict
    and no golden uses it. `pids` are the processes that its script can name as `$$` or `$!`, as far as the shell reports them.
    `line` is where the step begins in the plan file, None if unknown.
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
        """Return the result itself if it passed. Otherwise raise StepFailed with its exit, its mismatches and the last lines of
        output.
        """
        if self.ok:
            return self
        why = [f"$ {self.command}", f"ended with {self.exit.describe()}"]
        why += [f"{mismatch.aspect}: expected {mismatch.expected}, got {mismatch.actual}" for mismatch in self.mismatches]
        why += [self.error.message] if self.error else []
        why += [*self.out.splitlines()[-5:], *self.err.splitlines()[-5:]]
        raise StepFailed("\n".join(why))

    @property
    def command(self) -> str:
        """Return the command as a user would type it, for display."""
        return self.run if self.run is not None else shlex.join(self.argv or ())

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return html(self)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """The engine. `name` is docker or podman, `driver` is how steps run (`fast` or `plain`), `endpoint` is where it was found.

    `copies` is how the fast driver copies the shells of sessions, `traced` or `forked`; None before a session has started.
    """

    name: str
    version: str
    api: str
    driver: str = "fast"
    endpoint: str = ""
    copies: str | None = None

    @property
    def words(self) -> str:
        """Return the engine as it is shown. Forked copies are mentioned, because scripts can see them."""
        copies = ", copies forked" if self.copies == "forked" else ""
        return f"{self.name} {self.version}, API {self.api}, driver {self.driver}{copies}"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image. `ref` is the plan's name for it, `id` the local image, `source` how it was obtained: local, pull, bootstrap …

    `digests` are a registry's names for it, `REPOSITORY@sha256:…`, if it came from one; `diff_ids` are the contents of its
    layers.
    """

    ref: str
    id: str
    source: str
    digests: tuple[str, ...] = ()
    diff_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Package:
    """A package as its manager (dpkg, rpm, apk, pip, npm) reports it."""

    manager: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class ToolInfo:
    """An installed tool. `spec` is what was asked of `strategy`, `program` the path of the program that was started to verify
    it.

    `packages` are all that its installation added to the image, also those of a package manager that had to be installed first.
    `built` is when that was (ISO 8601, UTC); `key` is the key of the cached image.
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
    """A failed attempt of a case that then ran again in a fresh session."""

    status: Status
    steps: tuple[StepResult, ...]
    duration_s: float = 0.0
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of a case. `expect_fail` is the reason why it was expected to fail; None if it was expected to pass.

    After several `attempts`, steps, duration and error are of the last one, and `earlier` are the others; the case is FLAKY if
    the last one passed. `line` is where the case begins in the plan file.
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
        """Return the seconds that all attempts took together."""
        return self.duration_s + sum(attempt.duration_s for attempt in self.earlier)


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The result of a plan. `error` is set if its cases could not run at all (image, installation).

    `notes` are about the whole plan and change no status. `started` is None if it is unknown. `ignore` are the patterns of
    changes that are recorded and not judged.
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
    """One run. `exit_status` is the exit status of the command line for it."""

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
        """Return how many cases have each status; every status is a key."""
        counts = Counter(case.status for plan in self.plans for case in plan.cases)
        return {status.value: counts[status] for status in Status}

    def side_by_side(self) -> tuple[SideBySide, ...]:
        """Compare the cells of each plan with a matrix: their statuses, and where the same step did something different.

        Reads the output of steps and compares it normalised, as goldens are. Empty without a matrix.
        """
        return side_by_side(self)

    def _repr_html_(self) -> str:
        """How a notebook shows it, as for a step."""
        return html(self)


def combine(statuses: Iterable[Status]) -> Status:
    """Combine the statuses of the parts: error, then failed, xpassed, flaky; skipped only if all are."""
    seen = set(statuses)
    for status in (Status.ERROR, Status.FAILED, Status.XPASSED, Status.FLAKY):
        if status in seen:
            return Status.FAILED if status is Status.XPASSED else status
    return Status.SKIPPED if seen == {Status.SKIPPED} else Status.PASSED
