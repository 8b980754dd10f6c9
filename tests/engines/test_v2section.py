"""The choice of tests for cgroup v2 with systemd, and how their section gets into the docs."""

from __future__ import annotations

from pathlib import Path

import pytest
import v2section
from v2section import CHOSEN, Outcome, section, write_section

OUTCOME = Outcome(
    machine=("6.1", "systemd 257", "26.1", "2 systemd", "cpu io memory pids"),
    cells=(("limits", 3, 1, 0),),
    failed=("test_limits::test_x",),
    figures={"start": 1.0, "end": 0.5, "step": 0.001234, "late": 0.0, "run": 2.0},
)


@pytest.mark.parametrize(("module", "tests"), [item for modules in CHOSEN.values() for item in modules.items()])
def test_every_test_that_is_chosen_exists(module: str, tests: tuple[str, ...]) -> None:
    text = (Path(__file__).parents[1] / f"{module}.py").read_text()
    assert [test for test in tests if test and f"def {test.partition('[')[0]}(" not in text] == []


def test_a_section_names_the_machine_the_tests_and_the_figures() -> None:
    text = section(OUTCOME)
    assert "driver systemd, cgroup v2 (cpu io memory pids)" in text
    assert "| limits | 3 | 1 | 0 |" in text and "| a step, ms | 1.23 |" in text
    assert "Failed: `test_limits::test_x`." in text


def test_the_ends_of_tests_are_counted_by_what_they_are_about(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(
        """<testsuites><testsuite name="pytest">
        <testcase classname="tests.container.test_limits" name="test_nothing_is_said_where_all_holds" time="1"/>
        <testcase classname="tests.execution.test_watchdog" name="test_x" time="1"><failure message="no"/></testcase>
        </testsuite></testsuites>"""
    )
    (tmp_path / "figures.json").write_text("{}")
    (tmp_path / "machine").write_text("6.1\n")
    outcome = v2section.read_outcome(tmp_path)
    ends = {what: counts for what, *counts in outcome.cells if any(counts)}
    assert ends == {"limits": [1, 0, 0], "limits that end steps, and the watchdog": [0, 1, 0]}
    assert outcome.failed == ["execution/test_watchdog::test_x"]


def test_a_section_takes_the_place_of_the_one_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = tmp_path / "engines.md"
    monkeypatch.setattr(v2section, "DOCS", docs)
    docs.write_text(f"# Engines\n\nbefore\n\n{section(OUTCOME)}\nby hand\n")
    write_section("## cgroup v2 with systemd\n\nnew\n")
    assert docs.read_text() == "# Engines\n\nbefore\n\n## cgroup v2 with systemd\n\nnew\n\nby hand\n"


def test_a_section_is_put_at_the_end_of_docs_that_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v2section, "DOCS", tmp_path / "engines.md")
    write_section("## cgroup v2 with systemd\n")
    assert (tmp_path / "engines.md").read_text() == "# Engines\n\n## cgroup v2 with systemd\n"
