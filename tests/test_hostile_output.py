"""Hostile output at every sink there is: no control character arrives, no markup is parsed, nothing is invisible."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from html import unescape
from pathlib import Path, PurePath

import pytest
from rich.console import Console
from support.hostile_output import ATTACKS, BEGIN, between_marks, everything, marked, offences

from testronaut_lab.errors import ErrorKind, ExitStatus, LabError, StepFailed
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import (
    Body,
    CaseFinished,
    CaseStarted,
    EngineFound,
    ImageReady,
    InstallLogged,
    OutputChunk,
    PlanFinished,
    PlanStarted,
    Problem,
    Progress,
    RunFinished,
    RunStarted,
    StepFinished,
    StepJudged,
    StepStarted,
    ToolReady,
)
from testronaut_lab.model.files import ChangeKind, FileChange, FileType, path_text
from testronaut_lab.model.normalizing import Facts, Normalized, Normalizer
from testronaut_lab.model.result import (
    Captured,
    EngineInfo,
    ErrorInfo,
    Exit,
    ExitKind,
    ImageInfo,
    Late,
    Mismatch,
    OutsideChange,
    Phase,
    RunResult,
    Status,
    StepResult,
    ToolInfo,
)
from testronaut_lab.model.runs import RunSummary
from testronaut_lab.report.files.github import annotation_lines
from testronaut_lab.report.files.json import dumps, events_to_jsonl
from testronaut_lab.report.files.junit import junit_xml
from testronaut_lab.report.files.markdown import markdown
from testronaut_lab.report.html.page import run_page
from testronaut_lab.report.html.results import run_html, session_html, step_html
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.live import LiveReporter
from testronaut_lab.report.text.plain import TextReporter
from testronaut_lab.report.text.tables import runs_table
from testronaut_lab.safetext import safe_text
from testronaut_lab.ui.tui.lines import effect_lines, session_lines, step_facts, step_row, stream_lines

each_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())


def told(attack: bytes) -> str:
    """The attack in a text of ours: a file name, a message, a note."""
    return marked(attack).decode(errors="backslashreplace")


def result_of(attack: bytes) -> StepResult:
    """A failed step in which everything that can be hostile is."""
    text, stream = told(attack), Captured(len(marked(attack)), data=marked(attack) + b"\n")
    return StepResult(
        text,
        f"p::c::{text}",
        Exit(ExitKind.EXITED, 1),
        Status.FAILED,
        run=text,
        stdout_stream=stream,
        stderr_stream=stream,
        changes=(FileChange(ChangeKind.ADDED, path_text(marked(attack)), FileType.LINK, 0o777, target=text, note=text),),
        transient=(text,),
        outside=(OutsideChange("added", text),),
        cwd=text,
        left_behind=(text,),
        mismatches=(Mismatch(text, text, text, text), Mismatch("golden", "", "", text, f"--- a\n+++ b\n-{text}\n+{text}\n")),
        error=ErrorInfo(ErrorKind.CAPTURE, text, text),
        notes=(text,),
        screen=text,
        late=(Late("stdout", stream, text),),
        normalized=Normalized((text, Normalizer(text, text)), Facts(*[text] * 5, tools=((text, text),)), {text: 1}),
    )


def run_of(attack: bytes) -> list[Body]:
    """A run in which everything that can be hostile is."""
    text, result = told(attack), result_of(attack)
    case = f"p::{text}"
    return [
        RunStarted("r", "2026-11-22T18:45:12Z"),
        EngineFound(EngineInfo(text, text, text, text)),
        PlanStarted(0, text, text, text, "none", "lab", ((text, case, (text,), 1),)),
        Progress(text, text),
        ImageReady(0, ImageInfo(text, text, text), text),
        InstallLogged(0, text, text),
        ToolReady(0, ToolInfo(text, text, text), cached=False),
        Problem(text, text, text),
        CaseStarted(0, case, 2),
        StepStarted(0, case, text, result.nodeid, Phase.STEPS, text),
        OutputChunk(result.nodeid, "stdout", marked(attack), 0.1),
        StepFinished(0, case, result),
        StepJudged(0, case, result.nodeid, Status.FAILED, result.mismatches, result.error, result.notes),
        CaseFinished(0, case, Status.XPASSED, 0.5, error=result.error, expect_fail=text),
        PlanFinished(0, Status.ERROR, ErrorInfo(ErrorKind.INSTALL, text, text)),
        RunFinished("f", Status.ERROR, ExitStatus.CAPTURE, ErrorInfo(ErrorKind.CAPTURE, text, text)),
    ]


def followed(bodies: list[Body], tell: Callable[[RunView], None] = lambda _view: None) -> RunView:
    log, view = EventLog(), RunView()
    for body in bodies:
        view.apply(log.emit(body))
        tell(view)
    return view


def plain_lines(attack: bytes, *, color: bool) -> str:
    said: list[str] = []
    log, view, reporter = EventLog(), RunView(), TextReporter(said.append, color)
    for body in run_of(attack):
        event = log.emit(body)
        view.apply(event)
        reporter.event(view, event)
    return "".join(said)


@each_attack
def test_plain_lines_and_show(attack: bytes) -> None:
    shown = plain_lines(attack, color=False)
    assert offences(shown) == []
    assert shown.count(BEGIN) > 20


@each_attack
def test_lines_in_colour(attack: bytes) -> None:
    assert offences(plain_lines(attack, color=True), colours=True) == []


@each_attack
def test_the_moving_display(attack: bytes) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200, height=50, color_system="standard", _environ={})
    log, view = EventLog(), RunView()
    with LiveReporter(console) as live:
        for body in run_of(attack):
            event = log.emit(body)
            view.apply(event)
            live.event(view, event)
            live._live.refresh()
    shown = between_marks(out.getvalue())
    assert len(shown) > 10
    assert [found for text in shown for found in offences(text, colours=True)] == []


@each_attack
def test_the_lines_of_the_dashboard(attack: bytes) -> None:
    shown: list[str] = []

    def look(view: RunView) -> None:
        for step in (step for plan in view.plans.values() for case in plan.cases for step in case.steps):
            lines = [step_row(step, 0.0), step_facts(step, 0.0), *effect_lines(step.result)]
            shown.extend(str(line) for stream in ("stdout", "stderr") for line in stream_lines(step, stream)[0])
            shown.extend(map(str, lines))
        shown.extend(map(str, session_lines(view, ErrorInfo(ErrorKind.CAPTURE, told(attack), told(attack)))))

    followed(run_of(attack), look)
    assert offences("\n".join(shown)) == []
    assert "\n".join(shown).count(BEGIN) > 20


@each_attack
def test_html(attack: bytes) -> None:
    pages = [
        step_html(result_of(attack)),
        run_html(followed(run_of(attack)).result()),
        session_html(told(attack), [told(attack)], told(attack), [result_of(attack)]),
    ]
    tags = set(re.findall(r"</?([a-zA-Z]+)", "".join(pages)))
    assert offences("".join(pages)) == offences(unescape("".join(pages))) == []
    assert tags <= {"div", "span", "pre", "br", "code", "strong", "details", "summary"}


@each_attack
def test_a_page_junit_markdown_and_annotations(attack: bytes) -> None:
    run = followed(run_of(attack)).result()
    documents = [run_page(run), junit_xml(run).decode(), markdown(run), *annotation_lines(run, PurePath())]
    assert [offences(unescape(document)) for document in documents] == [[]] * len(documents)
    assert all(BEGIN in unescape(document) for document in documents)


@each_attack
def test_json_and_events(attack: bytes) -> None:
    view = followed(run_of(attack))
    log = EventLog()
    events = [log.emit(body) for body in run_of(attack)]
    document, lines = dumps(view.result()), b"".join(events_to_jsonl(events))
    assert offences(document.decode()) == offences(lines.decode()) == []
    (step,) = json.loads(document)["plans"][0]["cases"][0]["steps"]
    assert step["stdout"]["text"] == told(attack) + "\n"


@each_attack
def test_the_list_of_runs(attack: bytes) -> None:
    run = RunSummary(told(attack), told(attack), told(attack), Status.PASSED, {}, (told(attack),))
    console = Console(file=io.StringIO(), force_terminal=True, width=4000, color_system="standard", _environ={})
    console.print(runs_table([run], plain=False))
    assert isinstance(console.file, io.StringIO)
    assert offences(str(runs_table([run], plain=True))) == offences(console.file.getvalue(), colours=True) == []


@each_attack
def test_an_error_as_a_traceback_and_a_log_show_it(attack: bytes) -> None:
    with pytest.raises(StepFailed) as failed:
        result_of(attack).check()
    assert offences(str(failed.value)) == offences(str(LabError(told(attack), hint=told(attack)))) == []


@each_attack
def test_results_as_python_shows_them(attack: bytes) -> None:
    run: RunResult = followed(run_of(attack)).result()
    assert offences(repr(result_of(attack))) == offences(repr(run)) == []


def test_markup_stays_literal_everywhere() -> None:
    markup = told(ATTACKS["markup"])
    assert markup in plain_lines(ATTACKS["markup"], color=False)
    assert markup in str(effect_lines(result_of(ATTACKS["markup"]))[0])


def test_a_line_without_an_end_is_cut_in_every_list() -> None:
    long = Captured(3_000_000, data=b"\x1b" * 3_000_000)
    failed = replace(result_of(b""), stderr_stream=long, stdout_stream=long)
    mismatch = Mismatch("stdout", "x", "y" * 3_000_000, diff="+" + "y" * 3_000_000)
    said: list[str] = []
    log, view, reporter = EventLog(), RunView(), TextReporter(said.append)
    case = "p::c"
    for body in (
        StepFinished(0, case, replace(failed, mismatches=(mismatch,), run="z" * 3_000_000)),
        StepJudged(0, case, failed.nodeid, Status.FAILED, (mismatch,)),
    ):
        event = log.emit(body)
        view.apply(event)
        reporter.event(view, event)
    assert max(map(len, said)) < 5000 * 4
    assert len(step_html(failed)) < 500_000


def test_every_field_of_a_result_is_attacked_here() -> None:
    plain = StepResult("a", "b", Exit(ExitKind.EXITED), Status.PASSED)
    same = {field.name for field in fields(StepResult) if getattr(plain, field.name) == getattr(result_of(b"x"), field.name)}
    assert same == {"phase", "argv", "attempts", "usage", "duration_s", "state", "merged", "line", "pids"}


# The same through real containers


PLAN = """\
version: 1
image: debian:bookworm-slim
files: {attack.bin: {base64: "%s"}}
steps:
  - id: both
    run: cat attack.bin; cat attack.bin >&2; exit 3
    continue: true
    expect: {exit: 3, stdout: hello, changes: none}
  - id: names
    run: while read -r name; do touch "./x$name" 2>/dev/null; done <attack.bin; exit 1
