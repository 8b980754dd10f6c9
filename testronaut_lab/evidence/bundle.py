"""Exports a stored run as an evidence bundle: a folder that another program can verify, starting from `manifest.json`.

Everything is checked against its hashes on the way, and a run with missing or damaged content is refused. Two exports of one
run give the same bytes. The command `schema result` prints the schema of the manifest. `evidence/folder.py` writes the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import orjson
from pydantic import JsonValue

from testronaut_lab.errors import CaptureError, LabError, UsageError
from testronaut_lab.evidence.folder import NewFolder, Written, new_folder
from testronaut_lab.golden.normalize import Normalizing
from testronaut_lab.model.cells import without_cell
from testronaut_lab.model.events import CaseStarted, Event, PlanRecorded, StepFinished
from testronaut_lab.model.files import FileChange
from testronaut_lab.model.normalizing import Facts, Normalized
from testronaut_lab.model.result import Captured, RunResult, StepResult
from testronaut_lab.report.files.json import JsonObject, dumps, events_to_jsonl, run_to_dict
from testronaut_lab.report.state.view import RunView
from testronaut_lab.store.blobs import BlobStore, with_paths
from testronaut_lab.store.database import Store

VERSION = 1
_PLAN_FACTS = ("name", "file", "status", "image", "tools", "network", "user", "cell")


@dataclass(frozen=True, slots=True)
class Exported:
    """`manifest_sha256` is enough to verify the whole bundle: the manifest has the digests of all other files."""

    run: str
    files: tuple[Written, ...]
    manifest_sha256: str


def export(store: Store, blobs: BlobStore, run_id: str, target: Path) -> Exported:
    """Write the run into the new folder `target`.

    Raises UsageError if the run is still running or `target` is taken, CaptureError if content of the run is gone or damaged.
    After an error nothing of the bundle is left.
    """
    events = [with_paths(event, blobs) for event in store.events(run_id)]
    state = next((run.status for run in store.runs() if run.id == run_id), None)
    if state is None or state == "running":  # checked after the events were read, so that none can be missing
        why = "it has just been removed" if state is None else "it is still running"
        raise UsageError(f"exporting run {run_id}: {why}", hint="testronaut-lab runs")
    view = RunView()
    for event in events:
        view.apply(event)
    with new_folder(target) as folder:
        manifest = _Bundle(folder, blobs, events, view).manifest()
        folder.add("manifest.json", manifest)
    return Exported(run_id, tuple(folder.written), hashlib.sha256(manifest).hexdigest())


@dataclass(slots=True)
class _Plan:
    """The files of one plan in the bundle, by path, and the digest of the plan."""

    resolved: str | None = None
    written: str | None = None
    digest: str | None = None


class _Key(NamedTuple):
    """One step in one attempt of its case."""

    plan: int
    nodeid: str
    case_attempt: int


class _Bundle:
    """Writes one bundle."""

    def __init__(self, folder: NewFolder, blobs: BlobStore, events: list[Event], view: RunView) -> None:
        self._folder = folder
        self._blobs = blobs
        self._events = events
        self._view = view
        self._plans: dict[int, _Plan] = {}
        self._contents: set[str] = set()

    def manifest(self) -> bytes:
        """Write all files except the manifest; return the manifest's text."""
        result = self._view.result()
        self._folder.add("result.json", dumps(result))
        self._folder.pour("events.jsonl", lambda out: out.writelines(events_to_jsonl(self._events)))
        for event in self._events:
            if isinstance(event.body, PlanRecorded):
                self._plans[event.body.plan] = self._plan(event.body)
        steps = self._steps(result)
        tree = run_to_dict(result)
        plans = tree["plans"]
        assert isinstance(plans, list)
        document: JsonObject = {
            "version": VERSION,
            "kind": "testronaut-lab evidence",
            "lab": {"name": "testronaut-lab", "version": version("testronaut-lab")},
            **{name: tree[name] for name in ("run", "started", "finished", "status", "engine", "totals")},
            "plans": [self._plan_entry(number, plan) for number, plan in zip(sorted(self._view.plans), plans, strict=True)],
            "steps": [*steps],
            "files": [{"path": file.path, "size": file.size_bytes, "sha256": file.sha256} for file in self._folder.written],
        }
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)

    def _plan(self, body: PlanRecorded) -> _Plan:
        document = self._checked(body.resolved, f"plan {body.plan}")
        resolved = self._folder.add(f"plans/{body.plan}/resolved.json", document)
        written = None
        if body.written is not None:
            file = self._view.plan(body.plan).file or ""
            suffix = "json" if file.endswith(".json") else "yaml"
            text = self._checked(body.written, f"plan {body.plan}")
            written = self._folder.add(f"plans/{body.plan}/written.lab.{suffix}", text)
        return _Plan(resolved, written, body.resolved.sha256)

    def _plan_entry(self, number: int, facts: object) -> JsonObject:
        assert isinstance(facts, dict)
        plan = self._plans.get(number, _Plan())
        entry: JsonObject = {name: facts[name] for name in _PLAN_FACTS}
        note = self._view.plans[number].image_note
        kept: JsonObject = {"digest": plan.digest, "resolved": plan.resolved, "written": plan.written}
        return {"plan": number, **entry, "image_note": note, **kept}

    def _steps(self, result: RunResult) -> list[JsonObject]:
        """Every attempt of every step, in the order in which they ended.

        Only the last attempt of a step within one attempt of its case has a verdict.
        """
        verdicts = _verdicts(sorted(self._view.plans), result)
        ended = list(_ended(self._events))
        last = {key: i for i, (key, _) in enumerate(ended)}
        homes: dict[_Key, str] = {}
        cases: dict[tuple[int, str, int], str] = {}
        entries = []
        for i, (key, body) in enumerate(ended):
            if (case := (body.plan, body.case, key.case_attempt)) not in cases:
                cases[case] = self._folder.free_name(f"steps/{body.plan}", self._case_folder(body, key.case_attempt))
            if key not in homes:
                homes[key] = self._folder.free_name(cases[case], body.result.id)
            home = homes[key] if i == last[key] else self._folder.free_name(homes[key], f"attempt-{body.result.attempts}")
            judged = verdicts.get(key) if i == last[key] else None
            normalized = verdicts[key].normalized if key in verdicts else None
            entries.append(self._step(key, home, body.result, judged, normalized))
        return entries

    def _case_folder(self, body: StepFinished, attempt: int) -> str:
        """The folder of the last attempt has the case's name; earlier attempts have a suffix."""
        name = without_cell(body.case.rpartition("::")[2])
        return name if attempt == self._view.plan(body.plan).case(body.case).attempts else f"{name}.attempt-{attempt}"

    def _step(
        self, key: _Key, home: str, result: StepResult, judged: StepResult | None, normalized: Normalized | None
    ) -> JsonObject:
        shown = judged or result
        normalizer = Normalizing((), Facts()) if normalized is None else Normalizing(normalized.rules, normalized.facts)
        normalizer.normalize_text(result.command)  # first, so that values are numbered in the same order as in a golden
        diffs = [mismatch.diff for mismatch in shown.mismatches if mismatch.diff is not None]
        return {
            "plan": key.plan,
            "nodeid": result.nodeid,
            "attempt": result.attempts,
            "case_attempt": key.case_attempt,
            "status": shown.status.value,
            "stdout": self._stream(f"{home}/stdout", result.stdout_stream, normalizer),
            "stderr": self._stream(f"{home}/stderr", result.stderr_stream, normalizer),
            "diffs": [self._folder.add(f"{home}/difference-{i}.diff", _bytes(diff)) for i, diff in enumerate(diffs, 1)],
            "changes": self._changes(result.changes),
        }

    def _stream(self, name: str, stream: Captured, normalizer: Normalizing) -> JsonObject:
        data = self._checked(stream, name)
        raw = self._folder.add(f"{name}.raw", data)
        try:
            text = normalizer.content(data)
        except LabError:  # too large, or a pattern is too slow: the raw bytes are there
            return {"raw": raw, "normalized": None}
        return {"raw": raw, "normalized": self._folder.add(f"{name}.normalized.txt", text)}

    def _changes(self, changes: Iterable[FileChange]) -> list[JsonValue]:
        entries: list[JsonValue] = []
        for change in changes:
            what: JsonObject = {"change": change.change.value, "path": change.path, "type": change.type.value}
            entries.append(what | {"sha256": change.sha256, "file": self._content(change.sha256)})
        return entries

    def _content(self, sha256: str | None) -> str | None:
        """Add the content under its hash, once for all files with the same content; return its path in the bundle."""
        if sha256 is None:
            return None
        path = f"files/{sha256}"
        if sha256 not in self._contents:
            self._contents.add(sha256)
            self._folder.pour(path, lambda out: self._blobs.copy(sha256, out))
        return path

    def _checked(self, stream: Captured, what: str) -> bytes:
        data = self._blobs.read(stream.sha256) if stream.data is None else stream.data
        if hashlib.sha256(data).hexdigest() != stream.sha256:
            raise CaptureError(f"exporting {what}: the stored bytes do not have the SHA-256 they were stored with")
        return data


def _verdicts(numbers: list[int], result: RunResult) -> dict[_Key, StepResult]:
    return {
        _Key(number, step.nodeid, attempt): step
        for number, plan in zip(numbers, result.plans, strict=True)
        for case in plan.cases
        for attempt, steps in enumerate([*(each.steps for each in case.earlier), case.steps], 1)
        for step in steps
    }


def _ended(events: Iterable[Event]) -> Iterator[tuple[_Key, StepFinished]]:
    attempts: dict[tuple[int, str], int] = {}
    for event in events:
        if isinstance(event.body, CaseStarted):
            attempts[event.body.plan, event.body.nodeid] = event.body.attempt
        elif isinstance(event.body, StepFinished):
            body = event.body
            yield _Key(body.plan, body.result.nodeid, attempts.get((body.plan, body.case), 1)), body


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
