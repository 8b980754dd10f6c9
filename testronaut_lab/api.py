"""The Python interface: a session to work in, and running plans. `execution/factory.py` makes what they consist of.

Screens, notebooks and tests read what happens from the event log of a session or a run. Nothing here prints.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal
from weakref import WeakSet

from testronaut_lab.config import load_config, plan_root, project_root
from testronaut_lab.errors import CaptureError, LabError, SessionLost, UsageError
from testronaut_lab.eventlog import EventLog
from testronaut_lab.execution.context import StepRequest, check_environment, check_together
from testronaut_lab.execution.factory import SessionFactory, SessionSettings
from testronaut_lab.execution.runner import LiveSession
from testronaut_lab.execution.undo.undo import FreshContainerNeeded
from testronaut_lab.golden.render import GoldenTree, render
from testronaut_lab.judge.expect import check, unjudged_end
from testronaut_lab.judge.usage import check_usage, unjudged_usage
from testronaut_lab.model.events import Body, LateOutput, Problem
from testronaut_lab.model.expect import Expect
from testronaut_lab.model.interaction import Ready, Tty
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.plan import GoldenSpec, ImageSpec, Plan, Step, ToolSpec
from testronaut_lab.model.result import Late, Mismatch, RunResult, StepResult
from testronaut_lab.model.undo import MAX_UNDO, UndoResult
from testronaut_lab.planfile import load_plans, parse_image, parse_plans, parse_tool, slug
from testronaut_lab.recording.destination import PlanDestination
from testronaut_lab.recording.draft import SessionSpec
from testronaut_lab.recording.journal import Journal, Put, Ran, Restarted, Seen
from testronaut_lab.recording.save import SavedPlan, save
from testronaut_lab.report.html.results import session_html
from testronaut_lab.run.keywords import InteractionGiven, LimitsGiven, interactions_of, ready_of, settings_of, tty_of
from testronaut_lab.run.plan_run import RunOptions, run_plans
from testronaut_lab.run.targets import in_cells, with_image
from testronaut_lab.store.blobs import BlobStore

DEFAULT_IMAGE = "debian:bookworm-slim"

_sessions: WeakSet[Session] = WeakSet()
_open_sessions: set[Session] = set()  # keeps sessions alive that the caller has dropped, so that they are closed at exit too


class Session:
    """A container and a shell in it that keep their state from step to step.

    It starts on first use. Use it as a context manager or call `close()`; it is closed at exit too. Use it from one thread at a
    time, except `interrupt()`.

    `image` is a reference, or a table as in a plan: {"build": DIR} …. `log` has everything that happens, from the start or
    live. `undo` is how many of the last steps can be undone, 4 by default and at most; it costs a tenth of a millisecond a
    step, and 0 turns it off. With `require_limits`, or if the project requires them, `start` raises EngineError on an engine
    that cannot enforce and measure the limits.
    """

    def __init__(
        self,
        image: str | Mapping[str, object] | ImageSpec = DEFAULT_IMAGE,
        *tools: str | Mapping[str, object],
        settings: SessionSettings | None = None,
        env: Mapping[str, str] | None = None,
        root: Path | None = None,
        undo: int | None = None,
        require_limits: bool = False,
        network: Literal["none", "internet"] | None = None,
        user: Literal["lab", "root"] | None = None,
        rootfs: Literal["read-only", "writable"] | None = None,
        shell: str | None = None,
        watch: bool | None = None,
        limits: LimitsGiven | None = None,
        timeout: float | None = None,
    ) -> None:
        """Keyword arguments override `settings`. `limits` may be a table as in a plan: `{"memory": "1GiB"}`.

        `timeout` is in seconds, for steps without a timeout of their own.
        """
        self._image = _image(image)
        self._tools: tuple[ToolSpec, ...] = tuple(parse_tool(tool) for tool in tools)
        given = {"network": network, "user": user, "rootfs": rootfs, "shell": shell, "watch": watch}
        self._settings = _with_undo(settings_of(settings, given, limits, timeout), undo)
        self._env = dict(env or {})
        check_environment("env", self._env)
        self._ids: dict[str, int] = {}
        self._slugs: dict[str, str] = {}  # of the steps whose id was made from their command, by id
        self.log = EventLog()
        root = root or project_root(Path.cwd())
        self._blobs = BlobStore(root / ".testronaut" / "blobs")
        config = load_config(root)
        self._bench = SessionFactory(
            self._emit,
            self._blobs,
            watch=config.watch,
            require_limits=require_limits or config.require_limits,
            orphan_timeout_s=config.orphan_timeout_s,
        )
        self.journal = Journal()
        self._live: LiveSession | None = None
        self._image_id = ""
        self._closed = False
        self._facts = Facts()
        self._late: dict[str, tuple[Late, ...]] = {}
        self.results: list[StepResult] = []
        _sessions.add(self)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def _emit(self, body: Body) -> None:
        """Append to the log. Late output is also added to the result of its step in `results`."""
        self.log.emit(body)
        if isinstance(body, LateOutput):
            self._late[body.nodeid] = (*self._late.get(body.nodeid, ()), body.late)
            self.results[:] = map(self._with_late, self.results)

    def _with_late(self, result: StepResult) -> StepResult:
        late = self._late.get(result.nodeid, ())
        return result if late == result.late else replace(result, late=late)

    @property
    def image(self) -> str:
        return self._image.ref

    @property
    def tools(self) -> tuple[str, ...]:
        return tuple(tool.name for tool in self._tools)

    @property
    def image_id(self) -> str:
        """Return the engine's id of the image with its tools; empty before the session has started."""
        return self._image_id

    def start(self) -> None:
        """Prepare the image and the tools and start the shell, unless that is done.

        Raises EngineError, InstallError, CaptureError; UsageError after `close`.
        """
        if self._closed:
            raise UsageError("this session is closed", hint="make a new one: Session(image)")
        if self._live is None:
            _open_sessions.add(self)
            self._image_id = self._bench.prepare(0, self._image, self._tools, self._settings)
            self._live = self._bench.session(self._image_id, self._settings, self._env)
            self._facts = self._live.facts

    def close(self) -> None:
        """End everything in the session and remove its container and directories. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        _open_sessions.discard(self)
        try:
            if self._live is not None:
                self._live.close()
        finally:
            self._live = None
            self._bench.close()
            self.log.close()

    def install(self, *specs: str | Mapping[str, object]) -> None:
        """Add tools, each STRATEGY:SPEC or in the full form of a plan.

        A started session restarts: files are kept, shell state and jobs are lost. Raises InstallError; the session then goes on
        as before.
        """
        added = tuple(parse_tool(spec) for spec in specs)
        names = {tool.name for tool in added}
        tools = (*(tool for tool in self._tools if tool.name not in names), *added)
        if self._live is None:
            before, self._tools = self._tools, tools
            with ExitStack() as undo:
                undo.callback(setattr, self, "_tools", before)
                self.start()
                undo.pop_all()
            return
        image_id = self._bench.prepare(0, self._image, tools)
        self._live = self._bench.session(image_id, self._settings, self._env, self._live)
        self._facts = self._live.facts
        self._tools, self._image_id = tools, image_id
        self.journal.add(Restarted())
        self.log.emit(Problem("the session was restarted to install tools: files are kept, shell state and jobs are gone"))

    def run(
        self,
        command: str | Sequence[str] | None = None,
        *,
        stdin: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float | None = None,
        check: bool = False,
        id: str | None = None,
        tty: bool | Tty | Mapping[str, object] = False,
        interact: Sequence[InteractionGiven] = (),
        merge: bool = False,
        background: str | None = None,
        ready: Ready | Mapping[str, object] | None = None,
        stop: str | None = None,
        signal: Mapping[str, str] | None = None,
    ) -> StepResult:
        """Run one step: a string is a script for the session's shell, a list is exact arguments. `timeout` is in seconds.

        Returns what the step did, also if it failed, was not found or was killed. With `check`, anything but success raises
        StepFailed. `tty` gives the step its own terminal, in which `interact` is done. With `merge`, stdout and stderr are one
        stream in exact order, which is the result's stdout. `background` names a program that keeps running; `run` returns when
        the program is `ready`. Instead of a command, `stop` ends the program of that name, and `signal` sends signals to
        programs, by name.

        Raises UsageError for a step that no shell can run, SessionLost if the session is gone.
        """
        asked = StepRequest(
            "", "", command if isinstance(command, str) else None,
            None if command is None or isinstance(command, str) else tuple(command), stdin=_bytes(stdin, "`stdin`"),
            env=env or {}, cwd=cwd, timeout_s=timeout, merge=merge, tty=tty_of(tty), interact=interactions_of(interact),
            background=background, ready=ready_of(ready), stop=stop, signal=dict(signal or {}),
        )  # fmt: skip
        check_together(asked)
        request = self._named(asked, id)
        live = self._started()
        result = self._with_late(live.run(request))
        self.results.append(result)
        self.journal.add(Ran(request, Seen(result, replace(live.facts, pids=result.pids), self._blobs.read), id))
        return result.check() if check else result

    def undo(self, steps: int = 1) -> UndoResult:
        """Undo the last steps: files and shell are as before them. Files that were put since then are gone too.

        The result says how the shell was recovered and what could not be undone. Raises UsageError, and changes nothing, if so
        many steps cannot be undone; SessionLost, CaptureError, EngineError if the session is lost.
        """
        if self._closed:
            raise UsageError("this session is closed", hint="make a new one: Session(image)")
        if steps < 1:
            raise UsageError(f"undoing {steps} steps: at least 1 can be undone", hint="undo(1)")
        if not self._settings.undo:
            raise UsageError("this session was started without undo", hint=f"Session(image, undo={MAX_UNDO})")
        live = self._started()
        try:
            undone = live.undo(steps)
        except FreshContainerNeeded as why:
            self._live = live = self._bench.session(self._image_id, self._settings, self._env, live)
            self._facts = live.facts
            undone = live.undo(steps, afresh=str(why))
        if self._settings.network != "none":
            undone = replace(undone, notes=(*undone.notes, "what was sent over the network stays sent"))
        del self.results[-len(undone.steps) :]
        for step_id in undone.steps:
            self._late.pop(f"session::{step_id}", None)
            if (name := self._slugs.pop(step_id, None)) is not None:
                self._ids[name] -= 1
        self.journal.undo(len(undone.steps))
        return undone

    def mismatches(self, expect: Expect, result: StepResult) -> tuple[Mismatch, ...]:
        """Return the expectations that do not hold for the step of `result`, which must be the last one.

        Raises CaptureError for a file that cannot be read and for usage that was not measured.
        """
        doubt = unjudged_usage(expect.max, result) or unjudged_end(expect.exit, result)
        if doubt is not None:
            raise CaptureError(doubt.message, hint=doubt.hint)
        return (*check(expect, result, self._started().seen), *check_usage(expect.max, result))

    def save(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        verify: bool = True,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> SavedPlan:
        """Write the steps so far as a plan (`*.lab.yaml`, `.lab.yml` or `.lab.json`), and its goldens into the project's
        `snapshots/`.

        The plan is first replayed in a fresh session. What differs from run to run is normalised or left out; the notes of the
        returned value say so. A plan that is not `green` in the end is still written. Without `verify` it is not replayed.
        `tell` gets a line for each replay. The session goes on.

        Raises UsageError for a path that exists, unless `overwrite`, and for what no plan can say.
        """
        if not self.journal.steps:
            raise UsageError(f"saving the session as {path}: no step was run in it yet")
        place = PlanDestination.at(path, overwrite=overwrite)
        return save(self._making(), self.journal.entries, place, verify=verify, tell=tell)

    def put(self, path: str, content: str | bytes | Path, *, mode: int | None = None) -> None:
        """Put a file into the workspace; a Path is a file or folder of the host. It is no step's change."""
        live = self._started()
        if isinstance(content, Path):
            live.copy(path, content, mode)
            self.journal.add(Put(path, source=content.absolute(), mode=mode))
        else:
            data = _bytes(content, f"putting {path}")
            live.put(path, data, mode)
            self.journal.add(Put(path, data, mode=mode))

    def get(self, path: str) -> bytes:
        """Return the content of a regular file in the workspace, or by an absolute path in /tmp, home or a writable root file
        system.

        Raises FileNotFoundError for anything else, links too.
        """
        return self._started().read(path)

    def golden(self, result: StepResult, spec: GoldenSpec) -> GoldenTree:
        """Return what a step of this session did as the files of a golden; works later and after `close` too.

        Raises CaptureError for content that a golden cannot hold, UsageError for a wrong rule in `spec.normalize`.
        """
        kept = {change.path: change.sha256 for change in result.changes if change.sha256 is not None}
        step = Step(result.id, result.nodeid, golden=spec)
        facts = replace(self._facts, pids=result.pids) if spec.normalize else Facts()
        return render(step, result, lambda path: self._blobs.read(kept[path]), facts).tree

    def interrupt(self) -> None:
        """End the running step, from any thread. The session lives on."""
        live = self._live
        if live is not None:
            live.interrupt()

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        state = "closed" if self._closed else "not started yet" if self._live is None else "running"
        return session_html(self.image, self.tools, state, self.results)

    def _started(self) -> LiveSession:
        self.start()
        if self._live is None:
            raise SessionLost("the session did not start")
        return self._live

    def _named(self, asked: StepRequest, step_id: str | None) -> StepRequest:
        name = step_id or self._next_id(asked.command if asked.argv is None else " ".join(asked.argv))
        request = replace(asked, id=name, nodeid=f"session::{name}")
        request.validate()
        return request

    def _making(self) -> SessionSpec:
        made = self._settings
        usual = "writable" if made.user == "root" else "read-only"
        rootfs = None if made.rootfs == usual else made.rootfs
        return SessionSpec(self._image, self._tools, made.network, made.user, rootfs, made.shell, made.limits, self._env)

    def _next_id(self, text: str) -> str:
        base = slug(text)
        count = self._ids[base] = self._ids.get(base, 0) + 1
        step_id = base if count == 1 else f"{base}-{count}"
        self._slugs[step_id] = base
        return step_id


