"""A plan as it will run: every default applied, every path resolved, every id given.

How it is written in a file, and everything that can be wrong with that, is in `planfile/`; expectations are in `expect.py`.
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
from testronaut_lab.model.substitution import Filler

Stream = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True, config=STRICT)
class Build:
    """By the engine, from the Dockerfile in a folder (absolute, on the host)."""

    folder: Path


@dataclass(frozen=True, slots=True, config=STRICT)
class Load:
    """From a file that `docker save` wrote (absolute, on the host)."""

    file: Path


@dataclass(frozen=True, slots=True, config=STRICT)
class Rootfs:
    """From a tar of a root file system (absolute, on the host)."""

    file: Path


@dataclass(frozen=True, slots=True, config=STRICT)
class Bootstrap:
    """From a distribution's package archive; which release is the reference by which others pull it: `debian:bookworm`."""


ImageSource = Build | Load | Rootfs | Bootstrap


@dataclass(frozen=True, slots=True, config=STRICT)
class ImageSpec:
    """`ref` is what people are shown: a reference, or the path of a `source` as it was written. None: the engine's or a
    registry's image of that name, pulled as `pull` says."""

    ref: str
    pull: Literal["missing", "always", "never"] = "missing"
    source: ImageSource | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class InstallSpec:
    """One way to come by a tool: `strategy` is apt, pip …, `spec` what follows the colon in `apt:jq=1.6`.

    A strategy that takes a file or folder has it as `source` (absolute, on the host); `sha256` is what that file must have,
    `strip` how many leading parts of the paths in an archive are left out. `more` are further packages that come with it, in
    the same environment.
    """

    strategy: str
    spec: str
    source: Path | None = None
    sha256: str | None = None
    strip: int = 0
    more: tuple[str, ...] = ()

    @property
    def wanted(self) -> str:
        """All that was asked for, in one line."""
        return " ".join((self.spec, *self.more))


@dataclass(frozen=True, slots=True, config=STRICT)
class Verify:
    run: str
    matches: str | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class ToolSpec:
    """`install` holds alternatives, tried in order. `command` is the program's name where it is not `name`.

    What is `importable` can be imported by the image's own python too.
    """

    name: str
    install: tuple[InstallSpec, ...]
    command: str | None = None
    verify: Verify | None = None
    importable: bool = False


@dataclass(frozen=True, slots=True, config=STRICT)
class Limits:
    """For one step, but for `case_timeout_s`. `output_bytes` is for each stream; `workspace_bytes` and `files` are for
    workspace, home and /tmp together."""

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
    """Put into the workspace before a case: `content`, or the file or folder `source` (absolute, on the host)."""

    content: bytes | None = None
    source: Path | None = None
    mode: int | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class Save:
    """A value taken from a stream: at `json_path`, or the first group of `matches` (all of it where there is none)."""

    from_: Stream = "stdout"
    json_path: str | None = None
    matches: str | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class Retry:
    """A step that fails is run again, up to `times` times after the first, each `delay_s` after the one before."""

    times: int
    delay_s: float = 0.2


@dataclass(frozen=True, slots=True, config=STRICT)
class GoldenSpec:
    """What of a step is kept as a golden; its command and its list of changes always are.

    `cell` is what tells its golden from those of other cells: the values of the keys in `per`. Empty: all cells share one.
    """

    streams: tuple[Stream, ...] = ("stdout", "stderr")
    files: tuple[str, ...] = ()
    changes: bool = True
    normalize: tuple[Rule, ...] = ()
    cell: Cell = ()


@dataclass(frozen=True, slots=True, config=STRICT)
class Step:
    """One command: the script `run` or the exact `argv`; the other one is None. Both are None for `stop` and `signal`.

    `env` and `cwd` are the step's own and end with it. `timeout_s` None: the plan's limit. `stdin` None: empty.
    `stdin_is_text` says that `${{name}}` in it is a reference; in bytes from a file or base64 it is not.

    `tty` gives it a terminal of its own, in which `interact` is done. `background` names a program that goes on, from when
    it is `ready`; `stop` ends the one of that name, `signal` sends signals (values, without SIG) to some. With `merge`
    stdout and stderr are one stream, which is stdout, in exact order.

    `normalize` are the plan's rules, for evidence of a step without a golden; those of a golden are its own. `line` is where
    in the plan's file it begins, None where it is written nowhere; it makes no difference between steps.
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
    """`setup` and `teardown` are the plan's, under this case's node id; a step id is unique over all three.

    In a plan with one session for all (`isolation` plan), the setup of the first case that runs and the teardown of the
    last one are those to run. `expect_fail` is the reason why the case cannot pass yet. `line` is as for a step.
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
    """`file` is None for a plan that was made in Python; `root` is the project's folder. Both are absolute.

    `setup` and `teardown` are those of the first case. `partial` says that cases or steps of it were left out. `text` is the
    plan as it was written, None where it was not. Of a plan with a matrix there is one such Plan for each `cell`,
    and `of_matrix` says what of it the matrix decides: `image`, `tools.NAME`.
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
    """Every step of every case, in all phases."""
    for case in plan.cases:
        yield from (*case.setup, *case.steps, *case.teardown)


def substitute(step: Step, values: Mapping[str, str]) -> Step:
    """The step with every `${{name}}` outside its scripts replaced by the value saved under that name.

    Scripts (`run`, `skip_if`) have the values as shell variables. Raises UsageError for a name without a value, which a
    loaded plan has only where the step that saves it was skipped or failed.
    """
    filler = Filler(step.nodeid, values)
    return replace(
        step,
        argv=None if step.argv is None else tuple(map(filler.text, step.argv)),
        stdin=filler.text(step.stdin.decode()).encode() if step.stdin is not None and step.stdin_is_text else step.stdin,
        env={name: filler.text(value) for name, value in step.env.items()},
        cwd=None if step.cwd is None else filler.text(step.cwd),
        expect=filler.expect(step.expect),
        interact=tuple(map(filler.interaction, step.interact)),
    )
