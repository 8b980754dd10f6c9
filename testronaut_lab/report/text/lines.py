"""Formats each thing as a line of text: a step, a mismatch, an error, totals. Plain output and the live display share it.

Everything here returns `rich.text.Text` built from parts, never parsed as markup, with foreign text made safe. `formatter.py`
decides which lines follow which event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.text import Text

from testronaut_lab.model.events import LateOutput
from testronaut_lab.model.result import Captured, ErrorInfo, Late, Mismatch, Phase, Status, StepResult
from testronaut_lab.model.units import size_text
from testronaut_lab.report.state.records import CaseView, Stage, StepView
from testronaut_lab.report.text.styled import styled_text
from testronaut_lab.safetext import clipped, safe_line, safe_text

LABEL_WIDTH = 8
INDENT = " " * (LABEL_WIDTH + 2)
_STDERR_LINES = 10
_VALUE_LINES = 20
_DIFF_LINES = 200
_TRANSIENT = 5
_CHANGES = 20

STYLES: Mapping[str, str] = {
    Status.PASSED: "green",
    Status.FAILED: "red",
    Status.ERROR: "bold red",
    Status.SKIPPED: "yellow",
    Status.XFAILED: "yellow",
    Status.XPASSED: "red",
    Status.FLAKY: "magenta",
    Stage.WAITING: "dim",
    Stage.RUNNING: "cyan",
}
WORDS: Mapping[str, str] = {
    Status.PASSED: "PASS",
    Status.FAILED: "FAIL",
    Status.ERROR: "ERROR",
    Status.SKIPPED: "SKIP",
    Status.XFAILED: "XFAIL",
    Status.XPASSED: "XPASS",
    Status.FLAKY: "FLAKY",
    Stage.WAITING: "WAIT",
    Stage.RUNNING: "RUN",
}


def duration_text(seconds: float) -> str:
    """Return `3 ms`, `2.3 s` or `1 m 05 s`: about three digits."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s"


def usage_text(step: StepView | None) -> str:
    """Return the latest usage of the running step, `12.3 MiB  1.2 s cpu`; empty if none runs or there is no sample."""
    usage = None if step is None or step.result is not None else step.usage
    if usage is None:
        return ""
    memory = [] if usage.memory_bytes is None else [size_text(usage.memory_bytes)]
    return "  ".join(memory if usage.cpu_s is None else [*memory, f"{duration_text(usage.cpu_s)} cpu"])


def labelled(label: str, text: str | Text, style: str = "dim") -> Text:
    """Return a line with its label right-aligned in the first column."""
    return Text.assemble((f"{label:>{LABEL_WIDTH}}", style), "  ", text)


def cut_middle(text: str, width: int) -> str:
    """Return `text` in at most `width` columns, with an ellipsis in its middle: names differ mostly at their ends."""
    if cell_len(text) <= width:
        return text
    end = max(width - 1, 0) * 2 // 3
    tail = text
    while cell_len(tail) > end:
        tail = tail[1:]
    head = text[: len(text) - len(tail)]
    while cell_len(head) > max(width - 1, 0) - cell_len(tail):
        head = head[:-1]
    return f"{head}…{tail}" if width > 0 else ""


def step_line(name: str, step: StepView, name_width: int, command_width: int) -> Text:
    """Return `    PASS    3 ms  select::plain    jq .x a.json`; works for a running step too."""
    took = "" if step.result is None or step.status is Status.SKIPPED else duration_text(step.result.duration_s)
    phase = "" if step.phase is Phase.STEPS else f"{step.phase.value}: "
    command = safe_line(step.command, command_width - len(phase))
    line = labelled(WORDS[step.status], "", STYLES[step.status])
    line.append(f"{took:>8}", "dim").append(f"  {name:<{name_width}}")
    line.append(f"  {phase}{command}", "dim")
    if step.status is Status.SKIPPED and step.result is not None:
        line.append("".join(f"  ({safe_line(note)})" for note in step.result.notes), "dim italic")
    elif step.result is not None and step.result.attempts > 1:
        line.append(f"  ({step.result.attempts} attempts)", "dim italic")
    return line


