"""`run -q` tells what went wrong and the sum, `run -v` also what steps wrote; a name that is too long is cut in its middle."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from support.command_line import Project

from testronaut_lab.errors import ErrorKind, ExitStatus
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import (
    AttemptFailed,
    Body,
    CaseFinished,
    CaseStarted,
    EngineFound,
    ImageReady,
    InstallLogged,
    PlanFinished,
    PlanStarted,
    Problem,
    RunFinished,
    RunStarted,
    StepFinished,
    StepJudged,
    StepStarted,
    ToolReady,
)
from testronaut_lab.model.files import ChangeKind, FileChange, FileType
from testronaut_lab.model.result import (
    Captured,
    EngineInfo,
    ErrorInfo,
    Exit,
    ExitKind,
    ImageInfo,
    Mismatch,
    Phase,
    Status,
    StepResult,
    ToolInfo,
)
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.detail import QuietNarrator, VerboseNarrator
from testronaut_lab.report.text.formatter import Formatter
from testronaut_lab.report.text.lines import cut_middle
from testronaut_lab.report.text.live import LiveReporter
from testronaut_lab.report.text.plain import TextReporter
from testronaut_lab.report.text.tables import pending_table

RUN = RunStarted("20261122-184512-3f9a", "2026-11-22T18:45:12Z")
READY = (
    EngineFound(EngineInfo("docker", "20.10.24", "1.41")),
    InstallLogged(0, "jq", "Setting up jq"),
    ToolReady(0, ToolInfo("jq", "1.6", "apt", program="/usr/bin/jq"), False),
)


def plan(*ids: str, number: int = 0, file: str = "p.lab.yaml") -> PlanStarted:
    return PlanStarted(number, "a plan", file, "debian", "none", "lab", tuple((id_, f"{file}::{id_}", (), 1) for id_ in ids))


def case(id_: str, status: Status, step: Status | None = None, *, plan: int = 0, file: str = "p.lab.yaml") -> list[Body]:
    nodeid = f"{file}::{id_}"
    changes = (FileChange(ChangeKind.ADDED, "out.json", FileType.FILE),)
    result = StepResult(
        "only", f"{nodeid}::only", Exit(ExitKind.EXITED, 0), Status.PASSED, run="jq .", changes=changes,
        stdout_stream=Captured(2, data=b"1\n"), stderr_stream=Captured(5, data=b"odd\n"),
    )  # fmt: skip
    wrong = (Mismatch("exit", "0", "5"),) if (step or status) is Status.FAILED else ()
    return [
        CaseStarted(plan, nodeid),
        StepStarted(plan, nodeid, "only", f"{nodeid}::only", Phase.STEPS, "jq ."),
        StepFinished(plan, nodeid, result),
        StepJudged(plan, nodeid, f"{nodeid}::only", step or status, mismatches=wrong),
        CaseFinished(plan, nodeid, status, 0.1),
    ]


def told(tells: type[Formatter], *bodies: Body, end: ExitStatus = ExitStatus.OK) -> list[str]:
    lines: list[str] = []
    log, view = EventLog(wall=lambda: 0.0, mono=lambda: 5.0), RunView()
    reporter = TextReporter(lines.append, results="r.db", tells=tells)
    status = Status.PASSED if end is ExitStatus.OK else Status.FAILED
    for body in (RUN, *bodies, RunFinished("2026-11-22T18:45:13Z", status, end)):
        event = log.emit(body)
        view.apply(event)
        reporter.event(view, event)
    return "".join(lines).splitlines()


END = "results in r.db  (testronaut-lab show 20261122-184512-3f9a)"


def test_quiet_says_only_the_sum_where_all_is_well() -> None:
    xfailed = case("known", Status.XFAILED, Status.FAILED)
    skipped = case("later", Status.SKIPPED)
    bodies = (plan("a", "known", "later"), *READY, *case("a", Status.PASSED), *xfailed, *skipped, PlanFinished(0, Status.PASSED))
    assert told(QuietNarrator, *bodies) == ["1 passed, 0 failed, 1 skipped, 1 xfailed in 0 ms  (3 cases, 3 steps)", END]


def test_quiet_names_the_plan_of_what_went_wrong_and_shows_it_whole() -> None:
    good, bad = plan("a"), plan("a", "b", number=1, file="q.lab.yaml")
    ready = ImageReady(1, ImageInfo("debian", "sha256:1", "bootstrap"), "no registry")
    wrong = case("b", Status.FAILED, plan=1, file="q.lab.yaml")
    fine = case("a", Status.PASSED, plan=1, file="q.lab.yaml")
    ended = [PlanFinished(0, Status.PASSED), bad, ready, *fine, *wrong, PlanFinished(1, Status.FAILED)]
    said = told(QuietNarrator, good, *case("a", Status.PASSED), *ended, end=ExitStatus.FAILED)
    assert said == [
        "a plan  q.lab.yaml",
        "    FAIL      0 ms  b::only                     jq .",
        "          exit",
        "            expected  0",
        "            actual    5",
        "          stdout",
        "            1",
        "          stderr",
        "            odd",
        "",
        "2 passed, 1 failed, 0 skipped in 0 ms  (3 cases, 3 steps)",
        END,
    ]


def test_quiet_tells_a_case_that_recovered_with_the_attempt_that_failed() -> None:
    failed = [*case("a", Status.FAILED)[:-1], AttemptFailed(0, "p.lab.yaml::a", 1, Status.FAILED, 0.1)]
    again = [replace(body, attempt=2) if isinstance(body, CaseStarted) else body for body in case("a", Status.PASSED)]
    again[-1] = CaseFinished(0, "p.lab.yaml::a", Status.FLAKY, 0.1, attempts=2)
    said = told(QuietNarrator, plan("a"), *failed, *again, end=ExitStatus.FAILED)
    assert [line.split()[0] for line in said if re.match(" +[A-Z]", line)] == ["FAIL", "FLAKY"]


@pytest.mark.parametrize(
    "body",
    [Problem("no limits here"), PlanFinished(0, Status.ERROR, ErrorInfo(ErrorKind.ENGINE, "gone", "testronaut-lab engine up"))],
)
def test_quiet_tells_problems_and_plans_that_did_not_start(body: Body) -> None:
    said = told(QuietNarrator, plan("a"), body, end=ExitStatus.ENGINE)
    assert said[0] == "a plan  p.lab.yaml"
    assert said[1].split()[0] in ("problem", "ERROR")


def test_verbose_tells_what_passing_steps_wrote_and_changed_and_package_managers_in_full() -> None:
    said = told(VerboseNarrator, plan("a"), *READY, *case("a", Status.PASSED))
    at = said.index("    PASS      0 ms  a::only                     jq .")
    assert said[at + 1 : at + 6] == [
        "          stdout", "            1", "          stderr", "            odd", "          changed: A out.json",
    ]  # fmt: skip
    assert "       │  Setting up jq" in said and "          starts  /usr/bin/jq" in said


def test_verbose_tells_what_a_failing_step_wrote_once() -> None:
    said = told(VerboseNarrator, plan("a"), *case("a", Status.FAILED), end=ExitStatus.FAILED)
    assert (said.count("          stdout"), said.count("          changed: A out.json")) == (1, 1)


@pytest.mark.engine
def test_quiet_and_verbose_on_a_real_run(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    # a folder of its own: a run tells what others that were killed have left behind
    monkeypatch.setenv("TESTRONAUT_LAB_SESSIONS", str(tmp_path_factory.mktemp("sessions")))
    project = Project(tmp_path_factory.mktemp("project"))
    project.write()
    quiet, verbose = project.here("run", "-q"), project.here("run", "--verbose")
    assert re.fullmatch(r"1 passed, 0 failed, 0 skipped in .*\nresults in .*\n", quiet.out)
    assert "          stdout\n            hello\n" in verbose.out
    both = project.here("run", "-q", "-v")
    assert both.status == ExitStatus.USAGE and "exclude each other" in both.err


# --- what is too long


@pytest.mark.parametrize(("width", "cut"), [(9, "abcdefghi"), (8, "abc…fghi"), (3, "a…i"), (1, "…"), (0, "")])
def test_a_name_loses_its_middle(width: int, cut: str) -> None:
    assert cut_middle("abcdefghi", width) == cut


def test_a_name_of_wide_characters_is_cut_by_columns() -> None:
    assert cut_middle("測試測試測試", 8) == "測…測試"


def test_a_step_that_passed_is_cut_and_one_that_failed_is_not() -> None:
    long = "a-case-with-a-name-that-nobody-wants-to-type"
    passed = told(Formatter, plan(long), *case(long, Status.PASSED))
    assert passed[1] == "    PASS      0 ms  a-case-wi…ts-to-type::only  jq ."
    assert f"    FAIL      0 ms  {long}::only  jq ." in told(Formatter, plan(long), *case(long, Status.FAILED))


def test_a_list_on_a_terminal_keeps_the_end_of_a_node_id() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None, _environ={})
    name = "some/folder/of/plans/with-a-long-name.lab.yaml::a-case-with-a-long-name::the-step"
    console.print(pending_table([(name, "M stdout.txt", "2026-11-29T08:00:00Z", "")], plain=False))
    row = next(line for line in out.getvalue().splitlines() if "some/" in line)
    assert "…" in row and "::the-step" in row
    assert "M stdout.txt" in row and "2026-11-29 08:00:00" in row


def test_what_runs_keeps_the_name_of_its_step_and_its_time() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None, _environ={})
    reporter, log, view = LiveReporter(console, mono=lambda: 7.0), EventLog(wall=lambda: 0.0, mono=lambda: 5.0), RunView()
    long = replace(plan("a"), name="a plan with a name that takes all of the line that there is")
    for body in (long, *case("a", Status.PASSED)[:2]):
        event = log.emit(body)
        view.apply(event)
        reporter.event(view, event)
    with console.capture() as capture:
        console.print(reporter._draw())
    heading = capture.get().splitlines()[0].rstrip()
    assert "…" in heading and heading.endswith("› a › only  2.0 s")
