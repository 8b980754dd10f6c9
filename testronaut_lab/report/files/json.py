"""A run as JSON for programs, version 1. Fields keep their names and meaning. New fields may come; readers ignore them.

`schema.py` has its JSON Schema. The `text` of a stream is for reading only; the store has its bytes, by `sha256`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson
from pydantic import JsonValue

from testronaut_lab.errors import UsageError
from testronaut_lab.model.events import Event, to_json
from testronaut_lab.model.files import FileChange
from testronaut_lab.model.normalizing import Normalized
from testronaut_lab.model.result import (
    Captured,
    CaseAttempt,
    CaseResult,
    EngineInfo,
    ErrorInfo,
    ImageInfo,
    Late,
    Mismatch,
    OutsideChange,
    PlanResult,
    RunResult,
    StepResult,
    ToolInfo,
    Usage,
)
from testronaut_lab.safetext import safe_json

VERSION = 1
JsonObject = dict[str, JsonValue]


def dumps(result: RunResult) -> bytes:
    """Return the run as an indented JSON document with a trailing newline. It is safe to print: `\\uNNNN` replaces unsafe
    characters.
    """
    return safe_json(orjson.dumps(run_to_dict(result), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def load_run(data: bytes) -> JsonObject:
    """Parse a document that `dumps` made. Raises UsageError for anything else, and for a newer version."""
    try:
        tree: JsonValue = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"reading a result: not JSON: {error}") from error
    version = tree.get("version") if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or not isinstance(version, int):
        raise UsageError("reading a result: no `version`, so this is no result", hint="testronaut-lab schema result")
    if version > VERSION:
        message = f"reading a result: it has version {version}, and this program knows up to {VERSION}"
        raise UsageError(message, hint="pip install --upgrade testronaut-lab")
    return tree


def events_to_jsonl(events: Iterable[Event]) -> Iterator[bytes]:
    """Yield one JSON line for each fact, with `seq`, `wall` and `mono` beside its fields. Hints are left out."""
    for event in events:
        if not event.is_hint:
            stamp: JsonObject = {"version": VERSION, "seq": event.seq, "wall": event.wall, "mono": event.mono}
            body: JsonObject = orjson.loads(to_json(event.body))
            yield safe_json(orjson.dumps(stamp | {"kind": body.pop("kind")} | body, option=orjson.OPT_APPEND_NEWLINE))


def run_to_dict(result: RunResult) -> JsonObject:
    """Return the tree that `dumps` writes. Reads the files of large streams; `text` is null if a file is gone."""
    tree: JsonObject = {
        "version": VERSION,
        "run": result.run,
        "started": result.started,
        "finished": result.finished,
        "status": result.status.value,
        "engine": _engine(result.engine),
        "plans": [_plan(plan) for plan in result.plans],
        "totals": dict[str, JsonValue](result.totals),
    }
    return tree | _error_if_set(result.error)


def _plan(plan: PlanResult) -> JsonObject:
    tree: JsonObject = {
        "name": plan.name,
        "file": plan.file,
        "image": _image(plan.image),
        "tools": [_tool(tool) for tool in plan.tools],
        "network": plan.network,
        "user": plan.user,
        "cell": dict(plan.cell),
        "status": plan.status.value,
        "cases": [_case(case) for case in plan.cases],
    }
    notes: JsonObject = {"notes": list(plan.notes)} if plan.notes else {}
    started: JsonObject = {} if plan.started is None else {"started": plan.started}
    return tree | started | notes | _error_if_set(plan.error)


def _case(case: CaseResult) -> JsonObject:
    tree: JsonObject = {
        "id": case.id,
        "nodeid": case.nodeid,
        "tags": list(case.tags),
        "status": case.status.value,
        "attempts": case.attempts,
        "duration_s": case.duration_s,
        "session": case.session,
        "steps": [step_to_dict(step) for step in case.steps],
    }
    expected: JsonObject = {} if case.expect_fail is None else {"expect_fail": case.expect_fail}
    earlier: JsonObject = {"earlier": [_attempt(attempt) for attempt in case.earlier]} if case.earlier else {}
    return tree | _line(case.line) | expected | earlier | _error_if_set(case.error)


def _attempt(attempt: CaseAttempt) -> JsonObject:
    tree: JsonObject = {
        "status": attempt.status.value,
        "duration_s": attempt.duration_s,
        "steps": [step_to_dict(step) for step in attempt.steps],
    }
    return tree | _error_if_set(attempt.error)


def step_to_dict(step: StepResult) -> JsonObject:
    """Return one step as in the document."""
    command: JsonObject = {"run": step.run} if step.argv is None else {"argv": list(step.argv)}
    screen: JsonObject = {} if step.screen is None else {"screen": step.screen}
    optional = screen | _line(step.line) | _normalized(step.normalized)
    return optional | {
        "id": step.id,
        "nodeid": step.nodeid,
        "phase": step.phase.value,
        **command,
        "status": step.status.value,
        "attempts": step.attempts,
        "exit": {"kind": step.exit.kind.value, "code": step.exit.code, "signal": step.exit.signal},
        "stdout": _stream(step.stdout_stream),
        "stderr": _stream(step.stderr_stream),
        "changes": [_change(change) for change in step.changes],
        "transient": list(step.transient),
        "outside": [_outside(change) for change in step.outside],
        "usage": _usage(step.usage),
        "duration_s": step.duration_s,
        "cwd": step.cwd,
        "state": step.state.value,
        "left_behind": list(step.left_behind),
        "mismatches": [_mismatch(mismatch) for mismatch in step.mismatches],
        "error": _error(step.error),
        "notes": list(step.notes),
        "merged": step.merged,
        "late": [_late(late) for late in step.late],
        "pids": list(step.pids),
    }


def _line(line: int | None) -> JsonObject:
    return {} if line is None else {"line": line}


def _normalized(normalized: Normalized | None) -> JsonObject:
    """Return the rules of the golden's comparison, as a plan writes them, and the facts needed to repeat it; {} without rules."""
    if normalized is None:
        return {}
    written: list[JsonValue] = [
        rule if isinstance(rule, str) else {"matches": rule.matches, "replace": rule.replace} for rule in normalized.rules
    ]
    facts = normalized.facts
    about: JsonObject = {
        "workspace": facts.workspace,
        "home": facts.home,
        "tmp": facts.tmp,
        "hostname": facts.hostname,
        "container_id": facts.container_id,
        "tools": [{"name": name, "version": version} for name, version in facts.tools],
        "kernel": facts.kernel,
        "pids": [*facts.pids],
    }
    return {"normalized": {"rules": written, "fired": dict(normalized.fired), "facts": about}}


