"""A plan as it will run: every default applied, every path resolved, every id given.

`planfile/` reads it from a file and reports what is wrong there. Expectations are in `expect.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from testronaut_lab.model.cells import Cell
from testronaut_lab.model.expect import STRICT
from testronaut_lab.model.expect import ChangesExpect as ChangesExpect
from testronaut_lab.model.expect import ExitExpect as ExitExpect
from testronaut_lab.model.expect import Expect as Expect
from testronaut_lab.model.expect import FileExpect as FileExpect
from testronaut_lab.model.expect import MaxExpect as MaxExpect
from testronaut_lab.model.expect import TextExpect as TextExpect
from testronaut_lab.model.interaction import Interaction, Ready, Tty
from testronaut_lab.model.normalizing import Normalizer as Normalizer
from testronaut_lab.model.normalizing import Rule
from testronaut_lab.model.result import Phase
from testronaut_lab.model.substitution import Substitution

Stream = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True, config=STRICT)
class Build:
    """The engine builds it from the Dockerfile in a folder (absolute, on the host)."""

    folder: Path


@dataclass(frozen=True, slots=True, config=STRICT)
class Load:
    """It is loaded from a file that `docker save` wrote (absolute, on the host)."""

    file: Path


@dataclass(frozen=True, slots=True, config=STRICT)
class Rootfs:
    """It is made from a tar of a root file system (absolute, on the host)."""

    file: Path


@dataclass(frozen=True, slots=True, config=STRICT)
class Bootstrap:
    """It is made from a distribution's package archive. The release is in the reference by which others pull it:
    `debian:bookworm`.
    """


ImageSource = Build | Load | Rootfs | Bootstrap


@dataclass(frozen=True, slots=True, config=STRICT)
class ImageSpec:
    """An image. `ref` is what people see: a reference, or the path of a `source` as it was written.

    Without `source`, it is the engine's or a registry's image of that name, pulled as `pull` says.
    """

    ref: str
    pull: Literal["missing", "always", "never"] = "missing"
    source: ImageSource | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class InstallSpec:
    """One way to install a tool: `strategy` is apt, pip …; `spec` is what follows the colon in `apt:jq=1.6`.

    `source` is the file or folder (absolute, on the host) of a strategy that takes one, `sha256` the checksum that the file
    must have. `strip` is how many leading path parts of an archive are left out. `more` are further packages in the same
    environment.
    """

    strategy: str
    spec: str
    source: Path | None = None
    sha256: str | None = None
    strip: int = 0
    more: tuple[str, ...] = ()

    @property
    def wanted(self) -> str:
        """Return everything that was asked for, in one line."""
        return " ".join((self.spec, *self.more))


@dataclass(frozen=True, slots=True, config=STRICT)
class Verify:
    run: str
    matches: str | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class ToolSpec:
    """A tool. `install` are alternatives, tried in order. `command` is the program's name if it is not `name`.

    The image's own python can also import an `importable` tool.
    """

    name: str
    install: tuple[InstallSpec, ...]
    command: str | None = None
    verify: Verify | None = None
    importable: bool = False


@dataclass(frozen=True, slots=True, config=STRICT)
class Limits:
    """The limits of one step; `case_timeout_s` is for all steps of a case together.

    `output_bytes` is for each stream. `workspace_bytes` and `files` are for workspace, home and /tmp together.
    """

    timeout_s: float = 60.0
    case_timeout_s: float = 1800.0
    memory_bytes: int = 512 * 2**20
    cpus: float = 1.0
    pids: int = 128
    output_bytes: int = 10 * 2**20
    workspace_bytes: int = 2**30
    files: int = 10_000


@dataclass(frozen=True, slots=True, config=STRICT)
class FileSpec:
    """What is put into the workspace before a case: `content`, or the file or folder `source` (absolute, on the host)."""

    content: bytes | None = None
    source: Path | None = None
    mode: int | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class Save:
    """A value from a stream: at `json_path`, or the first group of `matches` (the whole match if it has no group)."""

    from_: Stream = "stdout"
    json_path: str | None = None
    matches: str | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class Retry:
    """Run a failed step again: up to `times` more times, `delay_s` between two."""

    times: int
    delay_s: float = 0.2


@dataclass(frozen=True, slots=True, config=STRICT)
class GoldenSpec:
    """What the golden of a step holds. It always holds the command and the list of changes.

    `cell` tells the goldens of different cells apart: the values of the keys in `per`. Empty: all cells share one golden.
    """

    streams: tuple[Stream, ...] = ("stdout", "stderr")
    files: tuple[str, ...] = ()
    changes: bool = True
    normalize: tuple[Rule, ...] = ()
    cell: Cell = ()


@dataclass(frozen=True, slots=True, config=STRICT)
class Step:
    """One command: the script `run` or the exact `argv`; the other one is None. Both are None for `stop` and `signal`.

    `env` and `cwd` are for this step alone. `timeout_s` None: the plan's limit. `stdin` None: empty. `stdin_is_text` says that
    `${{name}}` in it is a reference; in bytes from a file or base64 it is not.

    `tty` gives the step its own terminal, in which `interact` is done. `background` names a program that keeps running; the
    step ends when the program is `ready`. `stop` ends the program of that name; `signal` sends signals (values, without SIG) to
    programs. With `merge`, stdout and stderr are one stream in exact order, which is stdout.

    `normalize` are the plan's rules, for the evidence of a step without a golden; a golden has its own. `line` is where the
    step begins in the plan file, None if it is in no file; it does not count in comparisons.
    """

    id: str
    nodeid: str
    phase: Phase = Phase.STEPS
    run: str | None = None
    argv: tuple[str, ...] | None = None
    stdin: bytes | None = None
    stdin_is_text: bool = False
    env: dict[str, str] = field(default_factory=dict)
    cwd: str | None = None
    timeout_s: float | None = None
    continue_: bool = False
    skip_if: str | None = None
    save: dict[str, Save] = field(default_factory=dict)
    golden: GoldenSpec | None = None
    expect: Expect = field(default_factory=Expect)
    retry: Retry | None = None
    tty: Tty | None = None
    interact: tuple[Interaction, ...] = ()
    background: str | None = None
    ready: Ready | None = None
    stop: str | None = None
    signal: dict[str, str] = field(default_factory=dict)
    normalize: tuple[Rule, ...] = ()
    merge: bool = False
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, config=STRICT)
class Case:
    """A case. `setup` and `teardown` are the plan's, under this case's node id. A step id is unique over all three phases.

    With one session for all cases (`isolation` plan), only the setup of the first case and the teardown of the last case run.
    `expect_fail` is the reason why the case cannot pass yet. `line` is as for a step.
    """

    id: str
    nodeid: str
    steps: tuple[Step, ...]
    tags: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    setup: tuple[Step, ...] = ()
    teardown: tuple[Step, ...] = ()
    expect_fail: str | None = None
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, config=STRICT)
class Plan:
    """A plan, for one cell of its matrix if it has one. `root` is the project's folder; `file` is None for a plan made in
    Python. Both are absolute.

    `setup` and `teardown` are those of the first case. `partial` says that cases or steps were left out. `text` is the plan as
    written, None if it was not. `of_matrix` names what varies over the matrix: `image`, `tools.NAME`.
    """

    name: str
    root: Path
    image: ImageSpec
    cases: tuple[Case, ...]
    version: int = 1
    file: Path | None = None
    tools: tuple[ToolSpec, ...] = ()
    isolation: Literal["case", "plan"] = "case"
    network: Literal["none", "internet"] = "none"
    user: Literal["lab", "root"] = "lab"
    rootfs: Literal["read-only", "writable"] = "read-only"
    shell: str = "sh"
    env: dict[str, str] = field(default_factory=dict)
    files: dict[str, FileSpec] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    normalize: tuple[Rule, ...] = ()
    ignore: tuple[str, ...] = ()
    setup: tuple[Step, ...] = ()
    teardown: tuple[Step, ...] = ()
    partial: bool = False
    text: str | None = None
    cell: Cell = ()
    of_matrix: tuple[str, ...] = ()


def all_steps(plan: Plan) -> Iterator[Step]:
    """Yield every step of every case, in all phases."""
    for case in plan.cases:
        yield from (*case.setup, *case.steps, *case.teardown)


def substitute(step: Step, values: Mapping[str, str]) -> Step:
    """Return the step with every `${{name}}` outside its scripts replaced by the saved value.

    Scripts (`run`, `skip_if`) have the values as shell variables. Raises UsageError for a name without a value. In a loaded
    plan, that happens only if the step that saves it was skipped or failed.
    """
    filler = Substitution(step.nodeid, values)
    return replace(
        step,
        argv=None if step.argv is None else tuple(map(filler.text, step.argv)),
        stdin=filler.text(step.stdin.decode()).encode() if step.stdin is not None and step.stdin_is_text else step.stdin,
        env={name: filler.text(value) for name, value in step.env.items()},
        cwd=None if step.cwd is None else filler.text(step.cwd),
        expect=filler.expect(step.expect),
        interact=tuple(map(filler.interaction, step.interact)),
    )
