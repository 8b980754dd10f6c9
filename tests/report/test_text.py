"""Plain lines of a run: what stands on them, and that nothing foreign gets through raw."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console
from rich.text import Text

from testronaut_lab.errors import ErrorKind, ExitStatus
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import (
    AttemptFailed,
    CaseFinished,
    CaseStarted,
    EngineFound,
    ImageReady,
    InstallLogged,
    PlanFinished,
    PlanStarted,
    Problem,
    Progress,
    RunFinished,
    RunStarted,
    StepFinished,
    StepJudged,
    StepStarted,
    StepsUndone,
    ToolReady,
)
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
from testronaut_lab.model.runs import RunSummary
from testronaut_lab.model.undo import UndoHow
from testronaut_lab.model.units import size_text
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.lines import diff_lines, duration_text
from testronaut_lab.report.text.plain import TextReporter
from testronaut_lab.report.text.tables import images_table, runs_table

CASE = "p.lab.yaml::select"
RUN = RunStarted("20261122-184512-3f9a", "2026-11-22T18:45:12Z")
PLAN = PlanStarted(0, "jq basics", "p.lab.yaml", "debian:bookworm-slim", "none", "lab", (("select", CASE, (), 2),))
FLAKY_END = RunFinished("2026-11-22T18:45:13Z", Status.FLAKY, ExitStatus.FAILED)
HOSTILE = "\x1b]0;pwn\x07 \u202e [bold]x[/nope]"


def step(
    id_: str, command: str = "jq .x a.json", *, status=Status.PASSED, err=b"", phase=Phase.STEPS, transient=(), **verdict
) -> list:
    nodeid = f"{CASE}::{id_}"
    stderr = err if isinstance(err, Captured) else Captured(len(err), data=err)
    result = StepResult(
        id_, nodeid, Exit(ExitKind.EXITED, 0), Status.PASSED, phase, run=command, duration_s=0.003, stderr_stream=stderr,
        transient=transient,
    )  # fmt: skip
    return [
        StepStarted(0, CASE, id_, nodeid, phase, command),
        StepFinished(0, CASE, result),
        StepJudged(0, CASE, nodeid, status, **verdict),
    ]


def report(*bodies, color: bool = False, end: bool = False, **options) -> str:
    lines: list[str] = []
    log, view = EventLog(wall=lambda: 0.0, mono=lambda: 5.0), RunView()
    reporter = TextReporter(lines.append, color, **options)
    for body in bodies:
        event = log.emit(body)
        view.apply(event)
        reporter.event(view, event)
    if end:
        reporter.end(view)
    return "".join(lines)


def judged(**verdict) -> str:
    """The lines of one failed step, without those before it."""
    return report(PLAN, *step("a", status=Status.FAILED, **verdict)).split("\n", 1)[1]


def test_a_run_reads_from_top_to_bottom():
    wrong = Mismatch("exit", "0", "5")
    text = report(
        RUN,
        EngineFound(EngineInfo("docker", "20.10.24", "1.41")),
        PLAN,
        ImageReady(0, ImageInfo("debian:bookworm-slim", "sha256:1", "bootstrap"), "no registry could be reached"),
        InstallLogged(0, "jq", "Reading package lists"),
        InstallLogged(0, "jq", "Setting up jq"),
        ToolReady(0, ToolInfo("jq", "1.6", "apt"), False),
        CaseStarted(0, CASE),
        *step("plain"),
        *step("bad", "jq .y a.json |\n sort", status=Status.FAILED, mismatches=(wrong,), err=b"oh\n"),
        CaseFinished(0, CASE, Status.FAILED, 0.1),
        PlanFinished(0, Status.FAILED),
        RunFinished("2026-11-22T18:45:13Z", Status.FAILED, ExitStatus.FAILED),
        results=".testronaut/results.db",
    )
    assert text == (
        "  engine  docker 20.10.24, API 1.41, driver fast\n"
        "jq basics  p.lab.yaml\n"
        "   image  debian:bookworm-slim  bootstrap\n"
        "          note: no registry could be reached\n"
        " install  jq …\n"
        "    tool  jq 1.6  apt\n"
        "    PASS      3 ms  select::plain               jq .x a.json\n"
        "    FAIL      3 ms  select::bad                 jq .y a.json | …\n"
        "          exit\n"
        "            expected  0\n"
        "            actual    5\n"
        "          stderr\n"
        "            oh\n"
        "\n"
        "0 passed, 1 failed, 0 skipped in 0 ms  (1 case, 2 steps)\n"
        "results in .testronaut/results.db  (testronaut-lab show 20261122-184512-3f9a)\n"
    )


def test_what_every_cell_would_say_again_is_said_once_a_run():
    image, writable = ImageInfo("debian:bookworm-slim", "sha256:1", "bootstrap"), Problem("jq basics: the root is writable")
    cells = [replace(PLAN, plan=number) for number in range(3)]
    other = [
        ImageReady(3, replace(image, ref="debian:trixie-slim"), "another note"),
        Problem("jq basics: the root is writable", "x"),
    ]
    text = report(*(body for cell in cells for body in (cell, ImageReady(cell.plan, image, "no registry"), writable)), *other)
    assert text.count("image  debian:bookworm-slim") == 3
    assert [text.count(said) for said in ("note: no registry", "problem  jq basics", "note: another note")] == [1, 2, 1]


def test_a_difference_of_many_lines_is_shown_as_a_diff_only():
    wrong = Mismatch("golden", "a\nb\n", "a\nc\n", "stdout.txt", "@@ -1,2 +1,2 @@\n a\n-b\n+c\n")
    assert judged(mismatches=(wrong,)).split("\n")[1:-1] == [
        "          golden  stdout.txt",
        "            @@ -1,2 +1,2 @@",
        "             a",
        "            -b",
        "            +c",
    ]


def test_values_of_many_lines_without_a_diff_are_blocks():
    lines = judged(mismatches=(Mismatch("stdout.contains", "x\ny\n", "\n".join("abcdefghijklmnopqrstuvwxyz")),)).split("\n")
    assert lines[2:6] == ["            expected", "              x", "              y", "            actual"]
    assert lines[-2] == "            … 6 more lines"


def test_a_long_diff_is_cut_and_says_so():
    diff = "\n".join(f"+{n}" for n in range(250))
    assert judged(mismatches=(Mismatch("stdout.equals", "a\nb", "c\nd", diff=diff),)).endswith(
        "+199\n            … 50 more lines\n"
    )


def test_an_error_comes_with_its_hint():
    text = judged(error=ErrorInfo(ErrorKind.CAPTURE, "the stream was cut\nat 3", "df -h ."))
    assert text.endswith("          error: the stream was cut\n                 at 3\n          hint: df -h .\n")


def test_a_note_stands_under_a_step_that_passed_too():
    assert report(PLAN, *step("a", notes=("golden written",))).endswith("jq .x a.json\n          note: golden written\n")


def test_transient_paths_stand_under_a_step_safely_and_not_all_of_many():
    text = report(PLAN, *step("a", transient=("t\x1b[2J", "u\nv", *"cdefg")))
    assert text.endswith("          transient: t\\x1b[2J, u …, c, d, e and 2 more\n")


def test_only_the_end_of_a_long_stderr_is_shown():
    text = judged(err=b"".join(b"line %d\n" % n for n in range(25)))
    assert "stderr, the last 10 of 25 lines\n            line 15\n" in text
    assert text.endswith("line 24\n")


def test_stderr_is_not_shown_twice_or_for_a_step_that_passed():
    assert "loud" not in report(PLAN, *step("a", err=b"loud"))
    assert judged(err=b"loud", mismatches=(Mismatch("stderr.empty", "nothing", "4 bytes"),)).count("loud") == 0


def test_of_a_merged_step_that_failed_the_end_of_its_one_stream_is_shown():
    started, finished, verdict = step("a", status=Status.FAILED)
    result = replace(finished.result, merged=True, stdout_stream=Captured(4, data=b"loud"))
    assert "stdout and stderr\n            loud\n" in report(PLAN, started, replace(finished, result=result), verdict)


def test_a_large_stderr_that_is_gone_is_named():
    assert "stderr: 20000 bytes, no longer on disk" in judged(err=Captured(20_000, "ab" * 32, None))


def test_a_skipped_step_has_no_duration():
    started, _, verdict = step("a", status=Status.SKIPPED)
    assert report(PLAN, started, verdict).endswith("    SKIP            select::a                   jq .x a.json\n")


def test_a_step_of_the_setup_says_so():
    assert report(PLAN, *step("a", phase=Phase.SETUP)).endswith("select::a                   setup: jq .x a.json\n")


def test_a_step_of_a_lone_session_is_shown_when_it_is_captured():
    started, finished, _ = step("a")
    assert report(started, finished) == "    PASS      3 ms  select::a                   jq .x a.json\n"


def test_a_long_command_is_cut_to_the_line():
    line = report(PLAN, *step("a", "x" * 300), width=80).split("\n")[1]
    assert (len(line), line[-3:]) == (80, "xx…")


def test_names_line_up_and_a_very_long_one_moves_no_other():
    lines = report(PLAN, *step("a-longer-name-than-that"), *step("b" * 60), *step("c")).split("\n")
    assert [line.index("jq .x") for line in (lines[1], lines[3])] == [53, 53]


def test_a_plan_that_could_not_install_shows_what_the_package_manager_said():
    error = ErrorInfo(ErrorKind.INSTALL, "installing apt:nope failed", "apt-cache search nope")
    text = report(PLAN, *(InstallLogged(0, "nope", f"E: line {n}") for n in range(30)), PlanFinished(0, Status.ERROR, error))
    assert "   ERROR  jq basics\n       │  E: line 10\n" in text
    assert text.endswith(
        "       │  E: line 29\n          error: installing apt:nope failed\n          hint: apt-cache search nope\n"
    )


def test_an_error_of_a_case_is_shown_with_it():
    text = report(PLAN, CaseFinished(0, CASE, Status.ERROR, 0.1, error=ErrorInfo(ErrorKind.SESSION_LOST, "gone")))
    assert text.endswith("   ERROR            select\n          error: gone\n")


@pytest.mark.parametrize(
    ("status", "shown"), [(Status.XPASSED, "   XPASS            select"), (Status.SKIPPED, "    SKIP            select")]
)
def test_a_case_with_a_status_of_its_own_has_a_line(status, shown):
    assert report(PLAN, CaseFinished(0, CASE, status, 0.0)).split("\n")[1] == shown


def test_an_attempt_that_failed_is_told_where_its_steps_do_not_tell_it():
    late = AttemptFailed(0, CASE, 1, Status.FAILED, 0.5, ErrorInfo(ErrorKind.CASE_TIMEOUT, "time used up"))
    assert report(PLAN, CaseStarted(0, CASE), late).endswith("    FAIL            select\n          error: time used up\n")
    assert report(PLAN, CaseStarted(0, CASE), replace(late, error=None)) == report(PLAN)


def test_a_flaky_case_says_when_it_passed_and_is_named_again_at_the_end():
    again = (*step("a", status=Status.FAILED), AttemptFailed(0, CASE, 1, Status.FAILED, 0.5), CaseStarted(0, CASE, 2))
    said = report(PLAN, CaseStarted(0, CASE), *again, *step("a"), CaseFinished(0, CASE, Status.FLAKY, 0.5, 2), FLAKY_END)
    assert "   FLAKY            select  (passed in attempt 2)\n" in said
    assert "0 passed, 0 failed, 0 skipped, 1 flaky in 0 ms  (1 case, 1 step)" in said


def test_a_case_that_failed_in_all_its_attempts_says_how_many_there_were():
    said = report(PLAN, CaseStarted(0, CASE, 3), *step("a", status=Status.FAILED), CaseFinished(0, CASE, Status.FAILED, 0.5, 3))
    assert said.endswith("    FAIL            select  (3 attempts)\n")


def test_a_further_attempt_is_announced():
    assert report(PLAN, CaseStarted(0, CASE, 2)).endswith("   again            select  attempt 2\n")


def test_a_problem_names_its_step_and_its_hint():
    text = report(Problem("left over\nsecond", "testronaut-lab clean", "p::c"))
    assert text == " problem  p::c: left over\n          second\n          hint: testronaut-lab clean\n"


def test_several_failures_are_listed_again_at_the_end():
    steps = [body for n in range(25) for body in step(f"s{n}", status=Status.FAILED)]
    text = report(PLAN, *steps, RunFinished("f", Status.FAILED, ExitStatus.FAILED, ErrorInfo(ErrorKind.ENGINE, "went away")))
    recap = text[text.index("\n\n") :]
    assert recap.count("    FAIL  p.lab.yaml::select::s") == 20
    assert "… and 5 more\n\n          error: went away\n" in recap


def test_a_run_without_an_end_is_told_to_be_interrupted_once():
    text = report(RUN, PLAN, end=True, results="x.db")
    assert "interrupted: 0 passed, 0 failed, 0 skipped in 0 ms  (1 case, 0 steps)\n" in text


def test_a_run_with_an_end_is_summed_up_once():
    assert report(RUN, PLAN, RunFinished("f", Status.PASSED, ExitStatus.OK), end=True).count("0 passed") == 1


def test_hints_print_nothing():
    assert report(Progress("image", "pulling")) == ""


def test_plans_are_set_apart():
    assert "\n\njq basics" in report(PLAN, PLAN)


def hostile_run() -> list:
    failed = {
        "status": Status.FAILED,
        "mismatches": (Mismatch(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
        "error": ErrorInfo(ErrorKind.CAPTURE, HOSTILE, HOSTILE),
        "notes": (HOSTILE,),
    }
    return [
        RunStarted(HOSTILE, HOSTILE),
        EngineFound(EngineInfo(HOSTILE, HOSTILE, HOSTILE)),
        PlanStarted(0, HOSTILE, HOSTILE, HOSTILE, "none", "lab", ((HOSTILE, CASE, (), 1),)),
        ImageReady(0, ImageInfo(HOSTILE, HOSTILE, HOSTILE), HOSTILE),
        InstallLogged(0, HOSTILE, HOSTILE),
        ToolReady(0, ToolInfo(HOSTILE, HOSTILE, HOSTILE), True),
        *step(HOSTILE, HOSTILE, err=HOSTILE.encode(), **failed),
        *step("other", **failed),
        Problem(HOSTILE, HOSTILE, HOSTILE),
        CaseFinished(0, CASE, Status.ERROR, 0.0, error=ErrorInfo(ErrorKind.CAPTURE, HOSTILE)),
        PlanFinished(0, Status.ERROR, ErrorInfo(ErrorKind.INSTALL, HOSTILE, HOSTILE)),
        RunFinished("f", Status.ERROR, ExitStatus.BUG, ErrorInfo(ErrorKind.CAPTURE, HOSTILE, HOSTILE)),
    ]


def test_copies_that_scripts_can_see_are_told_with_the_engine():
    engine = EngineInfo("docker", "20.10.24", "1.41")
    traced, forked = (EngineFound(replace(engine, copies=copies)) for copies in ("traced", "forked"))
    alone = report(RUN, EngineFound(engine))
    assert report(RUN, EngineFound(engine), traced) == alone
    assert report(RUN, EngineFound(engine), forked) == alone + "  engine  docker 20.10.24, API 1.41, driver fast, copies forked\n"


def test_nothing_foreign_reaches_the_terminal_raw():
    plain = report(*hostile_run())
    assert set(plain) & set("\x1b\x07\u202e") == set()
    assert plain.count(r"\x1b]0;pwn") > 20


def test_with_color_there_are_only_our_own_colors():
    colored = report(*hostile_run(), color=True)
    assert set(re.sub(r"\x1b\[[0-9;]*m", "", colored)) & set("\x1b\x07\u202e") == set()
    assert "\x1b[32m    PASS\x1b[0m" in report(PLAN, *step("a"), color=True)


def test_color_changes_no_text():
    assert re.sub(r"\x1b\[[0-9;]*m| +(?=\n)", "", report(*hostile_run(), color=True)) == report(*hostile_run())


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0 ms"), (0.0034, "3 ms"), (0.9996, "1.0 s"), (2.34, "2.3 s"), (59.97, "1 m 00 s"), (3605, "60 m 05 s")],
)
def test_durations_are_short(seconds, shown):
    assert duration_text(seconds) == shown


@pytest.mark.parametrize(
    ("size", "shown"), [(512, "512 B"), (1536, "1.5 KiB"), (5 * 1024**3, "5.0 GiB"), (3 * 1024**5, "3072.0 TiB")]
)
def test_sizes_are_short(size, shown):
    assert size_text(size) == shown


RUNS = [
    RunSummary(
        "r2", "2026-11-22T18:45:12+00:00", "2026-11-22T18:45:14.500+00:00", Status.FAILED, {"passed": 2, "failed": 1}, ("a", "b")
    ),
    RunSummary("r1", "2026-11-21T08:00:00Z", None, "interrupted", {"passed": 0}, ("\x1b[2J",)),
    RunSummary("r0", "long ago", "later", Status.PASSED),
]


def test_runs_are_plain_columns_outside_a_terminal():
    assert str(runs_table(RUNS, plain=True)).split("\n") == [
        "run  started              took   status       cases               plans",
        "r2   2026-11-22 18:45:12  2.5 s  failed       2 passed, 1 failed  a, b",
        r"r1   2026-11-21 08:00:00  -      interrupted  -                   \x1b[2J",
        "r0   long ago             -      passed       -",
    ]


def printed(renderable) -> str:
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_runs_are_a_table_on_a_terminal():
    text = printed(runs_table(RUNS, plain=False))
    assert "─" in text
    assert r"\x1b[2J" in text


class Image:
    tag, spec, size_bytes, own_bytes = "testronaut-lab/tool:abc", f"sha256:{'ab' * 32} + apt:jq", 5_000_000, 1000
    created, last_used, used_by = "2026-11-22T18:45:12Z", "2026-11-23T08:00:00Z", ()


def test_images_are_plain_columns_outside_a_terminal():
    now = datetime(2026, 11, 23, 9, 1, tzinfo=UTC)
    assert str(images_table([Image()], plain=True, now=now)).split("\n") == [
        "image                    of                             size     own     made     used",
        "testronaut-lab/tool:abc  sha256:abababababab… + apt:jq  4.8 MiB  1000 B  14h ago  1h ago",
    ]


def test_empty_lists_say_so():
    assert runs_table([], plain=True) == "no runs yet"
    assert images_table([], plain=False) == Text("no images yet", "dim")


def test_only_the_heads_of_a_diff_are_heads() -> None:
    def styles(diff: str) -> list[str]:
        return [str(span.style) for line in diff_lines(diff) for span in line.spans]

    assert styles("--- a\n+++ b\n@@ -1 +1 @@\n--- gone\n+++ new\n") == ["bold", "bold", "cyan", "red", "green"]
    assert styles("@@ -1 +1 @@\n--- gone\n+++ new\n") == ["cyan", "red", "green"]


def test_undone_steps_are_told_with_what_could_not_be_undone():
    said = report(StepsUndone(0, "c", ("c::a", "c::\x1b[31mb"), UndoHow.CONTAINER, ("traps\x07 are gone",)))
    assert [line.strip() for line in said.splitlines() if line.strip()][:2] == [
        "undone  a, \\x1b[31mb  fresh container",
        "traps\\x07 are gone",
    ]
