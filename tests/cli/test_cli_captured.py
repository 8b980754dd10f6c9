"""`show RUN NODEID`: what was captured of a step, and what of it is seen where the step failed."""

from __future__ import annotations

import re

import pytest
from support.command_line import Project, Said

PLAN = r"""
version: 1
image: debian:bookworm-slim
cases:
  - id: lint
    steps:
      - {id: l, run: "echo 'a.py:1: bad'; echo oops >&2; echo x >f; exit 1"}
  - id: time
    steps:
      - id: t
        run: "echo started; printf 'at \\377 '; date; sleep 60"
        timeout: 500ms
        expect: {exit: timeout}
        golden: {normalize: [timestamp]}
  - id: died
    steps:
      - {id: b, background: web, run: "echo dying; echo err >&2; exit 3", ready: {port: 80, timeout: 2s}}
  - id: broken
    steps:
      - {id: no, run: "false"}
      - {id: after, run: echo after}
  - id: late
    steps:
      - {id: wait, run: "echo before; echo why >&2; sleep 60", timeout: 500ms}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("project"))
    made.write(PLAN)
    return made


@pytest.fixture(scope="module")
def ran(project: Project, base_image: str) -> Said:
    return project.here("run", "a.lab.yaml", "--markdown", "m.md", "--github")


def test_a_failing_step_shows_the_end_of_both_streams_everywhere(project: Project, ran: Said) -> None:
    shown = (project.here("show", "last").out, ran.out, (project.root / "m.md").read_text())
    for text in shown:
        assert "a.py:1: bad" in text and "oops" in text
    annotation = next(line for line in ran.out.splitlines() if line.startswith("::error") and "lint" in line)
    assert "stdout%0A  a.py:1: bad%0Astderr%0A  oops" in annotation


@pytest.mark.parametrize(("case", "texts"), [("died::b", ("dying", "err")), ("late::wait", ("before", "why"))])
def test_a_timeout_and_a_background_program_that_died_show_their_output(
    ran: Said, project: Project, case: str, texts: tuple[str, str]
) -> None:
    _, _, after = ran.out.partition(f"{case} ")
    block = after.partition("::")[0]
    assert all(text in block for text in texts)


@pytest.mark.usefixtures("ran")
def test_a_step_that_was_skipped_says_why_and_no_exit_status(project: Project) -> None:
    assert project.here("show", "last", "a.lab.yaml::broken::after").out == "$ echo after\nskipped: an earlier step failed\n"


@pytest.mark.usefixtures("ran")
def test_what_was_captured_is_printed_to_the_byte(project: Project) -> None:
    assert project.here("show", "last", "a.lab.yaml::lint::l", "--stdout").out == "a.py:1: bad\n"
    assert project.here("show", "last", "a.lab.yaml::lint", "--stderr", "--changes").out == "oops\nA 644 f\n"
    assert project.here("show", "last", "a.lab.yaml::lint::l", "--files", "f").out == "x\n"
    raw = project.raw("show", "last", "a.lab.yaml::time::t", "--stdout")
    assert raw.startswith(b"started\nat \xff ")


@pytest.mark.usefixtures("ran")
def test_what_was_captured_is_printed_as_goldens_are_compared(project: Project) -> None:
    assert project.here("show", "last", "a.lab.yaml::lint::l", "--normalized").out == "a.py:1: bad\noops\n"


@pytest.mark.usefixtures("ran")
def test_a_step_alone_is_told_to_people(project: Project) -> None:
    said = project.here("show", "last", "a.lab.yaml::lint::l").out
    assert said.startswith("$ echo 'a.py:1: bad'; echo oops >&2; echo x >f; exit 1\nfailed: exit status 1\n")
    assert said.endswith("--- stdout\na.py:1: bad\n--- stderr\noops\n--- changes\nA 644 f\n")


@pytest.mark.usefixtures("ran")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("zz",), "has no step zz; there is:\n  a.lab.yaml::lint::l\n"),
        (
            ("a.lab.yaml::lint", "--files", "nof"),
            "it did not change that file\nhint: testronaut-lab show RUN a.lab.yaml::lint::l --files f\n",
        ),
        (("--stdout",), "print one step"),
        (("a.lab.yaml::lint", "--json"), "print one step"),
    ],
)
def test_what_cannot_be_shown_is_told(project: Project, words: tuple[str, ...], said: str) -> None:
    shown = project.here("show", "last", *words)
    assert (shown.status, shown.out) == (2, "")
    assert said in re.sub(r"\d{8}-\d{6}-[0-9a-f]{4}", "RUN", shown.err)
