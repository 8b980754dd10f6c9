"""An error and what to do about it; never a traceback."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from testronaut_lab.errors import LabError
from testronaut_lab.safetext import safe_text
from testronaut_lab.ui.tui.state import CYAN


class ErrorScreen(ModalScreen[bool]):
    """Dismissed with True if the user wants to try again; only `retry` offers that."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter", "leave", "Close"),
        Binding("ctrl+r,r", "again", "Try again"),
    ]

    def __init__(self, title: str, error: LabError, *, retry: bool) -> None:
        super().__init__()
        self._title = title
        self._error = error
        self._retry = retry

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="sheet error") as sheet:
            sheet.border_title = self._title
            sheet.border_subtitle = "r tries again · esc closes · ctrl+q quits" if self._retry else "esc closes"
            yield Static(Text(safe_text(self._error.message)), id="message")
            if self._error.hint is not None:
                yield Static(Text.assemble(("\nhint  ", CYAN), (safe_text(self._error.hint), "bold")), id="hint")

    def action_leave(self) -> None:
        self.dismiss(False)

    def action_again(self) -> None:
        if self._retry:
            self.dismiss(True)
