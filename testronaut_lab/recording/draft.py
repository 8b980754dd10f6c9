"""Turns a journal into a plan as it is written: steps, files, and replacements for what a plan cannot say.

`stabilize.py` decides what the golden of a step holds and by which rules; its `Choice`s come in here. Files beside the plan are
only named here; `save.py` writes them.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import JsonValue

from testronaut_lab.errors import UsageError
from testronaut_lab.execution.context import WORKSPACE, StepRequest
from testronaut_lab.model.expect import LIMITS, ExitExpect, TextExpect
from testronaut_lab.model.interaction import AwaitScreen, Interaction, SendText
from testronaut_lab.model.plan import FileSpec, ImageSpec, Limits, ToolSpec
from testronaut_lab.model.result import Exit, ExitKind, StepResult
from testronaut_lab.model.substitution import REFERENCE, literally
from testronaut_lab.planfile.grammar.raw import RawPlan, RawStep, Stdin
from testronaut_lab.planfile.grammar.values import workspace_path
from testronaut_lab.planfile.identity import command_of, slug
from testronaut_lab.recording.journal import Entry, Put, Ran, Restarted, Seen

MAX_INLINE_TEXT_BYTES: Final = 4096
MAX_INLINE_BYTES: Final = 1024
_ID: Final = re.compile(r"[a-z0-9_-]{1,100}")
# Ends that a plan can expect. A step with another end was cut short at a point that no plan can describe.
_EXPECTABLE: Final = frozenset({ExitKind.EXITED, ExitKind.TIMEOUT, ExitKind.RUNNING})
_STREAMS: Final = ("stdout", "stderr")


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What the session was made from."""

    image: ImageSpec
    tools: tuple[ToolSpec, ...] = ()
    network: str = "none"
    user: str = "lab"
    rootfs: str | None = None
    shell: str = "sh"
    limits: Limits = field(default_factory=Limits)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """What the golden of a step holds. `shown` replaces what the session showed, if it is set.

    `codes` are the exit statuses to expect, if the step ended with several. `screen` is what the terminal must show at the end,
    if its output is no golden.
    """

    rules: tuple[str, ...] = ()
    streams: tuple[str, ...] = _STREAMS
    golden: bool = True
    shown: Seen | None = None
    screen: str | None = None
    codes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan and what belongs to it. `steps` has the recorded steps by their id in the plan.

    `beside` has the files beside the plan, by path relative to its folder. `skipped` gives the reason for each recorded step
    that is not in the plan, by id. `late` are the paths that were put into the workspace after the first step.
    """

    plan: RawPlan
    steps: Mapping[str, Ran]
    beside: Mapping[str, FileSpec]
    skipped: Mapping[str, str]
    late: tuple[str, ...] = ()


def draft(making: SessionSpec, entries: Sequence[Entry], folder: Path, root: Path, stem: str, *, in_place: bool = False) -> Draft:
    """Make the plan that does the same again. Its file is `stem`.lab.yaml in `folder`, in the project at `root`.

    Files that were put after the first step go into the plan's `files:`, which reads best; with `in_place`, a step puts each of
    them at its time. Raises UsageError for what no plan can say.
    """
    return _Drafting(making, folder, root, stem, in_place).draft(entries)


def chosen(plan: Draft, choices: Mapping[str, Choice]) -> RawPlan:
    """Return the drafted plan with the chosen goldens."""
    found = ((step, choices.get(step.id or "")) for step in plan.plan.steps)
    steps = tuple(step if choice is None else _with_choice(step, choice) for step, choice in found)
    return replace(plan.plan, steps=steps)


def _with_choice(step: RawStep, choice: Choice) -> RawStep:
    expect = dict(step.expect)
    if choice.codes:
        expect["exit"] = ExitExpect(choice.codes)
    if choice.screen is not None:
        expect.setdefault("screen", TextExpect(equals=literally(choice.screen)))
    if step.background or step.signal:
        return step  # neither has a golden
    if step.golden is False or not choice.golden:
        return replace(step, expect=expect, golden=None if step.stop else False)
    settings: dict[str, object] = {"normalize": choice.rules} if choice.rules else {}
    if choice.streams != _STREAMS:
        settings["streams"] = choice.streams
    # the output of a background program belongs to the step that stops it; such a step has a golden only if it says so
    return replace(step, expect=expect, golden=settings or (True if step.stop else None))


class _Drafting:
    def __init__(self, making: SessionSpec, folder: Path, root: Path, stem: str, in_place: bool) -> None:
        self._making = making
        self._folder = folder
        self._root = root
        self._aside = f"{stem}.files"
        self._in_place = in_place
        self._files: dict[str, FileSpec] = {}
        self._beside: dict[str, FileSpec] = {}
        self._steps: list[RawStep] = []
        self._ran: dict[str, Ran] = {}
        self._touched: list[str] = []
        self._late: list[str] = []
        # a plan's `env` cannot hold a `${{…}}` text; every step gets such a variable instead
        self._env = {name: value for name, value in making.env.items() if not REFERENCE.search(value)}
        self._everywhere = {name: value for name, value in making.env.items() if REFERENCE.search(value)}

    def draft(self, entries: Sequence[Entry]) -> Draft:
        skipped: dict[str, str] = {}
        names = iter(_ids([entry for entry in entries if isinstance(entry, Ran)]))
        for entry in entries:
            match entry:
                case Put():
                    self._put(entry)
                case Restarted():
                    self._restart()
                case Ran():
                    name = next(names)
                    if reason := _not_in_a_plan(entry.result):
                        skipped[name] = reason
                        continue
                    self._ran[name] = entry
                    self._steps.append(self._step(name, entry))
                    self._touched += [change.path for change in entry.result.changes]
        return Draft(self._plan(), self._ran, self._beside, skipped, tuple(self._late))

    def _plan(self) -> RawPlan:
        making = self._making
        return RawPlan(
            image=making.image, tools=making.tools, network=making.network, user=making.user, rootfs=making.rootfs,
            shell=making.shell, limits=making.limits, env=self._env, files=self._files, golden=True, steps=tuple(self._steps),
        )  # fmt: skip

    def _step(self, name: str, ran: Ran) -> RawStep:
        asked = ran.request
        env = {**self._everywhere, **asked.env}
        runs_nothing = asked.stop is not None or bool(asked.signal)
        return RawStep(
            id=name,
            run=asked.run,
            argv=None if asked.argv is None else tuple(map(literally, asked.argv)),
            stdin=self._stdin(name, asked.stdin),
            env={} if runs_nothing else {key: literally(value) for key, value in env.items()},
            cwd=None if asked.cwd is None else literally(_cwd(asked.cwd)),
            timeout_s=asked.timeout_s,
            expect=_expected(asked, ran) if asked.background is None else {},
            golden=None if ran.golden else False,
            tty=asked.tty,
            interact=tuple(map(_literal_interaction, asked.interact)),
            background=asked.background,
            ready=asked.ready,
            stop=asked.stop,
            signal=dict(asked.signal),
            merge=asked.merge,
        )

    def _stdin(self, name: str, content: bytes) -> Stdin | None:
        if not content:
            return None
        text = _readable(content)
        if text is not None and len(content) <= MAX_INLINE_TEXT_BYTES:
            return Stdin(literally(text).encode(), is_text=True)
        if len(content) <= MAX_INLINE_BYTES:
            return Stdin(content)
        return Stdin(content, file=self._lay_beside(f"{name}.stdin", FileSpec(content)))

    def _put(self, put: Put) -> None:
        path = "/".join(part for part in put.path.split("/") if part not in ("", "."))
        try:
            workspace_path(path).encode()
        except (ValueError, UnicodeEncodeError) as error:
            raise UsageError(f"saving the session as a plan: {put.path!r} cannot be named in one: {error}") from error
        if self._steps:
            self._late.append(path)
        overlaps = any(_overlap(path, touched) for touched in (*self._touched, *self._files))
        if self._steps and put.source is None and (self._in_place or overlaps):
            self._steps.append(self._putting(path, put))
            self._touched.append(path)
            return
        for inner in [each for each in self._files if each == path or each.startswith(f"{path}/")]:
            del self._files[inner]
        self._files[path] = self._file(path, put)

    def _putting(self, path: str, put: Put) -> RawStep:
        """Make a step that writes the file and replaces whatever is at its path."""
        content, name = put.content or b"", shlex.quote(path)
        parent = PurePosixPath(path).parent
        script = f"rm -rf ./{name} && cat >./{name}" if str(parent) == "." else (
            f"mkdir -p ./{shlex.quote(str(parent))} && rm -rf ./{name} && cat >./{name}"
        )  # fmt: skip
        if put.mode is not None:
            script += f" && chmod {put.mode:o} ./{name}"
        step_id = _free(slug(f"put {path}"), {step.id or "" for step in self._steps} | self._ran.keys())
        return RawStep(id=step_id, run=script, stdin=self._stdin(step_id, content), cwd=WORKSPACE, golden=False)

    def _file(self, path: str, put: Put) -> FileSpec:
        if put.source is not None:
            whole = put.source.resolve()
            if whole.is_relative_to(self._root) and put.mode is None:
                return FileSpec(source=whole)
            return FileSpec(source=self._lay_beside(path, FileSpec(source=whole, mode=put.mode)))
        content = put.content or b""
        limit = MAX_INLINE_BYTES if _readable(content) is None else MAX_INLINE_TEXT_BYTES
        mode = None if put.mode in (None, 0o644) else put.mode
        if len(content) <= limit:
            return FileSpec(content, mode=mode)
        return FileSpec(source=self._lay_beside(path, FileSpec(content, mode=0o644 if put.mode is None else put.mode)))

    def _lay_beside(self, name: str, file: FileSpec) -> Path:
        """Plan a file beside the plan and return its path."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "file"
        taken = {PurePosixPath(each).name for each in self._beside}
        place = f"{self._aside}/{_free(plain, taken)}"
        self._beside[place] = file
        return self._folder / place

    def _restart(self) -> None:
        """Add a step that changes to the workspace, as the new shell did. No step can take away the rest of the shell's state."""
        if self._steps:
            step_id = _free("cd-workspace", {step.id or "" for step in self._steps})
            self._steps.append(RawStep(id=step_id, run=f"cd {WORKSPACE}", golden=False))


