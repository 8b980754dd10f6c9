"""The two other levels of detail: `-q` shows only what went wrong and the totals, `-v` also what steps wrote.

Both are narrators: `formatter.py` decides how lines look and in which order they come.
"""

from __future__ import annotations

from rich.text import Text

from testronaut_lab.model.events import (
    AttemptFailed,
    CaseFinished,
    CaseStarted,
    EngineFound,
    Event,
    ImageReady,
    InstallLogged,
    LateOutput,
    PlanFinished,
    PlanStarted,
    RunFinished,
    StepFinished,
    StepJudged,
    ToolReady,
)
from testronaut_lab.model.result import Status
from testronaut_lab.report.state.records import CaseView, StepView
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.formatter import Formatter
from testronaut_lab.report.text.installing import logged_lines, tool_lines
from testronaut_lab.report.text.lines import captured_lines

_WENT_WRONG = frozenset({Status.FAILED, Status.ERROR, Status.XPASSED, Status.FLAKY})


class QuietNarrator(Formatter):
    """Holds back the heading of a plan and the lines of a case until something goes wrong there. Drops the lines of a good
    case.
    """

    shows_cells = False

    def __init__(self, width: int = 120, results: str = "", show: str = "") -> None:
        super().__init__(width, results, show)
        self._heading: list[Text] = []
        self._case: list[Text] = []
        self._silent = True

    def lines(self, view: RunView, event: Event) -> list[Text]:
        match event.body:
            case EngineFound() | ImageReady() | InstallLogged() | ToolReady() | CaseStarted() | LateOutput():
                return []
            case PlanStarted():
                self._heading = super().lines(view, event)
                return []
            case StepJudged() | StepFinished() | AttemptFailed():
                self._case += super().lines(view, event)
                return []
            case CaseFinished(status=status):
                held, self._case = [*self._case, *super().lines(view, event)], []
                return self._told(held) if status in _WENT_WRONG else []
            case PlanFinished(error=None):
                return []
            case RunFinished():
                return self.summary(view)
            case _:
                return self._told(super().lines(view, event))

    def summary(self, view: RunView) -> list[Text]:
        """Return the summary without cells side by side, after the lines so far of a case that was cut off."""
        cut_off, self._case = self._told(self._case), []
        lines = super().summary(view)
        return [*cut_off, *(lines[1:] if self._silent else lines)]

    def _step_lines(self, case: CaseView, step: StepView) -> list[Text]:
        return super()._step_lines(case, step) if step.status in _WENT_WRONG else []

    def _told(self, lines: list[Text]) -> list[Text]:
        """Return these lines, after the heading of their plan if it is not printed yet."""
        if not lines:
            return []
        heading, self._heading = self._heading, []
        if self._silent:
            heading = heading[-1:]  # without the blank line after an earlier plan: no earlier plan is printed
        self._silent = False
        return [*heading, *lines]


class VerboseNarrator(Formatter):
    """Adds every line of package managers, what was verified of each tool, and what each step wrote and changed."""

    def lines(self, view: RunView, event: Event) -> list[Text]:
        match event.body:
            case InstallLogged(line=line):
                return [*super().lines(view, event), *logged_lines(line)]
            case ToolReady(tool=ready, cached=cached):
                return tool_lines(ready, cached=cached)
            case _:
                return super().lines(view, event)

    def _step_lines(self, case: CaseView, step: StepView) -> list[Text]:
        lines = super()._step_lines(case, step)
        return lines if step.result is None else [*lines, *captured_lines(step.result)]
