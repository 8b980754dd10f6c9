"""A run as a Markdown summary for people, in GitHub's dialect: totals, a table of cases, and each step that went wrong.

Foreign text stands only in code spans and fences. Each is longer than any run of backticks in the text, so no text becomes
markup, a link, a mention or an image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime

from testronaut_lab.errors import ExitStatus
from testronaut_lab.model.result import Captured, CaseResult, Mismatch, PlanResult, RunResult, Status, StepResult
from testronaut_lab.report.sidebyside import side_by_side
from testronaut_lab.report.state.findings import Finding, command_lines, findings, skipped_because, took_s
from testronaut_lab.report.text.cell_lines import side_by_side_lines
from testronaut_lab.report.text.lines import duration_text, untold_streams
from testronaut_lab.safetext import clipped, safe_line, safe_text

_MARKS = {
    Status.PASSED: "✅",
    Status.FAILED: "❌",
    Status.ERROR: "💥",
    Status.SKIPPED: "⏭️",
    Status.XFAILED: "☑️",
    Status.XPASSED: "❗",
    Status.FLAKY: "⚠️",
}
_ROWS = 300
_FENCE_LINES = 100
_STDERR_LINES = 20
_SPAN = 400
_WIDTH = 110
LIMIT_BYTES = 900_000  # GitHub refuses a summary of more than 1 MiB


def markdown(run: RunResult, limit_bytes: int = LIMIT_BYTES) -> str:
    """Return the document with a trailing newline. If findings do not fit into `limit_bytes`, it says how many are left out.

    Reads the files of large streams and shows their ends.
    """
    head = "\n".join([*_heading(run), *_table(run)]) + "\n"
    foot = "\n".join([*_cells(run), *_environment(run)]) + "\n"
    room = limit_bytes - len(head.encode()) - len(foot.encode())
    parts = []
    for i, finding in enumerate(found := list(findings(run))):
        part = "\n".join(["", *_finding(finding)]).rstrip("\n") + "\n"
        room -= len(part.encode())
        if room < 0:
            parts.append(f"\n… and {_many(len(found) - i, 'more finding')}, for which there is no room here.\n")
            break
        parts.append(part)
    return "".join([head, *parts, foot])


def _heading(run: RunResult) -> list[str]:
    totals = {status: count for status in Status if (count := run.totals[status.value])}
    count = sum(totals.values())
    wrong = sum(totals.get(status, 0) for status in (Status.FAILED, Status.ERROR, Status.XPASSED))
    flaky = totals.get(Status.FLAKY, 0)
    what = f"{wrong} of {_many(count, 'case')} failed" if wrong else f"{flaky} of {_many(count, 'case')} flaky" if flaky else ""
    if run.exit_status in (ExitStatus.INTERRUPTED, ExitStatus.TERMINATED):
        title = f"Interrupted{f': {what}' if what else ''}"
    else:
        title = what or ("The run did not end well" if run.status is Status.ERROR else f"{_many(count, 'case')}, none failed")
    sums = ", ".join(f"{number} {status.value}" for status, number in totals.items()) or "no cases"
    return [f"## {_MARKS[run.status]} {title}", "", f"**{sums}** in {duration_text(_elapsed_s(run))}, run {_code(run.run)}", ""]


def _table(run: RunResult) -> list[str]:
    cases = [case for plan in run.plans for case in plan.cases]
    shown = cases if len(cases) <= _ROWS else [case for case in cases if case.status is not Status.PASSED][:_ROWS]
    if not cases:
        return []
    rows = ["| | case | steps | took |", "|:--|:--|--:|--:|", *map(_row, shown)]
    return rows if len(shown) == len(cases) else [*rows, "", f"… and {_many(len(cases) - len(shown), 'more case')}."]


def _row(case: CaseResult) -> str:
    took = duration_text(case.took_s)
    again = f", {case.attempts} attempts" if case.attempts > 1 else ""
    about = [_code(case.nodeid)]
    if case.expect_fail is not None:
        about.append(f"expected to fail: {_code(safe_line(case.expect_fail))}")
    elif case.status is Status.SKIPPED:
        about.append(_code(safe_line(skipped_because(case))))
    cells = (f"{_MARKS[case.status]} {case.status.value}{again}", "<br>".join(map(_in_cell, about)), f"{len(case.steps)}", took)
    return f"| {' | '.join(cells)} |"


def _finding(finding: Finding) -> Iterator[str]:
    again = "" if finding.attempt is None else f", attempt {finding.attempt}"
    yield f"### {_MARKS[finding.status]} {_code(finding.name)}{again}"
    yield ""
    if finding.file is not None:
        yield _code(finding.file) + (f", line {finding.line}" if finding.line is not None else "")
        yield ""
    if finding.message:
        yield from _fence(finding.message)
    if finding.step is not None:
        yield from _step(finding.step)


def _step(step: StepResult) -> Iterator[str]:
    yield from _fence("\n".join(command_lines(step)), "console")
    yield f"{step.exit.describe()} after {duration_text(step.duration_s)}"
    yield ""
    if step.error is not None:
        yield from _fence(step.error.text)
    for mismatch in step.mismatches:
        yield from _mismatch(mismatch)
    for name, stream in untold_streams(step):
        yield from _end(name, stream)
    for note in step.notes:
        yield f"- note: {_code(safe_line(note))}"
    yield ""


def _mismatch(mismatch: Mismatch) -> Iterator[str]:
    where = "" if mismatch.path is None else f" of {_code(mismatch.path)}"
    yield f"**{_code(mismatch.aspect)}**{where}"
    yield ""
    long = "\n" in mismatch.expected.rstrip("\n") or "\n" in mismatch.actual.rstrip("\n")
    if mismatch.diff is not None and long:
        yield from _fence(mismatch.diff, "diff")
        return
    yield from _fence(f"expected: {mismatch.expected.rstrip()}\nactual:   {mismatch.actual.rstrip()}")
    if mismatch.diff is not None:
        yield from _fence(mismatch.diff, "diff")


def _end(name: str, stream: Captured) -> Iterator[str]:
    if stream.size_bytes == 0:
        return
    try:
        lines = stream.text.rstrip("\n").split("\n")
    except FileNotFoundError:
        yield f"{name}: {stream.size_bytes} bytes, no longer on disk"
    else:
        yield name if len(lines) <= _STDERR_LINES else f"{name}, the last {_STDERR_LINES} of {len(lines)} lines"
        yield ""
        yield from _fence("\n".join(lines[-_STDERR_LINES:]))


def _cells(run: RunResult) -> Iterator[str]:
    """Yield, for each matrix, the status of each case in each cell and where cells differ."""
    for beside in side_by_side(run):
        yield ""
        yield f"### Cells of {_code(beside.name)} side by side"
        yield ""
        lines = [line.plain.rstrip() for line in side_by_side_lines(beside, _WIDTH)]
        yield from _fence("\n".join(lines[1:]))


def _environment(run: RunResult) -> Iterator[str]:
    """Yield a folded section about what the cases ran on."""
    yield ""
    yield "<details><summary>Engine, images and tools</summary>"
    yield ""
    if run.engine is not None:
        yield f"- engine: {_code(run.engine.words)}"
    for plan in run.plans:
        yield f"- {_code(plan.name)}: {', '.join(_ran_on(plan))}"
        yield from (f"  - note: {_code(safe_line(note))}" for note in plan.notes)
    yield ""
    yield "</details>"


def _ran_on(plan: PlanResult) -> Iterable[str]:
    yield from (_code(f"{key}={value}") for key, value in plan.cell)
    yield "no image" if plan.image is None else f"{_code(plan.image.ref)} by {_code(plan.image.source)}"
    yield from (f"{_code(f'{tool.name} {tool.version}')} by {_code(tool.strategy)}" for tool in plan.tools)


def _fence(text: str, language: str = "text") -> Iterator[str]:
    """Yield a code block. Its fence is longer than any fence in the text, so the text cannot end it."""
    lines = safe_text(clipped(text)).rstrip("\n").split("\n")
    shown = [*lines[:_FENCE_LINES], *([f"… {len(lines) - _FENCE_LINES} more lines"] if len(lines) > _FENCE_LINES else [])]
    fence = "`" * max(3, _longest_run(text) + 1)
    yield f"{fence}{language}"
    yield from shown
    yield fence
    yield ""


def _code(text: str) -> str:
    """Return a code span on one line, whatever the text holds."""
    shown = safe_text(text).replace("\n", r"\n").replace("\t", " ") or " "
    shown = shown if len(shown) <= _SPAN else f"{shown[:_SPAN]}…"
    ticks = "`" * (_longest_run(shown) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") or (shown[0] == shown[-1] == " " and shown.strip()) else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}"


def _in_cell(text: str) -> str:
    r"""Escape `|`, which would end the table cell. Readers disagree about `\|` after a backslash; it becomes `\x7c` there."""
    return re.sub(r"(?<!\\)\|", r"\\|", re.sub(r"(?<=\\)\|", r"\\x7c", text))


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _elapsed_s(run: RunResult) -> float:
    """Return the time from the run's start to its end; for a run without an end, the time that its cases took."""
    try:
        return (datetime.fromisoformat(run.finished or "") - datetime.fromisoformat(run.started)).total_seconds()
    except (ValueError, TypeError):
        return took_s(run)


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