def _ids(steps: Sequence[Ran]) -> list[str]:
    """Return the ids as a plan gives them: written ids first, then a slug of each command, with -2, -3 … for repeats."""
    taken: set[str] = set()
    given: dict[int, str] = {}
    for i, ran in enumerate(steps):
        if ran.id is not None:
            given[i] = _free(ran.id if _ID.fullmatch(ran.id) else slug(ran.id), taken)
            taken.add(given[i])
    names = []
    for i, ran in enumerate(steps):
        name = given.get(i) or _free(slug(_command(ran.request)), taken)
        taken.add(name)
        names.append(name)
    return names


def _command(request: StepRequest) -> str:
    return command_of(RawStep(run=request.run, argv=request.argv, stop=request.stop, signal=dict(request.signal)))


def _free(base: str, taken: set[str]) -> str:
    return next(name for name in (base, *(f"{base}-{i}" for i in range(2, len(taken) + 3))) if name not in taken)


def _not_in_a_plan(result: StepResult) -> str | None:
    if result.error is not None:
        return f"it went wrong: {result.error.message}"
    if result.mismatches:
        return f"it did not do what it was told: {result.mismatches[0].expected}, but {result.mismatches[0].actual}"
    if result.exit.kind not in _EXPECTABLE:
        return f"it ended by {result.exit.describe()}, which no plan can expect"
    return None


