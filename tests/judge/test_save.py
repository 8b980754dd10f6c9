"""Sessions that become plans, on a real engine: a fresh process repeats the steps that were typed, and they pass."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.command_line import Project

from testronaut_lab import Session
from testronaut_lab.errors import UsageError
from testronaut_lab.execution.factory import SessionSettings
from testronaut_lab.model.interaction import AwaitOutput, PressKey, Ready, SendText
from testronaut_lab.model.plan import Limits

pytestmark = pytest.mark.engine

OpenSession = Callable[..., Session]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def session(project: Project) -> Iterator[Session]:
    with Session("debian:bookworm-slim", root=project.root) as opened:
        yield opened


def plan(project: Project, name: str = "a.lab.yaml") -> str:
    return (project.root / name).read_text()


def golden(project: Project, step: str, part: str = "stdout.txt") -> bytes:
    return (project.root / "snapshots/a/main" / step / part).read_bytes()


def test_a_session_replays_green_in_a_fresh_process(project: Project, session: Session) -> None:
    session.put("a.json", '{"x": 1}\n')
    for command in ("cat a.json", "mkdir d; cd d", "pwd", "false", "greet() { echo hi; }", "greet >out; cat out", "kill -9 $$"):
        session.run(command)
    session.run(["printf", "%s|", "${{x}}", "- a", "%", "ü"])
    session.run("cat; echo $A", stdin=b"\0\xff", env={"A": "yes"}, cwd="/tmp")
    session.run("sleep 9", timeout=0.2)
    saved = session.save(project.root / "a.lab.yaml")
    assert (True, 1, {}) == (saved.green, saved.replays, saved.notes)
    said = project("run", "--ci", "a.lab.yaml")
    assert (0, "1 passed, 0 failed") == (said.status, said.out[said.out.rindex("\n\n") :].strip()[:18]), said.out
    assert (10, 10) == (saved.steps, len(project.goldens))


def test_what_was_undone_is_not_in_the_plan(project: Project, session: Session) -> None:
    session.run("echo one >a")
    session.run("rm a")
    session.undo()
    session.run("cat a")
    assert session.save(project.root / "a.lab.yaml").green
    assert plan(project).endswith("steps:\n  - echo one >a\n  - cat a\n")


def test_hostile_output_and_names_are_kept_to_the_byte(project: Project, session: Session) -> None:
    session.run("printf 'a\\377\\033[31m\\r\\n\\0'; printf '\\342\\200\\256' >&2")
    session.run("touch 'a\nb' '-rf' \"$(printf '\\377')\" 'ü # : '")
    session.run("echo 'yes: # no' '${{ matrix.os }}' \"'\" \\\\; echo %s")
    assert session.save(project.root / "a.lab.yaml").green
    assert b"a\xff\x1b[31m\r\n\0" == golden(project, "printf-a-377-033-31m-r-n-0-printf-342-20")
    assert 0 == project("run", "--ci", "a.lab.yaml").status


def test_times_and_temporary_names_are_normalised_and_what_cannot_be_is_left_out(project: Project, session: Session) -> None:
    session.run("date; mktemp")
    session.run("cat /proc/sys/kernel/random/uuid")
    session.run("date +%N; echo kept >&2")
    saved = session.save(project.root / "a.lab.yaml")
    assert saved.green
    assert b"[TIME]\n/tmp/[TMP#1]\n" == golden(project, "date-mktemp")
    assert b"[UUID#1]\n" == golden(project, "cat-proc-sys-kernel-random-uuid")
    assert b"kept\n" == golden(project, "date-n-echo-kept-2", "stderr.txt")
    note = saved.notes["date-n-echo-kept-2"]
    told = re.fullmatch(r"stdout differs from run to run and is not kept: stdout was '(\d+)', then '(\d+)'", note)
    assert told is not None and told[1] != told[2]
    assert f"  # {note}\n" in plan(project)


def test_a_file_put_where_a_step_looked_before_is_put_there_by_a_step(project: Project, session: Session) -> None:
    session.run("cat a")
    session.put("a", "x")
    session.run("cat a; ls")
    saved = session.save(project.root / "a.lab.yaml")
    assert (True, 2) == (saved.green, saved.replays)
    assert "  - id: put-a\n    run: rm -rf ./a && cat >./a\n    stdin: x\n" in plan(project)


def test_a_file_that_nobody_missed_before_is_a_file_of_the_plan(project: Project, session: Session) -> None:
    session.run("echo hi")
    session.put("a", "x")
    session.run("cat a")
    assert session.save(project.root / "a.lab.yaml").replays == 1
    assert "files:\n  a: x\n" in plan(project)


def test_terminals_and_background_programs_are_done_again(project: Project, session: Session) -> None:
    session.run("read x; echo got $x", tty=True, interact=[SendText("me"), PressKey("enter"), AwaitOutput("got me")])
    session.run("trap 'echo >/tmp/heard' USR1; echo up; while :; do sleep 0.1; done", background="web", ready=Ready(log="up"))
    session.run(signal={"web": "USR1"})
    session.run("until [ -e /tmp/heard ]; do sleep 0.1; done")
    session.run(stop="web")
    saved = session.save(project.root / "a.lab.yaml")
    assert saved.green, saved.notes
    assert b"up\n" == golden(project, "stop-web")


@pytest.mark.usefixtures("root_allowed")
def test_settings_that_differ_are_written(project: Project) -> None:
    settings = SessionSettings(shell="bash", user="root", rootfs="writable", limits=Limits(timeout_s=7.0))
    with Session("debian:bookworm-slim", settings=settings, env={"GREETING": "hi"}, root=project.root) as session:
        session.run("id -u; echo $GREETING ${BASH_VERSION:+bash}; echo x >/etc/made")
        assert session.save(project.root / "a.lab.yaml").green
    assert "user: root\nshell: bash\nenv: {GREETING: hi}\nlimits: {timeout: 7s}\n" in plan(project)


def test_a_default_of_the_project_that_was_not_in_force_is_overruled(project: Project, session: Session) -> None:
    (project.root / "testronaut-lab.toml").write_text('defaults = {shell = "bash", limits = {timeout = "1s"}}\n')
    session.run("echo ${BASH_VERSION:-no bash}")
    assert session.save(project.root / "a.lab.yaml").green
    assert "shell: sh\nlimits: {timeout: 60s}\n" in plan(project)


def test_large_input_lies_beside_the_plan(project: Project, session: Session) -> None:
    session.put("big", b"\xff" * 5000)
    session.run("wc -c big -", stdin="x" * 5000)
    assert session.save(project.root / "a.lab.yaml").green
    assert ["big", "wc-c-big.stdin"] == sorted(os.listdir(project.root / "a.files"))
    assert 0 == project("run", "--ci", "a.lab.yaml").status


def test_a_plan_as_json(project: Project, session: Session) -> None:
    session.run("echo hi")
    assert session.save(project.root / "a.lab.json").green
    assert 0 == project("run", "--ci", "a.lab.json").status


def test_what_is_there_is_not_overwritten_unasked(project: Project, session: Session) -> None:
    session.run("echo one")
    session.save(project.root / "a.lab.yaml")
    with pytest.raises(UsageError, match="it exists") as refused:
        session.save(project.root / "a.lab.yaml")
    assert "overwrite" in str(refused.value.hint)
    session.run("echo two")
    session.undo(2)
    session.run("echo three")
    session.save(project.root / "a.lab.yaml", overwrite=True)
    assert ["a/main/echo-three"] == project.goldens
    (project.root / "a.lab.yaml").unlink()
    with pytest.raises(UsageError, match="there are goldens of a plan of that name"):
        session.save(project.root / "a.lab.yaml")


@pytest.mark.parametrize(("name", "hint"), [("jq.yaml", "jq.lab.yaml"), ("jq", "jq.lab.yaml"), (".lab.yaml", "plan.lab.yaml")])
def test_a_name_that_is_no_plan_is_refused(project: Project, session: Session, name: str, hint: str) -> None:
    session.run(":")
    with pytest.raises(UsageError, match="the name of a plan file ends in") as refused:
        session.save(project.root / name)
    assert str(refused.value.hint).endswith(hint)


def test_without_a_step_there_is_nothing_to_save(project: Project, session: Session) -> None:
    with pytest.raises(UsageError, match="no step was run in it yet"):
        session.save(project.root / "a.lab.yaml")


def test_a_plan_that_does_not_do_the_same_again_is_written_and_said_not_to(project: Project, session: Session) -> None:
    session.run("sleep 9", timeout=0.3)
    session.run("[ -e mark ] && sleep 9", timeout=0.3)
    session._live._place.workspace.joinpath("mark").touch()  # type: ignore[union-attr]  # by nobody the journal knows of
    session.run("[ -e mark ] && sleep 9", timeout=0.3)
    saved = session.save(project.root / "a.lab.yaml")
    assert (False, 3) == (saved.green, saved.steps)
    assert "not all passed" in saved.describe() and list(saved.notes) == ["e-mark-sleep-9-2"]
