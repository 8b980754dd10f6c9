"""The line where commands are typed, with a history like a shell's."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import Input


class CommandLine(Input):
    """Enter sends Input.Submitted. `remember` puts a command into the history and clears the line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "older", "History", key_display="↑↓"),
        Binding("down", "newer", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(placeholder="a command for the session's shell", compact=True)
        self.cursor_blink = False
        self._history: list[str] = []
        self._at = 0
        self._draft = ""

    def remember(self, command: str) -> None:
        if self._history[-1:] != [command]:
            self._history.append(command)
        self.clear()

    def clear(self) -> None:
        """Empty the line and go to the end of the history."""
        self._at, self._draft = len(self._history), ""
        super().clear()

    def action_older(self) -> None:
        if self._at == len(self._history):
            self._draft = self.value
        self._go(self._at - 1)

    def action_newer(self) -> None:
        self._go(self._at + 1)

    def on_paste(self, event: events.Paste) -> None:
        if len(event.text.splitlines()) > 1:
            self.notify("Only the first line was pasted: a command here is one line.", severity="warning", markup=False)

    def _go(self, to: int) -> None:
        if 0 <= to <= len(self._history) and to != self._at:
            self._at = to
            self.value = self._draft if to == len(self._history) else self._history[to]
            self.cursor_position = len(self.value)
