"""Stores large content in files named by their SHA-256.

1. A writer streams into a spool file of its own (`new_spool`).
2. `adopt` renames the finished spool file to its hash. Equal content is stored once, and gets a new date.
3. `sync` makes the blob durable. Only then does `store/writer.py` commit a row that names it.
4. `collect` deletes blobs that no row names and that are over an hour old; the caller says which blobs rows name.
5. Every read checks the content against the hash.
`adopt` and `collect` exclude each other by a lock file. If a process dies before step 3, no row names the blob and `collect`
deletes it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from testronaut_lab.errors import CaptureError
from testronaut_lab.model.events import Body, Event, LateOutput, PlanRecorded, StepFinished
from testronaut_lab.model.result import Captured
from testronaut_lab.store.folder import make_folder, sync_folder

GRACE_S = 3600.0
_PIECE_BYTES = 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed, or would remove in a dry run."""

    blobs: int = 0
    size_bytes: int = 0


class BlobStore:
    """Blobs under `root` (usually `.testronaut/blobs`). Any number of threads and processes may use one root at once."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._unsynced: set[Path] = set()
        self._guard = threading.Lock()

    def path(self, sha256: str) -> Path:
        """The blob's path, whether it exists or not. Raises CaptureError if `sha256` is not a SHA-256 in lower-case hex."""
        if not _SHA256.fullmatch(sha256):
            raise CaptureError(f"looking a blob up: {sha256!r} is not a SHA-256")
        return self.root / sha256[:2] / sha256[2:]

    def read(self, sha256: str) -> bytes:
        """The blob's bytes, checked against its hash. Raises CaptureError if the blob is missing or damaged."""
        path = self.path(sha256)
        with _storing(f"reading blob {sha256[:12]}"):
            data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CaptureError(f"reading blob {sha256[:12]}: {path} is damaged, its content does not have that SHA-256")
        return data

    def new_spool(self) -> Path:
        """Create an empty file to stream into; pass it to `adopt` when it is complete. `collect` deletes left-over files."""
        folder = self.root / "tmp"
        with _storing(f"making a spool file in {folder}"):
            make_folder(folder)
            descriptor, name = tempfile.mkstemp(prefix=f"{os.getpid()}-", dir=folder)
            os.close(descriptor)
        return Path(name)

    def adopt(self, spool: Path, sha256: str) -> Path:
        """Store the finished file `spool` as the blob `sha256`; returns the blob's path. It is durable after the next `sync`.

        The hash is not checked here. Equal content is stored once. The spool file is gone afterwards, even if this raises
        CaptureError.
        """
        target = self.path(sha256)
        try:
            with _storing(f"storing blob {sha256[:12]}"), self._lock(fcntl.LOCK_SH):
                self._place(spool, target)
        finally:
            spool.unlink(missing_ok=True)
        return target

    def sync(self) -> None:
        """Make everything adopted so far durable. Call it before you commit a row that names a blob.

        `adopt` does not do this, because a step must not wait for the disk. Raises CaptureError.
        """
        with self._guard:
            waiting, self._unsynced = self._unsynced, set()
        with _storing(f"writing blobs in {self.root} to the disk"):
            for path in waiting:
                _sync_file(path)
            for folder in {path.parent for path in waiting}:
                sync_folder(folder)
            if waiting:
                sync_folder(self.root)

    def add_bytes(self, data: bytes) -> str:
        """Store `data`; returns its SHA-256."""

        def pour(out: BinaryIO) -> str:
            out.write(data)
            return hashlib.sha256(data).hexdigest()

        return self._add(pour)

    def add_file(self, path: Path) -> str:
        """Store a copy of a regular file; returns its SHA-256. A link is not followed."""

        def pour(out: BinaryIO) -> str:
            digest = hashlib.sha256()
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as source:
                while piece := source.read(_PIECE_BYTES):
                    digest.update(piece)
                    out.write(piece)
            return digest.hexdigest()

        return self._add(pour)

    def copy(self, sha256: str, out: BinaryIO) -> int:
        """Write the blob to `out` piece by piece; returns its size in bytes. Raises CaptureError as `read` does, at the end."""
        path, digest, size = self.path(sha256), hashlib.sha256(), 0
        with _storing(f"copying blob {sha256[:12]}"), path.open("rb") as blob:
            while piece := blob.read(_PIECE_BYTES):
                digest.update(piece)
                size += out.write(piece)
        if digest.hexdigest() != sha256:
            raise CaptureError(f"copying blob {sha256[:12]}: {path} is damaged, its content does not have that SHA-256")
        return size

    def sizes(self) -> dict[str, int]:
        """The size in bytes of every blob, by its SHA-256."""
        with _storing(f"looking through {self.root}"):
            blobs = list(self.root.glob("??/*"))
            return {path.parent.name + path.name: path.lstat().st_size for path in blobs}

    def collect(
        self, referenced: set[str], *, now: float | None = None, since: float | None = None, dry_run: bool = False
    ) -> Swept:
        """Remove blobs that are not in `referenced` and spool files without a writer, if they are over an hour old.

        The hour protects blobs stored after `referenced` was read. Everything younger than `since` (a Unix time) stays, too.
        With `dry_run` nothing is removed.
        """
        before = min((time.time() if now is None else now) - GRACE_S, math.inf if since is None else since)
        if not self.root.is_dir():
            return Swept()
        with _storing(f"sweeping {self.root}"), self._lock(fcntl.LOCK_EX):
            old = [(path, info) for path in self.root.glob("*/*") if (info := path.lstat()).st_mtime < before]
            doomed = [(path, info.st_size) for path, info in old if not self._in_use(path, referenced)]
            for path, _size in doomed if not dry_run else ():
                path.unlink()
        return Swept(len(doomed), sum(size for _path, size in doomed))

    def named_by(self, database: Path) -> None:
        """Record in a file beside the blobs that rows of this database name blobs here."""
        line = json.dumps(os.path.relpath(database, self.root)) + "\n"
        with _storing(f"noting {database} in {self.root}"), self._lock(fcntl.LOCK_EX):
            known = self._databases_file.read_text() if self._databases_file.exists() else ""
            if line not in known.splitlines(keepends=True):
                with self._databases_file.open("a") as file:
                    file.write(line)

    def databases(self) -> list[Path]:
        """Every recorded database that still exists."""
        with _storing(f"reading {self._databases_file}"):
            lines = self._databases_file.read_text().splitlines() if self._databases_file.exists() else []
        found = [Path(os.path.normpath(self.root / json.loads(line))) for line in lines]
        return [path for path in found if path.exists()]

    @property
    def _databases_file(self) -> Path:
        return self.root / "databases"

    def _add(self, pour: Callable[[BinaryIO], str]) -> str:
        spool = self.new_spool()
        try:
            with _storing(f"writing {spool}"), open(spool, "wb") as out:
                sha256 = pour(out)
            self.adopt(spool, sha256)
        finally:
            spool.unlink(missing_ok=True)
        return sha256

    def _place(self, spool: Path, target: Path) -> None:
        size = spool.stat().st_size
        if target.exists() and target.stat().st_size == size:
            os.utime(target)  # a new date, so that `collect` waits for the row that will name the blob
        else:
            spool.chmod(0o400)
            target.parent.mkdir(exist_ok=True)
            spool.replace(target)
        # Sync an existing blob too: the process that stored it may have died before its own sync.
        with self._guard:
            self._unsynced.add(target)

    @staticmethod
    def _in_use(path: Path, referenced: set[str]) -> bool:
        if path.parent.name != "tmp":
            return path.parent.name + path.name in referenced
        return Path("/proc", path.name.partition("-")[0]).exists()  # a quiet step may go on writing after hours

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        """Hold the lock, shared to add, exclusive to sweep: an old blob must not vanish between its reuse and its new date."""
        make_folder(self.root)
        with open(self.root / "lock", "ab") as lock:
            fcntl.flock(lock, kind)
            yield


