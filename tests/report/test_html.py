"""Results as HTML: everything is there, and nothing that came out of a container can act on the page."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.recorded_run import EVERYTHING

from testronaut_lab.api import Session
from testronaut_lab.errors import ErrorKind, ExitStatus
from testronaut_lab.model.files import ChangeKind, FileChange, FileType
from testronaut_lab.model.result import (
    Captured,
    CaseResult,
    ErrorInfo,
    Exit,
    ExitKind,
    ImageInfo,
    Mismatch,
    OutsideChange,
    PlanResult,
    RunResult,
    ShellState,
    Status,
    StepResult,
    ToolInfo,
)
from testronaut_lab.model.undo import UndoHow, UndoResult
from testronaut_lab.report.html.page import run_page
from testronaut_lab.report.html.results import run_html, session_html, step_html, undo_html

EVIL = "<script>alert(1)</script><img src=x onerror=y>\"'&\x1b[31m\x00\u202e"
OUT = Captured(6, data=b"hello\n")
PASSED = StepResult(
    "a", "p::c::a", Exit(ExitKind.EXITED, 0), Status.PASSED, run="jq .x a.json", stdout_stream=OUT, duration_s=0.003
)
ADDED = FileChange(ChangeKind.ADDED, "out.json", FileType.FILE, 0o644, 12)


def captured(text: str) -> Captured:
    data = text.encode()
    return Captured(len(data), data=data)


class Page(HTMLParser):
    """What a browser would make of it: the text, the tags, and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def evil_step() -> StepResult:
    return StepResult(
        EVIL,
        EVIL,
        Exit(ExitKind.EXITED, 1),
        Status.FAILED,
        run=EVIL + "\n" + EVIL,
        stdout_stream=captured(EVIL),
        stderr_stream=captured(EVIL),
        changes=(FileChange(ChangeKind.RETYPED, EVIL, FileType.LINK, target=EVIL),),
        transient=(EVIL,),
        outside=(OutsideChange("added", EVIL),),
        left_behind=(EVIL,),
        mismatches=(Mismatch(EVIL, EVIL, EVIL, EVIL), Mismatch("golden", "", "", None, f"+{EVIL}\n-{EVIL}\n {EVIL}")),
        error=ErrorInfo(ErrorKind.CAPTURE, EVIL, EVIL),
        notes=(EVIL,),
    )


def run_of(*steps: StepResult, status: Status = Status.PASSED, error: ErrorInfo | None = None) -> RunResult:
    case = CaseResult("select", "p::select", status, steps, duration_s=0.5)
    image, tool = ImageInfo("debian", "sha256:1", "local"), ToolInfo("jq", "1.6", "apt")
    plan = PlanResult("jq basics", "p.lab.yaml", status, (case,), image, (tool,))
    return RunResult("20261122-1", "2026-11-22", None, status, None, (plan,), ExitStatus.OK, error)


def test_a_step_shows_command_end_duration_and_output() -> None:
    text = Page(step_html(PASSED)).text
    assert "PASS $ jq .x a.json exit status 0 3 ms" in text
    assert "hello\n" in text


def test_a_step_lists_its_changes() -> None:
    assert "A 644 out.json  12 bytes" in Page(step_html(replace(PASSED, changes=(ADDED,)))).text


def test_a_mismatch_with_a_diff_shows_the_diff() -> None:
    mismatch = Mismatch("golden", "a\n", "b\n", "stdout.txt", "--- a\n+++ b\n-a\n+b\n")
    assert "-a\n+b" in Page(step_html(replace(PASSED, status=Status.FAILED, mismatches=(mismatch,)))).text


def test_a_removed_line_that_begins_like_a_head_is_coloured_as_removed() -> None:
    mismatch = Mismatch("golden", "-- a\n", "b\n", "stdout.txt", "--- theirs\n+++ ours\n--- a\n+b\n")
    page = step_html(replace(PASSED, status=Status.FAILED, mismatches=(mismatch,)))
    assert '">--- a</span>' in page
    assert '">--- theirs' not in page.replace('">--- theirs\n', "", 1)


def test_a_mismatch_without_one_shows_both_values() -> None:
    text = Page(step_html(replace(PASSED, status=Status.FAILED, mismatches=(Mismatch("exit", "0", "5"),)))).text
    assert "exitexpected0actual5" in text


def test_a_shell_that_was_lost_is_said() -> None:
    assert "shell lost" in Page(step_html(replace(PASSED, state=ShellState.LOST))).text


def test_of_a_long_output_the_end_is_shown() -> None:
    text = Page(step_html(replace(PASSED, stdout_stream=captured("x" * 20_000 + "end")))).text
    assert "… 3619 characters before" in text and "xend" in text


