"""Writes the facts of one run into the database while the run goes on, on a thread of its own.

The thread takes all facts that wait, syncs the blobs, and commits the facts in one transaction. A fact is stored when `wait`
returns for it, not before. A locked file says that a process still writes the run; the kernel drops the lock when the process
ends, so a run without the lock and without an end is `interrupted`.
"""

from __future__ import annotations

import fcntl
import json
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from testronaut_lab.errors import CaptureError
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import (
    AttemptFailed,
    Body,
    CaseFinished,
    CaseStarted,
    Event,
    PlanStarted,
    RunFinished,
    RunStarted,
    StepFinished,
    StepJudged,
    StepOverruled,
    StepsUndone,
    to_json,
)
from testronaut_lab.model.result import Status
from testronaut_lab.store import tables
from testronaut_lab.store.blobs import BlobStore
from testronaut_lab.store.folder import make_folder


class StoreWriter:
    """The writer of one run, made by `Store.writer`. Close it when the run is over."""

    def __init__(self, engine: Engine, locks: Path, run_id: str, log: EventLog, blobs: BlobStore | None) -> None:
        self.run_id = run_id
        self._engine = engine
        self._log = log
        self._blobs = blobs
        self._row = _RunRow(run_id)
        self._lock_path = locks / f"{run_id}.lock"
        self._lock_file = self._take_lock()
        self._events = log.subscribe(hints=False)
        self._changed = threading.Condition()
        self._committed = 0
        self._failure: CaptureError | None = None
        self._thread = threading.Thread(target=self._work, name=f"store-{run_id}", daemon=True)
        self._thread.start()

    @property
    def committed_seq(self) -> int:
        """The `seq` of the last fact on disk. Every fact before it is on disk too."""
        with self._changed:
            return self._committed

    def wait(self, seq: int, timeout_s: float | None = 30.0) -> None:
        """Block until every fact up to `seq` is on disk. Raises CaptureError if storing failed, and at the timeout."""
        target = self._log.last_fact(seq)
        with self._changed:
            done = self._changed.wait_for(lambda: self._committed >= target or self._failure is not None, timeout_s)
            if self._committed >= target:
                return
            if self._failure is not None:
                raise self._failure
        assert not done
        raise CaptureError(f"storing run {self.run_id}: event {target} was not on disk after {timeout_s:g} s")

    def close(self, timeout_s: float | None = 60.0) -> None:
        """Store every fact emitted so far, end the thread, release the lock. Raises CaptureError if a fact was not stored."""
        try:
            self.wait(self._log.last_fact(), timeout_s)
        finally:
            self._events.close()
            self._thread.join(timeout_s)
            self._lock_file.close()
            if self._row.finished:
                self._lock_path.unlink(missing_ok=True)

    def _take_lock(self) -> BinaryIO:
        make_folder(self._lock_path.parent)
        try:
            lock = open(self._lock_path, "xb")
        except FileExistsError as error:
            raise CaptureError(f"storing run {self.run_id}: {self._lock_path} exists, another process began this run") from error
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def _work(self) -> None:
        try:
            with self._engine.connect().execution_options(write=True) as connection:
                while (first := self._events.get()) is not None:
                    self._commit(connection, [first, *self._events.drain()])
        except CaptureError as error:
            self._fail(error)
        except (SQLAlchemyError, OSError, ValueError) as error:  # ValueError: text that cannot be encoded
            cause = getattr(error, "orig", None) or error
            self._fail(CaptureError(f"storing run {self.run_id} after event {self._committed}: {cause}", hint="df -h ."))

    def _fail(self, failure: CaptureError) -> None:
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def _commit(self, connection: Connection, batch: list[Event]) -> None:
        rows = [
            {
                "run_id": self.run_id,
                "seq": event.seq,
                "wall": event.wall,
                "mono": event.mono,
                "kind": event.body.kind,
                "payload": to_json(event.body),
            }
            for event in batch
        ]
        if self._blobs is not None:
            self._blobs.sync()
        with connection.begin():
            connection.execute(insert(tables.events), rows)
            self._row.write(connection, batch)
        with self._changed:
            self._committed = batch[-1].seq
            self._changed.notify_all()


