"""Results as HTML for notebooks: one self-contained piece for a step, a run, a session or an undo. No script.

All foreign text goes through `safe_text` and is then escaped. The colours are readable on white and on black, because a
notebook does not say which background it has. `page.py` makes a separate file of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from testronaut_lab.model import display
from testronaut_lab.model.cells import bracketed
from testronaut_lab.model.files import FileChange
from testronaut_lab.model.ignoring import without_ignored_of_run
from testronaut_lab.model.result import (
    Captured,
    CaseAttempt,
    CaseResult,
    ErrorInfo,
    Mismatch,
    PlanResult,
    RunResult,
    ShellState,
    Status,
    StepResult,
)
from testronaut_lab.model.undo import UndoResult
from testronaut_lab.report.html.cell_tables import beside_html
from testronaut_lab.report.sidebyside import side_by_side
from testronaut_lab.report.text.interleaved import interleaved
from testronaut_lab.report.text.lines import WORDS, diff_heads, duration_text, fired_text, late_title
from testronaut_lab.report.text.styled import PLAIN, Look, styled
from testronaut_lab.safetext import safe_line, safe_text

_TAIL_CHARACTERS = 16 * 1024
_CHANGES = 200
_SESSION_STEPS = 5
_GREEN, _RED, _AMBER, _BLUE, _GREY = "#3a9a5b", "#d9534f", "#b9822b", "#3f8fb5", "#888"
_COLOURS = {Status.PASSED: _GREEN, Status.FAILED: _RED, Status.ERROR: _RED, Status.XPASSED: _RED}
_HUES = {"grey": _GREY, "red": _RED, "green": _GREEN, "yellow": _AMBER, "blue": _BLUE, "magenta": "#a65fb5", "cyan": "#2f9a9a"}
_MARKS = {
    "bold": "font-weight:600",
    "dim": "opacity:.7",
    "italic": "font-style:italic",
    "underline": "text-decoration:underline",
}
_CHANGE_COLOURS = {"A": _GREEN, "M": _AMBER, "D": _RED, "T": _BLUE}
_BOX = (
    "border:1px solid rgba(128,128,128,.35);border-radius:6px;padding:.5em .75em;margin:.35em 0;font-size:13px;line-height:1.45"
)
_PRE = (
    "margin:.25em 0;padding:.4em .6em;border-radius:4px;background:rgba(128,128,128,.1);color:inherit;"
    "white-space:pre-wrap;overflow-wrap:anywhere;max-height:24em;overflow:auto"
)
_SCREEN = _PRE.replace("pre-wrap", "pre")  # a screen keeps its columns; a wide one scrolls
_MONO = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"


@display.html.register
def step_html(result: StepResult) -> str:
    """Show the command, how it ended, its output, its changes, and its mismatches."""
    return _box([_heading(result), *_details(result)])


@display.html.register
def run_html(result: RunResult) -> str:
    """Show the totals, then each plan with its cases. Cases that did not pass are unfolded."""
    counts = ", ".join(f"{count} {status}" for status, count in result.totals.items() if count) or "no cases"
    parts = [_line(_badge(result.status), _strong(counts), _dim(result.run), _dim(result.started))]
    parts += _error(result.error)
    for plan in without_ignored_of_run(result).plans:
        parts += _plan(plan)
    if any(plan.cell for plan in result.plans):
        parts += [part for beside in side_by_side(result) for part in beside_html(beside)]
    return _box(parts)


def session_html(image: str, tools: Sequence[str], state: str, results: Sequence[StepResult]) -> str:
    """Show what the session is, and its last steps, one line each."""
    what = "".join(f" + {_text(tool)}" for tool in tools)
    count = f"{len(results)} step{'' if len(results) == 1 else 's'}"
    parts = [_line(_strong(image) + what, _dim(state), _dim(count))]
    return _box([*parts, *(_heading(result) for result in results[-_SESSION_STEPS:])])


@display.html.register
def undo_html(result: UndoResult) -> str:
    """Show which steps were undone and how, then what could not be undone."""
    notes = [_line(_coloured("note:", _AMBER), _text(note)) for note in result.notes]
    return _box([_line(_coloured("UNDONE", _AMBER), _strong(", ".join(result.steps)), _dim(result.how)), *notes])


def _plan(plan: PlanResult) -> list[str]:
    image = "" if plan.image is None else _dim(f"{plan.image.ref} ({plan.image.source})")
    tools = _dim(", ".join(f"{tool.name} {tool.version}" for tool in plan.tools))
    cell = _text(bracketed(plan.cell))
    heading = _line(_badge(plan.status), _strong(plan.name), cell, _dim(plan.file or ""), image, tools)
    notes = [_line(_coloured("note:", _AMBER), _text(note)) for note in plan.notes]
    return [heading, *_error(plan.error), *(_case(case) for case in plan.cases), *notes]


def _case(case: CaseResult) -> str:
    is_open = "" if case.status in (Status.PASSED, Status.SKIPPED, Status.XFAILED) else " open"
    facts = [_dim(duration_text(case.duration_s)), _dim(_count(case.steps))]
    facts += [_dim(f"{case.attempts} attempts")] if case.attempts > 1 else []
    facts += [] if case.expect_fail is None else [_dim(f"expected to fail: {case.expect_fail}")]
    summary = _line(_badge(case.status), _text(case.id), *facts, tag="span")
    inner = "".join(_attempt(number, attempt) for number, attempt in enumerate(case.earlier, 1))
    inner += "".join(_error(case.error)) + "".join(_step(step) for step in case.steps)
    return _folded(summary, inner, is_open)


def _attempt(number: int, attempt: CaseAttempt) -> str:
    """Show an earlier attempt, folded."""
    facts = (_dim(duration_text(attempt.duration_s)), _dim(_count(attempt.steps)))
    summary = _line(_badge(attempt.status), _text(f"attempt {number}"), *facts, tag="span")
    return _folded(summary, "".join(_error(attempt.error)) + "".join(_step(step) for step in attempt.steps))


def _folded(summary: str, inner: str, is_open: str = "") -> str:
    body = f'<div style="margin-left:1.25em">{inner}</div>'
    return f'<details{is_open} style="margin-left:1em"><summary>{summary}</summary>{body}</details>'


def _step(step: StepResult) -> str:
    """Show a step of a run. A good step is one folded line."""
    is_open = " open" if step.status in (Status.FAILED, Status.ERROR) else ""
    details = "".join(_details(step))
    if not details:
        return _heading(step)
    return f"<details{is_open}><summary>{_heading(step, tag='span')}</summary>{details}</details>"


def _count(steps: Sequence[StepResult]) -> str:
    return f"{len(steps)} step{'' if len(steps) == 1 else 's'}"


def _heading(result: StepResult, tag: str = "div") -> str:
    command = f'<code style="{_MONO};color:inherit;background:none">$ {_text(safe_line(result.command, 200))}</code>'
    skipped = result.status is Status.SKIPPED
    facts = () if skipped else (_dim(result.exit.describe()), _dim(duration_text(result.duration_s)), _dim(_attempts(result)))
    return _line(_badge(result.status), command, *facts, tag=tag)


def _attempts(result: StepResult) -> str:
    return f"{result.attempts} attempts" if result.attempts > 1 else ""


def _details(result: StepResult) -> list[str]:
    parts = _error(result.error)
    for mismatch in result.mismatches:
        parts += _mismatch(mismatch)
    if "\n" in result.command.strip():
        parts.append(_block("command", result.command))
    stdout = "stdout, stderr merged into it" if result.merged else "stdout"
    parts += _screen(result) or _stream(stdout, result.stdout_stream)
    parts += _stream("stderr", result.stderr_stream) + _as_they_came(result)
    parts += [part for late in result.late for part in _stream(late_title(late), late.captured)]
    parts += _changes(result.changes)
    parts += [_line(_dim(f"outside: {change.change}"), _text(change.path)) for change in result.outside[:_CHANGES]]
    parts += [_line(_dim("transient:"), _text(path)) for path in result.transient[:_CHANGES]]
    parts += [_line(_coloured("left behind:", _AMBER), _text(process)) for process in result.left_behind]
    if result.state is not ShellState.KEPT:
        parts.append(_line(_coloured(f"shell {result.state.value}", _AMBER)))
    parts += [_line(_dim("normalised:"), _text(counts)) for counts in (fired_text(result),) if counts]
    return parts + [_line(_coloured("note:", _AMBER), _text(note)) for note in result.notes]


def _screen(result: StepResult) -> list[str]:
    """Show the last screen of a step's terminal; the bytes that made it are folded beneath."""
    if result.screen is None:
        return []
    raw = "".join(_stream("stdout", result.stdout_stream))
    written = f"<details><summary>{_dim('as written')}</summary>{raw}</details>" if raw else ""
    shown = _block("screen", result.screen, style=_SCREEN) if result.screen else _line(_dim("screen: empty"))
    return [shown, written]