def step_name(case: CaseView, step: StepView) -> str:
    return safe_line(f"{case.id}::{step.id}")


def step_details(result: StepResult) -> list[Text]:
    """Return the lines beneath a step: its error, mismatches and last output if it went wrong; transient paths and notes."""
    lines = [] if result.error is None else error_lines(result.error)
    for mismatch in result.mismatches:
        lines += mismatch_lines(mismatch)
    if result.status in (Status.FAILED, Status.ERROR):
        for name, stream in untold_streams(result):
            lines += _end_lines(name, stream)
    if result.status is Status.SKIPPED:
        return lines  # the step's own line says why
    if result.transient:
        more = f" and {len(result.transient) - _TRANSIENT} more" if len(result.transient) > _TRANSIENT else ""
        lines.append(indented("transient:", ", ".join(map(safe_line, result.transient[:_TRANSIENT])) + more, "dim"))
    return lines + [indented("note:", safe_text(note), "yellow") for note in result.notes]


def captured_lines(result: StepResult) -> list[Text]:
    """Return what a step wrote, unless its details show it, and which paths it changed."""
    told = result.status in (Status.FAILED, Status.ERROR)
    lines = [] if told else [line for name, stream in untold_streams(result) for line in _end_lines(name, stream)]
    changes = [safe_line(f"{change.change.letter} {change.path}") for change in result.changes]
    more = f" and {len(changes) - _CHANGES} more" if len(changes) > _CHANGES else ""
    return [*lines, indented("changed:", ", ".join(changes[:_CHANGES]) + more, "dim")] if changes else lines


def mismatch_lines(mismatch: Mismatch) -> list[Text]:
    """Return a mismatch: a heading, both values if they are short, the difference."""
    heading = mismatch.aspect if mismatch.path is None else f"{mismatch.aspect}  {mismatch.path}"
    lines = [Text(INDENT).append(safe_line(heading), "bold")]
    long = "\n" in mismatch.expected.rstrip("\n") or "\n" in mismatch.actual.rstrip("\n")
    if mismatch.diff is None or not long:
        lines += _value_lines("expected", mismatch.expected, "green")
        lines += _value_lines("actual", mismatch.actual, "red")
    if mismatch.diff is not None:
        lines += diff_lines(mismatch.diff)
    return lines


def diff_lines(diff: str) -> list[Text]:
    """Return a unified diff with removed lines red and added lines green."""
    lines = safe_text(clipped(diff)).rstrip("\n").split("\n")
    heads = diff_heads(lines)
    styles = ["bold"] * heads + [diff_style(line) for line in lines[heads:_DIFF_LINES]]
    shown = [Text(f"{INDENT}  ").append(line, style) for line, style in zip(lines, styles, strict=False)]
    return shown + _left_out(len(lines) - _DIFF_LINES)


def diff_heads(lines: Sequence[str]) -> int:
    """Return the number of heading lines of a unified diff, 2 or 0. A removed line may look like a heading."""
    return 2 if len(lines) > 1 and lines[0].startswith("--- ") and lines[1].startswith("+++ ") else 0


def error_lines(error: ErrorInfo) -> list[Text]:
    lines = _block("error:", error.message, "red")
    return lines if error.hint is None else [*lines, hint_line(error.hint)]


def fired_text(result: StepResult) -> str:
    """Return what was replaced before the golden was compared, `3 × uuid, 1 × pid \\d+`; empty if nothing. Not safe to show."""
    fired = {} if result.normalized is None else result.normalized.fired
    return ", ".join(f"{count} × {name}" for name, count in fired.items() if count)


def hint_line(hint: str) -> Text:
    return indented("hint:", safe_text(hint), "cyan")


def indented(label: str, text: str, style: str) -> Text:
    return Text(INDENT).append(label, style).append(f" {text}")