def _expected(asked: StepRequest, ran: Ran) -> dict[str, object]:
    end = end_of(ran.result.exit, stopped=asked.stop is not None)
    own = {name: _literal_expectation(wanted) for name, wanted in ran.expect.items()}
    return {**({} if end is None else {"exit": end}), **own}


def end_of(end: Exit, *, stopped: bool = False) -> ExitExpect | None:
    """Return the exit that a plan must expect for the step to pass; None if the default does."""
    if end.kind in LIMITS:
        return ExitExpect(ended_by=end.kind)
    if stopped or end.code in (0, None):
        return None  # a stopped program may end in any way
    return ExitExpect(signal=end.signal) if end.signal is not None else ExitExpect((end.code or 0,))


def _literal_expectation(wanted: object) -> object:
    match wanted:
        case TextExpect():
            return _literal_text(wanted)
        case dict():
            return {path: replace(each, text=each.text and _literal_text(each.text)) for path, each in wanted.items()}
        case _:
            return wanted


def _literal_text(text: TextExpect) -> TextExpect:
    """Escape `${{` in all texts except the regex, where it is no reference."""
    return replace(
        text,
        equals=None if text.equals is None else literally(text.equals),
        contains=tuple(map(literally, text.contains)),
        not_contains=tuple(map(literally, text.not_contains)),
        json=_literal_json(text.json),
        json_path={path: _literal_json(value) for path, value in text.json_path.items()},
    )


def _literal_json(value: JsonValue) -> JsonValue:
    match value:
        case str():
            return literally(value)
        case list():
            return [_literal_json(item) for item in value]
        case dict():
            return {key: _literal_json(item) for key, item in value.items()}
        case _:
            return value


def _literal_interaction(item: Interaction) -> Interaction:
    match item:
        case AwaitScreen(expect=expect):
            return replace(item, expect=_literal_text(expect))
        case SendText(text=text):
            return replace(item, text=literally(text))
        case _:
            return item


def _readable(content: bytes) -> str | None:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _cwd(cwd: str) -> str:
    """Return the directory as a plan may hold it: not empty, without `..`."""
    return posixpath.normpath(posixpath.join(WORKSPACE, cwd)) if ".." in cwd.split("/") else cwd or "."


def _overlap(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/")
