"""A run on a terminal: finished things scroll by as lines; beneath them stands a moving part about what runs now.

`formatter.py` makes the lines, as for `plain.py`. A thread of rich draws the moving part. So it reads only a frozen picture,
which each event replaces, and never the view.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from testronaut_lab.model.events import Event, RunFinished
from testronaut_lab.model.result import Status
from testronaut_lab.report.state.records import StepView
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.formatter import Formatter
from testronaut_lab.report.text.lines import counts_text, cut_middle, duration_text, usage_text
from testronaut_lab.safetext import safe_line

_SPINNER_WIDTH = 2


@dataclass(frozen=True, slots=True)
class _Picture:
    where: str
    since_mono: float
    detail: str
    counts: Text
    begun_mono: float
    usage: str = ""


class LiveReporter:
    """A context manager that restores the terminal however the block ends. `tells` makes the lines."""

    def __init__(
        self,
        console: Console,
        *,
        results: str = "",
        show: str = "",
        mono: Callable[[], float] = time.monotonic,
        tells: type[Formatter] = Formatter,
    ) -> None:
        self._console = console
        self._narrator = tells(console.width, results, show)
        self._mono = mono
        self._picture: _Picture | None = None
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=10, transient=True)

    def __enter__(self) -> LiveReporter:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._picture = None
        self._live.stop()

    def event(self, view: RunView, event: Event) -> None:
        """Show what `event` changed. Call it after `view` applied the event; call it for hints too."""
        self._narrator.width = self._console.width
        finished = isinstance(event.body, RunFinished)
        self._picture = None if finished else _picture(view, event.mono, self._picture)
        self._print(self._narrator.lines(view, event))

    def end(self, view: RunView) -> None:
        """Print the totals if the run had no end of its own. Call it after the last event."""
        self._picture = None
        self._print(self._narrator.summary(view))

    def _print(self, lines: list[Text]) -> None:
        for line in lines:
            self._console.print(line, soft_wrap=True)

    def _draw(self) -> RenderableType:
        picture = self._picture
        if picture is None:
            return Text("")
        now = self._mono()
        self._spinner.update(text=_heading(picture, now, self._console.width - _SPINNER_WIDTH))
        done = Text("  ").append_text(picture.counts).append(f"  {duration_text(max(now - picture.begun_mono, 0.0))}", "dim")
        rows: list[RenderableType] = [self._spinner]
        if picture.detail:
            rows.append(_one_line(Text(f"  {picture.detail}", "dim")))
        return Group(*rows, _one_line(done))


def _heading(picture: _Picture, now: float, width: int) -> Text:
    took = f"  {duration_text(max(now - picture.since_mono, 0.0))}  {picture.usage}"
    return _one_line(Text(cut_middle(picture.where, max(width - len(took), 20))).append(took, "dim"))


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _picture(view: RunView, now: float, before: _Picture | None) -> _Picture:
    where, detail = _activity(view)
    since = before.since_mono if before is not None and before.where == where else now
    counts = view.step_counts
    done = sum(counts[status] for status in Status)
    total = Text(f"{done}/{view.step_total} steps" if view.step_total else "", "bold")
    if done:
        total.append("  ").append_text(counts_text(counts))
    begun = now if view.first_mono is None else view.first_mono
    return _Picture(where, since, detail, total, begun, usage_text(view.current))


def _again(attempt: int) -> str:
    return f" (attempt {attempt})" if attempt > 1 else ""


def _touched(step: StepView) -> str:
    """Return the last path that the running step touched, to show while it has written no line."""
    return f"touched {step.touched[-1]}" if step.touched and step.result is None else ""


def _activity(view: RunView) -> tuple[str, str]:
    """Return what runs now, and the latest news of it."""
    plan, case, step = view.current_plan, view.current_case, view.current
    if step is not None and plan is not None and case is not None:
        where = f"{plan.title} › {case.id}{_again(case.attempts)} › {step.id}{_again(step.attempt)}"
        return safe_line(where), safe_line(step.last_line or _touched(step))
    name = "" if plan is None else f"{plan.title} › "
    if view.progress is not None:
        return safe_line(f"{name}{view.progress.stage}"), safe_line(view.progress.text)
    if plan is not None and plan.install_log and not any(case.steps for case in plan.cases):
        last = plan.install_log[-1]
        return safe_line(f"{name}installing {last.tool}"), safe_line(last.line)
    return safe_line(name.removesuffix(" › ") or "starting"), ""
