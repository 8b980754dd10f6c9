"""Paths that come and go within a step, in sessions on the real engine; with the watch and without it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.live_session import Lab

from testronaut_lab.capture import live_watch
from testronaut_lab.model.events import FileTouched
from testronaut_lab.model.result import RunResult, StepResult, Usage
from testronaut_lab.planfile import load_plan
from testronaut_lab.report.files.json import step_to_dict
from testronaut_lab.run.plan_run import RunOptions, run_plans

pytestmark = pytest.mark.engine

PLAN = """\
version: 1
name: watched
image: debian:bookworm-slim
files: {d/a.txt: "a\\n"}
cases:
  - id: one
    steps:
      - {id: temporary, run: "echo x > t; rm t", expect: {changes: none}}
      - {id: made, run: "mkdir -p e/f; echo x > e/f/g", golden: true, expect: {changes: {added: [e, e/f, e/f/g]}}}
      - {id: same, run: "echo a > d/a.txt", expect: {changes: none}}
      - {id: sorted, run: "sort -o d/a.txt d/a.txt; mv e h", golden: true, continue: true, expect: {changes: none}}
      - {id: burst, run: "mkdir -p a/b/c; touch a/b/c/x; rm -r a", expect: {changes: none}}
      - {id: wrong, run: "touch z; rm z; exit 3", continue: true}
      - {id: bytes, run: "touch $(printf '\\\\377')", continue: true, expect: {stdout: "no"}}
      - {id: outside, run: "touch /tmp/x ~/y; ln -s / r"}
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_watch, "BOUND_S", 10.0)  # this machine may be busy


@pytest.fixture
def run_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RunResult]:
    def run(watch: str) -> RunResult:
        root = tmp_path / watch
        root.mkdir()
        (root / "testronaut-lab.toml").write_text("")
        (root / "x.lab.yaml").write_text(PLAN)
        monkeypatch.setenv("TESTRONAUT_LAB_WATCH", watch)
        return run_plans([load_plan(root / "x.lab.yaml")], RunOptions(update=True))

    return run


def steps(result: RunResult) -> list[StepResult]:
    return [step for plan in result.plans for case in plan.cases for step in case.steps]


def judged(step: StepResult) -> StepResult:
    """A step's result without the values that differ from run to run, and without those that only a watch can give."""
    return replace(step, transient=(), notes=(), duration_s=0.0, usage=Usage())


def test_a_file_that_is_made_and_removed_in_a_step_is_transient(fresh: Lab) -> None:
    result = fresh.run("echo x > t; rm t")
    assert (result.transient, result.changes, result.ok) == (("t",), (), True)
    assert not any("perhaps" in note for note in result.notes)


def test_a_tree_that_is_made_and_removed_at_once_is_told_as_far_as_it_was_heard(fresh: Lab) -> None:
    result = fresh.run("mkdir -p a/b/c; touch a/b/c/x; rm -r a")
    assert result.transient[0] == "a"


def test_a_file_in_a_directory_of_an_earlier_step_is_heard(fresh: Lab) -> None:
    fresh.run("mkdir d")
    assert fresh.run("touch d/t; rm d/t").transient == ("d/t",)


def test_what_the_host_puts_there_is_nobodys_transient(fresh: Lab) -> None:
    fresh.session.put("a", b"x")
    fresh.session.put("a", b"y")
    assert fresh.run("touch b").transient == ()


def test_a_step_that_touches_nothing_says_nothing(fresh: Lab) -> None:
    fresh.run("touch a")
    result = fresh.run("cat a")
    assert (result.transient, result.notes) == ((), ())


def test_a_name_that_is_not_utf8_is_scanned_and_the_watch_goes_on(fresh: Lab) -> None:
    result = fresh.run("touch $(printf '\\377')")
    assert [change.path for change in result.changes] == ["\\xff"]
    assert any("the watcher failed and is replaced" in note for note in result.notes)
    result = fresh.run("until touch t; rm t; [ -e go ]; do sleep 0.1; echo on; done & sleep 0.5; touch go; wait; rm go")
    assert "t" in result.transient


def test_links_to_the_root_do_not_make_it_watch_the_host(fresh: Lab) -> None:
    fresh.run("ln -s / r; mkdir d; ln -s / d/r; sleep 0.3; touch t; rm t")
    watch = fresh.session._watch
    assert watch is not None
    assert {"", "d"} == set(watch._watched())


def test_what_is_touched_is_told_while_the_step_runs(fresh: Lab) -> None:
    fresh.run("touch a; sleep 0.5")
    assert FileTouched("x.lab.yaml::case::step", "a") in fresh.events.seen


def test_without_the_watch_nothing_transient_is_known_and_nothing_said(make_session: Callable[..., Lab]) -> None:
    result = make_session(watch=False).run("touch t; rm t")
    assert (result.transient, result.notes) == ((), ())


def test_a_session_leaves_no_thread_and_no_descriptor_behind(make_session: Callable[..., Lab]) -> None:
    lab = make_session()
    watch = lab.session._watch
    assert watch is not None
    lab.session.close()
    assert not watch._thread.is_alive()
    open_ = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{fd}")]
    assert [] == [target for target in open_ if target.endswith("/cookies")]


def test_it_changes_no_verdict_whether_it_is_there_or_not(run_watched: Callable[[str], RunResult]) -> None:
    on, off = run_watched("on"), run_watched("off")
    assert [judged(step) for step in steps(off)] == [judged(step) for step in steps(on)]
    assert (off.totals, off.exit_status) == (on.totals, on.exit_status)
    assert {"t", "z"} <= {path for step in steps(on) for path in step.transient}
    assert [()] * len(steps(off)) == [step.transient for step in steps(off)]


def test_it_changes_no_golden_whether_it_is_there_or_not(run_watched: Callable[[str], RunResult], tmp_path: Path) -> None:
    def goldens(watch: str) -> dict[str, bytes]:
        run_watched(watch)
        root = tmp_path / watch / "snapshots"
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    assert goldens("on") == goldens("off") != {}


def test_the_json_result_carries_what_was_transient(fresh: Lab) -> None:
    assert ["t"] == step_to_dict(fresh.run("touch t; rm t"))["transient"]
