"""Removes earlier runs by age and by size: first their rows, then the blobs that no database names any more.

A running run is never removed, nor is the newest one by size. The blobs of a running run are safe: its rows name them, and
blobs younger than its start, or than the hour of `BlobStore.collect`, stay. `maintenance/runs.py` calls this and reports it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from testronaut_lab.model.runs import ArtifactPolicy, RunSummary
from testronaut_lab.store.blobs import BlobStore, Swept
from testronaut_lab.store.database import Store


@dataclass(frozen=True, slots=True)
class Freed:
    """What was removed, or would be with `dry_run`: ids of runs, oldest first, and the blobs that only those runs named."""

    runs: tuple[str, ...] = ()
    swept: Swept = field(default_factory=Swept)
    database_bytes: int = 0


def apply(store: Store, blobs: BlobStore, policy: ArtifactPolicy, *, dry_run: bool = False, now: float | None = None) -> Freed:
    """Remove the runs that `policy` does not keep, and all blobs that no run names. Raises CaptureError.

    This reads every recorded database that names blobs of this folder; one that cannot be read stops the sweep.
    """
    now = time.time() if now is None else now
    runs = store.runs()
    gone = _too_old(runs, policy, now)
    gone += _too_much(store, blobs, [run for run in runs if run.id not in set(gone)], policy)
    before = _database_bytes(store)
    if gone and not dry_run:
        store.remove(gone)
        store.compact()
    stores = [store, *_others(store, blobs)]
    running = [_started(run) or 0.0 for each in stores for run in each.runs() if run.status == "running"]
    named = set[str]().union(*(each.blobs_of(run.id) for each in stores for run in each.runs() if run.id not in gone))
    swept = blobs.collect(named, now=now, since=min(running, default=None), dry_run=dry_run)
    return Freed(tuple(gone), swept, 0 if dry_run else max(before - _database_bytes(store), 0))


def exceeds(store: Store, blobs: BlobStore, policy: ArtifactPolicy, *, now: float | None = None) -> bool:
    """Whether `apply` would find something to remove. It reads no event, so it is cheap enough for every run."""
    if _too_old(store.runs(), policy, time.time() if now is None else now):
        return True
    return policy.max_size_bytes is not None and _database_bytes(store) + sum(blobs.sizes().values()) > policy.max_size_bytes


def _too_old(runs: Sequence[RunSummary], policy: ArtifactPolicy, now: float) -> list[str]:
    if policy.max_age_s is None:
        return []
    dated = [(started, run) for run in runs if run.status != "running" and (started := _started(run)) is not None]
    return [run.id for started, run in sorted(dated, key=lambda pair: pair[0]) if started < now - policy.max_age_s]


def _too_much(store: Store, blobs: BlobStore, runs: Sequence[RunSummary], policy: ArtifactPolicy) -> list[str]:
    """The runs that do not fit: sizes add up from the newest run on, and a blob that several runs name counts once."""
    if policy.max_size_bytes is None:
        return []
    sizes = blobs.sizes()
    taken = 0
    seen: set[str] = set()
    gone: list[str] = []
    for number, run in enumerate(runs):
        named = store.blobs_of(run.id) - seen
        seen |= named
        taken += store.size_of(run.id) + sum(sizes.get(sha256, 0) for sha256 in named)
        if taken > policy.max_size_bytes and number > 0 and run.status != "running":
            gone.insert(0, run.id)
    return gone


def _others(store: Store, blobs: BlobStore) -> list[Store]:
    """The other databases that may name these blobs: a run with `--store` keeps its blobs here too."""
    known = {path.resolve() for path in [*blobs.databases(), blobs.root.parent / "results.db"] if path.exists()}
    return [Store.open(path) for path in sorted(known - {store.file.resolve()})]


def _database_bytes(store: Store) -> int:
    files = [store.file, store.file.with_name(store.file.name + "-wal")]
    return sum(file.stat().st_size for file in files if file.exists())


def _started(run: RunSummary) -> float | None:
    try:
        return datetime.fromisoformat(run.started).timestamp()
    except ValueError:
        return None  # another program wrote this row, so the run stays
