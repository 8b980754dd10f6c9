"""What of earlier runs is removed, by age and by size: rows first, then the blobs that no database names any more.

A run that is being written is never removed, nor is the newest; what a running one has stored is protected by its rows, by
the hour of grace of `BlobStore.collect` and by its start. Who asks for it, and what is said of it, is in `maintenance/runs.py`.
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
    """What was removed, or with `dry_run` would be: ids of runs, oldest first, and the blobs that only they named."""

    runs: tuple[str, ...] = ()
    swept: Swept = field(default_factory=Swept)
    database_bytes: int = 0


def apply(store: Store, blobs: BlobStore, policy: ArtifactPolicy, *, dry_run: bool = False, now: float | None = None) -> Freed:
    """Remove the runs that `policy` does not keep, and what nothing names. Raises CaptureError.

    Every database that is known to name blobs of this folder is asked; one that cannot be read stops the sweep.
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
    """Whether `apply` is worth its time: cheap enough to ask after every run, it reads no event."""
    if _too_old(store.runs(), policy, time.time() if now is None else now):
        return True
    return policy.max_size_bytes is not None and _database_bytes(store) + sum(blobs.sizes().values()) > policy.max_size_bytes


def _too_old(runs: Sequence[RunSummary], policy: ArtifactPolicy, now: float) -> list[str]:
    if policy.max_age_s is None:
        return []
    dated = [(started, run) for run in runs if run.status != "running" and (started := _started(run)) is not None]
    return [run.id for started, run in sorted(dated, key=lambda pair: pair[0]) if started < now - policy.max_age_s]


def _too_much(store: Store, blobs: BlobStore, runs: Sequence[RunSummary], policy: ArtifactPolicy) -> list[str]:
    """From the newest to the oldest as many as there is room for; what several of them name counts once."""
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
    """The other databases that may name these blobs: a run with `--store` of its own keeps its blobs here too."""
    known = {path.resolve() for path in [*blobs.databases(), blobs.root.parent / "results.db"] if path.exists()}
    return [Store.open(path) for path in sorted(known - {store.file.resolve()})]


def _database_bytes(store: Store) -> int:
    files = [store.file, store.file.with_name(store.file.name + "-wal")]
    return sum(file.stat().st_size for file in files if file.exists())


def _started(run: RunSummary) -> float | None:
    try:
        return datetime.fromisoformat(run.started).timestamp()
    except ValueError:
        return None  # another program wrote the row: it stays
