"""What a step is expected to do, as the plan file says it and with the defaults of plan and case already merged in.

Judging a result by these is in `judge/`; reading them from a plan file is in `planfile/`.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Final

from pydantic import ConfigDict, JsonValue, SkipValidation
from pydantic.dataclasses import dataclass

from testronaut_lab.model.ending import ExitKind
from testronaut_lab.model.files import FileType

# What a plan can expect to end a step, beside the step itself.
LIMITS: Final = (ExitKind.TIMEOUT, ExitKind.OOM, ExitKind.OUTPUT_LIMIT, ExitKind.PIDS_LIMIT, ExitKind.DISK_LIMIT)

STRICT: Final = ConfigDict(strict=True, extra="forbid")

# Validating would make floats of its `ExactNumber`s.
Json = Annotated[JsonValue, SkipValidation]


@dataclass(frozen=True, slots=True, config=STRICT)
class ExitExpect:
    """How the step has to end. `signal` (a name without SIG), `nonzero` and `ended_by` (a limit) stand instead of `codes`."""

    codes: tuple[int, ...] = (0,)
    nonzero: bool = False
    ended_by: ExitKind | None = None
    signal: str | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class TextExpect:
    """What a stream or a file has to hold; every matcher that is given must hold.

    `json` counts only with `has_json`, since null is a value to expect too; numbers in it may be `ExactNumber`s. `file` is
    absolute.
    """

    equals: str | None = None
    contains: tuple[str, ...] = ()
    not_contains: tuple[str, ...] = ()
    matches: str | None = None
    json: Json = None
    has_json: bool = False
    json_path: dict[str, Json] = field(default_factory=dict)
    lines: int | None = None
    empty: bool | None = None
    file: Path | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class FileExpect:
    """`text` None and `absent` false: the file must exist, whatever is in it. `owner` is as in a `FileState`."""

    absent: bool = False
    text: TextExpect | None = None
    type: FileType | None = None
    mode: int | None = None
    target: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class ChangesExpect:
    """Globs by kind of change: each change must match one of its kind, each glob must match a change. All empty: none.

    `outside` is the same of what lies outside the workspace, by absolute globs; None: not judged.
    """

    added: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    retyped: tuple[str, ...] = ()
    outside: ChangesExpect | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class MaxExpect:
    """What the step may take at most. None: not judged. `memory_bytes` is what its processes hold as their own at once."""

    duration_s: float | None = None
    cpu_s: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class Expect:
    """`files` is keyed by a path or a glob in the workspace, or an absolute one. None: not judged.

    `screen` is of a step with a terminal.
    """

    exit: ExitExpect = field(default_factory=ExitExpect)
    stdout: TextExpect | None = None
    stderr: TextExpect | None = None
    files: dict[str, FileExpect] = field(default_factory=dict)
    changes: ChangesExpect | None = None
    max: MaxExpect | None = None
    screen: TextExpect | None = None
