"""Annotations: at the right place, read back by the runner's rules as what they were, and never more of them than findings."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePath

import pytest
from support.hostile_output import everything
from support.recorded_run import CASES, EVERYTHING, FILE, captured, case, failing, run_of

from testronaut_lab.model.result import RunResult, Status
from testronaut_lab.report.files.github import annotation_lines, resume_commands, stop_commands

_COMMAND = re.compile(r"::(error|warning) (.*?)::(.*)")


def read(run: RunResult, folder: str = "") -> list[tuple[str, dict[str, str], str]]:
    """As the runner's documented rules read each line: properties first, of which each is decoded by itself."""
    found = []
    for line in annotation_lines(run, PurePath(folder)):
        matched = _COMMAND.fullmatch(line)
        assert matched is not None, line
        pairs = dict(each.split("=", 1) for each in matched[2].split(","))
        found.append((matched[1], {key: _decoded(value) for key, value in pairs.items()}, _decoded(matched[3])))
    return found


def _decoded(text: str) -> str:
    for code, char in (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        text = text.replace(code, char)
    return text


def test_each_finding_is_one_annotation_at_its_place() -> None:
    assert [(level, properties) for level, properties, _ in read(EVERYTHING)] == [
        ("error", {"file": FILE, "line": "7", "title": "failed::second: failed"}),
        ("error", {"file": FILE, "title": "error::lost: error"}),
        ("error", {"file": FILE, "line": "30", "title": "xpassed: xpassed"}),
        ("warning", {"file": FILE, "line": "7", "title": "flaky::second: flaky (attempt 1)"}),
        ("error", {"file": FILE, "line": "7", "title": "tried::second: failed (attempt 2)"}),
        ("error", {"file": "cells.lab.yaml", "title": "cells: error"}),
    ]


def test_of_the_attempts_of_a_flaky_case_the_last_one_that_failed_is_told() -> None:
    flaky = replace(CASES[7], attempts=4, earlier=CASES[7].earlier * 3)
    assert [properties["title"] for _, properties, _ in read(run_of(flaky))] == ["flaky::second: flaky (attempt 3)"]


def test_a_message_has_command_reason_and_difference() -> None:
    ((_, _, message),) = read(run_of(CASES[1]))
    assert message.startswith("$ cat list …\nexit: expected exit 0, got exit 3, and 1 more\nexit\n")
    assert "  @@ -1,2 +1,2 @@\n   a\n  -c\n  +b\n" in message
    assert message.endswith("stderr\n  no c")


def test_a_file_is_named_from_the_checkout() -> None:
    assert read(run_of(CASES[1]), "tools/lab")[0][1]["file"] == f"tools/lab/{FILE}"


@pytest.mark.parametrize("text", ["a,b:c", "100%", "%0A::error::x", "a\nb", "a::b", "=", "::", "%25"])
def test_nothing_in_a_name_or_message_is_read_as_part_of_the_command(text: str) -> None:
    made = replace(case("c", Status.XPASSED, expect_fail=text), nodeid=f"{FILE}::c{text}")
    plan = replace(run_of(made).plans[0], file=f"{text}.lab.yaml")
    ((level, properties, message),) = read(replace(run_of(made), plans=(plan,)))
    assert (level, message) == ("error", f"passed, but was expected to fail: {text}")
    assert properties == {"file": f"{text}.lab.yaml", "title": f"c{text}: xpassed"}


def test_a_carriage_return_and_an_escape_are_shown() -> None:
    made = case("c", Status.XPASSED, expect_fail="a\rb\x1b[31m")
    assert read(run_of(made))[0][2] == r"passed, but was expected to fail: a\rb\x1b[31m"


def test_hostile_output_is_within_one_line() -> None:
    run = run_of(case("c", Status.FAILED, failing("c", stderr_stream=captured(b"::error::x\n##[error]y\n" + everything()))))
    (line,) = annotation_lines(run, PurePath())
    assert line.splitlines() == [line]


def test_a_message_is_cut_before_it_is_too_long() -> None:
    lines = captured("x" * 4000 + "\n" + "y\n" * 5000)
    ((_, _, message),) = read(run_of(case("c", Status.FAILED, failing("c", run="z" * 9000, stderr_stream=lines))))
    assert len(message) < 8100


def test_commands_are_stopped_and_resumed_with_one_token() -> None:
    assert (stop_commands("t"), resume_commands("t")) == ("::stop-commands::t\n", "::t::\n")
