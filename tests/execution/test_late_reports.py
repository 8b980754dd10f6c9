"""How late output is stored, replayed and shown: by events alone, without a container."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
from rich.text import Text

from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import (
    Body,
    CaseStarted,
    Event,
    LateOutput,
    PlanStarted,
    RunStarted,
    StepFinished,
    StepJudged,
    StepStarted,
    StepsUndone,
    from_json,
    to_json,
)
from testronaut_lab.model.result import Captured, Exit, ExitKind, Late, Phase, Status, StepResult
from testronaut_lab.model.undo import UndoHow
from testronaut_lab.report.files.json import dumps, events_to_jsonl
from testronaut_lab.report.files.schema import events_schema, result_schema
from testronaut_lab.report.html.results import run_html
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.formatter import Formatter
from testronaut_lab.store.blobs import BlobStore, with_paths
from testronaut_lab.store.database import Store
from testronaut_lab.ui.tui.lines import effect_lines

SAID = LateOutput(0, "p::c", "p::c::a", Late("stdout", Captured(6, "0" * 64, b"LATE\x1b\n"), "p::c::b"))
BETWEEN = LateOutput(0, "p::c", "p::c::a", Late("stderr", Captured(2, "1" * 64, b"x\n", True, 7)))


def step(id_: str) -> tuple[Body, Body, Body]:
    result = StepResult(id_, f"p::c::{id_}", Exit(ExitKind.EXITED, 0), Status.PASSED, run=id_)
    return (
        StepStarted(0, "p::c", id_, result.nodeid, Phase.STEPS, id_),
        StepFinished(0, "p::c", result),
        StepJudged(0, "p::c", result.nodeid, Status.PASSED),
    )


def bodies(*between: Body) -> list[Body]:
    plan = PlanStarted(0, "p", None, "i", "none", "lab", (("c", "p::c", (), 2),))
    return [RunStarted("r", "2026-01-01T00:00:00Z"), plan, CaseStarted(0, "p::c"), *step("a"), *between, *step("b")]


def viewed(*emitted: Body) -> RunView:
    view = RunView()
    for number, body in enumerate(emitted, 1):
        view.apply(Event(number, 0.0, 0.0, body))
    return view


def late_of(view: RunView) -> list[tuple[Late, ...]]:
    return [result.late for result in view.result().plans[0].cases[0].steps]


def test_it_is_a_fact_that_comes_back_as_it_was_written() -> None:
    assert from_json(to_json(SAID)) == SAID
    assert not Event(1, 0.0, 0.0, SAID).is_hint


def test_it_is_of_the_step_that_started_its_writer_whenever_it_comes() -> None:
    started, finished, judged = step("a")
    assert late_of(viewed(*bodies(SAID), BETWEEN)) == [(SAID.late, BETWEEN.late), ()]
    assert late_of(viewed(*bodies()[:3], started, SAID, finished, BETWEEN, judged)) == [(SAID.late, BETWEEN.late)]


def test_of_a_step_that_was_undone_it_is_nobodys() -> None:
    assert late_of(viewed(*bodies(), StepsUndone(0, "p::c", ("p::c::a", "p::c::b"), UndoHow.SHELL), SAID)) == []


def test_json_has_it_as_the_schema_says() -> None:
    tree = json.loads(dumps(viewed(*bodies(SAID)).result()))
    jsonschema.validate(tree, result_schema())
    first, second = tree["plans"][0]["cases"][0]["steps"]
    expected = {"stream": "stdout", "bytes": 6, "text": "LATE\x1b\n", "during": "p::c::b", "dropped": 0, "truncated": False}
    assert first["late"] == [{**expected, "sha256": "0" * 64}]
    assert second["late"] == []


def test_its_event_is_as_the_schema_says() -> None:
    (line,) = events_to_jsonl([Event(1, 0.0, 0.0, SAID)])
    jsonschema.validate(json.loads(line), events_schema())


def test_text_tells_it_when_it_comes() -> None:
    formatter, view = Formatter(), RunView()
    lines: list[Text] = []
    for number, body in enumerate(bodies(SAID, BETWEEN), 1):
        event = Event(number, 0.0, 0.0, body)
        view.apply(event)
        lines += formatter.lines(view, event)
    told = [line.plain.strip() for line in lines]
    at = next(number for number, line in enumerate(told) if line.startswith("late"))
    assert told[at : at + 3] == ["late            c::a", "stdout, late, while c::b ran", "LATE\\x1b"]
    assert told[at + 4] == "stderr, late, between two steps, 7 bytes over the limit were dropped"


def test_html_has_it_with_its_step_and_safe() -> None:
    page = run_html(viewed(*bodies(SAID)).result())
    assert "stdout, late, while c::b ran" in page
    assert "LATE" in page and "\x1b" not in page


def test_the_dashboard_has_it_beside_what_the_step_did() -> None:
    result = viewed(*bodies(SAID)).result().plans[0].cases[0].steps[0]
    shown = [line.plain if isinstance(line, Text) else line for line in effect_lines(result)]
    assert shown[:2] == ["stdout, late, while c::b ran", "LATE\\x1b"]


def test_a_stored_run_replays_it_with_its_file(tmp_path: Path) -> None:
    blobs, store, log = BlobStore(tmp_path / "blobs"), Store.open(tmp_path / "r.db"), EventLog()
    spool = blobs.new_spool()
    spool.write_bytes(b"much")
    path = blobs.adopt(spool, "a" * 64)
    large = LateOutput(0, "p::c", "p::c::a", Late("stdout", Captured(4, "a" * 64, None, path=str(path)), None))
    writer = store.writer("r", log, blobs)
    for body in bodies(SAID, large):
        log.emit(body)
    log.close()
    writer.close()
    assert "a" * 64 in store.referenced_blobs()
    replayed = RunView()
    for event in store.events("r"):
        replayed.apply(with_paths(event, blobs))
    assert [late.captured.read() for late in late_of(replayed)[0]] == [b"LATE\x1b\n", b"much"]
