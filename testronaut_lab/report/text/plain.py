"""A run as plain lines, for pipes, log files, CI and `show`. The moving display for terminals is `live.py`."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.text import Text

from testronaut_lab.model.events import Event
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.formatter import Formatter


class TextReporter:
    """Prints a run: calls `write` with one line at a time, newline included. `tells` makes the lines from `results` and
    `show`.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        color: bool = False,
        *,
        width: int = 120,
        results: str = "",
        show: str = "",
        tells: type[Formatter] = Formatter,
    ) -> None:
        self._write = write
        self._color = color
        self._narrator = tells(width, results, show)

    def event(self, view: RunView, event: Event) -> None:
        """Print the lines for `event`. Call it after `view` applied the event."""
        self._print(self._narrator.lines(view, event))

    def end(self, view: RunView) -> None:
        """Print the totals if the run had no end of its own. Call it after the last event."""
        self._print(self._narrator.summary(view))

    def _print(self, lines: list[Text]) -> None:
        write_lines(self._write, lines, color=self._color)


def write_lines(write: Callable[[str], None], lines: Iterable[Text], *, color: bool) -> None:
    """Write each line with its newline; without colours, also without trailing blanks."""
    for line in lines:
        write(f"{to_ansi(line) if color else line.plain.rstrip()}\n")


def to_ansi(text: Text) -> str:
    """Return one line with the sixteen standard colours, whatever the environment says about terminals."""
    console = Console(
        file=io.StringIO(), force_terminal=True, color_system="standard", no_color=False, legacy_windows=False, _environ={}
    )
    with console.capture() as capture:
        console.print(text, soft_wrap=True, end="")
    return capture.get()
