"""Formats a run line by line: which lines follow which event, in the order in which a person wants to read them.

`lines.py` builds a line; `plain.py` and `live.py` print it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from rich.text import Text

from testronaut_lab.errors import ErrorKind
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
    Problem,
    RunFinished,
    RunStarted,
    StepFinished,
    StepJudged,
    StepOverruled,
    StepStarted,
    StepsUndone,
    ToolReady,
)
from testronaut_lab.model.lastwords import without_said
from testronaut_lab.model.result import EngineInfo, ErrorInfo, Status
from testronaut_lab.report.sidebyside import side_by_side
from testronaut_lab.report.state.outcome import plan_notes
from testronaut_lab.report.state.records import CaseView, PlanView, Stage, StepView
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.cell_lines import side_by_side_lines
from testronaut_lab.report.text.lines import (
    LABEL_WIDTH,
    STYLES,
    WORDS,
    counts_text,
    cut_middle,
    duration_text,
    error_lines,
    hint_line,
    indented,
    labelled,
    late_lines,
    step_details,
    step_line,
    step_name,
)
from testronaut_lab.safetext import safe_line, safe_text

_NAME_WIDTH = (26, 36)  # a longer name is cut, or sticks out without moving the other names
_INSTALL_TAIL = 20
_RECAP = 20


class Formatter:
    """Makes the lines for each event, and remembers what they must agree on.

    `width` is the room for a line. `results` says where the results are stored. `show` is the option behind the run's id that
    `testronaut-lab show` needs to find it there.
    """

    shows_cells = True

    def __init__(self, width: int = 120, results: str = "", show: str = "") -> None:
        self.width = width
        self._results = results
        self._show = show
        self._name_width = _NAME_WIDTH[0]
        self._installing: set[tuple[int, str]] = set()
        self._begun = False
        self._summed = False
        self._engine = ""
        self._said: set[Problem | str] = set()

    def lines(self, view: RunView, event: Event) -> list[Text]:
        """Return the lines to print after `view` applied `event`; none for hints."""
        match event.body:
            case PlanStarted() | ImageReady() | InstallLogged() | ToolReady() | PlanFinished() as body:
                return self._plan_lines(view.plan(body.plan), body)
            case CaseStarted() | AttemptFailed() | CaseFinished() as body:
                return self._case_lines(view.plan(body.plan).case(body.nodeid), body)
            case StepFinished(result=result) as body:
                case = view.plan(body.plan).case(body.case)
                step = case.step(result.nodeid)
                return [] if case.planned or step is None else self._step_lines(case, step)
            case StepJudged(nodeid=nodeid) as body:
                case = view.plan(body.plan).case(body.case)
                step = case.step(nodeid)
                return [] if step is None else self._step_lines(case, step)
            case LateOutput() as body:
                return late_lines(body)
            case StepsUndone() as undone:
                return _undone_lines(undone)
            case StepOverruled() as body:
                return _overruled_lines(body)
            case EngineFound(engine=engine):
                return self._engine_lines(engine)
            case Problem() as problem:
                return [] if self._was_said(problem) else _problem_lines(problem)
            case RunFinished():
                return self.summary(view)
            case RunStarted() | StepStarted():
                return []
            case _:
                return []

    def _engine_lines(self, engine: EngineInfo) -> list[Text]:
        """Return a line about the engine; again only if what it shows has changed, such as the driver."""
        if engine.words == self._engine:
            return []
        self._engine = engine.words
        return [labelled("engine", safe_line(engine.words))]

    def summary(self, view: RunView) -> list[Text]:
        """Return the totals and where the results are, once. For a run without an end, it says that the run was interrupted."""
        if self._summed:
            return []
        self._summed = True
        end = view.finished
        lines = [Text("")]
        lines += _side_by_side(view, self.width) if self.shows_cells else []
        lines += _recap(view)
        lines += [] if end is None or end.error is None else error_lines(end.error)
        lines.append(Text.assemble(("interrupted: ", "bold red") if end is None else "", self.outcome(view)))
        if self._results:
            again = f"  (testronaut-lab show {safe_line(view.run)}{self._show})" if view.run else ""
            lines.append(Text(f"results in {self._results}{again}", "dim"))
        return lines

    def outcome(self, view: RunView) -> Text:
        """Return the outcome of the run in one line."""
        return _sum(view)

    def _was_said(self, what: Problem | str) -> bool:
        """Whether this run has said this before. Every cell of a matrix has the same base image, and so the same notes."""
        before = what in self._said
        self._said.add(what)
        return before

    def _plan_lines(
        self, plan: PlanView, body: PlanStarted | ImageReady | InstallLogged | ToolReady | PlanFinished
    ) -> list[Text]:
        match body:
            case PlanStarted():
                gap = [Text("")] if self._begun else []
                self._begun = True
                heading = Text(safe_line(plan.title), "bold").append(f"  {safe_line(plan.file or '')}", "not bold dim")
                return [*gap, heading]
            case ImageReady(image=image, note=note):
                line = labelled("image", Text(safe_line(image.ref)).append(f"  {safe_line(image.source)}", "dim"))
                return [line] if note is None or self._was_said(note) else [line, indented("note:", safe_text(note), "yellow")]
            case InstallLogged(tool=tool):
                if (plan.number, tool) in self._installing:
                    return []
                self._installing.add((plan.number, tool))
                return [labelled("install", f"{safe_line(tool)} …")]
            case ToolReady(tool=ready, cached=cached):
                nothing = "" if ready.program or not ready.built else ", no program was started: it brings none"
                origin = f"  {ready.strategy}{', cached' if cached else ''}{nothing}"
                return [labelled("tool", Text(safe_line(f"{ready.name} {ready.version}")).append(safe_text(origin), "dim"))]
            case PlanFinished(error=error):
                notes = [indented("note:", safe_text(note), "yellow") for note in plan_notes(plan)]
                return notes if error is None else [*notes, *_plan_error(plan, body.status, error)]
            case _:
                assert_never(body)

    def _case_lines(self, case: CaseView, body: CaseStarted | AttemptFailed | CaseFinished) -> list[Text]:
        if isinstance(body, CaseStarted):
            again = labelled("again", f"{'':>8}  {safe_line(case.id)}  attempt {body.attempt}", "magenta")
            return [again] if body.attempt > 1 else []
        if isinstance(body, CaseFinished) and not _tells_more_than_its_steps(case, body):
            return []
        if isinstance(body, AttemptFailed) and body.error is None:
            return []
        line = labelled(WORDS[body.status], f"{'':>8}  {safe_line(case.id)}", STYLES[body.status])
        if isinstance(body, CaseFinished):
            line.append("".join(f"  ({about})" for about in _about(body)), "dim italic")
        return [line] if body.error is None else [line, *error_lines(body.error)]

    def _step_lines(self, case: CaseView, step: StepView) -> list[Text]:
        name = step_name(case, step)
        if len(name) <= _NAME_WIDTH[1]:
            self._name_width = max(self._name_width, len(name))
        elif step.status not in (Status.FAILED, Status.ERROR):  # never cut: a user may want to type it
            name = cut_middle(name, self._name_width)
        room = self.width - (LABEL_WIDTH + 2) - 8 - 2 - max(self._name_width, len(name)) - 2
        line = step_line(name, step, self._name_width, max(room, 20))
        return [line] if step.result is None else [line, *step_details(step.result)]


def _tells_more_than_its_steps(case: CaseView, body: CaseFinished) -> bool:
    plain = body.status in (Status.PASSED, Status.FAILED, Status.ERROR) and body.error is None and body.attempts == 1
    return not plain and not (body.status is Status.SKIPPED and case.steps)


def _about(body: CaseFinished) -> list[str]:
    recovered = [f"passed in attempt {body.attempts}"] if body.status is Status.FLAKY else []
    tried = [f"{body.attempts} attempts"] if body.attempts > 1 and not recovered else []
    expected = [] if body.expect_fail is None else [f"expected to fail: {safe_line(body.expect_fail)}"]
    return [*recovered, *tried, *expected]


def _plan_error(plan: PlanView, status: Status, error: ErrorInfo) -> list[Text]:
    log = list(plan.install_log)[-_INSTALL_TAIL:] if error.class_ is ErrorKind.INSTALL else []
    said = [labelled("│", safe_line(entry.line)) for entry in log]
    error = replace(error, message=without_said(error.message, (entry.line for entry in log)))
    return [labelled(WORDS[status], safe_line(plan.title), STYLES[status]), *said, *error_lines(error)]


def _undone_lines(undone: StepsUndone) -> list[Text]:
    ids = ", ".join(safe_line(nodeid.rpartition("::")[2]) for nodeid in undone.nodeids)
    first = labelled("undone", Text.assemble(ids, (f"  {undone.how}", "dim")), "yellow")
    return [first, *(labelled("", Text(safe_line(note), "dim")) for note in undone.notes)]


def _overruled_lines(body: StepOverruled) -> list[Text]:
    """Return only the reason: the difference is already shown with the other cell."""
    line = labelled(WORDS[Status.FAILED], safe_line(body.nodeid), STYLES[Status.FAILED]).append("  after all", "dim")
    return [Text(""), line, *(indented("note:", safe_text(note), "yellow") for note in body.notes)]


def _problem_lines(problem: Problem) -> list[Text]:
    where = f"{safe_line(problem.nodeid)}: " if problem.nodeid else ""
    first, *rest = safe_text(problem.message).rstrip("\n").split("\n")
    lines = [labelled("problem", where + first, "yellow"), *(labelled("", line) for line in rest)]
    return lines if problem.hint is None else [*lines, hint_line(problem.hint)]


def _sum(view: RunView) -> Text:
    total = counts_text(view.case_counts, always=(Status.PASSED, Status.FAILED, Status.SKIPPED))
    cases, steps = sum(len(plan.cases) for plan in view.plans.values()), sum(view.step_counts.values())
    unrun = sum(plan.status is Status.ERROR and not any(case.steps for case in plan.cases) for plan in view.plans.values())
    if unrun:
        total.append(", ").append(f"{_many(unrun, 'plan')} not run", STYLES[Status.ERROR])
    total.append(f" in {duration_text(view.elapsed_s())}", "bold")
    return total.append(f"  ({_many(cases, 'case')}, {_many(steps, 'step')})", "dim")


def _side_by_side(view: RunView, width: int) -> list[Text]:
    """Return the comparison of the cells of each matrix."""
    cells = side_by_side(view.result()) if view.has_cells else ()
    return [line for beside in cells for line in (*side_by_side_lines(beside, width), Text(""))]


def _recap(view: RunView) -> list[Text]:
    bad = (Status.FAILED, Status.ERROR)
    cases = [case for plan in view.plans.values() for case in plan.cases if case.status is not Status.XFAILED]
    odd = (Status.XPASSED, Status.FLAKY)
    wrong: list[tuple[Stage | Status, str]] = [(case.status, case.nodeid) for case in cases if case.status in odd]
    wrong += [(step.status, step.nodeid) for case in cases for step in case.steps if step.status in bad]
    if len(wrong) < 2:
        return []
    lines = [labelled(WORDS[status], safe_line(nodeid), STYLES[status]) for status, nodeid in wrong[:_RECAP]]
    more = [labelled("", f"… and {len(wrong) - _RECAP} more")] if len(wrong) > _RECAP else []
    return [*lines, *more, Text("")]


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
