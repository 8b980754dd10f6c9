"""The JSON of a run: exact field names, valid against its own schema."""

import json
from dataclasses import fields, replace

import jsonschema
import pytest

from testronaut_lab.errors import ErrorKind, ExitStatus, UsageError
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import AttemptFailed, CaseFinished, OutputChunk, PlanStarted, Problem, RunStarted, StepFinished
from testronaut_lab.model.files import ChangeKind, FileChange, FileType
from testronaut_lab.model.result import (
    Captured,
    CaseAttempt,
    CaseResult,
    EngineInfo,
    ErrorInfo,
    Exit,
    ExitKind,
    ImageInfo,
    Mismatch,
    OutsideChange,
    PlanResult,
    RunResult,
    Status,
    StepResult,
    ToolInfo,
    Usage,
)
from testronaut_lab.report.files.json import dumps, events_to_jsonl, load_run, run_to_dict
from testronaut_lab.report.files.schema import events_schema, result_schema

STEP = StepResult(
    id="a",
    nodeid="p::c::a",
    exit=Exit(ExitKind.EXITED, 137, "KILL"),
    status=Status.FAILED,
    run="jq .x",
    stdout_stream=Captured(3, "ab" * 32, b"1\xff\n", True, 7, True, chunks=((0.25, 0), (1.5, 2))),
    changes=(
        FileChange(ChangeKind.ADDED, "out", FileType.FILE, 0o644, 3, "cd" * 32),
        FileChange(ChangeKind.MODIFIED, "l", FileType.LINK, 0o4755, target="out", note="not read"),
        FileChange(ChangeKind.DELETED, "gone", FileType.DIR),
    ),
    transient=("tmp.1",),
    outside=(OutsideChange("added", "/tmp/x"),),
    usage=Usage(0.25, 4096, "reset"),
    duration_s=0.5,
    cwd="/workspace",
    left_behind=("sleep",),
    mismatches=(Mismatch("stdout.equals", "a", "b", None, "-a\n+b\n"),),
    error=ErrorInfo(ErrorKind.CAPTURE, "cut", "df -h ."),
    notes=("n",),
)
ARGV = StepResult("b", "p::c::b", Exit(ExitKind.TIMEOUT), Status.ERROR, argv=("jq", ".x y"))
CASE = CaseResult("c", "p::c", Status.FAILED, (STEP, ARGV), ("smoke",), 1, 0.7)
PLAN = PlanResult(
    "p", "p.lab.yaml", Status.FAILED, (CASE,), ImageInfo("debian", "sha256:1", "local"), (ToolInfo("jq", "1.6", "apt"),)
)
RUN = RunResult(
    "r1",
    "2026-11-22T18:45:12Z",
    "2026-11-22T18:45:13Z",
    Status.FAILED,
    EngineInfo("docker", "20.10", "1.41"),
    (PLAN,),
    ExitStatus.FAILED,
)
BARE = RunResult("r2", "2026-11-22T18:45:12Z", None, Status.ERROR, None, (PlanResult("p", None, Status.ERROR, ()),))


@pytest.mark.parametrize("copies", ["traced", "forked", None])
def test_the_engine_has_the_way_of_copies(copies: str | None) -> None:
    tree = run_to_dict(replace(RUN, engine=EngineInfo("docker", "20.10", "1.41", copies=copies)))
    assert tree["engine"] == {"name": "docker", "version": "20.10", "api": "1.41", "driver": "fast", "copies": copies}
    jsonschema.validate(tree, result_schema())


def step() -> dict:
    return run_to_dict(RUN)["plans"][0]["cases"][0]["steps"][0]


def test_the_fields_are_those_of_version_1_in_their_order():
    tree = run_to_dict(RUN)
    assert list(tree) == ["version", "run", "started", "finished", "status", "engine", "plans", "totals"]
    assert list(tree["plans"][0]) == ["name", "file", "image", "tools", "network", "user", "cell", "status", "cases"]
    assert list(tree["plans"][0]["cases"][0]) == ["id", "nodeid", "tags", "status", "attempts", "duration_s", "session", "steps"]
    assert " ".join(step()) == (
        "id nodeid phase run status attempts exit stdout stderr changes transient outside usage duration_s cwd state"
        " left_behind mismatches error notes merged late pids"
    )


def test_totals_have_every_status():
    totals = {"passed": 0, "failed": 1, "error": 0, "skipped": 0, "xfailed": 0, "xpassed": 0, "flaky": 0}
    assert run_to_dict(RUN)["totals"] == totals


def test_a_stream_has_its_size_hash_and_text():
    assert step()["stdout"] == {
        "bytes": 3,
        "sha256": "ab" * 32,
        "text": "1\\xff\n",
        "truncated": True,
        "dropped": 7,
        "open": True,
        "chunks": [[0.25, 0], [1.5, 2]],
    }


def test_a_large_stream_is_read_from_its_file(tmp_path):
    (tmp_path / "blob").write_bytes(b"x" * 20_000)
    large = replace(STEP, stdout_stream=Captured(20_000, "ab" * 32, None, path=str(tmp_path / "blob")))
    tree = run_to_dict(replace(RUN, plans=(replace(PLAN, cases=(replace(CASE, steps=(large,)),)),)))
    assert tree["plans"][0]["cases"][0]["steps"][0]["stdout"]["text"] == "x" * 20_000


