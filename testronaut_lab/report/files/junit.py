"""A run as JUnit XML in the dialect of Jenkins and Maven Surefire: one suite per plan, one test case per case.

`classname::name` of a test case is its node id. An expected failure is `skipped`; an unexpected pass is a `failure`. A flaky
case passes and has a `flakyFailure` for each failed attempt. All foreign text is made safe first, so that XML can hold it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from testronaut_lab.model.cells import bracketed
from testronaut_lab.model.result import (
    Captured,
    CaseAttempt,
    CaseResult,
    ErrorInfo,
    Phase,
    PlanResult,
    RunResult,
    Status,
    StepResult,
)
from testronaut_lab.report.state.findings import command_lines, details, skipped_because, why
from testronaut_lab.report.text.lines import WORDS, duration_text
from testronaut_lab.safetext import clipped, safe_line, safe_text

_TAIL_CHARACTERS = 16 * 1024
_BAD = frozenset({Status.FAILED, Status.ERROR})
_NO_CHARACTERS = re.compile("[\ufffe\uffff]")  # noncharacters: the only ones that XML forbids and `safe_text` leaves


def junit_xml(run: RunResult) -> bytes:
    """Return the document as UTF-8 with a trailing newline. Reads the files of large streams and shows their ends."""
    suites = [_suite(run, plan) for plan in run.plans]
    if run.error is not None:
        suites.append(_suite_of_error("run", run.run, run.error))
    root = Element("testsuites", {"name": "testronaut-lab", **_sums(suites)})
    root.extend(suites)
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _sums(suites: Sequence[Element]) -> dict[str, str]:
    counts = {name: str(sum(int(suite.get(name, "0")) for suite in suites)) for name in ("tests", "failures", "errors")}
    return {**counts, "time": _seconds(sum(float(suite.get("time", "0")) for suite in suites))}


def _suite(run: RunResult, plan: PlanResult) -> Element:
    tests = [_test(case) for case in plan.cases]
    if plan.error is not None:
        tests.append(_failed_test(plan.file or plan.name, "the plan itself", plan.error))
    name = f"{plan.name} {bracketed(plan.cell)}" if plan.cell else plan.name
    suite = _counted(name, tests, sum(case.took_s for case in plan.cases))
    suite.set("timestamp", _timestamp(plan.started or run.started))
    if plan.file is not None:
        suite.set("file", _safe(plan.file))
    suite.append(_properties(run, plan))
    suite.extend(tests)
    return suite


def _suite_of_error(name: str, what: str, error: ErrorInfo) -> Element:
    tests = [_failed_test("testronaut-lab", what, error)]
    suite = _counted(name, tests, 0.0)
    suite.extend(tests)
    return suite


def _counted(name: str, tests: Sequence[Element], time_s: float) -> Element:
    counts = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    found = {plural: str(sum(test.find(tag) is not None for test in tests)) for plural, tag in counts.items()}
    return Element("testsuite", {"name": _safe(name), "tests": str(len(tests)), **found, "time": _seconds(time_s)})


def _properties(run: RunResult, plan: PlanResult) -> Element:
    known = {"run": run.run, "network": plan.network, "user": plan.user}
    if plan.image is not None:
        known |= {"image": plan.image.ref, "image.id": plan.image.id, "image.source": plan.image.source}
    if run.engine is not None:
        known["engine"] = run.engine.words
    known |= {f"tool.{tool.name}": f"{tool.version} ({tool.strategy})" for tool in plan.tools}
    known |= {f"cell.{key}": value for key, value in plan.cell}
    properties = Element("properties")
    for name, value in known.items():
        SubElement(properties, "property", name=_safe(name), value=_safe(value))
    return properties


def _test(case: CaseResult) -> Element:
    path, _, name = case.nodeid.partition("::")
    test = Element("testcase", classname=_safe(path), name=_safe(name), time=_seconds(case.took_s))
    _add_outcome(test, case)
    flaky = "flaky" if case.status is Status.FLAKY else "rerun"
    for attempt in case.earlier:
        _add_attempt(test, flaky, attempt)
    if case.steps:
        SubElement(test, "system-out").text = _safe(_transcript(case.steps))
    return test


def _failed_test(classname: str, name: str, error: ErrorInfo) -> Element:
    test = Element("testcase", classname=_safe(classname), name=_safe(name), time=_seconds(0.0))
    _add(test, "error", error.class_, error.message, [error.text])
    return test


def _add_outcome(test: Element, case: CaseResult) -> None:
    match case.status:
        case Status.FAILED:
            _add(test, "failure", _kind(case.steps, case.error), _reason(case.steps, case.error), _story(case.steps, case.error))
        case Status.ERROR:
            _add(test, "error", _kind(case.steps, case.error), _reason(case.steps, case.error), _story(case.steps, case.error))
        case Status.XPASSED:
            _add(test, "failure", "xpassed", f"passed, but was expected to fail: {case.expect_fail}", ())
        case Status.XFAILED:
            _add(test, "skipped", "xfailed", f"expected to fail: {case.expect_fail}", _story(case.steps, case.error))
        case Status.SKIPPED:
            _add(test, "skipped", "skipped", skipped_because(case), ())
        case Status.PASSED | Status.FLAKY:
            pass


def _add_attempt(test: Element, prefix: str, attempt: CaseAttempt) -> None:
    what = "Error" if attempt.status is Status.ERROR else "Failure"
    reason, kind = _reason(attempt.steps, attempt.error), _kind(attempt.steps, attempt.error)
    element = SubElement(test, f"{prefix}{what}", message=_safe(reason), type=_safe(kind))
    SubElement(element, "stackTrace").text = _safe("\n".join(_story(attempt.steps, attempt.error)))
    SubElement(element, "system-out").text = _safe(_transcript(attempt.steps))


def _add(test: Element, tag: str, kind: str, message: str, lines: Iterable[str]) -> None:
    element = SubElement(test, tag, type=_safe(kind), message=_safe(message))
    element.text = _safe("\n".join(lines)) or None


def _kind(steps: Sequence[StepResult], error: ErrorInfo | None) -> str:
    """Return the class of the first error, or the first aspect that did not hold."""
    for step in steps:
        if step.status in _BAD and (step.error is not None or step.mismatches):
            return step.error.class_ if step.error is not None else step.mismatches[0].aspect
    return "failed" if error is None else error.class_


def _reason(steps: Sequence[StepResult], error: ErrorInfo | None) -> str:
    reasons = [f"{step.id}: {why(step)}" for step in steps if step.status in _BAD]
    reasons += [] if error is None else [safe_line(error.message)]
    return "; ".join(reasons)


def _story(steps: Sequence[StepResult], error: ErrorInfo | None) -> list[str]:
    """Return what went wrong, step by step: the command, the expectation, the difference."""
    lines: list[str] = []
    for step in steps:
        if step.status in _BAD:
            where = "" if step.line is None else f"  (line {step.line})"
            lines += [f"{step.id}{where}", *command_lines(step), step.exit.describe(), *details(step), ""]
    return lines if error is None else [*lines, error.text]


def _transcript(steps: Sequence[StepResult]) -> str:
    """Return each step with its output, as a terminal would show it."""
    lines: list[str] = []
    for step in steps:
        phase = "" if step.phase is Phase.STEPS else f"  {step.phase.value}"
        again = f"  {step.attempts} attempts" if step.attempts > 1 else ""
        ended = "" if step.status is Status.SKIPPED else f"  {duration_text(step.duration_s)}  {step.exit.describe()}"
        lines += [f"== {WORDS[step.status]}  {step.id}{phase}{ended}{again}", *command_lines(step), *_streams(step), ""]
    return "\n".join(lines)


def _streams(step: StepResult) -> list[str]:
    if step.screen is not None:
        return ["-- screen", *step.screen.split("\n")]
    stdout = _stream_lines("stdout and stderr" if step.merged else "stdout", step.stdout_stream)
    return [*stdout, *_stream_lines("stderr", step.stderr_stream)]


def _stream_lines(name: str, stream: Captured) -> list[str]:
    if stream.size_bytes == 0 and not stream.truncated:
        return []
    try:
        text = stream.text
    except FileNotFoundError:
        return [f"-- {name}: {stream.size_bytes} bytes, no longer on disk"]
    left_out = len(text) - _TAIL_CHARACTERS
    shown = clipped(text[-_TAIL_CHARACTERS:]).removesuffix("\n").split("\n")
    return [f"-- {name}", *([f"… {left_out} characters before"] if left_out > 0 else []), *shown]


def _seconds(value: float) -> str:
    return f"{value:.3f}"


def _timestamp(iso: str) -> str:
    """Return the time as the older schemas want it: UTC, to the second, without a zone."""
    return _safe(iso[:19])


def _safe(text: str) -> str:
    return _NO_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", safe_text(text))