"""


@pytest.mark.engine
def test_a_run_on_the_command_line_and_what_it_stored(tmp_path: Path) -> None:
    import base64

    from support.command_line import Project

    project = Project(tmp_path)
    project.write(PLAN % base64.b64encode(everything()).decode())
    said = project("run", "--json", "r.json", "--events", "e.jsonl")
    assert said.status == ExitStatus.FAILED, said.err
    shown = [said.out, said.err, (tmp_path / "r.json").read_text(), (tmp_path / "e.jsonl").read_text()]
    for words in (["show"], ["show", "--json"], ["show", "--events"], ["runs"], ["runs", "--json"]):
        again = project.here(*words)
        shown += [again.out, again.err]
    assert [offences(text) for text in shown] == [[]] * len(shown)
    assert r"honest\rforged" in said.out, said.out


@pytest.mark.engine
async def test_the_dashboard_with_a_real_session() -> None:
    from testronaut_lab.api import Session
    from testronaut_lab.ui.tui.app import LabApp
    from testronaut_lab.ui.tui.widgets.line_pane import LinePane
    from testronaut_lab.ui.tui.widgets.step_list import StepList

    with Session("debian:bookworm-slim") as session:
        session.put("attack.bin", everything())
        session.run("cat attack.bin; cat attack.bin >&2; touch \"$(printf 'x\\033[2J[bold]')\"; exit 3")
        app = LabApp(session)
        async with app.run_test(size=(200, 200)) as pilot:
            pane = app.query_one("#stdout", LinePane)
            for _ in range(500):
                await pilot.pause(0.02)
                if app.query_one(StepList).option_count == 2 and "KCATTA" in pane.text and app.query_one("#effects").display:
                    break
            strips = app.screen._compositor.render_strips()
            drawn = "\n".join(segment.text for strip in strips for segment in strip)
            svg = app.export_screenshot()
    assert "[bold]x[/nope]" in drawn and r"x\x1b[2J[bold]" in drawn
    assert offences(drawn) == offences(svg) == []


FAILING_TESTS = r"""
from pathlib import Path
import pytest
from testronaut_lab.model.result import Captured, Exit, ExitKind, Status, StepResult

