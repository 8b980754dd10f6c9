"""Compares a run's cells as their goldens would be compared: with the normalising rules of each step.

This module joins the normalising of `golden/` with the comparison of `cells.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from testronaut_lab.errors import LabError
from testronaut_lab.golden.normalize import Normalizing
from testronaut_lab.golden.render import sorted_changes
from testronaut_lab.model import comparison
from testronaut_lab.model.comparison import SideBySide
from testronaut_lab.model.ignoring import without_ignored_of_run
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.result import Captured, RunResult, StepResult
from testronaut_lab.report.cells import Aspect, compare_cells

_MAX_BYTES = 1 << 20  # larger streams are compared by their sha256 only


@comparison.side_by_side.register
def side_by_side(result: RunResult) -> tuple[SideBySide, ...]:
    """Return a comparison for each plan that ran in more than one cell of its matrix."""
    return compare_cells(without_ignored_of_run(result), _seen)


def _seen(step: StepResult) -> Mapping[str, Aspect]:
    known = step.normalized
    normalizer = Normalizing((), Facts()) if known is None else Normalizing(known.rules, known.facts)
    normalizer.normalize_text(step.command)  # a golden begins with the command, and values are numbered from there
    seen = {"exit": Aspect(step.exit.describe(), step.exit.describe())}
    if step.screen is None:
        seen["stdout"] = _stream(step.stdout_stream, normalizer)
    else:
        seen["screen"] = _text(step.screen.encode(errors="surrogateescape"))
    seen["stderr"] = _stream(step.stderr_stream, normalizer)
    seen["changes"] = _text(
        "".join(f"{line}\n" for line in sorted_changes(step.changes, normalizer.normalize_text)).encode(errors="replace")
    )
    contents = {change.path: change for change in step.changes if change.sha256 is not None}
    for path, change in sorted(contents.items()):
        assert change.sha256 is not None
        seen[f"content of {path}"] = Aspect(change.sha256, f"{change.size_bytes} bytes, sha256 {change.sha256[:12]}…")
    return seen


def _stream(stream: Captured, normalizer: Normalizing) -> Aspect:
    if stream.size_bytes <= _MAX_BYTES:
        try:
            return _text(normalizer.content(stream.read()))
        except (LabError, FileNotFoundError):  # a pattern that is too slow for this text, or a file that is gone
            pass
    return Aspect(stream.sha256, f"{stream.size_bytes} bytes, sha256 {stream.sha256[:12]}…")


def _text(data: bytes) -> Aspect:
    text = data.decode(errors="backslashreplace")
    *whole, rest = text.split("\n")
    lines = (*(f"{line}\n" for line in whole), *([rest] if rest else []))
    return Aspect(hashlib.sha256(data).hexdigest(), text, lines)
