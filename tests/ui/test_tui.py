"""The dashboard, driven by its keys over a real session. How its lines are made is in `ui/test_tui_lines.py`."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Static

from testronaut_lab.api import Session
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.errors import UsageError
from testronaut_lab.model.result import ExitKind, Status
from testronaut_lab.ui.tui.app import LabApp
from testronaut_lab.ui.tui.screens.error_screen import ErrorScreen
from testronaut_lab.ui.tui.screens.help_screen import HelpScreen
from testronaut_lab.ui.tui.state import SessionState
from testronaut_lab.ui.tui.widgets.command_line import CommandLine
from testronaut_lab.ui.tui.widgets.line_pane import LinePane
from testronaut_lab.ui.tui.widgets.status_bar import StatusBar
from testronaut_lab.ui.tui.widgets.step_list import StepList

IMAGE = "debian:bookworm-slim"
PATIENCE_S = 90.0


class Dashboard:
    """The app as its user knows it: types, waits for what shows, reads it."""

    def __init__(self, app: LabApp, pilot: Pilot[object]) -> None:
        self.app = app
        self.pilot = pilot

    async def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f"{self.app.state}: {self.text('stdout')[-500:]!r} {self.text('session')!r}"
            await self.pilot.pause(0.02)

    async def ready(self) -> None:
        await self.until(lambda: self.app.state is SessionState.READY and not self.app.view.running)
        await self.until(lambda: self.rows == len(self.app.steps) + 1)

    async def type(self, command: str) -> None:
        self.app.query_one(CommandLine).value = command
        await self.pilot.press("enter")

    async def run(self, command: str) -> None:
        """Type a command and wait until its result shows."""
        count = len(self.app.steps)
        await self.type(command)
        await self.until(lambda: len(self.app.steps) > count)
        await self.ready()
        await self.until(lambda: self.facts.startswith(self.app.steps[-1].result.exit.describe()))  # type: ignore[union-attr]

    def text(self, pane: str) -> str:
        found = self.app.query_one(f"#{pane}", LinePane)
        return found.text if found.display else ""

    @property
    def facts(self) -> str:
        return str(self.app.query_one("#facts", Static).content)

    @property
    def rows(self) -> int:
        return self.app.query_one(StepList).option_count


@asynccontextmanager
async def dashboard(session: Session, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Dashboard]:
    app = LabApp(session)
    async with app.run_test(size=size) as pilot:
        yield Dashboard(app, pilot)


@pytest.fixture
async def board(tmp_path: Path) -> AsyncIterator[Dashboard]:
    with Session(IMAGE, root=tmp_path) as session:
        async with dashboard(session) as shown:
            await shown.ready()
            yield shown


@pytest.mark.engine
async def test_a_command_shows_its_output_and_exit_status(board: Dashboard) -> None:
    await board.run("echo hello; exit 3")
    assert board.text("stdout") == "hello"
    assert board.facts.startswith("exit status 3 ")


@pytest.mark.engine
async def test_stdout_and_stderr_are_shown_apart(board: Dashboard) -> None:
    await board.run("echo out; echo err >&2")
    assert (board.text("stdout"), board.text("stderr")) == ("out", "err")


@pytest.mark.engine
async def test_changes_are_listed_with_their_letter(board: Dashboard) -> None:
    await board.run("echo x >a.txt; mkdir d")
    assert board.text("effects").splitlines() == ["A a.txt  2 B", "A d  dir"]
    await board.run("rm a.txt")
    assert board.text("effects") == "D a.txt"


@pytest.mark.engine
async def test_output_shows_while_the_step_runs_and_ctrl_c_ends_it(board: Dashboard) -> None:
    await board.type("echo started; sleep 100")
    await board.until(lambda: board.text("stdout") == "started")
    assert board.app.state is SessionState.RUNNING
    await board.pilot.press("ctrl+c")
    await board.ready()
    assert board.app.steps[0].result.exit.kind is ExitKind.CANCELLED  # type: ignore[union-attr]


@pytest.mark.engine
async def test_the_session_lives_after_an_interrupt(board: Dashboard) -> None:
    await board.run("x=kept")
    await board.type("sleep 100")
    await board.until(lambda: bool(board.app.view.running))
    await board.pilot.press("ctrl+c")
    await board.ready()
    await board.run("echo $x")
    assert board.text("stdout") == "kept"


@pytest.mark.engine
async def test_a_command_is_refused_while_another_runs(board: Dashboard) -> None:
    await board.type("sleep 100")
    await board.until(lambda: bool(board.app.view.running))
    await board.type("echo second")
    assert board.app.query_one(CommandLine).value == "echo second"
    await board.pilot.press("ctrl+c")
    await board.ready()
    assert len(board.app.steps) == 1


@pytest.mark.engine
async def test_an_older_step_can_be_chosen_in_the_list(board: Dashboard) -> None:
    await board.run("echo first")
    await board.run("echo second")
    board.app.query_one(StepList).focus()
    await board.pilot.press("up")
    await board.until(lambda: board.text("stdout") == "first")


@pytest.mark.engine
async def test_enter_on_a_step_takes_its_command_again(board: Dashboard) -> None:
    await board.run("echo first")
    board.app.query_one(StepList).focus()
    await board.pilot.press("enter")
    line = board.app.query_one(CommandLine)
    assert (line.value, line.has_focus) == ("echo first", True)


@pytest.mark.engine
async def test_the_history_goes_back_and_returns_to_the_draft(board: Dashboard) -> None:
    line = board.app.query_one(CommandLine)
    await board.run("echo one")
    await board.run("echo two")
    line.value = "draft"
    seen = []
    for key in ("up", "up", "up", "down", "down", "down"):
        await board.pilot.press(key)
        seen.append(line.value)
    assert seen == ["echo two", "echo one", "echo one", "echo two", "draft", "draft"]


@pytest.mark.engine
async def test_hostile_output_is_shown_as_text(board: Dashboard) -> None:
    await board.run(r"printf '\033]0;owned\007[/nope] \342\200\256[bold]x\n'; touch '[red]a'")
    assert board.text("stdout") == r"\x1b]0;owned\x07[/nope] \u202e[bold]x"
    assert board.text("effects") == "A [red]a  0 B"


@pytest.mark.engine
async def test_of_a_large_output_the_end_is_shown(board: Dashboard) -> None:
    await board.run("seq 300000")
    first, *_, last = board.text("stdout").split("\n")
    assert re.fullmatch(r"… \d+ bytes before", first) and last == "300000"
    pane = board.app.query_one("#stdout", LinePane)
    await board.until(lambda: pane.max_scroll_y > 0 and pane.is_vertical_scroll_end)


@pytest.mark.engine
async def test_the_end_of_stdout_stays_in_view_when_other_panes_take_its_room(board: Dashboard) -> None:
    await board.run("seq 30; seq 5 >&2; touch a b c")
    pane = board.app.query_one("#stdout", LinePane)
    await board.until(lambda: pane.size.height < 12 and pane.scroll_offset.y == 30 - pane.size.height)


@pytest.mark.engine
async def test_scrolling_up_stops_following_and_the_end_takes_it_up_again(board: Dashboard) -> None:
    await board.type("seq 50; while sleep 0.05; do echo more; done")
    pane = board.app.query_one("#stdout", LinePane)
    await board.until(lambda: pane.max_scroll_y > 35 and pane.is_vertical_scroll_end)
    pane.focus()
    await board.pilot.press("home")
    high = pane.max_scroll_y
    await board.until(lambda: pane.max_scroll_y > high + 3)
    assert pane.scroll_offset.y == 0
    await board.pilot.press("end")
    high = pane.max_scroll_y
    await board.until(lambda: pane.max_scroll_y > high + 3 and pane.is_vertical_scroll_end)


@pytest.mark.engine
async def test_a_long_line_is_wrapped_to_the_pane(board: Dashboard) -> None:
    await board.run("printf '%0500d\n' 7")
    pane = board.app.query_one("#stdout", LinePane)
    await board.until(lambda: pane.virtual_size.height > 10)
    assert pane.virtual_size.width == pane.scrollable_content_region.width


@pytest.mark.engine
async def test_the_first_row_tells_of_image_and_engine(board: Dashboard) -> None:
    await board.until(lambda: f"image    {IMAGE}" in board.text("session"))
    assert board.text("session").startswith("engine   ")
    await board.until(lambda: re.fullmatch(r"● ready  \d:\d\d", board.app.query_one(StatusBar).text) is not None)


@pytest.mark.engine
async def test_the_status_tells_what_the_running_step_takes(board: Dashboard) -> None:
    status = board.app.query_one(StatusBar)
    await board.type("while :; do :; done")
    takes = re.compile(r"[\d.]+ [KM]iB  [\d.]+ m?s cpu  ◌ running  \d:\d\d")
    await board.until(lambda: takes.fullmatch(status.text) is not None)
    await board.pilot.press("ctrl+c")
    await board.ready()
    await board.until(lambda: re.fullmatch(r"● ready  \d:\d\d", status.text) is not None)


@pytest.mark.engine
async def test_of_a_step_with_a_terminal_the_screen_is_shown(tmp_path: Path) -> None:
    with Session(IMAGE, root=tmp_path) as session:
        async with dashboard(session) as board:
            await board.ready()
            script = r"printf '\033[2J\033[3;5Hdrawn'"
            board.app.run_worker(lambda: session.run(script, tty=True), thread=True)
            await board.until(lambda: board.text("stdout") == "\n\n    drawn")
            assert board.app.query_one("#stdout", LinePane).border_title == "screen  after 15 B"


@pytest.mark.engine
async def test_a_container_that_is_removed_is_a_lost_session(board: Dashboard, engine: Engine) -> None:
    live = board.app._session._live
    assert live is not None
    engine.client.containers.get(live.container_name).remove(force=True)
    await board.type("echo hello")
    await board.until(lambda: board.app.state is SessionState.LOST)
    await board.until(lambda: "error" in board.text("effects"))
    assert board.app.steps[0].status is Status.ERROR


@pytest.mark.engine
async def test_a_command_that_no_shell_can_be_given_is_explained(board: Dashboard) -> None:
    await board.type("echo a\0b")
    await board.until(lambda: isinstance(board.app.screen, ErrorScreen))
    await board.pilot.press("escape")
    await board.run("echo fine")
    assert board.text("stdout") == "fine"


@pytest.mark.engine
async def test_ctrl_c_clears_the_line_when_nothing_runs(board: Dashboard) -> None:
    board.app.query_one(CommandLine).value = "half a comm"
    await board.pilot.press("ctrl+c")
    assert board.app.query_one(CommandLine).value == ""


@pytest.mark.engine
async def test_of_several_pasted_lines_the_user_hears_that_one_was_taken(board: Dashboard) -> None:
    board.app.query_one(CommandLine).post_message(events.Paste("echo one\necho two\n"))
    await board.until(lambda: board.app.query_one(CommandLine).value == "echo one")
    assert ["Only the first line was pasted: a command here is one line."] == [each.message for each in board.app._notifications]


@pytest.mark.engine
async def test_output_that_is_selected_can_be_copied(board: Dashboard) -> None:
    await board.run("printf 'one\ntwo\n'")
    board.app.query_one("#stdout", LinePane).text_select_all()
    await board.pilot.press("ctrl+c")
    assert board.app.clipboard == "one\ntwo"


@pytest.mark.engine
async def test_help_opens_and_closes(board: Dashboard) -> None:
    await board.pilot.press("f1")
    await board.until(lambda: isinstance(board.app.screen, HelpScreen))
    await board.pilot.press("escape")
    await board.until(lambda: not isinstance(board.app.screen, HelpScreen))


@pytest.mark.engine
async def test_quitting_ends_the_running_step_and_closes_the_session(board: Dashboard) -> None:
    await board.type("sleep 100")
    await board.until(lambda: bool(board.app.view.running))
    await board.pilot.press("ctrl+q")
    await board.until(lambda: not board.app.is_running)
    assert board.app.return_value is None
    with pytest.raises(UsageError, match="this session is closed"):
        board.app._session.start()


@pytest.mark.engine
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_an_image_that_does_not_exist_is_explained_with_a_hint(tmp_path: Path, size: tuple[int, int]) -> None:
    with Session("testronaut-lab/no-such-image:ever", root=tmp_path) as session:
        async with dashboard(session, size) as board:
            await board.until(lambda: bool(board.app.screen.query("ErrorScreen #hint")))
            shown = str(board.app.screen.query_one("#message", Static).content)
            assert "no-such-image" in shown and "Traceback" not in shown
            assert str(board.app.screen.query_one("#hint", Static).content).strip().startswith("hint")
            assert board.app.state is SessionState.FAILED


@pytest.mark.engine
async def test_a_session_that_did_not_start_can_be_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with Session(IMAGE, root=tmp_path) as session:
        async with dashboard(session) as board:
            await board.until(lambda: isinstance(board.app.screen, ErrorScreen))
            monkeypatch.delenv("DOCKER_HOST")
            await board.pilot.press("r")
            await board.ready()
            await board.run("echo hello")
            assert board.text("stdout") == "hello"


@pytest.mark.engine
async def test_ctrl_z_undoes_the_last_step_and_u_the_one_before(board: Dashboard) -> None:
    for command in ("v=1; echo x >a", "v=2; rm a", "v=3"):
        await board.run(command)
    await board.pilot.press("ctrl+z")
    await board.until(lambda: [step.command for step in board.app.steps] == ["v=1; echo x >a", "v=2; rm a"])
    await board.ready()
    board.app.query_one(StepList).focus()
    await board.until(lambda: isinstance(board.app.focused, StepList))
    await board.pilot.press("u")
    await board.until(lambda: len(board.app.steps) == 1)
    await board.ready()
    said = [note.message for note in board.app._notifications]
    assert [message.splitlines()[0] for message in said] == [
        "undone: v-3 (shell restored)",
        "undone: v-2-rm-a (shell restored)",
    ]
    await board.pilot.press("escape")
    await board.run("cat a; echo $v")
    assert board.text("stdout") == "x\n1"


@pytest.mark.engine
async def test_u_is_a_letter_in_the_command_line_and_no_step_is_no_undo(board: Dashboard) -> None:
    await board.pilot.press("u", "ctrl+z")
    assert board.app.query_one(CommandLine).value == "u"
    await board.until(lambda: [note.message for note in board.app._notifications] == ["There is no step to undo."])
    assert board.app.state is SessionState.READY


@pytest.mark.engine
async def test_a_fifth_undo_says_that_no_more_can_be_undone(board: Dashboard) -> None:
    for number in range(5):
        await board.run(f"v={number}")
    for left in range(4, 0, -1):
        await board.pilot.press("ctrl+z")
        await board.until(lambda left=left: len(board.app.steps) == left)  # type: ignore[misc]
        await board.ready()
    await board.pilot.press("ctrl+z")
    await board.until(lambda: isinstance(board.app.screen, ErrorScreen))
    await board.pilot.press("escape")
    await board.run("echo $v")
    assert board.text("stdout") == "0"


@pytest.mark.engine
async def test_a_choice_that_arrives_while_the_screen_is_taken_down_paints_nothing(tmp_path: Path) -> None:
    with Session(IMAGE, root=tmp_path) as session:
        async with dashboard(session) as shown:
            await shown.ready()
        shown.app._chosen()  # the event waited in the queue
