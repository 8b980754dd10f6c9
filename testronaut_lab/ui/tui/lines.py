"""Formats a session and its steps for the dashboard as lines of text. Pure: no widget, no clock.

All foreign text is made safe here, and styled by parts, never by markup. Errors and durations have the words of the plain
reports.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from testronaut_lab.model.files import FileChange
from testronaut_lab.model.result import Captured, ErrorInfo, ExitKind, Mismatch, ShellState, StepResult
from testronaut_lab.report.state.records import TAIL_BYTES, PlanView, Stage, StepView, Tail
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.lines import diff_lines, duration_text, fired_text, late_title
from testronaut_lab.report.text.styled import styled_text
from testronaut_lab.safetext import safe_line, safe_text
from testronaut_lab.ui.tui.state import BLUE, CYAN, DIM, GREEN, GREY, MAGENTA, RED, YELLOW

Line = str | Text

_GLYPHS = {"passed": "✓", "failed": "✗", "error": "!", "skipped": "–", Stage.RUNNING: "◌", Stage.WAITING: "·"}
_STYLES = {"passed": GREEN, "failed": RED, "error": f"bold {RED}", "skipped": YELLOW, Stage.RUNNING: CYAN, Stage.WAITING: DIM}
_HUES = {"grey": GREY, "red": RED, "green": GREEN, "yellow": YELLOW, "blue": BLUE, "magenta": MAGENTA, "cyan": CYAN}
_CHANGE_STYLES = {"A": GREEN, "M": YELLOW, "D": RED, "T": MAGENTA}
_SHORT_ENDS = {ExitKind.TIMEOUT: "time", ExitKind.OOM: "mem", ExitKind.CANCELLED: "int"}
_LOG_LINES = 500
_TOUCHED = 20
_ID_LENGTH = len("sha256:") + 12


def clock(seconds: float) -> str:
    """Return `0:07`, `12:34` or `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def size_text(size_bytes: int) -> str:
    """Return `0 B`, `812 B`, `1.5 KiB` or `3.0 MiB`."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    return f"{size_bytes / 1024:.1f} KiB" if size_bytes < 1024 * 1024 else f"{size_bytes / 1024 / 1024:.1f} MiB"


def step_row(step: StepView, now_mono: float) -> Text:
    """Return a row of the list, `✓    0    3 ms  jq .x a.json`: glyph, exit status, duration, command."""
    ended = f"{_GLYPHS.get(step.status, '?')}{_end(step.result):>5}"
    took = f"{_took(step, now_mono):>8}  "
    return Text.assemble((ended, _STYLES.get(step.status, "")), (took, DIM), safe_line(step.command))


def step_facts(step: StepView, now_mono: float) -> Text:
    """Return how the step ended, how long it took, the shell's directory and what became of the shell."""
    result = step.result
    if result is None:
        return Text.assemble(("running", CYAN), (f"  {_took(step, now_mono)}", DIM))
    end = (result.exit.describe(), _STYLES.get(step.status, ""))
    facts = Text.assemble(end, (f"  {duration_text(result.duration_s)}", DIM))
    if result.cwd is not None:
        facts.append(f"  {safe_line(result.cwd)}", DIM)
    if result.state is not ShellState.KEPT:
        facts.append(f"  shell {result.state.value}", YELLOW)
    return facts


def stream_lines(step: StepView, stream: str) -> tuple[list[Line], int]:
    """Return the end of what the step wrote to `stdout` or `stderr`, and the total number of bytes."""
    if step.result is None:
        tail: Tail = step.stdout if stream == "stdout" else step.stderr
        return tail_lines(tail.data, tail.seen_bytes), tail.seen_bytes
    captured: Captured = step.result.stdout_stream if stream == "stdout" else step.result.stderr_stream
    lines = _captured_lines(captured)
    if captured.truncated:
        lines.append(Text(f"… {captured.dropped_bytes} bytes over the limit were dropped", YELLOW))
    return lines, captured.size_bytes


def _captured_lines(captured: Captured) -> list[Line]:
    try:
        return tail_lines(captured.read(), captured.size_bytes)
    except FileNotFoundError:
        return [Text(f"{captured.size_bytes} bytes, no longer on disk", DIM)]


def screen_lines(result: StepResult | None) -> list[Line] | None:
    """Return the last screen of a finished step's terminal; None for a step without one and while it runs."""
    if result is None or result.screen is None:
        return None
    if not result.screen:
        return [Text("the screen was empty", DIM)]
    return list(safe_text(result.screen).removesuffix("\n").split("\n"))


def tail_lines(data: bytes, size_bytes: int) -> list[Line]:
    """Return the last 64 KiB of `data` as safe lines. `data` is the end of `size_bytes` bytes."""
    tail = data[-TAIL_BYTES:]
    if len(tail) < size_bytes:
        tail = tail.lstrip(bytes(range(0x80, 0xC0)))  # the rest of a cut character
    before = size_bytes - len(tail)
    lines: list[Line] = [Text(f"… {before} bytes before", DIM)] if before else []
    text = tail.decode(errors="backslashreplace").expandtabs().removesuffix("\n")
    return [*lines, *_foreign_lines(text)] if tail else lines


def _foreign_lines(text: str) -> list[Line]:
    """Return lines in the tool's colours. `overflow` is set to break them at the edge, where a terminal would."""
    if "\x1b[" not in text:
        return [*safe_text(text).split("\n")]
    coloured = styled_text(text, _HUES).split("\n", allow_blank=True)
    for line in coloured:
        line.overflow = "fold"
    return [*coloured]


def effect_lines(result: StepResult | None) -> list[Line]:
    """Return what the step did besides writing: its error, mismatches, changed files, left-over processes, notes."""
    if result is None:
        return []
    lines = [] if result.error is None else error_lines(result.error)
    for mismatch in result.mismatches:
        lines += _mismatch_lines(mismatch)
    lines += [_change_line(change) for change in result.changes]
    for late in result.late:
        lines += [Text(safe_line(late_title(late)), YELLOW), *_captured_lines(late.captured)]
    lines += [Text(f"outside: {change.change} {safe_line(change.path)}", DIM) for change in result.outside]
    lines += _labelled("transient", result.transient, DIM)
    lines += _labelled("left behind", result.left_behind, YELLOW)
    lines += _labelled("normalised", filter(None, (fired_text(result),)), DIM)
    return lines + _labelled("note", result.notes, YELLOW)


def touched_lines(step: StepView) -> list[Line]:
    """Return the files that a running step was last seen writing, the latest last."""
    return _labelled("touched", list(step.touched)[-_TOUCHED:], DIM)


def session_lines(view: RunView, failure: ErrorInfo | None) -> list[Line]:
    """Return what the session is made of, how it was made, and what went wrong."""
    lines: list[Line] = []
    if view.engine is not None:
        lines.append(_fact("engine", f"{view.engine.name} {view.engine.version}, API {view.engine.api}"))
    for number in sorted(view.plans):
        lines += _plan_lines(view.plans[number])
    if view.progress is not None and failure is None:
        lines.append(_fact(view.progress.stage, view.progress.text, CYAN))
    for problem in view.problems:
        lines += _message_lines("note", problem.message, problem.hint, YELLOW)
    return lines if failure is None else [*lines, "", *error_lines(failure)]


def error_lines(error: ErrorInfo) -> list[Line]:
    return _message_lines("error", error.message, error.hint, RED)


def _plan_lines(plan: PlanView) -> list[Line]:
    lines: list[Line] = []
    if plan.image is not None:
        lines.append(_fact("image", f"{plan.image.ref}  ({plan.image.source})"))
        lines.append(_fact("", plan.image.id[:_ID_LENGTH], DIM))
    if plan.image_note is not None:
        lines.append(_fact("", plan.image_note, YELLOW))
    lines += [Text(f"  {safe_line(log.line)}", DIM) for log in list(plan.install_log)[-_LOG_LINES:]]
    for tool, cached in plan.tools:
        how = f"{tool.strategy}, {'from the cache' if cached else 'installed now'}"
        lines.append(_fact("tool", f"{tool.name} {tool.version}  ({how})"))
    return lines


def _change_line(change: FileChange) -> Text:
    letter = change.change.letter
    line = Text.assemble((letter, _CHANGE_STYLES[letter]), f" {safe_line(change.path)}")
    if change.type.value != "file":
        line.append(f"  {change.type.value}", DIM)
    if change.target is not None:
        line.append(f" → {safe_line(change.target)}", DIM)
    if change.type.value == "file" and change.size_bytes is not None:
        line.append(f"  {size_text(change.size_bytes)}", DIM)
    return line if change.note is None else line.append(f"  {safe_line(change.note)}", YELLOW)


def _mismatch_lines(mismatch: Mismatch) -> list[Line]:
    where = "" if mismatch.path is None else f" {mismatch.path}"
    lines: list[Line] = [Text(safe_line(f"{mismatch.aspect}{where}"), "bold")]
    if mismatch.diff is not None:
        return [*lines, *diff_lines(mismatch.diff)]
    return [*lines, _fact("expected", mismatch.expected, GREEN), _fact("actual", mismatch.actual, RED)]


def _message_lines(label: str, message: str, hint: str | None, style: str) -> list[Line]:
    first, *rest = safe_text(message).split("\n")
    lines: list[Line] = [Text.assemble((label, style), f" {first}"), *(Text(f"  {line}") for line in rest)]
    return lines if hint is None else [*lines, Text.assemble(("hint ", CYAN), safe_text(hint))]


def _labelled(label: str, texts: Iterable[str], style: str) -> list[Line]:
    return [Text.assemble((f"{label} ", style), safe_line(text)) for text in texts]


def _fact(label: str, text: str, style: str = "") -> Text:
    return Text.assemble((f"{label:<8} ", DIM), (safe_line(text), style))


def _end(result: StepResult | None) -> str:
    if result is None:
        return ""
    if result.exit.kind is ExitKind.EXITED:
        return "" if result.exit.code is None else str(result.exit.code)
    return _SHORT_ENDS.get(result.exit.kind, "lost" if "lost" in result.exit.kind else "lim")


def _took(step: StepView, now_mono: float) -> str:
    if step.result is not None:
        return duration_text(step.result.duration_s)
    return clock(max(now_mono - step.started_mono, 0.0))