def test_output_that_is_no_longer_on_disk_is_named() -> None:
    gone = Captured(99_999, "0" * 64, None, path="/nonexistent/blob")
    assert "stdout: 99999 bytes, no longer on disk" in Page(step_html(replace(PASSED, stdout_stream=gone))).text


def test_output_over_the_limit_says_what_was_dropped() -> None:
    cut = replace(OUT, truncated=True, dropped_bytes=42)
    assert "42 bytes over the limit were dropped" in Page(step_html(replace(PASSED, stdout_stream=cut))).text


def test_a_run_sums_up_its_cases_and_names_image_and_tools() -> None:
    text = Page(run_html(run_of(PASSED))).text
    assert "PASS 1 passed 20261122-1" in text
    assert "jq basics p.lab.yaml debian (local) jq 1.6" in text


def test_only_cases_that_did_not_pass_are_open() -> None:
    assert "<details open" not in run_html(run_of(PASSED))
    assert "<details open" in run_html(run_of(PASSED, status=Status.FAILED))


def test_the_error_of_a_run_is_shown_with_its_hint() -> None:
    html = run_html(run_of(status=Status.ERROR, error=ErrorInfo(ErrorKind.ENGINE, "no engine", "testronaut-lab engine up")))
    assert "error: no enginehint: testronaut-lab engine up" in Page(html).text


def test_a_page_of_its_own_needs_nothing_from_elsewhere() -> None:
    html = run_page(EVERYTHING)
    page = Page(html.partition("<body>")[2].partition("</body>")[0])
    assert page.open == [] and page.tags <= {"div", "span", "strong", "code", "pre", "br", "details", "summary"}
    assert """http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline';""" in html
    assert re.findall(r"(?i)<script|<link|<img|src=|href=|url\(|@import", html) == []
    assert f"<title>testronaut-lab {EVERYTHING.run}: error</title>" in html


def test_attempts_that_failed_are_folded_away_beneath_their_case() -> None:
    text = Page(run_html(EVERYTHING)).text
    assert "FLAKY flaky 250 ms 1 step 2 attempts" in text
    assert "FAIL attempt 1 500 ms 2 steps" in text


def test_a_session_shows_its_last_steps() -> None:
    steps = [replace(PASSED, run=f"echo {number}") for number in range(7)]
    text = Page(session_html("debian", ["jq"], "running", steps)).text
    assert text.startswith("debian + jq running 7 steps") and "echo 6" in text and "echo 1 " not in text


@pytest.mark.parametrize(
    "html",
    [
        step_html(evil_step()),
        run_html(run_of(evil_step(), status=Status.FAILED, error=ErrorInfo(ErrorKind.CAPTURE, EVIL, EVIL))),
        session_html(EVIL, [EVIL], EVIL, [evil_step()]),
    ],
    ids=["step", "run", "session"],
)
def test_hostile_text_is_only_ever_text(html: str) -> None:
    page = Page(html)
    assert page.tags <= {"div", "span", "strong", "code", "pre", "br", "details", "summary"}
    assert page.attributes <= {"style", "open"}
    assert [] == page.open
    assert re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", html) is None
    assert "<script>alert(1)</script>" in page.text


def test_results_and_sessions_render_themselves(tmp_path: Path) -> None:
    assert PASSED._repr_html_() == step_html(PASSED)
    assert run_of(PASSED)._repr_html_() == run_html(run_of(PASSED))
    with Session("debian:bookworm-slim", "apt:jq", root=tmp_path) as session:
        assert session._repr_html_() == session_html("debian:bookworm-slim", ["jq"], "not started yet", [])


def test_a_terminal_shows_its_screen_and_its_bytes_behind_a_click() -> None:
    html = step_html(replace(PASSED, screen=f"> che {EVIL}\n", stdout_stream=captured("\x1b[2J\x1b[1;1H> che")))
    page = Page(html)
    assert "screen> che <script>" in page.text and r"as writtenstdout  15 bytes\x1b[2J" in page.text
    assert page.tags <= {"div", "span", "code", "pre", "details", "summary"} and page.open == []


def test_an_empty_screen_is_said_to_be_empty() -> None:
    assert "screen: empty" in Page(step_html(replace(PASSED, screen="", stdout_stream=Captured()))).text


def test_what_was_undone_is_shown_and_is_no_markup() -> None:
    html = undo_html(UndoResult(("<b>", "two"), UndoHow.SHELL, ("a <note>",)))
    text = Page(html).text
    assert "<b>, two" in text and "shell restored" in text and "a <note>" in text
