"""The results database: opens it, lists and searches its runs, reads their events back.

`store/writer.py` writes runs, `store/blobs.py` keeps large content, `report/state/view.py` folds a run's events into a result.
"""

from __future__ import annotations

import difflib
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import Connection, Engine, delete, func, insert, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import Body, Event, from_json
from testronaut_lab.model.result import Status
from testronaut_lab.model.runs import RunState, RunSummary
from testronaut_lab.store import tables
from testronaut_lab.store.blobs import BlobStore, named_blobs
from testronaut_lab.store.folder import make_folder
from testronaut_lab.store.writer import StoreWriter

_PAGE = 500


class Store:
    """One results database, made by `Store.open`. It holds no connection between calls, so it needs no `close`."""

    def __init__(self, file: Path, engine: Engine) -> None:
        self.file = file
        self._engine = engine
        self._locks = file.parent / "runs"

    @staticmethod
    def open(location: str | Path) -> Store:
        """Open the database, and create it on first use. `location` is a path or a URL of the form `sqlite:///PATH`.

        Raises UsageError for another kind of URL or a database of a newer version, CaptureError if it cannot be used.
        """
        file = _file_of(location)
        engine = tables.create_engine(file)
        with _accessing(file):
            make_folder(file.parent)
            with open(file.with_name(file.name + ".lock"), "ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # if two processes turn WAL on, one fails at once, whatever the timeout
                _prepare(engine, file)
        return Store(file, engine)

    @staticmethod
    def to_read(location: str | Path) -> Store:
        """Open the database for reading, without creating it. A database that does not exist has no runs.

        Raises as `open` does. A read-only disk is not an error.
        """
        file = _file_of(location)
        with _accessing(file):
            if not file.exists():
                return Store(file, tables.create_reading_engine(None))
            if os.access(file, os.W_OK) and os.access(file.parent, os.W_OK):
                return Store.open(location)
            engine = tables.create_reading_engine(file)
            with engine.begin() as connection:
                _check_version(file, connection.execute(select(tables.meta.c.version)).scalar() or 0)
        return Store(file, engine)

    def writer(self, run_id: str, log: EventLog, blobs: BlobStore | None = None) -> StoreWriter:
        """Store the facts of `log`, past and future, as the run `run_id` until the writer is closed.

        `blobs` holds the large content of the facts, and is made durable before them.
        """
        if blobs is not None:
            blobs.named_by(self.file)
        with _accessing(self.file):
            return StoreWriter(self._engine, self._locks, run_id, log, blobs)

    def runs(self) -> list[RunSummary]:
        """All stored runs, the newest first."""
        with self._reading() as connection:
            rows = connection.execute(select(tables.runs).order_by(tables.runs.c.started.desc(), tables.runs.c.id.desc())).all()
        return [
            RunSummary(
                id=row.id,
                started=row.started,
                finished=row.finished,
                status=self._state(row.id, row.status),
                totals=json.loads(row.totals),
                plans=tuple(json.loads(row.plans)),
            )
            for row in rows
        ]

    def find(self, wanted: str, again: str = "") -> str:
        """Return the id of the one run whose id starts with `wanted`; `last` is the newest run.

        Raises UsageError for no run or several. `again` is added to the command in the hint, so that it uses this database.
        """
        ids = [run.id for run in self.runs()]
        if wanted == "last" and ids:
            return ids[0]
        matching = [run_id for run_id in ids if run_id.startswith(wanted)] if wanted else []
        if wanted in matching or len(matching) == 1:
            return wanted if wanted in matching else matching[0]
        if matching:
            raise UsageError(
                f"{wanted!r} is the start of {len(matching)} runs: {', '.join(matching[:5])}", hint=f"testronaut-lab runs{again}"
            )
        near = difflib.get_close_matches(wanted, ids, n=1, cutoff=0.5)
        nearest = f"; the nearest is {near[0]}" if near else "" if ids else "; there are no runs yet"
        raise UsageError(
            f"no stored run {wanted!r} in {self.file}{nearest}", hint=f"testronaut-lab run{'s' if ids else ''}{again}"
        )

    def events(self, run_id: str) -> Iterator[Event]:
        """Yield the facts of a run in order; for a run that is still written, the facts committed so far.

        An unknown run has no facts. Raises CaptureError for an event that this version cannot read.
        """
        seq = 0
        while page := self._page(run_id, seq):
            yield from page
            seq = page[-1].seq

    def referenced_blobs(self) -> set[str]:
        """The SHA-256 of every blob that a stored run names."""
        return set[str]().union(*(self.blobs_of(run.id) for run in self.runs()))

    def blobs_of(self, run_id: str) -> set[str]:
        """The SHA-256 of every blob that this run names."""
        return {sha256 for event in self.events(run_id) for sha256 in named_blobs(event.body)}

    def size_of(self, run_id: str) -> int:
        """The size in bytes of the run's facts in the database."""
        columns = tables.events.c
        with self._reading() as connection:
            query = select(func.coalesce(func.sum(func.length(columns.payload)), 0)).where(columns.run_id == run_id)
            return int(connection.execute(query).scalar_one())

    def remove(self, run_ids: Sequence[str]) -> None:
        """Remove runs, all or none. None of them may be still written. Their blobs stay until `BlobStore.collect`."""
        with _accessing(self.file):
            with self._engine.connect().execution_options(write=True) as connection, connection.begin():
                for run_id in run_ids:
                    for table, column in ((tables.events, "run_id"), (tables.steps, "run_id"), (tables.runs, "id")):
                        connection.execute(delete(table).where(table.c[column] == run_id))
            for run_id in run_ids:
                (self._locks / f"{run_id}.lock").unlink(missing_ok=True)

    def compact(self) -> None:
        """Give the space of removed runs back to the disk. No-op while another process uses the database."""
        with suppress(CaptureError), _accessing(self.file):
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM")

    def _page(self, run_id: str, after: int) -> list[Event]:
        columns = tables.events.c
        query = select(columns.seq, columns.wall, columns.mono, columns.payload)
        with self._reading() as connection:
            rows = connection.execute(
                query.where(columns.run_id == run_id, columns.seq > after).order_by(columns.seq).limit(_PAGE)
            ).all()
        return [Event(row.seq, row.wall, row.mono, _body(run_id, row.seq, row.payload)) for row in rows]

    def _state(self, run_id: str, status: str | None) -> RunState:
        if status is not None:
            return Status(status)
        try:
            with open(self._locks / f"{run_id}.lock", "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return "running"
        except FileNotFoundError:
            pass
        return "interrupted"

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _accessing(self.file), self._engine.begin() as connection:
            yield connection


def _file_of(location: str | Path) -> Path:
    if isinstance(location, Path) or "://" not in location:
        return Path(location).absolute()
    try:
        url = make_url(location)
    except ArgumentError as error:
        raise UsageError(f"--store {location}: not a database URL", hint="--store sqlite:///PATH") from error
    if url.get_backend_name() != "sqlite":
        raise UsageError(f"--store: a {url.get_backend_name()} database is not supported yet", hint="--store sqlite:///PATH")
    if not url.database or url.database == ":memory:" or url.query:
        raise UsageError("--store: the URL must name a file and nothing else", hint="--store sqlite:///PATH")
    return Path(url.database).absolute()


def _prepare(engine: Engine, file: Path) -> None:
    with engine.connect() as connection:
        cursor = connection.connection.cursor()  # not through SQLAlchemy: inside its transaction the mode cannot change
        cursor.execute("PRAGMA journal_mode = WAL")
        (mode,) = cursor.fetchone() or ("",)
        cursor.close()
    if mode != "wal":
        raise CaptureError(
            f"opening {file}: SQLite cannot keep a write-ahead log there", hint="--store sqlite:///PATH on a local disk"
        )
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        tables.metadata.create_all(connection, tables=[tables.meta])
        version = connection.execute(select(tables.meta.c.version)).scalar()
        if version is None:
            tables.metadata.create_all(connection)
            connection.execute(insert(tables.meta).values(version=tables.VERSION))
        else:
            _check_version(file, version)


def _check_version(file: Path, version: int) -> None:
    if version > tables.VERSION:
        message = f"opening {file}: it has version {version}, and this program knows up to {tables.VERSION}"
        raise UsageError(message, hint="pip install --upgrade testronaut-lab")


def _body(run_id: str, seq: int, payload: bytes) -> Body:
    try:
        return from_json(payload)
    except ValidationError as error:
        raise CaptureError(f"reading run {run_id}: event {seq} is damaged or of a newer version") from error


@contextmanager
def _accessing(file: Path) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = getattr(error, "orig", None) or error
        raise CaptureError(
            f"using the results database {file}: {cause}", hint="--store sqlite:///PATH names another one"
        ) from error
