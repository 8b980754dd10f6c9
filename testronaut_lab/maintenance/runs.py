"""Stored runs: `clean --artifacts`, the project's retention policy after a run, and `export`. Returns text for people.

`store/retention.py` decides what is removed; `evidence/` makes the bundle of an export.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from testronaut_lab.config import Config, load_config, project_root
from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.evidence.bundle import export
from testronaut_lab.model.units import parse_age, size_text
from testronaut_lab.store import retention
from testronaut_lab.store.blobs import BlobStore
from testronaut_lab.store.database import Store


def clean_artifacts(older_than: str | None, location: str | None, *, dry_run: bool) -> str:
    """Remove stored runs and what only they refer to. Returns a line that says what was freed.

    `older_than` overrides the project's `max_age`. Without both, only blobs that no run refers to are removed. Raises
    UsageError for a wrong age, CaptureError.
    """
    config = load_config(project_root(Path.cwd()))
    policy = config.artifacts
    if older_than is not None:
        try:
            policy = replace(policy, max_age_s=parse_age(older_than))
        except ValueError as error:
            raise UsageError(f"--older-than {older_than}: {error}", hint="--older-than 30d") from error
    return _said(retention.apply(Store.open(location or config.store_location), _blobs(config), policy, dry_run=dry_run), dry_run)


def export_run(wanted: str, target: Path, location: str | None, again: str = "") -> str:
    """Write the evidence bundle of a stored run. Returns lines that say what it holds. `again` is as in `Store.find`.

    Raises UsageError, CaptureError.
    """
    config = load_config(project_root(Path.cwd()))
    store = Store.to_read(location or config.store_location)
    exported = export(store, _blobs(config), store.find(wanted, again), target)
    size = size_text(sum(file.size_bytes for file in exported.files))
    files = f"{len(exported.files)} files, {size}"
    return f"exported {exported.run} to {target}: {files}\nmanifest.json has sha256 {exported.manifest_sha256}"


def keep_to_policy(root: Path, location: str | Path) -> str | None:
    """Remove what the project's retention policy does not keep, after a run. Returns a line about it; None if nothing was
    removed.

    A failure to remove is such a line too, not an error: it does not change the result of the run.
    """
    config = load_config(root)
    if not config.artifacts.is_set:
        return None
    try:
        store, blobs = Store.open(location), _blobs(config)
        if not retention.exceeds(store, blobs, config.artifacts):
            return None
        freed = retention.apply(store, blobs, config.artifacts)
    except CaptureError as error:
        return f"old runs were not removed: {error.message}"
    return _said(freed, dry_run=False) if freed.runs or freed.swept.blobs else None


def _blobs(config: Config) -> BlobStore:
    return BlobStore(config.results / "blobs")


def _said(freed: retention.Freed, dry_run: bool) -> str:
    runs = f"{len(freed.runs)} run{'' if len(freed.runs) == 1 else 's'}"
    which = f" ({freed.runs[0]} to {freed.runs[-1]})" if len(freed.runs) > 1 else f" ({freed.runs[0]})" if freed.runs else ""
    blobs = f"{freed.swept.blobs} blob{'' if freed.swept.blobs == 1 else 's'}"
    if dry_run:
        return f"would remove {runs}{which}, {blobs} of {size_text(freed.swept.size_bytes)}"
    return f"removed {runs}{which}, {blobs}: {size_text(freed.swept.size_bytes + freed.database_bytes)} freed"