def named_blobs(body: Body) -> Iterator[str]:
    """Yield the SHA-256 of every blob that an event names: large streams and plans, the content of changed files."""
    if isinstance(body, PlanRecorded):
        yield from (text.sha256 for text in (body.resolved, body.written) if text is not None and text.data is None)
    if isinstance(body, StepFinished):
        result = body.result
        yield from (stream.sha256 for stream in (result.stdout_stream, result.stderr_stream) if stream.data is None)
        yield from (change.sha256 for change in result.changes if change.sha256 is not None)
    if isinstance(body, LateOutput) and body.late.captured.data is None:
        yield body.late.captured.sha256


def with_paths(event: Event, blobs: BlobStore) -> Event:
    """Return a stored event with `Captured.path` set for large streams. The path is not stored; the hash gives it."""
    body = event.body
    if isinstance(body, PlanRecorded):
        written = None if body.written is None else _located(body.written, blobs)
        return replace(event, body=replace(body, resolved=_located(body.resolved, blobs), written=written))
    if isinstance(body, LateOutput):
        late = replace(body.late, captured=_located(body.late.captured, blobs))
        return replace(event, body=replace(body, late=late))
    if not isinstance(body, StepFinished):
        return event
    result = body.result
    stdout, stderr = (_located(stream, blobs) for stream in (result.stdout_stream, result.stderr_stream))
    if stdout is result.stdout_stream and stderr is result.stderr_stream:
        return event
    return replace(event, body=replace(body, result=replace(result, stdout_stream=stdout, stderr_stream=stderr)))


def _located(stream: Captured, blobs: BlobStore) -> Captured:
    return stream if stream.data is not None else replace(stream, path=str(blobs.path(stream.sha256)))


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _storing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise CaptureError(f"{what}: {error}", hint="df -h ." if full else None) from error
