"""How the program of exact arguments ended: by a signal, or with a status that looks like one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live_session import Lab, open_lab

from testronaut_lab.execution.driver.fast import ptrace, shell, witness
from testronaut_lab.execution.factory import SessionSettings
from testronaut_lab.execution.sidecar import exec as sidecar_exec
from testronaut_lab.model.result import ExitKind, Status, StepResult
from testronaut_lab.planfile import parse_plan
from testronaut_lab.run.plan_run import Run, RunOptions

pytestmark = pytest.mark.engine

BY_SIGNALS = [
    ("kill -9 $$", "KILL"),
    ("kill -INT $$", "INT"),
    ("kill $$", "TERM"),
    ("kill -PIPE $$", "PIPE"),
    ("kill -ABRT $$", "ABRT"),
]
BY_ITSELF = [137, 130, 143, 141, 134, 255]


def forget(patch: pytest.MonkeyPatch) -> None:
    """As on a kernel before Linux 6.15."""
    patch.setattr(shell, "kernel_remembers", lambda: False)
    patch.setattr(witness, "kernel_remembers", lambda: False)
    patch.setattr(witness, "ended_by", lambda _pidfd: None)


@pytest.fixture(scope="module", params=["remembered-sh", "remembered-bash", "held-sh", "held-bash"])
def lab(request: pytest.FixtureRequest, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A session whose host learns of ends from the kernel, or by holding the shell."""
    way, shell = request.param.split("-")
    with pytest.MonkeyPatch.context() as patch:
        if way == "held":
            forget(patch)
        with open_lab(base_image, tmp_path_factory.mktemp("blobs"), SessionSettings(shell=shell)) as opened:
            yield opened


@pytest.mark.parametrize(("script", "name"), BY_SIGNALS)
def test_a_signal_that_ended_the_program_is_told(lab: Lab, script: str, name: str) -> None:
    ended = lab.argv("sh", "-c", script).exit
    assert (ended.signal, ended.in_doubt) == (name, False)


@pytest.mark.parametrize("code", BY_ITSELF)
def test_a_status_that_looks_like_a_signal_is_none(lab: Lab, code: int) -> None:
    ended = lab.argv("sh", "-c", f"exit {code}").exit
    assert (ended.code, ended.signal, ended.in_doubt) == (code, None, False)


def test_a_program_that_is_ended_by_a_limit_of_time_leaves_a_shell_that_goes_on(lab: Lab) -> None:
    assert lab.argv("sleep", "60", timeout_s=0.3).exit.kind is ExitKind.TIMEOUT
    assert lab.out("echo on") == "on\n"


def test_a_program_that_kills_its_shell_costs_one_step(lab: Lab) -> None:
    lab.argv("sh", "-c", "kill -9 $PPID")
    assert lab.out("echo on") == "on\n"


def test_the_shell_gets_the_signals_that_came_while_the_program_ran(lab: Lab) -> None:
    lab.run("trap 'echo trapped' USR1")
    assert "trapped" in lab.argv("sh", "-c", "kill -USR1 $PPID; sleep 0.1").out + lab.out("trap - USR1; :")


def run(root: Path, *steps: object) -> tuple[StepResult, ...]:
    plan = parse_plan({"image": "debian:bookworm-slim", "steps": list(steps)}, root=root)
    return Run([plan], RunOptions()).run([]).plans[0].cases[0].steps


@pytest.mark.usefixtures("base_image")
def test_only_a_program_that_a_signal_ended_satisfies_signal(tmp_path: Path) -> None:
    expect, go_on = {"signal": "KILL"}, {"expect": {"signal": "KILL"}, "continue": True}
    itself = {"id": "itself", "argv": ["sh", "-c", "exit 137"], **go_on}
    terminal = {"id": "terminal", "argv": ["sh", "-c", "exit 137"], "tty": True, **go_on}
    killed = {"id": "killed", "argv": ["sh", "-c", "kill -9 $$"], "tty": True, "expect": expect}
    found = run(tmp_path, itself, terminal, killed)
    assert [step.status for step in found] == [Status.FAILED, Status.FAILED, Status.PASSED]
    assert [each.actual for step in found for each in step.mismatches] == ["exit 137", "exit 137"]


@pytest.mark.usefixtures("base_image")
def test_where_it_cannot_be_told_signal_is_an_error_and_the_status_is_no_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(monkeypatch)
    monkeypatch.setattr(ptrace, "is_supported", lambda: False)
    argv = {"argv": ["sh", "-c", "exit 137"]}
    by_signal = {"id": "signal", **argv, "expect": {"signal": "KILL"}, "continue": True}
    other = {"id": "other", **argv, "expect": {"signal": "TERM"}, "continue": True}
    by_status = {"id": "status", **argv, "expect": {"exit": 137}}
    doubtful, wrong, right = run(tmp_path, by_signal, other, by_status)
    assert [doubtful.status, wrong.status, right.status] == [Status.ERROR, Status.FAILED, Status.PASSED]
    assert doubtful.error is not None and doubtful.error.text == (
        "`signal` cannot be judged: whether SIGKILL ended the program, or it ended with 137 itself, cannot be told on this host\n"
        "hint: write `expect: {exit: 137}`"
    )
    assert "exit status 137: whether a signal ended the program cannot be told on this host" in right.notes


_SAYS_143 = ["sh", "-c", "trap 'exit 143' TERM; echo up; while :; do sleep 0.05; done"]


def stopped(argv: list[str]) -> list[object]:
    """Steps that start a background program and stop it, and want TERM to have ended it."""
    started = {"argv": argv, "background": "web", "ready": {"log": "up"}}
    return [started, {"id": "end", "stop": "web", "expect": {"signal": "TERM"}, "continue": True}]


@pytest.mark.usefixtures("base_image")
def test_a_background_program_that_catches_term_is_not_ended_by_it(tmp_path: Path) -> None:
    *_, itself = run(tmp_path, *stopped(_SAYS_143))
    assert (itself.status, itself.exit.code, itself.exit.signal) == (Status.FAILED, 143, None)
    *_, by_term = run(tmp_path, *stopped(["sh", "-c", "echo up; exec sleep 300"]))
    assert (by_term.status, by_term.exit.signal, by_term.exit.in_doubt) == (Status.PASSED, "TERM", False)


@pytest.mark.usefixtures("base_image")
def test_where_it_cannot_be_told_the_end_of_a_background_program_is_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecar_exec, "ended_by", lambda _pidfd: None)
    *_, doubtful = run(tmp_path, *stopped(_SAYS_143))
    assert (doubtful.status, doubtful.exit.in_doubt) == (Status.ERROR, True)
    *_, known = run(tmp_path, *stopped(["sh", "-c", "echo up; exec sleep 300"]))
    assert (known.status, known.exit.in_doubt) == (Status.PASSED, False)
