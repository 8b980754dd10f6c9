"""A scrolling pane of lines, wrapped to its width. It stays at the end while lines come in.

It draws only what is visible (Textual's line API), so tens of thousands of lines cost no more than ten. `tui/lines.py` makes
the lines; they are safe to show when they arrive here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.text import Text
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from testronaut_lab.ui.tui.lines import Line


class LinePane(ScrollView, can_focus=True):
    """`show` replaces all lines. Scrolling up stops the following; scrolling to the end resumes it."""

    def __init__(self, *, id: str, title: str = "") -> None:
        super().__init__(id=id)
        self.border_title = title
        self._lines: Sequence[Line] = ()
        self._rows: list[Line] = []
        self._wrapped_at = 0

    @property
    def text(self) -> str:
        """Return all lines, before wrapping."""
        return "\n".join(str(line) for line in self._lines)

    def show(self, lines: Sequence[Line], *, from_end: bool = False) -> None:
        """Show other lines. `from_end` jumps to the end; otherwise the pane stays at the end if it was there."""
        self._lines = lines
        self._wrapped_at = 0
        self._wrap()
        if from_end:
            self.anchor()

    def on_mount(self) -> None:
        self.anchor()

    def on_resize(self) -> None:
        width = self.scrollable_content_region.width
        if width > 0:
            self._lay(width)
            self.virtual_size = Size(width, len(self._rows))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - the base's signature
        """Return the number of rows at this width, even before the pane has a size: with no rows, it would never get one."""
        if width > 0:
            self._lay(width)
        return len(self._rows)

    def render_line(self, y: int) -> Strip:
        row = self.scroll_offset.y + y
        width, style = self.size.width, self.rich_style
        if row >= len(self._rows):
            return Strip.blank(width, style)
        line = self._rows[row]
        text = Text(line) if isinstance(line, str) else line.copy()
        text.end = ""
        span = None if self.text_selection is None else self.text_selection.get_span(row)
        if span is not None:
            start, end = span
            text.stylize(self.screen.get_component_rich_style("screen--selection"), start, len(text) if end == -1 else end)
        strip = Strip(text.render(self.app.console)).apply_style(style).adjust_cell_length(width, style)
        return strip.apply_offsets(0, row)

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """Return the selected text and the line end after it."""
        return selection.extract("\n".join(str(row) for row in self._rows)), "\n"

    def _wrap(self) -> None:
        width = self.scrollable_content_region.width
        if width > 0:
            self._lay(width)
            self.virtual_size = Size(width, len(self._rows))
        self.refresh(layout=True)

    def _lay(self, width: int) -> None:
        if width != self._wrapped_at:
            self._wrapped_at = width
            self._rows = [row for line in self._lines for row in _wrapped(line, width, self.app.console)]


def _wrapped(line: Line, width: int, console: Console) -> Iterable[Line]:
    """Wrap a line: foreign lines break exactly at the edge, our own between words."""
    plain = line if isinstance(line, str) else line.plain
    if len(plain) <= width and (plain.isascii() or cell_len(plain) <= width):
        return (line,)
    if isinstance(line, str):
        return chop_cells(line, width)
    if line.overflow != "fold":
        return line.wrap(console, width)
    ends = accumulate(len(row) for row in chop_cells(line.plain, width))
    return line.divide([end for end in ends if end < len(line)])
