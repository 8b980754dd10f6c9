"""What a verdict stands on: the files as they were captured, whatever became of them since."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab.errors import CaptureError
from testronaut_lab.judge.expect import check
from testronaut_lab.model.expect import Expect, FileExpect, TextExpect
from testronaut_lab.model.result import Mismatch, StepResult
from testronaut_lab.planfile import parse_plan
from testronaut_lab.run.plan_run import Run, RunOptions

pytestmark = pytest.mark.engine

SHUFFLE = """(for i in $(seq 400); do echo A >a; mv a f; echo B >b; mv b f; done) & sleep 0.02"""


def expecting(path: str, text: str) -> Expect:
    return Expect(files={path: FileExpect(text=TextExpect(equals=text))})


def test_a_file_is_judged_by_what_was_captured_and_not_by_what_it_became(fresh: Lab) -> None:
    result = fresh.run("echo A >f")
    fresh.session._placer.put("f", b"B\n", None)
    assert check(expecting("f", "A\n"), result, fresh.session.seen) == ()
    assert [each.aspect for each in check(expecting("f", "B\n"), result, fresh.session.seen)] == ["files.f.equals"]


def test_a_file_that_a_job_goes_on_replacing_is_judged_by_its_stored_content(fresh: Lab) -> None:
    fresh.run(SHUFFLE)
    for _ in range(20):
        result = fresh.run("true")
        stored = fresh.session.seen.workspace.entries["f"].sha256
        missed = check(expecting("f", "A\n"), result, fresh.session.seen)
        assert (missed == ()) == (stored == hashlib.sha256(b"A\n").hexdigest())


def test_a_file_that_was_not_read_is_an_error_with_the_reason(fresh: Lab) -> None:
    result = fresh.run("truncate -s 2G big")
    with pytest.raises(CaptureError, match="judging big: larger than"):
        check(expecting("big", "A"), result, fresh.session.seen)


def test_a_file_that_came_after_the_step_is_not_there(fresh: Lab) -> None:
    result = fresh.run("true")
    fresh.session._placer.put("late", b"x", None)
    assert check(expecting("late", "x"), result, fresh.session.seen) == (
        Mismatch("files.late", "a path of that name", "no such path"),
    )


def run(root: Path, expect: dict[str, object], script: str, **plan: object) -> StepResult:
    """The only step of a plan, judged."""
    tree = {"image": "debian:bookworm-slim", "steps": [{"run": script, "expect": expect}], **plan}
    return Run([parse_plan(tree, root=root)], RunOptions()).run([]).plans[0].cases[0].steps[0]


MAKE = "mkdir d; ln -s ../x d/l; echo hi >run.sh; chmod 750 run.sh; mkdir -p ~/.tool; echo a=1 >~/.tool/conf; echo t >/tmp/t"


def test_what_a_path_is_can_be_expected_in_the_workspace_home_and_tmp(tmp_path: Path) -> None:
    files = {
        "d": {"type": "dir", "owner": "lab"},
        "d/l": {"type": "link", "target": "../x"},
        "run.sh": {"mode": "0750", "owner": "lab", "equals": "hi\n"},
        "/workspace/run.sh": {"lines": 1},
        "/home/lab/.tool/conf": {"contains": ["a=1"], "type": "file"},
        "/home/lab/**/other": "absent",
        "/tmp/*": "t\n",
    }
    outside = {"added": ["/home/lab/.tool", "/home/lab/.tool/conf", "/tmp/t"]}
    changes = {"added": ["d/**", "run.sh"], "outside": outside}
    assert run(tmp_path, {"files": files, "changes": changes}, MAKE).mismatches == ()


def test_a_tool_that_writes_to_its_home_does_not_pass_for_one_that_changes_nothing(tmp_path: Path) -> None:
    result = run(tmp_path, {"changes": {"outside": "none"}}, "echo x >~/.rc")
    assert [(each.aspect, each.expected, each.actual) for each in result.mismatches] == [
        ("changes.outside.added", "none", "/home/lab/.rc")
    ]


def test_a_writable_root_is_looked_at_by_absolute_paths(tmp_path: Path) -> None:
    files = {
        "/etc/new.conf": {"equals": "x\n", "owner": "root", "mode": "0644"},
        "/etc/debian_version": {"type": "file", "matches": "^1"},
        "/etc/issue": "absent",
        "/opt/*/bin": {"type": "dir"},
    }
    script = "echo x >/etc/new.conf; rm /etc/issue; mkdir -p /opt/tool/bin"
    assert run(tmp_path, {"files": files}, script, user="root").mismatches == ()


def test_what_is_not_captured_is_an_error_that_says_so(tmp_path: Path) -> None:
    result = run(tmp_path, {"files": {"/etc/passwd": {"type": "file"}}}, "true")
    assert result.error is not None and result.error.message == (
        "looking at /etc/passwd: the root file system is read-only, so it is not captured"
    )
    assert result.error.hint == "rootfs: writable"


def test_a_file_outside_that_is_another_one_by_now_cannot_be_judged(make_session: MakeSession) -> None:
    lab = make_session()
    result = lab.run("echo A >/tmp/f")
    (lab.session._place.tmp / "f").write_text("B")
    with pytest.raises(CaptureError, match="judging /tmp/f: it changed again after the step"):
        check(expecting("/tmp/f", "A\n"), result, lab.session.seen)
