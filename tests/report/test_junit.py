"""JUnit XML: valid by the common schema, read by others as it is meant, whatever is in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import junitparser.xunit2 as junitparser
import pytest
import xmlschema
from support.hostile_output import everything
from support.recorded_run import CASES, EVERYTHING, FILE, LOST, RUN, captured, case, failing, run_of, step

from testronaut_lab.errors import ErrorKind
from testronaut_lab.model.result import Captured, ErrorInfo, RunResult, Status
from testronaut_lab.report.files.junit import junit_xml

SCHEMA = xmlschema.XMLSchema(Path(__file__).parents[1] / "schemas" / "junit.xsd")


def valid(run: RunResult) -> ElementTree.Element:
    document = junit_xml(run)
    SCHEMA.validate(document)
    return ElementTree.fromstring(document)


def cases_of(run: RunResult) -> dict[str, ElementTree.Element]:
    return {test.get("name", ""): test for test in valid(run).iter("testcase")}


def test_a_run_with_one_of_everything_is_valid() -> None:
    root = valid(EVERYTHING)
    assert root.attrib == {"name": "testronaut-lab", "tests": "10", "failures": "3", "errors": "2", "time": "3.250"}


@pytest.mark.parametrize(
    ("good", "bad"), [("<properties>", "<properties x='1'>"), ("errors=", "mistakes="), (' type="exit"', "")]
)
def test_the_schema_of_these_tests_knows_what_is_wrong(good: str, bad: str) -> None:
    document = junit_xml(EVERYTHING).decode()
    assert good in document
    assert not SCHEMA.is_valid(document.replace(good, bad))


def test_a_plan_is_a_suite_with_its_sums_its_beginning_and_what_it_ran_on() -> None:
    suite = valid(run_of(*CASES)).find("testsuite")
    assert suite is not None
    assert suite.attrib == {
        "name": "jq basics",
        "tests": "9",
        "failures": "3",
        "errors": "1",
        "skipped": "3",
        "time": "3.250",
        "timestamp": "2026-11-22T18:45:12",
        "file": FILE,
    }
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert (properties["image"], properties["tool.jq"], properties["run"]) == ("debian:bookworm-slim", "1.6 (apt)", RUN.run)


def test_class_and_name_of_a_case_are_its_node_id_with_its_cell() -> None:
    made = replace(case("c", Status.PASSED), nodeid=f"{FILE}::c[image=debian:x]")
    (test,) = valid(run_of(made)).iter("testcase")
    assert (test.get("classname"), test.get("name")) == (FILE, "c[image=debian:x]")


def test_each_status_is_what_junit_has_for_it() -> None:
    outcomes = {name: [child.tag for child in test if child.tag != "system-out"] for name, test in cases_of(EVERYTHING).items()}
    assert outcomes == {
        "passed": [],
        "failed": ["failure"],
        "error": ["error"],
        "skipped": ["skipped"],
        "never": ["skipped"],
        "xfailed": ["skipped"],
        "xpassed": ["failure"],
        "flaky": ["flakyFailure"],
        "tried": ["failure", "rerunFailure"],
        "the plan itself": ["error"],
    }


def test_reasons_are_given() -> None:
    found = {name: test[0].attrib for name, test in cases_of(EVERYTHING).items()}
    assert found["failed"] == {"type": "exit", "message": "second: exit: expected exit 0, got exit 3, and 1 more"}
    assert found["error"] == {"type": "SessionLost", "message": "lost: the container went away"}
    assert found["skipped"] == {"type": "skipped", "message": "`true` held"}
    assert found["never"]["message"] == "it was not run"
    assert found["xfailed"] == {"type": "xfailed", "message": "expected to fail: bug 12"}
    assert found["xpassed"] == {"type": "xpassed", "message": "passed, but was expected to fail: bug 13"}


def test_a_failure_tells_command_line_mismatches_and_difference() -> None:
    text = cases_of(EVERYTHING)["failed"][0].text or ""
    assert text.startswith("second  (line 7)\n$ cat list\n> exit 3\nexit status 3\n")
    assert "exit\n  expected  exit 0\n  actual    exit 3\nstdout.equals\n  @@ -1,2 +1,2 @@\n   a\n  -c\n  +b\n" in text


def test_steps_stand_in_system_out_with_what_they_wrote() -> None:
    tests = cases_of(EVERYTHING)
    assert tests["passed"].findtext("system-out") == "== PASS  first  setup  3 ms  exit status 0\n$ jq .x a.json\n-- stdout\n1\n"
    assert "-- stdout\na\nb\n-- stderr\nno c\n" in (tests["failed"].findtext("system-out") or "")
    assert tests["skipped"].findtext("system-out") == "== SKIP  only\n$ jq .x a.json\n"


def test_an_attempt_that_failed_has_its_reason_and_its_steps() -> None:
    (attempt,) = cases_of(EVERYTHING)["flaky"].iter("flakyFailure")
    assert attempt.attrib == {"message": "second: exit: expected exit 0, got exit 3, and 1 more", "type": "exit"}
    assert (attempt.findtext("stackTrace") or "").startswith("second  (line 7)\n")
    assert "== FAIL  second" in (attempt.findtext("system-out") or "")


def test_an_error_of_a_case_without_a_bad_step_is_its_reason() -> None:
    late = case("late", Status.FAILED, step("a", "late"), error=ErrorInfo(ErrorKind.CASE_TIMEOUT, "time used up", "raise it"))
    (failure,) = cases_of(run_of(late))["late"].iter("failure")
    assert (failure.attrib, failure.text) == ({"type": "CaseTimeout", "message": "time used up"}, "time used up\nhint: raise it")


def test_a_library_reads_it_as_it_is_meant() -> None:
    suites = junitparser.JUnitXml.fromstring(junit_xml(EVERYTHING).decode())
    cases = {test.name: test for suite in suites for test in suite}
    assert (suites.tests, suites.failures, suites.errors) == (10, 3, 2)
    assert sorted(name for name, test in cases.items() if test.is_passed) == ["flaky", "passed"]
    assert [(attempt.type, attempt.message) for attempt in cases["tried"].rerun_failures()] == [
        ("exit", "second: exit: expected exit 0, got exit 3, and 1 more")
    ]
    assert len(cases["flaky"].flaky_failures()) == 1


def test_a_run_that_failed_as_a_whole_says_so() -> None:
    root = valid(replace(RUN, error=LOST))
    assert (root.get("errors"), [error.get("message") for error in root.iter("error")]) == ("1", ["the container went away"])


@pytest.mark.parametrize(
    "text", ["\0\x1b[2J\x07\r", "\ud800\udfff", "\ufffe\uffff", "]]>&amp;<!--", "a\nb\tc", "\x85\u2028\u202e"]
)
def test_no_text_makes_it_invalid(text: str) -> None:
    odd = replace(failing("c"), id=text, run=text, stderr_stream=captured(text.encode(errors="surrogatepass")), notes=(text,))
    made = replace(case("c", Status.FAILED, odd, error=ErrorInfo(text, text, text)), nodeid=f"{text}::{text}")
    plan = replace(run_of(made).plans[0], name=text, file=text)
    assert len(list(valid(replace(RUN, run=text, plans=(plan,))).iter("testcase"))) == 1


def test_hostile_output_is_shown_and_not_obeyed() -> None:
    made = case("c", Status.FAILED, replace(failing("c"), stdout_stream=captured(everything())))
    shown = cases_of(run_of(made))["c"].findtext("system-out") or ""
    assert r"\x1b]0;pwned\x07" in shown and r"honest\rforged" in shown and "<script>alert(1)</script>" in shown


def test_of_a_long_output_the_end_is_shown() -> None:
    made = case("c", Status.PASSED, step("a", "c", stdout_stream=captured("x" * 20_000 + "\nend\n")))
    shown = cases_of(run_of(made))["c"].findtext("system-out") or ""
    assert "… 3621 characters before\n" in shown and shown.endswith("more characters\nend\n")


def test_output_that_is_no_longer_on_disk_is_named() -> None:
    gone = case("c", Status.PASSED, step("a", "c", stdout_stream=Captured(99_999, "0" * 64, None)))
    assert "-- stdout: 99999 bytes, no longer on disk" in (cases_of(run_of(gone))["c"].findtext("system-out") or "")
