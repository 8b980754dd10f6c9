"""What a step is expected to do. The defaults of plan and case are already merged in.

`judge/` compares it with a result; `planfile/` reads it from a plan file.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Final

from pydantic import ConfigDict, JsonValue, SkipValidation
from pydantic.dataclasses import dataclass

from testronaut_lab.model.ending import ExitKind
from testronaut_lab.model.files import FileType

# The limits that a plan can expect to end a step.
LIMITS: Final = (ExitKind.TIMEOUT, ExitKind.OOM, ExitKind.OUTPUT_LIMIT, ExitKind.PIDS_LIMIT, ExitKind.DISK_LIMIT)

STRICT: Final = ConfigDict(strict=True, extra="forbid")

# Validation would turn an `ExactNumber` into a float.
Json = Annotated[JsonValue, SkipValidation]


@dataclass(frozen=True, slots=True, config=STRICT)
class ExitExpect:
    """How the step must end. `signal` (a name without SIG), `nonzero` or `ended_by` (a limit) replaces `codes`."""

    codes: tuple[int, ...] = (0,)
    nonzero: bool = False
    ended_by: ExitKind | None = None
    signal: str | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class TextExpect:
    """What a stream or a file must hold. Every given matcher must hold.

    `json` counts only with `has_json`, because null is a possible expectation; its numbers may be `ExactNumber`s. `file` is
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
    """What a file must be. With `text` None and `absent` false, it must exist, whatever it holds. `owner` is as in
    `FileState`.
    """

    absent: bool = False
    text: TextExpect | None = None
    type: FileType | None = None
    mode: int | None = None
    target: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class ChangesExpect:
    """Globs by kind of change. Each change must match a glob of its kind, each glob must match a change. If all are empty, no
    change is allowed.

    `outside` is the same for paths outside the workspace, by absolute globs; None: not judged.
    """

    added: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    retyped: tuple[str, ...] = ()
    outside: ChangesExpect | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class MaxExpect:
    """Upper limits of what the step takes. None: not judged. `memory_bytes` is anonymous memory of its processes at one time."""

    duration_s: float | None = None
    cpu_s: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class Expect:
    """All expectations of a step. None: not judged. `screen` needs a terminal.

    The keys of `files` are paths or globs, relative to the workspace or absolute.
    """

    exit: ExitExpect = field(default_factory=ExitExpect)
    stdout: TextExpect | None = None
    stderr: TextExpect | None = None
    files: dict[str, FileExpect] = field(default_factory=dict)
    changes: ChangesExpect | None = None
    max: MaxExpect | None = None
    screen: TextExpect | None = None
