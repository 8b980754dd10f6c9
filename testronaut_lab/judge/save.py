"""Extracts the values that a step's `save` keeps from its output for later steps.

A missing value fails the step, like an expectation that does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from testronaut_lab.golden.textdiff import excerpt
from testronaut_lab.judge.expect import stream_bytes, truncated
from testronaut_lab.judge.jsonvalue import compact, parse_json
from testronaut_lab.model import jsonpath
from testronaut_lab.model.plan import Save, Step
from testronaut_lab.model.result import Mismatch, StepResult


@dataclass(frozen=True, slots=True)
class Saved:
    """`values` by name, and a mismatch `save.NAME` for each missing value."""

    values: Mapping[str, str] = field(default_factory=dict)
    mismatches: tuple[Mismatch, ...] = ()


def saved_values(step: Step, result: StepResult) -> Saved:
    """Return the values that `step.save` asks for.

    A JSON path gives a string without quotes, any other value as JSON on one line. A regex gives its first group, or the whole
    match if it has no group. Raises CaptureError if the stream cannot be read.
    """
    values: dict[str, str] = {}
    mismatches: list[Mismatch] = []
    for name, save in step.save.items():
        outcome = _saved(f"save.{name}", save, result)
        if isinstance(outcome, Mismatch):
            mismatches.append(outcome)
        else:
            values[name] = outcome
    return Saved(values, tuple(mismatches))


def _saved(aspect: str, save: Save, result: StepResult) -> str | Mismatch:
    stream = result.stdout_stream if save.from_ == "stdout" else result.stderr_stream
    if cut := truncated(aspect, stream):
        return cut
    data = stream_bytes(save.from_, stream)
    wanted = save.json_path if save.json_path is not None else save.matches
    try:
        value = _by_path(save.json_path, data) if save.json_path is not None else _by_regex(save.matches or "", data)
        value.encode()
    except LookupError:
        return Mismatch(aspect, f"a value at {wanted}", f"nothing there: {excerpt(data)}")
    except ValueError as error:  # UnicodeEncodeError too: a lone surrogate from bytes that are not UTF-8 or a JSON escape
        reason = "what was found is not UTF-8" if isinstance(error, UnicodeEncodeError) else str(error)
        return Mismatch(aspect, f"a value at {wanted}", f"{reason}: {excerpt(data)}")
    if "\0" in value:
        return Mismatch(aspect, f"a value at {wanted}", "what was found holds a NUL byte, which no variable can")
    return value


def _by_path(path: str, data: bytes) -> str:
    value = jsonpath.lookup(parse_json(data), path)
    return value if isinstance(value, str) else compact(value)


def _by_regex(pattern: str, data: bytes) -> str:
    match = re.search(pattern, data.decode(errors="surrogateescape"))
    value = match and match[1 if match.re.groups else 0]
    if value is None:
        raise LookupError(pattern)
    return value
