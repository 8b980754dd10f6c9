"""What a verdict stands on: the files as they were captured, whatever became of them since."""

from __future__ import annotations

import hashlib

import pytest
from harness import Lab

from testronaut_lab.errors import CaptureError
from testronaut_lab.judge.expect import check
from testronaut_lab.model.expect import Expect, FileExpect, TextExpect
from testronaut_lab.model.result import Mismatch

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
