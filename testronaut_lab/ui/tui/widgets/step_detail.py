"""Everything about one step: its command, its exit, its two streams or its terminal's screen, and its changes."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from testronaut_lab.report.state.records import StepView
from testronaut_lab.safetext import safe_text
from testronaut_lab.ui.tui.lines import effect_lines, screen_lines, size_text, step_facts, stream_lines, touched_lines
from testronaut_lab.ui.tui.widgets.line_pane import LinePane


class StepDetail(Vertical):
    """The panes of one step. An empty pane is hidden, except stdout."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        yield Static(id="command", markup=False)
        yield Static(id="facts", markup=False)
        yield LinePane(id="stdout", title="stdout")
        yield LinePane(id="stderr", title="stderr")
        yield LinePane(id="effects", title="changes and notes")

    def show(self, step: StepView, now_mono: float) -> None:
        """Show the present state of a step. Cheap if nothing has changed."""
        self.query_one("#facts", Static).update(step_facts(step, now_mono))
        is_new = self._shown[:1] != (id(step),)
        touched = touched_lines(step) if step.result is None else []
        state = (id(step), step.status, step.result is None, step.stdout.seen_bytes, step.stderr.seen_bytes, *map(str, touched))
        if state == self._shown:
            return
        self._shown = state
        self.query_one("#command", Static).update(Text.assemble(("$ ", "dim"), (safe_text(step.command.rstrip("\n")), "bold")))
        for stream in ("stdout", "stderr"):
            self._show_stream(step, stream, from_end=is_new)
        effects = self.query_one("#effects", LinePane)
        lines = effect_lines(step.result) or touched
        effects.display = bool(lines)
        effects.show(lines)

    def _show_stream(self, step: StepView, stream: str, *, from_end: bool) -> None:
        """Show a stream. For a step with a terminal, its screen takes the place of stdout."""
        lines, size_bytes = stream_lines(step, stream)
        is_merged = stream == "stdout" and step.result is not None and step.result.merged
        title = f"{stream}{' and stderr, merged' if is_merged else ''}  {size_text(size_bytes)}"
        screen = screen_lines(step.result) if stream == "stdout" else None
        if screen is not None:
            lines, title = screen, f"screen  after {size_text(size_bytes)}"
        pane = self.query_one(f"#{stream}", LinePane)
        pane.display = bool(lines) or stream == "stdout"
        pane.border_title = title
        pane.show(lines, from_end=from_end)
