"""One run of plans without a screen. The order of an event is fixed:

1. The scheduler, on the caller's thread, emits it into the log.
2. A writer thread of the store commits it, if it is a fact.
3. A report thread waits for that commit, folds the event into the view and calls the reporters.

So nothing that was reported can be lost. If the store or a reporter fails, the run stops and `run` raises the error. The caller
decides which plans run and what reporters do.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from testronaut_lab.capture.stream import StreamCapture
from testronaut_lab.config import load_config, way_to
from testronaut_lab.errors import Cancelled, ExitStatus, LabError, UsageError, worst
from testronaut_lab.eventlog import EventLog, Subscription
from testronaut_lab.execution.factory import SessionFactory, SessionSettings
from testronaut_lab.execution.runner import LiveSession
from testronaut_lab.execution.scheduler import RetryPolicy, Scheduler
from testronaut_lab.golden.names import SNAPSHOTS
from testronaut_lab.golden.pending import PendingStore
from testronaut_lab.golden.places import GoldenKey, check_apart, golden_key
from testronaut_lab.golden.store import GoldenStore
from testronaut_lab.judge.golden_writer import GoldenWriter
from testronaut_lab.judge.judge import Judge
from testronaut_lab.judge.shared_golden import SharedGoldens
from testronaut_lab.model.events import Event, PlanRecorded, Problem, RunFinished, RunStarted, StepOverruled
from testronaut_lab.model.plan import Plan, all_steps
from testronaut_lab.model.plan_json import plan_json
from testronaut_lab.model.result import Captured, RunResult, Status, combine
from testronaut_lab.model.runs import new_run_id
from testronaut_lab.report.state.view import RunView
from testronaut_lab.store.blobs import BlobStore
from testronaut_lab.store.database import Store
from testronaut_lab.store.writer import StoreWriter


class Reporter(Protocol):
    """Follows a run. `event` is called in order, after the view applied the event; `end` once, after the last event."""

    def event(self, view: RunView, event: Event) -> None: ...
    def end(self, view: RunView) -> None: ...


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run. `store` is the path or URL of the results database; None stores nothing. `ci` forbids writing goldens.

    With `update`, `update_only` names the steps whose goldens may be written; None means all. A failed case runs up to
    `retries` more times, each in a fresh session. A case that then passes is flaky, which fails the run unless `allow_flaky` is
    set. With `require_limits`, or if the project requires them, no session starts whose limits cannot be enforced or measured.
    """

    update: bool = False
    ci: bool = False
    fail_fast: bool = False
    keep: bool = False
    store: str | Path | None = None
    update_only: frozenset[str] | None = None
    retries: int = 0
    allow_flaky: bool = False
    require_limits: bool = False


