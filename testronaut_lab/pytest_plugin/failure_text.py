"""What pytest shows of a failed case: its steps as `testronaut-lab run` shows them, and the commands that run it again.

All text comes from `report/`, which makes foreign text safe.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.text import Text

from testronaut_lab.errors import ErrorKind
from testronaut_lab.model.events import (
    CaseFinished,
    CaseStarted,
    Event,
    PlanFinished,
    StepFinished,
    StepJudged,
    StepStarted,
)
from testronaut_lab.model.result import CaseResult, ErrorInfo, Status, StepResult
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.formatter import Formatter
from testronaut_lab.report.text.lines import hint_line
from testronaut_lab.report.text.plain import to_ansi
from testronaut_lab.safetext import safe_line

_SUMMARY_WIDTH = 200
_LOG_LINES = 20


class _Terminal(Protocol):
    hasmarkup: bool

    def line(self, s: str = "") -> None: ...


@dataclass(frozen=True)
class Crash:
    """The parts of a failure that pytest's summary reads."""

    path: str
    lineno: int
    message: str


@dataclass(frozen=True)
class CaseText:
    """A failure text in the three forms that pytest asks for: for its terminal, as a string, and one line for its summary."""

    lines: tuple[Text, ...]
    reprcrash: Crash

    def toterminal(self, tw: _Terminal) -> None:
        for line in self.lines:
            tw.line(to_ansi(line) if tw.hasmarkup else line.plain.rstrip())

    def __str__(self) -> str:
        return "\n".join(line.plain.rstrip() for line in self.lines)


class CaseLines:
    """A reporter that keeps the lines of each case by node id, and the log of failed installations by plan number."""

    def __init__(self) -> None:
        self._narrator = Formatter()
        self._cases: dict[str, list[Text]] = {}
        self._logs: dict[int, list[str]] = {}

    def event(self, view: RunView, event: Event) -> None:
        lines = self._narrator.lines(view, event)
        match event.body:
            case CaseStarted(nodeid=nodeid):
                self._cases[nodeid] = lines
            case CaseFinished(nodeid=nodeid):
                self._cases[nodeid] += lines
            case StepStarted(case=nodeid) | StepFinished(case=nodeid) | StepJudged(case=nodeid):
                self._cases[nodeid] += lines
            case PlanFinished(plan=number, error=ErrorInfo(class_=ErrorKind.INSTALL)):
                self._logs[number] = [f"  │ {safe_line(said.line)}" for said in view.plan(number).install_log][-_LOG_LINES:]
            case _:
                pass

    def end(self, view: RunView) -> None:
        pass

    def of_case(self, nodeid: str) -> Sequence[Text]:
        return self._cases.get(nodeid, ())

    def install_log(self, plan: int) -> Sequence[str]:
        return self._logs.get(plan, ())


def failure_text(result: CaseResult, lines: Sequence[Text], run_id: str, path: Path) -> CaseText:
    """Return the failure text of a case. `lines` are the case's own, `run_id` names the stored run, `path` is the plan's."""
    again = f"{os.path.relpath(path)}::{result.nodeid.partition('::')[2]}"
    hints = (hint_line(f"testronaut-lab run {shlex.quote(again)}"), hint_line(f"testronaut-lab show {run_id}"))
    return CaseText((*lines, *hints), Crash(str(path), 0, _in_one_line(result)))


def _in_one_line(result: CaseResult) -> str:
    """Return the first thing that went wrong, in one line."""
    for step in result.steps:
        if step.status in (Status.FAILED, Status.ERROR):
            return safe_line(f"{step.id}: {_what(step)}", _SUMMARY_WIDTH)
    if result.error is not None:
        return safe_line(result.error.message, _SUMMARY_WIDTH)
    return f"the case is {result.status.value}"


def _what(step: StepResult) -> str:
    if step.error is not None:
        return step.error.message
    if not step.mismatches:
        return step.exit.describe()
    first = step.mismatches[0]
    return f"{first.aspect}: expected {first.expected}, got {first.actual}"
