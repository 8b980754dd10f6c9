"""Annotations for GitHub's job log: one for each finding, at the step in the plan file.

A workflow command is a line that begins with `::`. A tool could print one. So all foreign output is printed between
`stop_commands` and `resume_commands`, where the runner ignores commands, indented or not.
"""

from __future__ import annotations

from pathlib import PurePath

from testronaut_lab.model.result import RunResult, Status
from testronaut_lab.report.state.findings import Finding, details, findings, why
from testronaut_lab.safetext import safe_line, safe_text

_LINES = 60
_CHARACTERS = 8000


def stop_commands(token: str) -> str:
    """Return a line after which the runner takes no line for a command. Nobody must be able to guess `token`."""
    return f"::stop-commands::{token}\n"


def resume_commands(token: str) -> str:
    return f"::{token}::\n"


def annotation_lines(run: RunResult, folder: PurePath) -> list[str]:
    """Return the annotations as lines without newlines. `folder` is the project's folder, relative to GitHub's checkout."""
    return [_annotation(finding, folder) for finding in findings(run)]


def _annotation(finding: Finding, folder: PurePath) -> str:
    level = "warning" if finding.status is Status.FLAKY else "error"
    properties: dict[str, str] = {}
    if finding.file is not None:
        properties["file"] = (folder / finding.file).as_posix()
    if finding.line is not None:
        properties["line"] = str(finding.line)
    properties["title"] = _title(finding)
    settings = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{level} {settings}::{_message(finding)}"


def _title(finding: Finding) -> str:
    """Return the title: the node id without its path, because the annotation names the file."""
    again = "" if finding.attempt is None else f" (attempt {finding.attempt})"
    return f"{finding.name.partition('::')[2] or finding.name}: {finding.status.value}{again}"


def _message(finding: Finding) -> str:
    if finding.step is None:
        return _data(finding.message)
    step = finding.step
    reason = [] if step.error is not None else [why(step)]  # the details begin with the error
    lines = [f"$ {safe_line(step.command, 200)}", *reason, *details(step)]
    shown = "\n".join([*lines[:_LINES], *(["…"] if len(lines) > _LINES else [])])
    return _data(shown if len(shown) <= _CHARACTERS else f"{shown[:_CHARACTERS]}…")


def _data(text: str) -> str:
    """Escape a message for the runner; `%` first, because the other escapes begin with it."""
    return safe_text(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
