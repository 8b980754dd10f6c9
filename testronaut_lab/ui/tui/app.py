"""The dashboard of one session: runs typed commands in the session's shell and shows the session's event log.

The session works in thread workers, one at a time. Another thread follows the log and posts its events to the app. The app's
own thread folds them into a `RunView`, reads it, and paints at most ten times a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Footer, Input, OptionList, Static

from testronaut_lab.api import Session
from testronaut_lab.errors import LabError, UsageError
from testronaut_lab.model.events import Event, Problem, StepsUndone
from testronaut_lab.model.result import ErrorInfo, ExitKind
from testronaut_lab.model.undo import UndoHow
from testronaut_lab.report.state.records import StepView
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.lines import usage_text
from testronaut_lab.safetext import safe_line, safe_text
from testronaut_lab.ui.tui.lines import session_lines, step_row
from testronaut_lab.ui.tui.screens.error_screen import ErrorScreen
from testronaut_lab.ui.tui.screens.help_screen import HelpScreen
from testronaut_lab.ui.tui.state import SessionState
from testronaut_lab.ui.tui.widgets.command_line import CommandLine
from testronaut_lab.ui.tui.widgets.line_pane import LinePane
from testronaut_lab.ui.tui.widgets.status_bar import StatusBar
from testronaut_lab.ui.tui.widgets.step_detail import StepDetail
from testronaut_lab.ui.tui.widgets.step_list import StepList

_FRAME_S = 0.1
_BATCHES_IN_FLIGHT = 4
_LOST = (ExitKind.SESSION_LOST, ExitKind.ENGINE_LOST)


def run_tui(image: str, tools: tuple[str, ...]) -> None:
    """Show a session in `image` with `tools` (each STRATEGY:SPEC) until the user quits; then close the session.

    Blocks. Raises UsageError for a wrong tool. The dashboard shows errors of the engine, the image and the installation. Only
    an error at the very end, in removing the container, is raised.
    """
    with Session(image, *tools) as session:
        app = LabApp(session)
        failure = app.run()
    if failure is not None:
        raise failure
    if app.return_code:
        raise LabError("the dashboard crashed; please report the lines above")


class Happened(Message):
    """Events of the session's log, in order."""

    def __init__(self, events: list[Event]) -> None:
        super().__init__()
        self.events = events


class WorkEnded(Message):
    """The session has finished its task, or failed with `error`."""

    def __init__(self, error: LabError | None) -> None:
        super().__init__()
        self.error = error