def _stream(stream: Captured) -> JsonObject:
    try:
        text: str | None = stream.text
    except FileNotFoundError:
        text = None
    return {
        "bytes": stream.size_bytes,
        "sha256": stream.sha256,
        "text": text,
        "truncated": stream.truncated,
        "dropped": stream.dropped_bytes,
        "open": stream.open,
        "chunks": [[elapsed_s, offset] for elapsed_s, offset in stream.chunks],
    }


def _late(late: Late) -> JsonObject:
    stream = _stream(late.captured)
    kept: JsonObject = {name: stream[name] for name in ("bytes", "sha256", "text", "truncated", "dropped")}
    return {"stream": late.stream, **kept, "during": late.during}


def _change(change: FileChange) -> JsonObject:
    tree: JsonObject = {
        "change": change.change.value,
        "path": change.path,
        "type": change.type.value,
        "mode": None if change.mode is None else f"{change.mode:04o}",
        "size": change.size_bytes,
        "sha256": change.sha256,
        "target": change.target,
    }
    return tree if change.note is None else tree | {"note": change.note}


def _engine(engine: EngineInfo | None) -> JsonObject | None:
    if engine is None:
        return None
    return {
        "name": engine.name,
        "version": engine.version,
        "api": engine.api,
        "driver": engine.driver,
        "copies": engine.copies,
    }


def _image(image: ImageInfo | None) -> JsonObject | None:
    if image is None:
        return None
    contents: JsonObject = {"digests": list(image.digests), "diff_ids": list(image.diff_ids)}
    return {"ref": image.ref, "id": image.id, "source": image.source, **contents}


def _tool(tool: ToolInfo) -> JsonObject:
    return {
        "name": tool.name,
        "version": tool.version,
        "strategy": tool.strategy,
        "spec": tool.spec,
        "program": tool.program,
        "packages": [{"manager": each.manager, "name": each.name, "version": each.version} for each in tool.packages],
        "built": tool.built,
        "key": tool.key,
    }


def _outside(change: OutsideChange) -> JsonObject:
    return {"change": change.change, "path": change.path}


def _usage(usage: Usage) -> JsonObject:
    return {"cpu_s": usage.cpu_s, "peak_memory_bytes": usage.peak_memory_bytes, "method": usage.method}


def _mismatch(mismatch: Mismatch) -> JsonObject:
    return {
        "aspect": mismatch.aspect,
        "path": mismatch.path,
        "expected": mismatch.expected,
        "actual": mismatch.actual,
        "diff": mismatch.diff,
    }


def _error(error: ErrorInfo | None) -> JsonObject | None:
    return None if error is None else {"class": error.class_, "message": error.message, "hint": error.hint}


def _error_if_set(error: ErrorInfo | None) -> JsonObject:
    return {} if error is None else {"error": _error(error)}
