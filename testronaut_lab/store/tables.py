"""The database's tables, and the SQLite settings that make a commit durable.

`events` holds the facts; `runs` and `steps` are indexes over them for lists and queries, written in the same transaction.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Column, Connection, Engine, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy import create_engine as _create_engine
from sqlalchemy import event as sa_event
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

VERSION = 1
BUSY_TIMEOUT_MS = 10_000

metadata = MetaData()

meta = Table("meta", metadata, Column("version", Integer, primary_key=True))

runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("started", String, nullable=False),
    Column("finished", String),
    Column("status", String),
    Column("exit_status", Integer),
    Column("plans", Text, nullable=False, default="[]"),
    Column("totals", Text, nullable=False, default="{}"),
)

events = Table(
    "events",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("wall", Float, nullable=False),
    Column("mono", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

steps = Table(
    "steps",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("nodeid", String, nullable=False),
    Column("status", String, nullable=False),
    Column("exit_kind", String),
    Column("code", Integer),
    Column("duration_s", Float),
    Index("steps_by_nodeid", "nodeid", "run_id"),
)


def create_engine(file: Path) -> Engine:
    """An engine for a SQLite file. Transactions marked `execution_options(write=True)` take the write lock at their start."""
    engine = _create_engine(f"sqlite:///{file}", poolclass=NullPool)
    sa_event.listen(engine, "connect", _configure)
    sa_event.listen(engine, "begin", _begin)
    return engine


def create_reading_engine(file: Path | None) -> Engine:
    """A read-only engine for a SQLite file; for None, an engine for an empty database in memory.

    Without a write-ahead log the file is opened as immutable, because SQLite would otherwise try to create the log.
    """
    if file is None:
        engine = _create_engine("sqlite://", poolclass=NullPool)
        statements = [str(CreateTable(table).compile(dialect=engine.dialect)) for table in metadata.sorted_tables]

        def make_tables(connection: sqlite3.Connection, _record: object) -> None:
            for statement in statements:
                connection.execute(statement).close()

        sa_event.listen(engine, "connect", make_tables)  # each connection is a new database in memory
        return engine
    log = file.with_name(f"{file.name}-wal")
    settled = "" if log.exists() and log.stat().st_size else "&immutable=1"
    uri = f"file:{quote(os.fsencode(file))}?mode=ro{settled}"
    engine = _create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), poolclass=NullPool)
    sa_event.listen(engine, "connect", _configure)
    sa_event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver's BEGIN takes the write lock late, and that can fail at once
    for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    writes = bool(connection.get_execution_options().get("write"))
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