def test_a_large_stream_whose_file_is_gone_has_no_text():
    lost = replace(STEP, stdout_stream=Captured(20_000, "ab" * 32, None))
    tree = run_to_dict(replace(RUN, plans=(replace(PLAN, cases=(replace(CASE, steps=(lost,)),)),)))
    assert tree["plans"][0]["cases"][0]["steps"][0]["stdout"]["text"] is None


def test_attempts_that_failed_and_lines_are_there_where_there_are_any():
    attempt = CaseAttempt(Status.FAILED, (STEP,), 0.25, ErrorInfo(ErrorKind.CASE_TIMEOUT, "too long"))
    flaky = replace(CASE, status=Status.FLAKY, attempts=2, earlier=(attempt,), line=3, steps=(replace(STEP, line=5),))
    run = replace(RUN, plans=(replace(PLAN, cases=(flaky, CASE), started="2026-11-22T18:45:12.000Z"),))
    tree = json.loads(dumps(run))
    jsonschema.validate(tree, result_schema(), jsonschema.Draft202012Validator)
    first, second = tree["plans"][0]["cases"]
    assert (first["line"], first["steps"][0]["line"], tree["plans"][0]["started"]) == (3, 5, "2026-11-22T18:45:12.000Z")
    assert first["earlier"][0] | {"steps": []} == {
        "status": "failed",
        "duration_s": 0.25,
        "steps": [],
        "error": {"class": "CaseTimeout", "message": "too long", "hint": None},
    }
    assert first["earlier"][0]["steps"] == [step()]
    assert {"line", "earlier"} & set(second) == set()


def test_a_mode_is_octal_text():
    assert [change["mode"] for change in step()["changes"]] == ["0644", "4755", None]


def test_a_note_on_a_change_is_there_only_when_set():
    assert [change.get("note") for change in step()["changes"]] == [None, "not read", None]
    assert "note" not in step()["changes"][0]


def test_a_step_has_its_script_or_its_argv():
    first, second = run_to_dict(RUN)["plans"][0]["cases"][0]["steps"]
    assert (first["run"], second["argv"]) == ("jq .x", ["jq", ".x y"])
    assert ("argv" in first, "run" in second) == (False, False)


def test_an_error_above_the_steps_is_there_only_when_set():
    error = ErrorInfo(ErrorKind.INSTALL, "no such package")
    tree = run_to_dict(replace(RUN, error=error, plans=(replace(PLAN, error=error),)))
    assert tree["error"] == tree["plans"][0]["error"] == {"class": "InstallError", "message": "no such package", "hint": None}


@pytest.mark.parametrize("run", [RUN, BARE, replace(BARE, error=ErrorInfo(ErrorKind.CAPTURE, "m"))])
def test_what_is_written_is_valid_by_its_schema(run):
    schema = result_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(dumps(run)), schema, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("key", ["status", "exit", "run", "stdout", "changes", "notes"])
def test_the_schema_misses_a_field_that_is_gone(key):
    tree = json.loads(dumps(RUN))
    del tree["plans"][0]["cases"][0]["steps"][0][key]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree, result_schema(), jsonschema.Draft202012Validator)


def test_every_field_of_a_step_is_in_the_schema():
    names = {"stdout_stream": "stdout", "stderr_stream": "stderr"}
    known = result_schema()["$defs"]["step"]["properties"]
    assert {names.get(field.name, field.name) for field in fields(StepResult)} == set(known)


def test_the_document_ends_with_a_newline_and_loads_again():
    assert dumps(RUN).endswith(b"}\n")
    assert load_run(dumps(RUN)) == run_to_dict(RUN)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"version": 2}', "it has version 2, and this program knows up to 1"),
        (b"{}", "no `version`"),
        (b"[]", "no `version`"),
        (b"{", "not JSON"),
    ],
)
def test_what_is_no_result_of_this_version_is_refused(data, message):
    with pytest.raises(UsageError, match=message):
        load_run(data)


def events() -> list:
    log = EventLog()
    started = PlanStarted(0, "p", "f", "debian", "none", "lab", (("c", "p::c", ("t",), 1),), (("k", "v"),))
    bodies = (RunStarted("r", "s"), started, OutputChunk("n", "stdout", b"x", 0.0), StepFinished(0, "p::c", STEP), Problem("x"))
    failed = AttemptFailed(0, "p::c", 1, Status.FAILED, 0.1, ErrorInfo(ErrorKind.CASE_TIMEOUT, "too long"))
    return [log.emit(body) for body in (*bodies, failed, CaseFinished(0, "p::c", Status.FLAKY, 0.1, 2))]


def test_stored_facts_are_one_json_line_each():
    lines = list(events_to_jsonl(events()))
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    assert [(json.loads(line)["seq"], json.loads(line)["kind"]) for line in lines] == [
        (1, "run_started"),
        (2, "plan_started"),
        (4, "step_finished"),
        (5, "problem"),
        (6, "attempt_failed"),
        (7, "case_finished"),
    ]


def test_the_lines_are_valid_by_their_schema():
    schema = events_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for line in events_to_jsonl(events()):
        jsonschema.validate(json.loads(line), schema, jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    "line",
    [{"kind": "problem", "message": "x"}, {"version": 1, "seq": 1, "wall": 0, "mono": 0, "kind": "no_such", "message": "x"}],
)
def test_a_line_that_is_no_fact_is_not_valid(line):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(line, events_schema(), jsonschema.Draft202012Validator)
