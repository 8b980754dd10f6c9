"""Normalising in real runs: goldens of output that differs each time, the recorded counts, and the same from a stored run."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import orjson
import pytest

from testronaut_lab.golden.normalize import Normalizing
from testronaut_lab.model.normalizing import Facts, Normalizer
from testronaut_lab.model.result import RunResult, Status, StepResult
from testronaut_lab.model.selection import select
from testronaut_lab.planfile import parse_plan
from testronaut_lab.report.files.json import dumps
from testronaut_lab.report.files.schema import result_schema
from testronaut_lab.report.html.results import run_html
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.plain import TextReporter
from testronaut_lab.run.plan_run import Run, RunOptions
from testronaut_lab.store.database import Store

pytestmark = pytest.mark.usefixtures("base_image")

RULES = ["uuid", "timestamp", "pid", "tmp", "host", "ansi", "progress", "crlf", "json", "hash"]
CHANGING = r"""
id=$(cat /proc/sys/kernel/random/uuid)
date; date +%FT%T.%N%:z; ls -l --time-style=full-iso /proc/self/stat | cut -d' ' -f6-8
t=$(mktemp); echo "made $t, $(basename "$t")"; echo "$id" >"$t"
sh -c 'echo "pid $$, ppid: $PPID"'; echo "shell pid: $$"
hostname; echo "lab@$(hostname)"
printf '%s\r' 1% 50%; printf 'done \033[32m%s\033[0m\r\n' "$(sha256sum <"$t" | cut -c1-64)"
echo "again $id" >&2
printf '{"z": "%s", "%s": 1.0, "a": 2}' "$id" "$(cat /proc/sys/kernel/random/uuid)" >out.json
mkdir "log-$id"; echo "$id" >"log-$id/trace.txt"
"""


def run(root: Path, steps: list[object], *nodeids: str, update: bool = False, **plan: object) -> tuple[RunResult, str]:
    """The run of a plan with these steps, and the lines that it writes."""
    loaded = parse_plan({"image": "debian:bookworm-slim", "steps": steps, **plan}, root=root)
    lines: list[str] = []
    chosen = select([loaded], nodeids, None)
    options = RunOptions(update=update, store=root / "results.db")
    result = Run(chosen, options).run([TextReporter(lines.append)])
    return result, "".join(lines)


def only_step(result: RunResult) -> StepResult:
    (step,) = result.plans[0].cases[0].steps
    return step


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, base_image: str) -> tuple[Path, list[RunResult]]:
    """A step whose output is never the same, run once to write its golden and once more to be compared."""
    root = tmp_path_factory.mktemp("project")
    steps: list[object] = [{"id": "s", "run": CHANGING, "golden": {"files": ["**"]}}]
    return root, [run(root, steps, update=update, normalize=RULES)[0] for update in (True, False)]


def golden(root: Path) -> Path:
    return next(root.glob("snapshots/**/cmd.txt")).parent


def test_a_golden_of_what_differs_each_time_holds(twice: tuple[Path, list[RunResult]]) -> None:
    _, (first, second) = twice
    assert (first.status, second.status) == (Status.PASSED, Status.PASSED), only_step(second).mismatches
    assert only_step(first).stdout != only_step(second).stdout


def test_the_golden_reads_as_what_happened(twice: tuple[Path, list[RunResult]]) -> None:
    folder = golden(twice[0])
    assert (folder / "stdout.txt").read_text().splitlines() == [
        "[TIME]", "[TIME]", "[TIME]", "made /tmp/[TMP#1], [TMP#1]", "pid [PID#1], ppid: [PID#2]", "shell pid: [PID#2]",
        "[HOST]", "lab@[HOST]", "done [HASH#1]",
    ]  # fmt: skip
    assert (folder / "stderr.txt").read_text() == "again [UUID#1]\n"
    assert (folder / "changes.txt").read_text().splitlines() == [
        "A 755 log-[UUID#1]/", "A 644 log-[UUID#1]/trace.txt", "A 644 out.json"
    ]  # fmt: skip
    assert (folder / "files/out.json").read_text() == '{\n  "[UUID#2]": 1.0,\n  "a": 2,\n  "z": "[UUID#1]"\n}'
    assert (folder / "files/log-[UUID#1]/trace.txt").read_text() == "[UUID#1]\n"


def test_bytes_are_kept_as_they_were_written(twice: tuple[Path, list[RunResult]]) -> None:
    for result in twice[1]:
        assert b"1%\r50%\rdone \x1b[32m" in only_step(result).stdout


def test_a_stored_run_can_be_normalised_later(twice: tuple[Path, list[RunResult]]) -> None:
    root, (_, last) = twice
    view = RunView()
    for event in Store.open(root / "results.db").events(last.run):
        view.apply(event)
    step = only_step(view.result())
    assert step.normalized is not None and len(step.normalized.facts.container_id) == 64
    normalizing = Normalizing(step.normalized.rules, step.normalized.facts)
    normalizing.normalize_text(step.command)
    streams = [normalizing.content(stream) for stream in (step.stdout, step.stderr)]
    assert streams == [(golden(root) / f"{name}.txt").read_bytes() for name in ("stdout", "stderr")]


def test_how_often_each_rule_fired_is_in_the_result(twice: tuple[Path, list[RunResult]]) -> None:
    result = twice[1][1]
    tree = orjson.loads(dumps(result))
    jsonschema.validate(tree, result_schema())
    normalized = tree["plans"][0]["cases"][0]["steps"][0]["normalized"]
    assert normalized["rules"] == RULES
    assert normalized["facts"]["hostname"] == "lab"
    fired = normalized["fired"]
    assert {name: fired[name] for name in ("timestamp", "pid", "progress", "crlf", "ansi", "json")} == {
        "timestamp": 3, "pid": 3, "progress": 1, "crlf": 1, "ansi": 2, "json": 1
    }  # fmt: skip
    assert "normalised:" in run_html(result)


def test_a_rule_that_never_fires_is_noted_and_changes_no_status(tmp_path: Path) -> None:
    steps: list[object] = [{"run": "echo 1 pid", "golden": {"normalize": ["size"]}}, {"run": "echo pid 5", "golden": True}]
    rules = ["pid", {"matches": "absent", "replace": "x"}]
    for update in (True, False):
        result, said = run(tmp_path, steps, update=update, normalize=rules)
        notes = [f"normalize {name!r} matched nothing in any golden of this plan" for name in ("absent", "size")]
        assert (result.status, list(result.plans[0].notes)) == (Status.PASSED, notes)
        assert [line.strip() for line in said.splitlines() if "matched nothing" in line] == [f"note: {note}" for note in notes]
    tree = orjson.loads(dumps(result))
    jsonschema.validate(tree, result_schema())
    assert tree["plans"][0]["notes"] == notes
    assert "matched nothing" in run_html(result)


@pytest.mark.parametrize("more", [{"run": "false"}, {"run": "true", "skip_if": "true"}])
def test_of_a_plan_that_was_not_run_whole_nothing_is_said(tmp_path: Path, more: dict[str, object]) -> None:
    steps: list[object] = [{"id": "a", "run": "echo", "golden": True}, more, "echo pid 1"]
    result, said = run(tmp_path, steps, update=True, normalize=["pid"])
    assert (result.plans[0].notes, "matched nothing" in said) == ((), False)


def test_of_a_plan_of_which_steps_were_chosen_nothing_is_said(tmp_path: Path) -> None:
    steps: list[object] = [{"id": "a", "run": "echo", "golden": True}, {"id": "b", "run": "echo pid 1", "golden": True}]
    loaded = parse_plan({"image": "debian:bookworm-slim", "steps": steps, "normalize": ["pid"]}, root=tmp_path)
    result, said = run(tmp_path, steps, loaded.cases[0].steps[0].nodeid, update=True, normalize=["pid"])
    assert (result.status, result.plans[0].notes, "matched nothing" in said) == (Status.PASSED, (), False)


def test_expectations_see_raw_bytes_and_say_by_what_evidence_is_normalised(tmp_path: Path) -> None:
    own = {"matches": "A+", "replace": "B"}
    result, said = run(tmp_path, [{"run": "echo AA pid 1", "expect": {"stdout": "AA pid 1\n"}}], normalize=["pid", own])
    normalized = only_step(result).normalized
    assert result.status is Status.PASSED and normalized is not None
    assert (normalized.rules, normalized.fired) == (("pid", Normalizer("A+", "B")), {})
    assert normalized.facts != Facts() and "matched nothing" not in said


def test_two_files_that_become_one_name_are_refused(tmp_path: Path) -> None:
    rule = {"matches": r"\d", "replace": "N"}
    result, _ = run(tmp_path, [{"run": "touch a1 a2", "golden": {"files": ["*"], "normalize": [rule]}}], update=True)
    error = only_step(result).error
    assert error is not None and error.message == "keeping 'a2' in a golden: another file is kept as 'files/aN' already"


def test_a_pattern_that_cannot_be_finished_is_an_error_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testronaut_lab.golden.timed.replaced.__defaults__", (0.5,))
    steps: list[object] = [{"run": "printf '%040d!' 0", "golden": {"normalize": [{"matches": "(0+)+$", "replace": "x"}]}}]
    result, _ = run(tmp_path, steps)
    assert (result.status, result.exit_status) == (Status.ERROR, 2)
    assert "not done after 0.5 s" in str(only_step(result).error)
