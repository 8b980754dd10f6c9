"""The moving display: lines above, what goes on below, and a terminal left as it was found."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from testronaut_lab.errors import ExitStatus
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import (
    CaseStarted,
    FileTouched,
    InstallLogged,
    OutputChunk,
    PlanStarted,
    Progress,
    RunFinished,
    RunStarted,
    StepFinished,
    StepJudged,
    StepStarted,
    UsageSampled,
)
from testronaut_lab.model.result import Exit, ExitKind, Phase, Status, StepResult
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.live import LiveReporter

CASE = "p::c"
PLAN = PlanStarted(0, "jq basics", "p.lab.yaml", "debian", "none", "lab", (("c", CASE, (), 3),))
STARTED = StepStarted(0, CASE, "a", "p::c::a", Phase.STEPS, "jq .x a.json")
FINISHED = StepFinished(0, CASE, StepResult("a", "p::c::a", Exit(ExitKind.EXITED, 0), Status.PASSED, run="jq .x a.json"))
JUDGED = StepJudged(0, CASE, "p::c::a", Status.PASSED)
END = RunFinished("f", Status.PASSED, ExitStatus.OK)


class Terminal:
    """A console that takes itself for a terminal, and a run that is shown on it."""

    def __init__(self) -> None:
        self.out = io.StringIO()
        self.console = Console(file=self.out, force_terminal=True, width=80, height=24, color_system=None, _environ={})
        self.reporter = LiveReporter(self.console, results="x.db", mono=lambda: 7.0)
        self._log, self._view = EventLog(wall=lambda: 0.0, mono=lambda: 5.0), RunView()

    def show(self, *bodies) -> None:
        for body in bodies:
            event = self._log.emit(body)
            self._view.apply(event)
            self.reporter.event(self._view, event)

    def end(self) -> None:
        self.reporter.end(self._view)

    def below(self) -> list[str]:
        """What stands below the lines now."""
        paper = Console(width=80, color_system=None, force_terminal=True, _environ={})
        with paper.capture() as capture:
            paper.print(self.reporter._draw())
        return [line.rstrip() for line in capture.get().split("\n")[:-1]]


@pytest.fixture
def terminal():
    return Terminal()


def test_a_finished_step_is_printed_as_a_line(terminal):
    with terminal.reporter:
        terminal.show(PLAN, STARTED, FINISHED, JUDGED)
    assert "    PASS      0 ms  c::a                        jq .x a.json\n" in terminal.out.getvalue()


def test_the_running_step_shows_its_name_time_and_last_line(terminal):
    terminal.show(PLAN, STARTED, OutputChunk("p::c::a", "stdout", b"one\ntwo\n", 0.0))
    heading, detail, done = terminal.below()
    assert heading.endswith(" jq basics › c › a  2.0 s")
    assert (detail, done) == ("  two", "  0/3 steps  2.0 s")


def test_the_running_step_shows_the_latest_of_what_it_takes(terminal):
    samples = (UsageSampled("p::c::a", cpu_s, memory, 0.1) for cpu_s, memory in ((0.1, 2**20), (0.25, 12 * 2**20)))
    terminal.show(PLAN, STARTED, *samples)
    assert terminal.below()[0].endswith(" jq basics › c › a  2.0 s  12.0 MiB  250 ms cpu")


def test_a_step_that_is_tried_again_says_which_attempt_it_is(terminal):
    terminal.show(PLAN, STARTED, FINISHED, replace(STARTED, attempt=2))
    assert terminal.below()[0].endswith(" jq basics › c › a (attempt 2)  2.0 s")


def test_a_case_that_is_run_again_says_which_attempt_it_is(terminal):
    terminal.show(PLAN, CaseStarted(0, "p::c", 2), STARTED)
    assert " jq basics › c (attempt 2) › a " in terminal.below()[0]


def test_what_cannot_be_measured_is_not_shown(terminal):
    terminal.show(PLAN, STARTED, UsageSampled("p::c::a", None, None, 0.1))
    assert terminal.below()[0].endswith(" jq basics › c › a  2.0 s")


def test_the_counts_grow_with_the_steps(terminal):
    terminal.show(PLAN, STARTED, FINISHED, JUDGED)
    assert terminal.below()[-1] == "  1/3 steps  1 passed  2.0 s"


def test_an_installation_shows_the_last_line_of_the_package_manager(terminal):
    terminal.show(PLAN, InstallLogged(0, "jq", "Reading"), InstallLogged(0, "jq", "Setting up jq"))
    assert terminal.below()[0].endswith(" jq basics › installing jq  2.0 s")
    assert terminal.below()[1] == "  Setting up jq"


def test_progress_is_shown_while_an_image_comes(terminal):
    terminal.show(PLAN, Progress("image", "12 MiB of 30 MiB"))
    assert terminal.below()[0].endswith(" jq basics › image  2.0 s")
    assert terminal.below()[1] == "  12 MiB of 30 MiB"


def test_before_anything_is_known_it_says_that_it_starts(terminal):
    terminal.show(RunStarted("r", "s"))
    assert terminal.below()[0].endswith(" starting  2.0 s")


def test_foreign_output_moves_nothing_on_the_terminal(terminal):
    terminal.show(PLAN, STARTED, OutputChunk("p::c::a", "stdout", b"\x1b[2J\x1b]0;pwn\x07[/nope]\n", 0.0))
    assert terminal.below()[1] == r"  \x1b[2J\x1b]0;pwn\x07[/nope]"


def test_a_long_line_is_cut_and_not_wrapped(terminal):
    terminal.show(PLAN, STARTED, OutputChunk("p::c::a", "stdout", b"x" * 500, 0.0))
    assert [len(line) for line in terminal.below()][1] == 80
    assert len(terminal.below()) == 3


def test_nothing_stands_below_after_the_end(terminal):
    with terminal.reporter:
        terminal.show(PLAN, STARTED, FINISHED, JUDGED, END)
        assert terminal.below() == [""]
    assert "1 passed" not in terminal.out.getvalue().rpartition("results in x.db")[2]


def test_a_run_that_was_cut_off_is_summed_up(terminal):
    with terminal.reporter:
        terminal.show(PLAN, STARTED)
    terminal.end()
    assert "interrupted: 0 passed" in terminal.out.getvalue()


def test_the_cursor_comes_back_after_an_exception(terminal):
    def interrupted() -> None:
        with terminal.reporter:
            terminal.show(PLAN, STARTED)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    cursor = re.findall(r"\x1b\[\?25[lh]", terminal.out.getvalue())
    assert (cursor[0], cursor[-1]) == ("\x1b[?25l", "\x1b[?25h")


def test_a_step_that_writes_no_line_shows_what_it_touches():
    terminal = Terminal()
    terminal.show(PLAN, STARTED, FileTouched("p::c::a", "out/\x1b[2Ja.o"))
    assert "touched out/\\x1b[2Ja.o" in "\n".join(terminal.below())