class _RunRow:
    """Keeps the index tables `runs` and `steps` up to date with the events of this run."""

    def __init__(self, run_id: str) -> None:
        self._id = run_id
        self._made = False
        self._plans: list[str] = []
        self._totals: Counter[str] = Counter()
        self._cases: dict[tuple[int, str], Status] = {}
        self._unjudged: dict[str, int] = {}
        self._began: dict[str, int] = {}
        self.finished = False

    def write(self, connection: Connection, batch: list[Event]) -> None:
        if not self._made:
            connection.execute(insert(tables.runs).values(id=self._id, started=_started(batch[0])))
            self._made = True
        for event in batch:
            self._index(connection, event.seq, event.body)
        connection.execute(
            update(tables.runs)
            .where(tables.runs.c.id == self._id)
            .values(plans=json.dumps(self._plans), totals=json.dumps({status: self._totals[status] for status in Status}))
        )

    def _index(self, connection: Connection, seq: int, body: Body) -> None:
        match body:
            case PlanStarted():
                name = body.file or body.name
                if not (body.cell and name in self._plans):  # the cells of one matrix are one plan
                    self._plans.append(name)
            case CaseStarted():
                self._began[body.nodeid] = seq
            case AttemptFailed():
                self._attempt_failed(connection, body.nodeid)
            case CaseFinished():
                self._totals[body.status] += 1
                self._cases[body.plan, body.nodeid] = body.status
            case StepFinished():
                self._step_finished(connection, seq, body)
            case StepJudged():
                self._step_judged(connection, seq, body)
            case StepOverruled():
                self._step_overruled(connection, body)
            case StepsUndone():
                self._steps_undone(connection, body)
            case RunFinished():
                self._run_finished(connection, body)
            case _:
                pass

    def _step_finished(self, connection: Connection, seq: int, body: StepFinished) -> None:
        result = body.result
        earlier = self._unjudged.pop(result.nodeid, None) if result.attempts > 1 else None
        if earlier is not None:  # the index has only the last attempt; failed ones are in `events`
            steps = tables.steps
            connection.execute(delete(steps).where(steps.c.run_id == self._id, steps.c.seq == earlier))
        self._unjudged[result.nodeid] = seq
        connection.execute(
            insert(tables.steps).values(
                run_id=self._id,
                seq=seq,
                nodeid=result.nodeid,
                status=result.status.value,
                exit_kind=result.exit.kind.value,
                code=result.exit.code,
                duration_s=result.duration_s,
            )
        )

    def _attempt_failed(self, connection: Connection, case: str) -> None:
        """Remove the steps of a failed attempt of the case from the index; they stay in `events`."""
        steps, prefix = tables.steps, f"{case}::"
        of_case = func.substr(steps.c.nodeid, 1, len(prefix)) == prefix  # LIKE would take `A` for `a`
        connection.execute(delete(steps).where(steps.c.run_id == self._id, steps.c.seq > self._began.get(case, 0), of_case))

    def _step_judged(self, connection: Connection, seq: int, body: StepJudged) -> None:
        finished = self._unjudged.pop(body.nodeid, None)
        if finished is None:  # skipped: nothing was captured
            row = {"run_id": self._id, "seq": seq, "nodeid": body.nodeid, "status": body.status.value}
            connection.execute(insert(tables.steps).values(row))
            return
        steps = tables.steps
        where = (steps.c.run_id == self._id, steps.c.seq == finished)
        connection.execute(update(steps).where(*where).values(status=body.status.value))

    def _steps_undone(self, connection: Connection, body: StepsUndone) -> None:
        steps = tables.steps
        for nodeid in reversed(body.nodeids):  # a step that ran twice has two rows and is named twice
            of_it = (steps.c.run_id == self._id, steps.c.nodeid == nodeid)
            last = select(func.max(steps.c.seq)).where(*of_it).scalar_subquery()
            connection.execute(delete(steps).where(*of_it, steps.c.seq == last))
            self._unjudged.pop(nodeid, None)

    def _step_overruled(self, connection: Connection, body: StepOverruled) -> None:
        before = self._cases.get((body.plan, body.case))
        if before in (Status.PASSED, Status.FLAKY):
            self._totals[before] -= 1
            self._totals[Status.FAILED] += 1
            self._cases[body.plan, body.case] = Status.FAILED
        steps = tables.steps
        where = (steps.c.run_id == self._id, steps.c.nodeid == body.nodeid)
        connection.execute(update(steps).where(*where).values(status=Status.FAILED.value))

    def _run_finished(self, connection: Connection, body: RunFinished) -> None:
        self.finished = True
        connection.execute(
            update(tables.runs)
            .where(tables.runs.c.id == self._id)
            .values(finished=body.finished, status=body.status.value, exit_status=int(body.exit_status))
        )


def _started(first: Event) -> str:
    if isinstance(first.body, RunStarted):
        return first.body.started
    return datetime.fromtimestamp(first.wall, UTC).isoformat(timespec="milliseconds")