def counts_text(counts: Mapping[str, int], always: Iterable[str] = ()) -> Text:
    """Return `14 passed, 0 failed, 1 skipped`: every status that occurred, and those in `always` even at zero."""
    kept = set(always)
    parts = [
        Text(f"{counts.get(status, 0)} {status.value}", STYLES[status] if counts.get(status) else "dim")
        for status in Status
        if counts.get(status) or status in kept
    ]
    return Text(", ").join(parts)


def _value_lines(label: str, value: str, style: str) -> list[Text]:
    lines = safe_text(clipped(value)).rstrip("\n").split("\n")
    if len(lines) == 1:
        return [Text(f"{INDENT}  ").append(f"{label:<8}", "dim").append(f"  {lines[0]}", style)]
    shown = [Text(f"{INDENT}    ").append(line, style) for line in lines[:_VALUE_LINES]]
    return [Text(f"{INDENT}  ").append(label, "dim"), *shown, *_left_out(len(lines) - _VALUE_LINES)]


def late_lines(body: LateOutput) -> list[Text]:
    """Return what a background job wrote after its step had ended: whose output it is, when it came, and its last lines."""
    name = safe_line(body.nodeid.partition("::")[2] or body.nodeid)
    return [labelled("late", f"{'':>8}  {name}"), *_end_lines(late_title(body.late), body.late.captured)]


def late_title(late: Late) -> str:
    """Return `stdout, late, while select::plain ran`. Not safe to show."""
    ran = "between two steps" if late.during is None else f"while {late.during.partition('::')[2] or late.during} ran"
    dropped = f", {late.captured.dropped_bytes} bytes over the limit were dropped" if late.captured.truncated else ""
    return f"{late.stream}, late, {ran}{dropped}"


def untold_streams(result: StepResult) -> list[tuple[str, Captured]]:
    """Return the streams of a failed step that no mismatch shows. stdout is one of them, because many programs complain there."""
    streams = [("stdout", result.stdout_stream), ("stderr", result.stderr_stream)]
    return [
        ("stdout and stderr" if result.merged else "the terminal" if result.screen is not None else name, stream)
        for name, stream in streams
        if not any(_is_about(mismatch, name) for mismatch in result.mismatches)
    ]


def _is_about(mismatch: Mismatch, stream: str) -> bool:
    """Whether the mismatch shows this stream. One about the screen shows stdout, which is written to the terminal."""
    if mismatch.aspect == "golden" and mismatch.path is None and mismatch.diff is not None:
        return True  # a new golden is shown as a whole
    about_a_screen = stream == "stdout" and mismatch.aspect.partition(".")[0] in ("screen", "interact")
    return about_a_screen or mismatch.aspect.partition(".")[0] == stream or (mismatch.path == f"{stream}.txt")


def _end_lines(name: str, stream: Captured) -> list[Text]:
    name = safe_line(name)
    try:
        lines = clipped(stream.text).rstrip("\n").split("\n")
    except FileNotFoundError:
        return [Text(INDENT).append(f"{name}: {stream.size_bytes} bytes, no longer on disk", "dim")]
    if lines == [""]:
        return []
    heading = name if len(lines) <= _STDERR_LINES else f"{name}, the last {_STDERR_LINES} of {len(lines)} lines"
    shown = styled_text("\n".join(lines[-_STDERR_LINES:])).split("\n", allow_blank=True)
    return [Text(INDENT).append(heading, "bold"), *(Text(f"{INDENT}  ").append_text(line) for line in shown)]


def _block(label: str, text: str, style: str) -> list[Text]:
    first, *rest = safe_text(clipped(text)).rstrip("\n").split("\n")
    return [indented(label, first, style), *(Text(f"{INDENT}{' ' * (len(label) + 1)}{line}") for line in rest)]


def _left_out(count: int) -> list[Text]:
    return [Text(f"{INDENT}  … {count} more lines", "dim")] if count > 0 else []


def diff_style(line: str) -> str:
    """Return the style of a diff line by its first character. `diff_lines` handles headings: `--` here is a removed line."""
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