def _stream(name: str, captured: Captured) -> list[str]:
    if captured.size_bytes == 0 and not captured.truncated:
        return []
    try:
        text = captured.text
    except FileNotFoundError:
        return [_line(_dim(f"{name}: {captured.size_bytes} bytes, no longer on disk"))]
    parts = [_pre(f"{name}  {captured.size_bytes} bytes", "".join(_piece(piece, look) for piece, look in styled(_tail(text))))]
    if captured.truncated:
        parts.append(_line(_coloured(f"{captured.dropped_bytes} bytes over the limit were dropped", _AMBER)))
    return parts


def _as_they_came(result: StepResult) -> list[str]:
    """Show both streams as one, folded, if both have output and are small enough to show whole."""
    streams = (result.stdout_stream, result.stderr_stream)
    if not all(0 < stream.size_bytes <= _TAIL_CHARACTERS and stream.chunks for stream in streams):
        return []
    try:
        pieces = interleaved(result)
    except FileNotFoundError:
        return []
    text = "".join(_text(piece) if stream == "stdout" else _coloured(piece, _AMBER) for stream, piece in pieces)
    summary = f"<summary>{_dim('as they came: the order between the streams is approximate')}</summary>"
    return [f'<details>{summary}<pre style="{_PRE};{_MONO}">{text}</pre></details>']


