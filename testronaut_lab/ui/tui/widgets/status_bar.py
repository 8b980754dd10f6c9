"""The first line of the dashboard: image and tools on the left; usage of the running step, state and age on the right."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text
from textual.widget import Widget

from testronaut_lab.safetext import safe_line
from testronaut_lab.ui.tui.lines import clock
from testronaut_lab.ui.tui.state import DIM, SessionState


class StatusBar(Widget):
    def __init__(self, image: str, tools: tuple[str, ...]) -> None:
        super().__init__()
        parts = [part for tool in tools for part in (("  + ", DIM), safe_line(tool))]
        self._what = Text.assemble((safe_line(image), "bold"), *parts)
        self._right = Text()

    @property
    def text(self) -> str:
        """Return the text on the right."""
        return self._right.plain

    def show(self, state: SessionState, elapsed_s: float, usage: str = "") -> None:
        """Show the state. `usage` describes what the running step takes; empty if none runs or nothing is known."""
        takes = (f"{usage}  " if usage else "", DIM)
        right = Text.assemble(takes, (f"{state.glyph} {state.value}", state.style), (f"  {clock(elapsed_s)}", DIM))
        if right != self._right:
            self._right = right
            self.refresh()

    def render(self) -> Text:
        room = self.size.width - cell_len(self._right.plain) - 2
        what = self._what.copy()
        what.truncate(max(room, 0), overflow="ellipsis", pad=True)
        return Text.assemble(what, "  ", self._right, no_wrap=True)