class Run:
    """Create it and call `run` once. A signal handler or another thread may call `stop`."""

    def __init__(self, plans: Sequence[Plan], options: RunOptions) -> None:
        roots = {plan.root for plan in plans}
        if len(roots) != 1:
            raise UsageError(f"one run takes plans of one project, not of {len(roots)}: {', '.join(map(str, sorted(roots)))}")
        if options.retries:
            _refuse_shared_sessions(plans)
        self._plans = plans
        self._options = options
        self.id = new_run_id(datetime.now(UTC), secrets.randbits(16))
        self.log = EventLog()
        root = plans[0].root
        self._blobs = BlobStore(root / ".testronaut" / "blobs")
        config = load_config(root)
        self._bench = SessionFactory(
            self.log.emit,
            self._blobs,
            watch=config.watch,
            require_limits=options.require_limits or config.require_limits,
            orphan_timeout_s=config.orphan_timeout_s,
        )
        check_apart((step.nodeid, golden_key(step)) for plan in plans for step in all_steps(plan) if step.golden)
        goldens = GoldenStore(root / SNAPSHOTS)
        self._goldens = GoldenWriter(
            goldens,
            options.update,
            options.ci,
            options.update_only,
            hold=options.retries > 0,
            shared_goldens=SharedGoldens(_writers(plans, options)),
            pending=PendingStore(goldens),
            run=self.id,
            go_there=way_to(root),
        )
        retry = RetryPolicy(options.retries, options.allow_flaky)
        self._scheduler = Scheduler(self.log.emit, self._prepare, Judge(self._goldens), fail_fast=options.fail_fast, retry=retry)
        self._stopped_by: ExitStatus | None = None
        self._preparing = False

    @property
    def preparing(self) -> bool:
        """Whether an image or tools are being prepared. Only an exception on the running thread can interrupt that."""
        return self._preparing

    def stop(self, status: ExitStatus = ExitStatus.INTERRUPTED) -> None:
        """End the running step, remove its session and run nothing more. The run's exit status will be `status`."""
        self._stopped_by = status
        self._scheduler.stop()

    def run(self, reporters: Sequence[Reporter] = ()) -> RunResult:
        """Run everything; returns after all is stored and reported. Raises CaptureError if the store fails."""
        with self._opened(reporters) as view:
            self._finish(self._scheduler.run(self._plans))
        return view.result()

    @contextmanager
    def _opened(self, reporters: Sequence[Reporter]) -> Iterator[RunView]:
        """Open the run and yield its view. The caller runs cases inside and ends with `_finish`. On exit, everything is
        stored.
        """
        view = RunView()
        with self._stored() as writer, self._followed(view, writer, reporters):
            self.log.emit(RunStarted(self.id, _now()))
            try:
                yield view
            finally:
                self._bench.close()

    def _finish(self, status: Status) -> None:
        settled = self._settle_goldens()
        exits = [self._scheduler.exit_status, settled, self._stopped_by or ExitStatus.OK]
        if settled is not ExitStatus.OK:
            status = combine([status, Status.FAILED if settled is ExitStatus.FAILED else Status.ERROR])
        if self._stopped_by is not None:
            status = Status.ERROR
        self.log.emit(RunFinished(_now(), status, worst(exits)))

    def _settle_goldens(self) -> ExitStatus:
        """Settle the goldens that cells share, after the last case."""
        try:
            settled = self._goldens.settle(interrupted=self._stopped_by is not None)
        except LabError as error:
            self.log.emit(Problem(error.message, error.hint))
            return error.exit_status
        homes = {
            step.nodeid: (number, case.nodeid)
            for number, plan in enumerate(self._plans)
            for case in plan.cases
            for step in (*case.setup, *case.steps, *case.teardown)
        }
        for each in settled.overruled:
            self.log.emit(StepOverruled(*homes[each.nodeid], each.nodeid, each.mismatches, (each.note,)))
        for line in settled.said:
            self.log.emit(Problem(line))
        return ExitStatus.FAILED if settled.overruled else ExitStatus.OK

    @contextmanager
    def _stored(self) -> Iterator[StoreWriter | None]:
        if self._options.store is None:
            yield None
            return
        writer = Store.open(self._options.store).writer(self.id, self.log, self._blobs)
        try:
            yield writer
        finally:
            self.log.close()
            writer.close()

    @contextmanager
    def _followed(self, view: RunView, writer: StoreWriter | None, reporters: Sequence[Reporter]) -> Iterator[None]:
        """Start the report thread. If it fails, the run stops, and its error is raised here at the end."""

        def stop_if_failed(done: Future[None]) -> None:
            if done.exception() is not None:
                self.stop(ExitStatus.CAPTURE)

        with ThreadPoolExecutor(1, f"report-{self.id}") as thread:
            following = thread.submit(_follow, self.log.subscribe(), view, writer, reporters)
            following.add_done_callback(stop_if_failed)
            try:
                yield
            finally:
                self.log.close()
        following.result()

    def _prepare(self, number: int, plan: Plan) -> _Studio:
        written = None if plan.text is None else self._kept(plan.text.encode())
        self.log.emit(PlanRecorded(number, self._kept(plan_json(plan)), written))
        self._preparing = True
        try:
            image_id = self._bench.prepare(number, plan.image, plan.tools, SessionSettings.of(plan))
        except KeyboardInterrupt as interrupt:
            if self._stopped_by is None:
                raise
            raise Cancelled("the run was interrupted while image and tools were made ready") from interrupt
        finally:
            self._preparing = False
        if plan.rootfs == "writable":
            what = "the root file system is writable, except /run, /var/tmp and /dev/shm, which are in memory and not captured"
            self.log.emit(Problem(f"{plan.name}: {what}"))
        return _Studio(self._bench, image_id, SessionSettings.of(plan), self._options.keep, self._say_kept)

    def _kept(self, text: bytes) -> Captured:
        stream = StreamCapture(self._blobs, len(text))
        stream.feed(text)
        return stream.finish(open_=False)

    def _say_kept(self, session: LiveSession) -> None:
        name = session.container_name
        self.log.emit(
            Problem(
                f"kept container {name}, which `testronaut-lab clean --kept` removes",
                hint=f"{self._bench.engine.info.name} exec -it -w /workspace {name} sh",
            )
        )


def _writers(plans: Sequence[Plan], options: RunOptions) -> Iterator[tuple[str, GoldenKey]]:
    """Yield the steps that may write their goldens, with the golden of each."""
    if not options.update or options.ci:
        return
    for case in (case for plan in plans for case in plan.cases if case.expect_fail is None):
        for step in (*case.setup, *case.steps, *case.teardown):
            if step.golden is not None and (options.update_only is None or step.nodeid in options.update_only):
                yield step.nodeid, golden_key(step)


class _Studio:
    """Opens the sessions of one plan."""

    def __init__(
        self, bench: SessionFactory, image_id: str, settings: SessionSettings, keep: bool, on_kept: Callable[[LiveSession], None]
    ) -> None:
        self._bench = bench
        self._image_id = image_id
        self._settings = settings
        self._keep = keep
        self._on_kept = on_kept

    @contextmanager
    def session(self, env: Mapping[str, str]) -> Iterator[LiveSession]:
        session = self._bench.session(self._image_id, self._settings, env)
        try:
            yield session
        finally:
            session.close(keep=self._keep)
            if self._keep:
                self._on_kept(session)


def _follow(events: Subscription, view: RunView, writer: StoreWriter | None, reporters: Sequence[Reporter]) -> None:
    for event in events:
        if writer is not None and not event.is_hint:
            writer.wait(event.seq)
        view.apply(event)
        for reporter in reporters:
            reporter.event(view, event)
    for reporter in reporters:
        reporter.end(view)


def _refuse_shared_sessions(plans: Sequence[Plan]) -> None:
    for plan in plans:
        if plan.isolation == "plan":
            raise UsageError(
                f"--retries: the cases of {plan.name} share one session (`isolation: plan`), so none can be run again alone",
                hint="run that plan without --retries, or give it `isolation: case`",
            )


def run_plans(plans: Sequence[Plan], options: RunOptions) -> RunResult:
    """Run plans one after the other and wait until everything is stored. Raises CaptureError if that fails."""
    return Run(plans, options).run()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