def _changes(changes: Sequence[FileChange]) -> list[str]:
    if not changes:
        return []
    rows = [_change(change) for change in changes[:_CHANGES]]
    rows += [_dim(f"… {len(changes) - _CHANGES} more")] if len(changes) > _CHANGES else []
    return [_line(_dim("changes")), f'<pre style="{_PRE};{_MONO}">{"<br>".join(rows)}</pre>']


def _change(change: FileChange) -> str:
    letter = change.change.letter
    mode = "   " if change.mode is None else f"{change.mode:03o}"
    target = "" if change.target is None else f" → {_text(change.target)}"
    size = "" if change.size_bytes is None or change.type.value != "file" else f"  {change.size_bytes} bytes"
    kind = "" if change.type.value == "file" else f"  {change.type.value}"
    return f"{_coloured(letter, _CHANGE_COLOURS[letter])} {mode} {_text(change.path)}{target}{_dim(kind + size)}"


def _mismatch(mismatch: Mismatch) -> list[str]:
    where = mismatch.aspect if mismatch.path is None else f"{mismatch.aspect}  {mismatch.path}"
    heading = _line(_coloured(where, _RED))
    if mismatch.diff is not None:
        lines = _tail(mismatch.diff).split("\n")
        heads = diff_heads(lines)
        text = "\n".join([_text(line) for line in lines[:heads]] + [_diff_line(line) for line in lines[heads:]])
        return [heading, f'<pre style="{_PRE};{_MONO}">{text}</pre>']
    return [heading, _block("expected", mismatch.expected), _block("actual", mismatch.actual)]


def _diff_line(line: str) -> str:
    colour = {"+": _GREEN, "-": _RED, "@": _BLUE}.get(line[:1])
    return _text(line) if colour is None else _coloured(line, colour)


def _error(error: ErrorInfo | None) -> list[str]:
    if error is None:
        return []
    hint = [] if error.hint is None else [_line(_coloured("hint:", _BLUE), _text(error.hint))]
    return [_line(_coloured("error:", _RED), f'<span style="white-space:pre-wrap">{_text(error.message)}</span>'), *hint]


def _block(title: str, text: str, style: str = _PRE) -> str:
    return _pre(title, _text(_tail(text)), style)


def _pre(title: str, html: str, style: str = _PRE) -> str:
    return f'{_line(_dim(title))}<pre style="{style};{_MONO}">{html}</pre>'


def _piece(text: str, look: Look) -> str:
    """Return a piece of captured text, already safe, in the look that the tool asked for."""
    if look == PLAIN:
        return escape(text)
    styles = [] if look.hue is None else [f"color:{_HUES[look.hue]}"]
    styles += [_MARKS[mark] for mark in sorted(look.marks)]
    return f'<span style="{";".join(styles)}">{escape(text)}</span>'


def _tail(text: str) -> str:
    """Return the end of a long text, where errors usually are, and how much is missing."""
    missing = len(text) - _TAIL_CHARACTERS
    return text if missing <= 0 else f"… {missing} characters before\n{text[-_TAIL_CHARACTERS:]}"


def _box(parts: Iterable[str]) -> str:
    return f'<div style="{_BOX}">{"".join(parts)}</div>'


def _line(*parts: str, tag: str = "div") -> str:
    return f"<{tag}>{' '.join(part for part in parts if part)}</{tag}>"


def _badge(status: Status) -> str:
    return f'<span style="color:{_COLOURS.get(status, _AMBER)};font-weight:600">{WORDS[status]}</span>'


def _strong(text: str) -> str:
    return f"<strong>{_text(text)}</strong>"


def _dim(text: str) -> str:
    return _coloured(text, _GREY) if text else ""


def _coloured(text: str, colour: str) -> str:
    return f'<span style="color:{colour}">{_text(text)}</span>'


def _text(text: str) -> str:
    return escape(safe_text(text))
