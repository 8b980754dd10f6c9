"""Whole plans with terminals and background programs, as they are run, judged and written."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from support.live_session import Listener

from testronaut_lab.execution.case import STOPPED_TEARDOWN_S
from testronaut_lab.model.events import OutputChunk
from testronaut_lab.model.result import ExitKind, Phase, RunResult, Status
from testronaut_lab.planfile import parse_plan
from testronaut_lab.report.files.json import run_to_dict, step_to_dict
from testronaut_lab.report.files.schema import result_schema
from testronaut_lab.run.plan_run import Run, RunOptions, run_plans

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


def test_a_step_that_stops_a_program_is_not_skipped_after_one_that_failed(tmp_path: Path) -> None:
    server = {"background": "web", "run": "echo up; exec sleep 100", "ready": {"log": "up"}}
    steps = run(tmp_path, server, "false", {"stop": "web"}, "true").plans[0].cases[0].steps
    assert [step.status for step in steps] == [Status.PASSED, Status.FAILED, Status.PASSED, Status.SKIPPED]
    assert steps[2].out == "up\n"


def test_a_programs_output_is_kept_when_the_cases_time_is_used_up(tmp_path: Path) -> None:
    server = {"background": "web", "run": "echo up; exec sleep 100", "ready": {"log": "up"}}
    steps = run(tmp_path, server, "sleep 100", limits={"case_timeout": "3s"}).plans[0].cases[0].steps
    assert [step.exit.kind for step in steps] == [ExitKind.RUNNING, ExitKind.TIMEOUT, ExitKind.EXITED]
    assert (steps[2].status, steps[2].out) == (Status.PASSED, "up\n")


def test_a_run_that_is_interrupted_tears_down_and_keeps_what_programs_wrote(tmp_path: Path) -> None:
    server = {"background": "web", "run": "echo up; exec sleep 100", "ready": {"log": "up"}}
    tree = {
        "image": "debian:bookworm-slim", "steps": [server, "echo on; sleep 100", "true"], "teardown": ["echo tidy", "sleep 100"],
    }  # fmt: skip
    going = Run([parse_plan(tree, root=tmp_path, name="x")], RunOptions())
    listener = Listener(lambda event: isinstance(event.body, OutputChunk) and event.body.data == b"on\n", going.stop)
    steps = going.run([listener]).plans[0].cases[0].steps
    assert [step.status for step in steps] == [
        Status.PASSED, Status.ERROR, Status.SKIPPED, Status.PASSED, Status.FAILED, Status.PASSED,
    ]  # fmt: skip
    assert [step.out for step in steps] == ["up\n", "on\n", "", "tidy\n", "", "up\n"]
    assert (steps[4].exit.kind, steps[4].duration_s < STOPPED_TEARDOWN_S + 2) == (ExitKind.TIMEOUT, True)


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
        "setup": [{"background": "db", "run": "exec sleep 100", "ready": {"run": "grep -q sleep /proc/[0-9]*/comm"}}],
    }  # fmt: skip
    result = run_plans([parse_plan(tree, root=tmp_path, name="x")], RunOptions())
    assert [step.id for step in result.plans[0].cases[1].steps][-1] == "stop-db"
    assert result.status is Status.PASSED