def _image(image: str | Mapping[str, object] | ImageSpec) -> ImageSpec:
    if isinstance(image, ImageSpec):
        return image
    return ImageSpec(image) if isinstance(image, str) else parse_image(image)


def _with_undo(settings: SessionSettings, undo: int | None) -> SessionSettings:
    undo = settings.undo if undo is None else undo
    undo = MAX_UNDO if undo is None else undo
    if not 0 <= undo <= MAX_UNDO:
        raise UsageError(f"`undo` must be from 0 to {MAX_UNDO} steps, not {undo}", hint=f"Session(image, undo={MAX_UNDO})")
    return replace(settings, undo=undo)


def _bytes(content: str | bytes, what: str) -> bytes:
    try:
        return content.encode() if isinstance(content, str) else content
    except UnicodeEncodeError as error:
        raise UsageError(f"{what}: half a surrogate pair is not valid text") from error


def session_of(result: StepResult) -> Session | None:
    """Return the session of this process in which the step ran; None if there is none or it is garbage-collected."""
    return next((each for each in list(_sessions) if any(known is result for known in each.results)), None)


def run_plan(
    plan: str | Path | Plan | Mapping[str, object],
    *,
    update: bool = False,
    store: bool = True,
    image: str | None = None,
    keep: bool = False,
    matrix: Mapping[str, str | Sequence[str]] | None = None,
    retries: int = 0,
    allow_flaky: bool = False,
    require_limits: bool = False,
) -> RunResult:
    """Run one plan, in every cell of its matrix, and return the result. A plan that fails is a result too.

    `update` writes goldens. `matrix` keeps only cells with these values; several values of one key are alternatives. A failed
    case runs up to `retries` more times; if it then passes, it fails the run unless `allow_flaky`. With `require_limits`, no
    session starts whose limits cannot be enforced or measured.

    Raises UsageError for a wrong plan, CaptureError if results cannot be stored.
    """
    filters = [f"{key}={value}" for key, values in (matrix or {}).items() for value in _each(values)]
    plans = in_cells(_loaded(plan), filters)
    if image is not None:
        plans = [with_image(each, image) for each in plans]
    location = load_config(plans[0].root).store_location if store else None
    return run_plans(
        plans,
        RunOptions(
            update=update,
            store=location,
            keep=keep,
            retries=retries,
            allow_flaky=allow_flaky,
            require_limits=require_limits,
        ),
    )


def _each(values: str | Sequence[str]) -> Sequence[str]:
    return [values] if isinstance(values, str) else values


def _loaded(plan: str | Path | Plan | Mapping[str, object]) -> Sequence[Plan]:
    if isinstance(plan, Plan):
        return [plan]
    if isinstance(plan, str | Path):
        path = Path(plan)
        return load_plans(path, defaults=load_config(plan_root(path)).defaults)
    root = project_root(Path.cwd())
    return parse_plans(plan, root=root, defaults=load_config(root).defaults)


def _close_all() -> None:
    for session in list(_open_sessions):
        try:
            session.close()
        except LabError:
            continue  # at exit nobody can act on it; the next run removes what is left


atexit.register(_close_all)
