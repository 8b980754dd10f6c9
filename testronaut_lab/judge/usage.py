"""Checks `expect: {max: ...}` against what a step used: time, CPU time, memory.

A figure that was not measured, or was not sampled, is an error and not a failure: it is unknown whether the step kept to the
maximum.
"""

from __future__ import annotations

from collections.abc import Iterator

from testronaut_lab.errors import ErrorKind
from testronaut_lab.model.plan import MaxExpect
from testronaut_lab.model.result import ErrorInfo, Mismatch, StepResult, Usage
from testronaut_lab.model.units import size_text


def check_usage(expect: MaxExpect | None, result: StepResult) -> Iterator[Mismatch]:
    """Yield a mismatch for every measured figure above its maximum."""
    if expect is None:
        return
    usage = result.usage
    if expect.duration_s is not None and result.duration_s > expect.duration_s:
        yield _over("duration", _seconds(expect.duration_s), _seconds(result.duration_s))
    if expect.cpu_s is not None and usage.cpu_s is not None and usage.cpu_s > expect.cpu_s:
        yield _over("cpu", _seconds(expect.cpu_s), _seconds(usage.cpu_s))
    peak = _sampled_peak(usage)
    if expect.memory_bytes is not None and peak is not None and peak > expect.memory_bytes:
        yield _over("memory", size_text(expect.memory_bytes), size_text(peak))


def unjudged_usage(expect: MaxExpect | None, result: StepResult) -> ErrorInfo | None:
    """Say why a figure that the plan limits cannot be judged; None if all figures can."""
    if expect is None:
        return None
    if expect.cpu_s is not None and result.usage.cpu_s is None:
        return ErrorInfo(ErrorKind.CAPTURE, "`max.cpu` cannot be judged: this host does not let us read the container's CPU time")
    if expect.memory_bytes is not None and _sampled_peak(result.usage) is None:
        hint = "drop `memory` from the `max` of a step this short, or measure more work in one step"
        return ErrorInfo(ErrorKind.CAPTURE, f"`max.memory` cannot be judged: {_why_not_sampled(result)}", hint)
    return None


def _sampled_peak(usage: Usage) -> int | None:
    return usage.peak_memory_bytes if usage.method == "sampled" else None


def _why_not_sampled(result: StepResult) -> str:
    if result.usage.peak_memory_bytes is None:
        return "this host does not let us read the container's memory"
    since = "during the step" if result.usage.method == "reset" else "since the container started"
    peak = size_text(result.usage.peak_memory_bytes)
    return (
        f"the step was over after {_seconds(result.duration_s)}, too short to sample its memory; the kernel's peak {since},"
        f" {peak}, has page cache in it"
    )


def _over(what: str, allowed: str, actual: str) -> Mismatch:
    return Mismatch(f"max.{what}", f"at most {allowed}", actual)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s"
