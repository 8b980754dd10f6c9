"""Cases that are expected to fail: a surprising pass, errors that stay errors, and the words of the report."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import orjson
import pytest

from testronaut_lab.errors import ExitStatus
from testronaut_lab.model.events import Event, StepJudged
from testronaut_lab.model.result import CaseResult, RunResult, Status
from testronaut_lab.planfile import parse_plan
from testronaut_lab.report.files.json import dumps
from testronaut_lab.report.files.junit import junit_xml
from testronaut_lab.report.files.schema import result_schema
from testronaut_lab.report.html.results import run_html
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.plain import TextReporter
from testronaut_lab.run.plan_run import Run, RunOptions

pytestmark = pytest.mark.usefixtures("base_image")


def run(root: Path, *cases: dict[str, object], **options: object) -> tuple[RunResult, str]:
    """The run of cases that are all expected to fail, for the reason `too old`, and the lines that it writes."""
    written = [{"id": f"c{i}", "expect_fail": "too old", **case} for i, case in enumerate(cases)]
    plan = parse_plan({"image": "debian:bookworm-slim", "cases": written}, root=root)
    lines: list[str] = []
    result = Run([plan], RunOptions(**options)).run([TextReporter(lines.append)])  # type: ignore[arg-type]
    return result, "".join(lines)


def test_failing_as_expected_is_no_failure(tmp_path: Path) -> None:
    result, said = run(tmp_path, {"steps": ["false", "echo never"]})
    assert (result.status, result.exit_status, result.totals["xfailed"]) == (Status.PASSED, ExitStatus.OK, 1)
    (case,) = result.plans[0].cases
    assert (case.status, case.expect_fail) == (Status.XFAILED, "too old")
    assert [step.status for step in case.steps] == [Status.FAILED, Status.SKIPPED]
    assert "   XFAIL            c0  (expected to fail: too old)\n" in said
    assert "0 passed, 0 failed, 0 skipped, 1 xfailed in" in said


def test_passing_is_the_surprise(tmp_path: Path) -> None:
    result, said = run(tmp_path, {"steps": ["true"]})
    assert (result.status, result.exit_status, result.totals["xpassed"]) == (Status.FAILED, ExitStatus.FAILED, 1)
    assert result.plans[0].status is Status.FAILED
    assert "   XPASS            c0  (expected to fail: too old)\n" in said


def test_an_error_stays_an_error(tmp_path: Path) -> None:
    result, _ = run(tmp_path, {"steps": [{"run": "true", "cwd": "missing"}]})
    assert (result.plans[0].cases[0].status, result.exit_status) == (Status.ERROR, ExitStatus.USAGE)


def around(root: Path, setup: str, steps: list[object], teardown: str = "true", **more: object) -> RunResult:
    """The run of a plan whose only case has a setup and a teardown."""
    case = {"id": "c", "steps": steps, **more}
    tree = {"image": "debian:bookworm-slim", "setup": [setup], "teardown": [teardown], "cases": [case]}
    return Run([parse_plan(tree, root=root)], RunOptions()).run([])


SKIPPED = {"run": "true", "skip_if": "true"}


@pytest.mark.parametrize("more", [{}, {"expect_fail": "too old"}])
def test_a_case_whose_own_steps_are_all_skipped_is_skipped(tmp_path: Path, more: dict[str, object]) -> None:
    result = around(tmp_path, "echo ready", [SKIPPED, SKIPPED], **more)
    (case,) = result.plans[0].cases
    assert (case.status, result.exit_status, result.totals["skipped"]) == (Status.SKIPPED, ExitStatus.OK, 1)
    tree = orjson.loads(dumps(result))
    assert (tree["plans"][0]["cases"][0]["status"], tree["totals"]["passed"], tree["totals"]["skipped"]) == ("skipped", 0, 1)
    assert b'<skipped type="skipped" message="`true` held"' in junit_xml(result)


@pytest.mark.parametrize(
    ("setup", "steps", "teardown"),
    [
        ("false", ["false"], "true"),
        ("true", ["false"], "false"),
        ("true", ["true"], "false"),
        ("true", [SKIPPED], "false"),
        ("false", [SKIPPED], "true"),
    ],
)
def test_setup_and_teardown_cannot_fail_as_expected(tmp_path: Path, setup: str, steps: list[object], teardown: str) -> None:
    result = around(tmp_path, setup, steps, teardown, expect_fail="too old")
    (case,) = result.plans[0].cases
    assert (case.status, result.exit_status) == (Status.FAILED, ExitStatus.FAILED)
    assert case.error is not None and case.error.message == "expected to fail, but what failed is its setup or teardown"


@pytest.mark.parametrize(("setup", "steps"), [(["sleep 3"], ["false"]), ([], ["sleep 3"]), ([], ["sleep 3", "false"])])
def test_a_case_whose_time_is_used_up_did_not_fail_as_expected(tmp_path: Path, setup: list[str], steps: list[str]) -> None:
    case = {"id": "c", "expect_fail": "too old", "steps": steps}
    tree = {"image": "debian:bookworm-slim", "setup": setup, "limits": {"case_timeout": "2s"}, "cases": [case]}
    (found,) = Run([parse_plan(tree, root=tmp_path)], RunOptions()).run([]).plans[0].cases
    assert (found.status, found.error and found.error.class_) == (Status.FAILED, "CaseTimeout")


def test_the_first_surprise_stops_a_run_that_fails_fast(tmp_path: Path) -> None:
    result, _ = run(tmp_path, {"steps": ["false"]}, {"steps": ["true"]}, {"steps": ["false"]}, fail_fast=True)
    assert [case.status for case in result.plans[0].cases] == [Status.XFAILED, Status.XPASSED, Status.SKIPPED]


def test_no_golden_is_written(tmp_path: Path) -> None:
    result, said = run(tmp_path, {"steps": [{"run": "echo wrong", "golden": True}]}, update=True)
    assert result.plans[0].cases[0].status is Status.XFAILED
    assert "golden not written: the case is expected to fail" in said
    assert not (tmp_path / "snapshots").exists()


def test_steps_that_failed_as_expected_are_not_among_those_to_look_at(tmp_path: Path) -> None:
    failing = {"steps": [{"run": "false", "continue": True}, {"run": "exit 3", "continue": True}]}
    _, said = run(tmp_path, failing, {"steps": ["true"]}, {"id": "other", "steps": ["true"]})
    assert "::c0" not in said
    assert "   XPASS  plan::c1\n   XPASS  plan::other\n" in said


def test_a_case_that_is_cut_short_has_not_passed(tmp_path: Path) -> None:
    plan = parse_plan(
        {"image": "debian:bookworm-slim", "cases": [{"id": "c", "expect_fail": "x", "steps": ["true", "false"]}]}, root=tmp_path
    )
    going = Run([plan], RunOptions())

    class Stop:
        def event(self, view: RunView, event: Event) -> None:
            if isinstance(event.body, StepJudged):
                going.stop()

        def end(self, view: RunView) -> None:
            pass

    result = going.run([Stop()])
    assert result.plans[0].cases[0].status is not Status.XPASSED
    assert result.exit_status is ExitStatus.INTERRUPTED


@pytest.fixture
def shown(tmp_path: Path) -> RunResult:
    return run(tmp_path, {"steps": ["false"]})[0]


def test_the_json_of_an_expected_failure_holds_to_the_schema(shown: RunResult) -> None:
    tree = orjson.loads(dumps(shown))
    jsonschema.validate(tree, result_schema())
    (case,) = tree["plans"][0]["cases"]
    assert (case["status"], case["expect_fail"], tree["totals"]["xfailed"]) == ("xfailed", "too old", 1)


def test_html_says_why_a_case_is_expected_to_fail(shown: RunResult) -> None:
    assert "expected to fail: too old" in run_html(shown)


def test_a_case_that_is_to_pass_has_no_reason() -> None:
    assert CaseResult("a", "p::a", Status.PASSED, ()).expect_fail is None