class LabApp(App[LabError]):
    """The app. It does not create the session, and closes it only on `quit`. Returns the error of that closing, or None."""

    CSS_PATH = "lab.tcss"
    TITLE = "testronaut-lab"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", "Interrupt", priority=True),
        Binding("ctrl+q", "quit", "Quit", priority=True),
        Binding("ctrl+z", "undo", "Undo", priority=True),
        Binding("u", "undo", show=False),
        Binding("f1,question_mark", "help", "Help", key_display="F1"),
        Binding("escape", "command_line", "Command line", show=False),
        Binding("ctrl+r", "restart", "Start again"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.animation_level = "none"
        self.view = RunView()
        self.state = SessionState.STARTING
        self._session = session
        self._events = session.log.subscribe()
        self._room = threading.Semaphore(_BATCHES_IN_FLIGHT)  # a flood of output waits in the log, which may drop hints
        self._turn = threading.Lock()  # the session is used from one thread at a time
        self._failure: ErrorInfo | None = None
        self._dirty = True

    def compose(self) -> ComposeResult:
        yield StatusBar(self._session.image, self._session.tools)
        with Horizontal(id="body"):
            yield StepList()
            yield LinePane(id="session", title="session")
            yield StepDetail()
        with Horizontal(id="prompt"):
            yield Static("$ ", id="dollar")
            yield CommandLine()
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(CommandLine).focus()
        self._paint()
        self.set_interval(_FRAME_S, self._tick)
        self._follow()
        self._start()

    def on_unmount(self) -> None:
        self._events.close()
        self._session.interrupt()

    @property
    def steps(self) -> list[StepView]:
        return [step for plan in self.view.plans.values() for case in plan.cases for step in case.steps]

    # What the session does: each method runs on its own thread

    @work(thread=True, group="session")
    def _start(self) -> None:
        self._do(self._session.start)

    @work(thread=True, group="session")
    def _run(self, command: str) -> None:
        self._do(lambda: self._session.run(command))

    @work(thread=True, group="session")
    def _undo(self) -> None:
        self._do(self._session.undo)

    @work(thread=True, group="session")
    def _close(self) -> None:
        while not self._turn.acquire(timeout=_FRAME_S):
            self._session.interrupt()  # repeated: a step that is about to start would not hear it
        try:
            self._session.close()
        except LabError as error:
            self.call_from_thread(self.exit, error)
        else:
            self.call_from_thread(self.exit)
        finally:
            self._turn.release()

    @work(thread=True, group="follow")
    def _follow(self) -> None:
        for event in self._events:
            self._room.acquire()
            if not self.post_message(Happened([event, *self._events.drain()])):
                return

    def _do(self, task: Callable[[], object]) -> None:
        error: LabError | None = None
        with self._turn:
            try:
                task()
            except LabError as failure:
                error = failure
        self.post_message(WorkEnded(error))

    # Messages of the session and of the follower

    def on_happened(self, message: Happened) -> None:
        self._room.release()
        for event in message.events:
            self.view.apply(event)
            if isinstance(event.body, Problem) and self.state is not SessionState.STARTING:
                self.notify(safe_text(event.body.message), severity="warning", markup=False)
            if isinstance(event.body, StepsUndone):
                self._tell_undone(event.body)
        self._dirty = True

    def on_work_ended(self, message: WorkEnded) -> None:
        if self.state is SessionState.CLOSING:
            return
        before, self.state = self.state, SessionState.READY
        if message.error is not None:
            self._report(message.error, before)
        elif before is SessionState.RUNNING and self._session.results[-1].exit.kind in _LOST:
            self.state = SessionState.LOST
        self._dirty = True
        self.refresh_bindings()

    def _tell_undone(self, undone: StepsUndone) -> None:
        ids = ", ".join(nodeid.rpartition("::")[2] for nodeid in undone.nodeids)
        text = "\n".join([f"undone: {ids} ({undone.how})", *(safe_line(note) for note in undone.notes)])
        self.notify(safe_text(text), severity="information" if undone.how is UndoHow.SHELL else "warning", markup=False)

    def _report(self, error: LabError, before: SessionState) -> None:
        starting = before is SessionState.STARTING
        if starting:
            self.state = SessionState.FAILED
            self._failure = ErrorInfo.of(error)
        elif before is SessionState.UNDOING and not isinstance(error, UsageError):
            self.state = SessionState.LOST
        title = "the step was not undone" if before is SessionState.UNDOING else "the command was not run"
        title = "the session did not start" if starting else title
        self.push_screen(ErrorScreen(title, error, retry=starting), self._after_error)

    def _after_error(self, again: bool | None) -> None:
        if again:
            self.action_restart()

    # Input of the user

    @on(Input.Submitted)
    def _submitted(self, message: Input.Submitted) -> None:
        command = message.value
        if not command.strip():
            return
        if self.state.refusal is not None:
            self.notify(self.state.refusal, severity="warning", markup=False)
            return
        self.query_one(CommandLine).remember(command)
        self.state = SessionState.RUNNING
        self._run(command)

    @on(OptionList.OptionHighlighted)
    def _chosen(self) -> None:
        if self.is_running:
            self._paint()

    @on(OptionList.OptionSelected)
    def _taken(self) -> None:
        chosen = self.query_one(StepList).chosen
        line = self.query_one(CommandLine)
        if chosen:
            line.value = safe_text(self.steps[chosen - 1].command)
            line.cursor_position = len(line.value)
        line.focus()

    def action_interrupt(self) -> None:
        if self.state is SessionState.RUNNING:
            self._session.interrupt()
        elif self.screen.get_selected_text():
            self.screen.action_copy_text()
        else:
            self.query_one(CommandLine).clear()

    def action_undo(self) -> None:
        if self.state.refusal is not None:
            self.notify(self.state.refusal, severity="warning", markup=False)
        elif not self.steps:
            self.notify("There is no step to undo.", severity="warning", markup=False)
        else:
            self.state = SessionState.UNDOING
            self._undo()

    def action_restart(self) -> None:
        self.state, self._failure = SessionState.STARTING, None
        self._dirty = True
        self._start()

    def action_help(self) -> None:
        self.push_screen(HelpScreen())

    def action_command_line(self) -> None:
        self.query_one(CommandLine).focus()

    async def action_quit(self) -> None:
        if self.state is not SessionState.CLOSING:
            self.state = SessionState.CLOSING
            self._tick()
            self._close()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        return self.state is SessionState.FAILED if action == "restart" else True

    # Painting

    def _tick(self) -> None:
        if not self.is_running:
            return  # while the screen is taken down, the timer still fires and events still arrive
        if self._dirty or self.view.running:
            self._dirty = False
            self._paint()
        usage = usage_text(self.view.current)
        self.query_one(StatusBar).show(self.state, self.view.elapsed_s(time.monotonic()), usage)

    def _paint(self) -> None:
        now, steps = time.monotonic(), self.steps
        rows = self.query_one(StepList)
        rows.show([Text(f"{self.state.glyph} session", self.state.style), *(step_row(step, now) for step in steps)])
        session, detail = self.query_one("#session", LinePane), self.query_one(StepDetail)
        step = steps[rows.chosen - 1] if 0 < rows.chosen <= len(steps) else None
        session.display, detail.display = step is None, step is not None
        if step is None:
            session.show(session_lines(self.view, self._failure))
        else:
            detail.show(step, now)
