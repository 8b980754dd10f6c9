"""The list of keys, over the dashboard."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

_KEYS = (
    ("enter", "run the command; in the list, take the step's command again"),
    ("↑ ↓", "history in the command line, steps in the list, scrolling in a pane"),
    ("ctrl+c", "interrupt the running step (the session lives); else clear the line"),
    ("ctrl+z  u", "undo the last step, four at most (u outside the command line)"),
    ("tab", "go round command line, list and panes"),
    ("esc", "back to the command line"),
    ("ctrl+r", "start again a session that did not start"),
    ("F1  ?", "this help (? outside the command line)"),
    ("ctrl+q", "quit: the session and its files are removed"),
)
_WORDS = (
    "Steps share one shell: directory, variables and functions carry on.\n"
    "A row: ✓ or ✗, exit status (time, mem, int, lim, lost where there is none), duration, command.\n"
    "Changes: A added, M modified, D deleted, T another type."
)


class HelpScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1,q,question_mark,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        for key, meaning in _KEYS:
            table.add_row(key, meaning)
        with VerticalScroll(classes="sheet") as sheet:
            sheet.border_title = "keys"
            sheet.border_subtitle = "esc closes"
            yield Static(table)
            yield Static(Text(f"\n{_WORDS}", "dim"))
