"""How a session and its steps read in the dashboard."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.text import Text

from testronaut_lab.errors import ErrorKind
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import Body, ImageReady, InstallLogged, Problem, Progress, ToolReady
from testronaut_lab.model.files import ChangeKind, FileChange, FileType
from testronaut_lab.model.result import (
    Captured,
    ErrorInfo,
    Exit,
    ExitKind,
    ImageInfo,
    Mismatch,
    OutsideChange,
    Phase,
    ShellState,
    Status,
    StepResult,
    ToolInfo,
)
from testronaut_lab.report.state.records import TAIL_BYTES, StepView
from testronaut_lab.report.state.view import RunView
from testronaut_lab.ui.tui.lines import (
    Line,
    clock,
    effect_lines,
    screen_lines,
    session_lines,
    size_text,
    step_facts,
    step_row,
    stream_lines,
    tail_lines,
    touched_lines,
)

PASSED = StepResult("a", "p::c::a", Exit(ExitKind.EXITED, 0), Status.PASSED, run="ls", duration_s=0.003, cwd="/workspace")


def shown(lines: list[Line]) -> list[str]:
    return [str(line) for line in lines]


def step(result: StepResult | None = None) -> StepView:
    status = {} if result is None else {"status": result.status}
    return StepView("a", "p::c::a", Phase.STEPS, "ls\nls -l", 10.0, result=result, **status)  # type: ignore[arg-type]


def view_of(*bodies: Body) -> RunView:
    log, view = EventLog(), RunView()
    for body in bodies:
        view.apply(log.emit(body))
    return view


def test_a_row_has_glyph_exit_status_duration_and_command() -> None:
    assert str(step_row(step(PASSED), 12.0)) == "✓    0    3 ms  ls …"


def test_a_running_row_counts_seconds() -> None:
    assert str(step_row(step(), 12.0)) == "◌         0:02  ls …"


@pytest.mark.parametrize(
    ("kind", "word"),
    [(ExitKind.TIMEOUT, "time"), (ExitKind.OOM, "mem"), (ExitKind.CANCELLED, "int"), (ExitKind.SESSION_LOST, "lost"),
     (ExitKind.ENGINE_LOST, "lost"), (ExitKind.DISK_LIMIT, "lim")],
)  # fmt: skip
def test_an_end_without_exit_status_is_a_word(kind: ExitKind, word: str) -> None:
    assert str(step_row(step(replace(PASSED, exit=Exit(kind), status=Status.FAILED)), 0.0)).split()[:2] == ["✗", word]


def test_facts_name_the_end_the_directory_and_a_shell_that_was_not_kept() -> None:
    facts = step_facts(step(replace(PASSED, state=ShellState.RESTORED)), 0.0)
    assert str(facts) == "exit status 0  3 ms  /workspace  shell restored"


def test_a_stream_over_the_limit_says_what_was_dropped() -> None:
    stream = Captured(2, data=b"a\n", truncated=True, dropped_bytes=7)
    lines, size_bytes = stream_lines(step(replace(PASSED, stdout_stream=stream)), "stdout")
    assert (shown(lines), size_bytes) == (["a", "… 7 bytes over the limit were dropped"], 2)


def test_a_stream_that_is_no_longer_on_disk_is_named() -> None:
    gone = Captured(99_999, "0" * 64, None, path="/nonexistent/blob")
    lines, _ = stream_lines(step(replace(PASSED, stderr_stream=gone)), "stderr")
    assert shown(lines) == ["99999 bytes, no longer on disk"]


def test_a_tail_says_how_much_is_missing_before_it() -> None:
    assert str(tail_lines(b"x" * TAIL_BYTES, TAIL_BYTES + 5)[0]) == "… 5 bytes before"


def test_a_character_cut_at_the_start_of_a_tail_counts_as_missing() -> None:
    assert shown(tail_lines("ä\n".encode()[1:] + b"b\n", 10)) == ["… 7 bytes before", "", "b"]


def test_no_output_is_no_line() -> None:
    assert tail_lines(b"", 0) == []


def test_changes_show_letter_type_target_and_size() -> None:
    changes = (
        FileChange(ChangeKind.ADDED, "l", FileType.LINK, target="a"),
        FileChange(ChangeKind.MODIFIED, "m", FileType.FILE, 0o644, 2048, note="not read"),
        FileChange(ChangeKind.DELETED, "d", FileType.DIR),
    )
    assert shown(effect_lines(replace(PASSED, changes=changes))) == ["A l  link → a", "M m  2.0 KiB  not read", "D d  dir"]


def test_everything_else_a_step_did_has_its_line() -> None:
    outside = (OutsideChange("added", "/tmp/x"),)
    result = replace(PASSED, outside=outside, transient=("t",), left_behind=("sleep 9",), notes=("late",))
    assert shown(effect_lines(result)) == ["outside: added /tmp/x", "transient t", "left behind sleep 9", "note late"]


def test_what_a_running_step_touches_is_shown_safely_the_latest_last() -> None:
    step = StepView("a", "p::c::a", Phase.STEPS, "make", 10.0)
    step.touched.extend([*(f"f{i}" for i in range(30)), "\x1b[2J"])
    lines = shown(touched_lines(step))
    assert (len(lines), lines[-2], "\x1b" in lines[-1]) == (20, "touched f29", False)


def test_an_error_comes_first_with_its_hint() -> None:
    result = replace(PASSED, error=ErrorInfo(ErrorKind.CAPTURE, "one\ntwo", "type this"), notes=("n",))
    assert shown(effect_lines(result)) == ["error one", "  two", "hint type this", "note n"]


def test_a_mismatch_shows_its_values_or_its_diff() -> None:
    values, diff = Mismatch("exit", "0", "5"), Mismatch("golden", "", "", "stdout.txt", "-a\n+b\n")
    lines = [line.strip() for line in shown(effect_lines(replace(PASSED, mismatches=(values, diff))))]
    assert lines == ["exit", "expected 0", "actual   5", "golden stdout.txt", "-a", "+b"]


def test_a_session_tells_of_image_installation_tool_and_problems() -> None:
    view = view_of(
        ImageReady(0, ImageInfo("debian", "sha256:0123456789abcdef", "bootstrap"), "a substitute"),
        InstallLogged(0, "jq", "Setting up \x1b[1mjq"),
        ToolReady(0, ToolInfo("jq", "1.6", "apt"), cached=False),
        Problem("something", "do this"),
    )
    assert shown(session_lines(view, None)) == [
        "image    debian  (bootstrap)",
        "         sha256:0123456789ab",
        "         a substitute",
        r"  Setting up \x1b[1mjq",
        "tool     jq 1.6  (apt, installed now)",
        "note something",
        "hint do this",
    ]


def test_what_is_waited_for_is_shown_until_it_fails() -> None:
    view = view_of(Progress("image", "pulling debian"))
    assert shown(session_lines(view, None)) == ["image    pulling debian"]
    assert shown(session_lines(view, ErrorInfo(ErrorKind.CAPTURE, "no registry"))) == ["", "error no registry"]


def test_no_line_is_markup() -> None:
    lines = effect_lines(replace(PASSED, notes=("[red]x[/nope]",)))
    assert isinstance(lines[0], Text) and lines[0].plain == "note [red]x[/nope]"


@pytest.mark.parametrize(("seconds", "text"), [(0.9, "0:00"), (67, "1:07"), (3723, "1:02:03")])
def test_the_clock_counts_hours_when_there_are_some(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 1024**2, "3.0 MiB")])
def test_sizes_are_short(size: int, text: str) -> None:
    assert size_text(size) == text


def test_a_terminals_screen_is_lines_of_safe_text() -> None:
    result = replace(PASSED, screen="> che\x1b[31m\u202e\n[bold]1/3\n")
    assert shown(screen_lines(result) or []) == [r"> che\x1b[31m\u202e", "[bold]1/3"]


def test_an_empty_screen_says_so_and_a_step_without_terminal_has_none() -> None:
    assert shown(screen_lines(replace(PASSED, screen="")) or []) == ["the screen was empty"]
    assert (screen_lines(PASSED), screen_lines(None)) == (None, None)