DATA = Path("attack.bin").read_bytes()
STREAM = Captured(len(DATA), data=DATA)
R = StepResult("a", "p::c::a", Exit(ExitKind.EXITED, 1), Status.FAILED, run="x", stdout_stream=STREAM, stderr_stream=STREAM)

def test_equal(lab): assert R.out == "hello\n"
def test_equal_bytes(lab): assert R.stdout == b"hello\n"
def test_in(lab): assert "hello" in R.out
def test_not_in(lab): assert "ATTACK" not in R.out
def test_message(lab): assert R.ok, R.err
def test_check(lab): R.check()
def test_whole(lab): assert R.ok
def test_printed(lab):
    print(R.out)
    raise ValueError(R.err)
def test_chained(lab):
    try:
        R.check()
    except Exception as error:
        raise RuntimeError(R.out) from error
@pytest.fixture
def broken(lab): raise RuntimeError(R.out)
def test_in_setup(broken): pass
"""


@pytest.mark.parametrize("style", ["long", "short", "native", "line"])
def test_what_pytest_says_of_a_failure(pytester: pytest.Pytester, style: str) -> None:
    (pytester.path / "attack.bin").write_bytes(everything())
    pytester.makepyfile(FAILING_TESTS)
    words = ("-p", "no:cacheprovider", "-p", "no:asyncio", "-vv", f"--tb={style}", "--showlocals", "-rA")
    result = pytester.runpytest_inprocess(*words)
    result.assert_outcomes(failed=9, errors=1)
    assert offences(result.stdout.str().replace("\r\n", "\n")) == []
    assert r"\x1b]52" in result.stdout.str()


def test_safe_text_shows_every_attack() -> None:
    shown = safe_text(everything().decode(errors="backslashreplace"))
    assert offences(shown) == []
    assert len(between_marks(shown)) == len(ATTACKS)
