"""Plans run with everything real: engine, sessions, judge, log."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.owner import container_name, folder_id
from testronaut_lab.errors import ExitStatus
from testronaut_lab.execution.directory import sessions_root
from testronaut_lab.model.events import OutputChunk
from testronaut_lab.model.plan import Case, Expect, FileSpec, ImageSpec, Limits, Plan, Save, Step, TextExpect
from testronaut_lab.model.result import ExitKind, RunResult, Status
from testronaut_lab.run.plan_run import Run, RunOptions, run_plans

pytestmark = pytest.mark.engine


def step(id_: str, run: str, **more: object) -> Step:
    return Step(id_, f"p::c::{id_}", run=run, **more)  # type: ignore[arg-type]


def case(*steps: Step, id_: str = "c", **more: object) -> Case:
    return Case(id_, f"p::{id_}", steps, **more)  # type: ignore[arg-type]


@pytest.fixture
def plan(base_image: str, tmp_path: Path) -> Plan:
    """A plan without cases yet, of a project of its own."""
    return Plan("p", tmp_path, ImageSpec(base_image), ())


def run(plan: Plan, *cases: Case, **more: object) -> RunResult:
    return run_plans([replace(plan, cases=cases, **more)], RunOptions())  # type: ignore[arg-type]


def outs(result: RunResult) -> list[list[str]]:
    return [[step.out for step in case.steps] for case in result.plans[0].cases]


def test_cases_do_not_see_each_other(plan: Plan) -> None:
    look = step("look", 'echo "[$x]"; ls; cd /tmp; x=1; touch /workspace/f /tmp/f')
    result = run(plan, case(look), case(look, id_="d"))
    assert outs(result) == [["[]\n"], ["[]\n"]]
    assert (result.status, result.exit_status) == (Status.PASSED, ExitStatus.OK)


def test_cases_of_one_session_see_each_other(plan: Plan) -> None:
    look = step("look", 'echo "[$x]"; x=1')
    assert outs(run(plan, case(look), case(look, id_="d"), isolation="plan")) == [["[]\n"], ["[1]\n"]]


def test_files_are_there_and_nobodys_change(plan: Plan) -> None:
    result = run(plan, case(step("look", "./run.sh")), files={"run.sh": FileSpec(content=b"echo hi\n", mode=0o755)})
    (found,) = result.plans[0].cases[0].steps
    assert (found.out, found.changes) == ("hi\n", ())


def test_a_saved_value_reaches_scripts_and_arguments(plan: Plan) -> None:
    result = run(
        plan,
        case(
            step("get", "echo 'id: it''s 7'", save={"answer": Save(matches="id: (.*)")}),
            step("script", 'echo "$answer"'),
            Step("argv", "p::c::argv", argv=("printf", "%s", "<${{answer}}>")),
        ),
    )
    assert outs(result) == [["id: its 7\n", "its 7\n", "<its 7>"]]


def test_a_failed_expectation_fails_step_case_plan_and_run(plan: Plan) -> None:
    wrong = step("wrong", "echo 2", expect=Expect(stdout=TextExpect(equals="1\n")))
    result = run(plan, case(wrong, step("never", "echo never")))
    assert [found.status for found in result.plans[0].cases[0].steps] == [Status.FAILED, Status.SKIPPED]
    assert (result.plans[0].status, result.exit_status) == (Status.FAILED, ExitStatus.FAILED)


def test_a_skipped_step_leaves_nothing_behind(plan: Plan) -> None:
    skipped = step("skipped", "touch ran", skip_if="touch probed; x=1; true")
    result = run(plan, case(skipped, step("look", 'echo "[$x]"; test ! -e ran')))
    assert [found.status for found in result.plans[0].cases[0].steps] == [Status.SKIPPED, Status.PASSED]
    assert result.plans[0].cases[0].steps[1].out == "[]\n"


def test_a_step_is_ended_when_its_cases_time_is_up(plan: Plan) -> None:
    result = run(plan, case(step("slow", "sleep 300"), step("never", "true")), limits=Limits(case_timeout_s=3.0))
    slow, never = result.plans[0].cases[0].steps
    assert (slow.exit.kind, never.status) == (ExitKind.TIMEOUT, Status.SKIPPED)
    assert result.exit_status is ExitStatus.FAILED


def test_a_run_that_is_stopped_ends_at_once_and_leaves_no_container(plan: Plan, engine: Engine) -> None:
    running = Run([replace(plan, cases=(case(step("slow", "echo up; sleep 300"), step("never", "true")),))], RunOptions())
    events = running.log.subscribe()

    def stop_when_it_runs() -> None:
        for event in events:
            if isinstance(event.body, OutputChunk):
                running.stop(ExitStatus.TERMINATED)

    watcher = threading.Thread(target=stop_when_it_runs)
    watcher.start()
    result = running.run()
    watcher.join()
    assert result.exit_status is ExitStatus.TERMINATED
    assert [found.status for found in result.plans[0].cases[0].steps] == [Status.ERROR, Status.SKIPPED]
    names = [name for entry in engine.client.api.containers(all=True) for name in entry["Names"]]
    assert not any(name.startswith(f"/{container_name('', folder_id(sessions_root()))}") for name in names)


def test_an_image_that_cannot_be_had_is_an_error_of_the_plan(plan: Plan) -> None:
    result = run(plan, case(step("a", "true")), image=ImageSpec("no-such-image:none", pull="never"))
    assert (result.plans[0].status, result.exit_status) == (Status.ERROR, ExitStatus.ENGINE)
    assert result.plans[0].error is not None and "no-such-image:none" in result.plans[0].error.message
