"""Late output: what the jobs of a step write after its end is kept with it, wherever a run is looked at, and judged nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab import Session, run_plan
from testronaut_lab.model.events import LateOutput
from testronaut_lab.model.plan import Limits
from testronaut_lab.model.result import Status

pytestmark = pytest.mark.engine

# a job that speaks once it is told to, and whoever told it hears when it has spoken
JOB = "mkfifo go; ( read x <go; echo LATE; echo OOPS >&2; echo done >go ) & echo now"
LET_IT = "echo go >go; read x <go"


def late_of(lab: Lab) -> list[tuple[str, str, bytes, str | None]]:
    """By whom, on which stream, what and while which step, in the order of the events."""
    found = [body for body in lab.events.seen if isinstance(body, LateOutput)]
    return [(body.nodeid, body.late.stream, body.late.captured.read(), body.late.during) for body in found]


def test_late_output_is_kept_with_the_step_that_started_its_writer(fresh: Lab) -> None:
    started = fresh.run(JOB, nodeid="x::start")
    during = fresh.run(LET_IT, nodeid="x::let")
    fresh.session.close()
    assert (started.out, started.stdout_stream.dropped_bytes, during.out, during.err) == ("now\n", 0, "", "")
    assert sorted(late_of(fresh)) == [("x::start", "stderr", b"OOPS\n", "x::let"), ("x::start", "stdout", b"LATE\n", "x::let")]


def test_the_jobs_of_several_steps_are_told_apart(fresh: Lab) -> None:
    for name in ("a", "b"):
        fresh.run(f"mkfifo {name}; ( read x <{name}; echo of {name}; echo done >{name} ) &", nodeid=f"x::{name}").check()
    for name in ("b", "a"):
        fresh.run(f"echo go >{name}; read x <{name}", nodeid=f"x::let-{name}").check()
    fresh.session.close()
    assert late_of(fresh) == [("x::b", "stdout", b"of b\n", "x::let-b"), ("x::a", "stdout", b"of a\n", "x::let-a")]


def test_what_comes_between_two_steps_is_during_none(fresh: Lab) -> None:
    go = fresh.session._place.workspace / "go"
    fresh.run("mkfifo go done; ( read x <go; echo between; echo >done ) &", nodeid="x::start").check()
    with open(go, "w") as fifo:
        fifo.write("go\n")
    with open(go.with_name("done")) as fifo:
        fifo.read()
    fresh.session.close()
    assert late_of(fresh) == [("x::start", "stdout", b"between\n", None)]


def test_late_output_is_bounded_as_a_stream_is(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(output_bytes=1000))
    lab.run("mkfifo go; ( read x <go; seq 1 1000; echo done >go; read x <go; seq 1 10; echo done >go ) &", nodeid="x::a").check()
    for _ in range(2):
        lab.run(LET_IT, nodeid="x::b").check()
    lab.session.close()
    late = [body.late.captured for body in lab.events.seen if isinstance(body, LateOutput)]
    assert sum(each.size_bytes for each in late) == 1000
    assert sum(each.dropped_bytes for each in late) == 3893 + 21 - 1000
    assert all(each.truncated for each in late if each.dropped_bytes)


def test_large_late_output_lies_in_a_file(fresh: Lab) -> None:
    fresh.run("mkfifo go; ( read x <go; seq 1 100000; echo done >go ) &").check()
    fresh.run(LET_IT).check()
    fresh.session.close()
    late = [body.late.captured for body in fresh.events.seen if isinstance(body, LateOutput)]
    assert b"".join(each.read() for each in late) == "".join(f"{i}\n" for i in range(1, 100001)).encode()


def test_a_results_late_output_is_there_once_it_came(base_image: str, tmp_path: Path) -> None:
    with Session(root=tmp_path) as session:
        session.run(JOB, id="start")
        session.run(LET_IT, id="let")
        session.run("true")
    late = {(late.stream, late.captured.text, late.during) for late in session.results[0].late}
    assert late == {("stdout", "LATE\n", "session::let"), ("stderr", "OOPS\n", "session::let")}
    assert [result.late for result in session.results[1:]] == [(), ()]


def test_a_stored_run_has_it_and_no_golden_does(base_image: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.testronaut-lab]\n")
    plan = tmp_path / "late.lab.yaml"
    steps = [{"id": "start", "run": JOB, "golden": True}, {"id": "let", "run": LET_IT, "golden": True}]
    plan.write_text(f"version: 1\nimage: debian:bookworm-slim\nsteps: {steps!r}\n".replace("True", "true"))
    assert run_plan(plan, update=True).status is Status.PASSED
    result = run_plan(plan)
    assert result.status is Status.PASSED
    start, let = result.plans[0].cases[0].steps
    assert {(late.stream, late.captured.text) for late in start.late} == {("stdout", "LATE\n"), ("stderr", "OOPS\n")}
    assert let.late == ()
    goldens = "".join(file.read_text() for file in (tmp_path / "snapshots").rglob("*.txt"))
    assert "now" in goldens and "LATE" not in goldens.replace("echo LATE", "")
