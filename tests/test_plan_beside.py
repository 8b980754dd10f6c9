"""Whole plans with terminals and background programs, as they are run, judged and written."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from testronaut_lab.headless import RunOptions, run_plans
from testronaut_lab.model.result import ExitKind, Phase, RunResult, Status
from testronaut_lab.planfile import parse_plan
from testronaut_lab.report.json import run_to_dict, step_to_dict
from testronaut_lab.report.schema import result_schema

pytestmark = pytest.mark.engine


def run(root: Path, *steps: object, **keys: object) -> RunResult:
    plan = parse_plan({"image": "debian:bookworm-slim", "steps": list(steps), **keys}, root=root, name="x")
    result = run_plans([plan], RunOptions())
    jsonschema.validate(run_to_dict(result), result_schema())
    return result


def test_a_screen_is_judged_and_written(tmp_path: Path) -> None:
    screen = {"equals": "a\nb\n", "not_contains": ["b"]}
    (step,) = run(tmp_path, {"run": "echo a; echo b", "tty": True, "expect": {"screen": screen}}).plans[0].cases[0].steps
    assert (step.status, step_to_dict(step)["screen"]) == (Status.FAILED, "a\nb\n")
    assert [(m.aspect, m.actual) for m in step.mismatches] == [("screen.not_contains", "the screen showed:\na\nb\n")]


def test_a_missed_interaction_is_a_mismatch_of_the_verdict(tmp_path: Path) -> None:
    talk = [{"screen": "never", "timeout": "200ms"}]
    (step,) = run(tmp_path, {"run": "sleep 100", "tty": True, "interact": talk}).plans[0].cases[0].steps
    assert (step.status, step.mismatches[0].aspect) == (Status.FAILED, "interact[0].screen")


def test_a_saved_value_is_typed_into_a_terminal(tmp_path: Path) -> None:
    save = {"run": "echo secret", "save": {"word": {"matches": "s.*"}}}
    ask = {"run": "read -r x; echo got $x $word", "tty": True, "interact": [{"send": "${{word}}"}, {"key": "enter"}]}
    steps = run(tmp_path, save, ask | {"expect": {"screen": {"contains": ["got secret secret"]}}}).plans[0].cases[0].steps
    assert [step.status for step in steps] == [Status.PASSED, Status.PASSED]


def test_what_a_program_wrote_is_in_the_step_that_ends_it_with_the_case(tmp_path: Path) -> None:
    loop = "echo up; while read -r x <gate; do echo got $x; done"
    start = {"background": "echoes", "run": f"mkfifo gate; {loop}", "ready": {"log": "up"}}
    first, _, last = run(tmp_path, start, "echo one >gate; sleep 0.2").plans[0].cases[0].steps
    assert (first.status, first.exit.kind, first.out) == (Status.PASSED, ExitKind.RUNNING, "up\n")
    assert (last.id, last.phase, last.status, last.command) == ("stop-echoes", Phase.TEARDOWN, Status.PASSED, "stop: echoes")
    assert last.out.startswith("up\ngot one\n")


def test_a_program_is_ended_after_a_step_that_failed(tmp_path: Path) -> None:
    result = run(tmp_path, {"background": "web", "run": "echo up; exec sleep 100", "ready": {"log": "up"}}, "false", "true")
    steps = result.plans[0].cases[0].steps
    assert [step.status for step in steps] == [Status.PASSED, Status.FAILED, Status.SKIPPED, Status.PASSED]
    assert steps[3].out == "up\n"


def test_the_end_of_a_program_that_never_ran_is_skipped(tmp_path: Path) -> None:
    steps = run(tmp_path, "false", {"background": "web", "run": "exec sleep 100"}).plans[0].cases[0].steps
    assert [step.status for step in steps] == [Status.FAILED, Status.SKIPPED, Status.SKIPPED]


def test_the_exit_and_output_of_a_stopped_program_can_be_expected(tmp_path: Path) -> None:
    server = {"background": "web", "run": "trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.05; done"}
    steps = run(
        tmp_path, {**server, "ready": {"log": "up"}}, {"stop": "web", "expect": {"exit": 4, "stdout": "up\nbye\n"}}
    ).plans[0].cases[0].steps  # fmt: skip
    assert [step.status for step in steps] == [Status.PASSED, Status.PASSED]


def test_in_one_session_for_all_a_program_of_setup_lives_over_the_cases(tmp_path: Path) -> None:
    cases = [{"id": name, "steps": ["cat /proc/[0-9]*/comm 2>/dev/null | grep sleep"]} for name in ("a", "b")]
    tree = {
        "image": "debian:bookworm-slim", "isolation": "plan", "cases": cases,
        "setup": [{"background": "db", "run": "exec sleep 100"}],
    }  # fmt: skip
    result = run_plans([parse_plan(tree, root=tmp_path, name="x")], RunOptions())
    assert [step.id for step in result.plans[0].cases[1].steps][-1] == "stop-db"
    assert result.status is Status.PASSED
