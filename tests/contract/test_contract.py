"""One contract, every driver, every shell: the sentences of behaviours.py, and what needs more than a table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from behaviours import BEHAVIOURS, Do
from conftest import SHELLS
from support.live_session import Lab, open_lab

from testronaut_lab.container import stepuser
from testronaut_lab.errors import SessionLost
from testronaut_lab.execution.context import StepRequest
from testronaut_lab.execution.driver.fast import inside, ptrace
from testronaut_lab.execution.driver.fast import shell as host
from testronaut_lab.execution.driver.fast.driver import FastDriver
from testronaut_lab.execution.factory import SessionSettings
from testronaut_lab.model.result import ExitKind, StepResult

pytestmark = pytest.mark.engine

# forked: the fast driver where the kernel does not let the host trace the shell; inside: where the host has another process table
DRIVERS = ("fast", "forked", "inside", "plain")
# What a bash that was forked and goes on does not keep: it noted it, see driver/fast/forked.py.
_BASH = ("the option -e carries on and ends the step", "the option -x traces the step and nothing else")
LIMITS = {("forked", "bash"): _BASH, ("inside", "bash"): _BASH}
EVERYWHERE = [f"{driver}-{shell}" for driver in DRIVERS for shell in SHELLS]


@pytest.fixture(scope="module", params=EVERYWHERE)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A session for each driver and shell, shared by the module."""
    driver, shell = request.param.split("-")
    image_id = request.getfixturevalue("busybox_image" if shell == "busybox" else "base_image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESTRONAUT_LAB_DRIVER", "plain" if driver == "plain" else "fast")
        if driver == "forked":
            patch.setattr(ptrace, "is_supported", lambda: False)
            patch.setattr(host, "kernel_remembers", lambda: False)
        if driver == "inside":
            patch.setattr(inside, "is_first_inside", lambda _pid: False)
            patch.setattr(stepuser, "_sees_all_processes", lambda: False)
        settings = SessionSettings(shell="bash" if shell == "bash" else "sh")
        with open_lab(image_id, tmp_path_factory.mktemp("blobs"), settings) as opened:
            yield opened


@pytest.fixture
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.node.callspec.params["lab"].split("-")[0]
    return name


def perform(lab: Lab, do: Do) -> StepResult:
    return lab.session.run(
        StepRequest(
            "step", "x.lab.yaml::case::step", run=do.run, argv=do.argv, stdin=do.stdin, env=do.env, cwd=do.cwd,
            timeout_s=do.timeout_s, exports=do.exports, merge=do.merge,
        )
    )  # fmt: skip


def differences(result: StepResult, do: Do) -> dict[str, tuple[object, object]]:
    """What is not as expected: (expected, actual) by name."""
    out = do.out.encode() if isinstance(do.out, str) else do.out
    err = None if do.err is None else do.err.encode()
    changes = tuple(f"{change.change.value} {change.path}" for change in result.changes)
    told = result.stderr.replace(b"++", b"").replace(b"+++", b"+") if do.err and do.err.startswith("+") else result.stderr
    pairs = {
        "kind": (do.kind, result.exit.kind.value),
        "out": (out, result.stdout),
        "err": (err, told),
        "code": (do.code, result.exit.code),
        "state": (do.state, result.state.value),
        "cwd": (do.in_cwd, result.cwd),
        "changes": (do.changes, changes),
        "error": (do.error or "", result.error.class_ if result.error else ""),
        "note": (do.note, do.note if do.note and any(do.note in note for note in result.notes) else result.notes),
    }
    return {name: pair for name, pair in pairs.items() if pair[0] is not None and pair[0] != pair[1]}


@pytest.mark.parametrize("sentence", BEHAVIOURS)
def test_contract(lab: Lab, driver: str, sentence: str, lacking: dict[str, str], request: pytest.FixtureRequest) -> None:
    if driver == "plain" and sentence == "the record channel cannot be read" and "identity" in lacking:
        pytest.skip(lacking["identity"])
    lab.run("cd /workspace")
    found = {}
    for step in BEHAVIOURS[sentence]:
        do = step.under(driver)
        result = perform(lab, do)
        if wrong := differences(result, do):
            found[do.run or str(do.argv)] = (wrong, result.err)
    shell = request.node.callspec.params["lab"].split("-")[1]
    assert bool(found) == (sentence in LIMITS.get((driver, shell), ())), found


def test_there_are_at_least_60_behaviours() -> None:
    assert len(BEHAVIOURS) >= 60


def test_the_session_has_the_driver_that_was_asked_for(lab: Lab, driver: str) -> None:
    found = lab.session._driver
    if not isinstance(found, FastDriver):
        assert found.name == driver
    else:
        assert found.table.is_the_hosts == (driver != "inside")
        assert found.copies == ("traced" if driver == "fast" else "forked")


@pytest.mark.parametrize("text", ["nosuch-program", "echo 'a\nb'\nnosuch-program", "f() { nosuch-program; }; f"])
def test_a_message_begins_with_the_shells_name_and_a_line(lab: Lab, text: str) -> None:
    message = re.compile(r"(bash: line \d+|sh: \d+|sh: line \d+): nosuch-program: (command )?not found\n")
    assert message.fullmatch(lab.run(text).err)
    lab.run("exit 3")
    assert message.fullmatch(lab.run(text).err), "of a shell that was restored"


def test_a_large_output_is_whole(lab: Lab) -> None:
    result = lab.run("seq 1 200000; seq 1 1000 >&2")
    assert result.stdout == "".join(f"{i}\n" for i in range(1, 200001)).encode()
    assert result.stderr == "".join(f"{i}\n" for i in range(1, 1001)).encode()


def test_an_interrupt_ends_the_step_and_not_the_session(lab: Lab) -> None:
    lab.when(b"ready", lab.session.interrupt)
    assert lab.run("echo ready; sleep 300").exit.kind is ExitKind.CANCELLED
    assert lab.out("echo on") == "on\n"


def test_the_numbers_of_processes_that_a_script_names_are_told(lab: Lab) -> None:
    result = lab.run('set -u; echo "$$"; true & echo $!; wait')
    assert (2, set()) == (len(result.out.split()), {*result.out.split()} - {*map(str, result.pids)})
    lab.run("set +u")


def test_a_process_left_behind_is_seen_also_in_place_of_a_copy_that_the_step_killed(lab: Lab) -> None:
    found = lab.session._driver
    if not isinstance(found, FastDriver) or not found.table.is_the_hosts or found.supervisor.newest is None:
        return  # only there the host lists processes itself
    copy = found.supervisor.newest.shell.inner
    result = lab.run(
        f"kill -9 {copy}; while [ -e /proc/{copy}/exe ]; do :; done; sleep 77 & until grep -q sleep /proc/$!/comm; do :; done"
    )
    assert [name.partition(" ")[0] for name in result.left_behind] == ["sleep"]
    lab.run("kill %1 2>/dev/null; kill $!; wait")


def test_a_process_left_behind_is_named_and_its_stream_is_open(lab: Lab) -> None:
    result = lab.run("sleep 77 & until grep -q sleep /proc/$!/comm; do :; done; echo started")
    assert (result.out, result.stdout_stream.open) == ("started\n", True)
    assert [name.partition(" ")[0] for name in result.left_behind] == ["sleep"]
    assert lab.run("true").left_behind == ()


def test_a_probe_tells_the_status_and_leaves_nothing(lab: Lab) -> None:
    probe = StepRequest("p", "x::p", run="export kept=1; cd /tmp; echo seen; exit 3")
    assert lab.session.probe(probe) == 3
    assert lab.out('echo "[$kept] $PWD"') == "[] /workspace\n"


def test_a_redirection_that_fails_in_a_subshell_ends_the_subshell_only(lab: Lab) -> None:
    result = lab.run("( : >/nowhere/c ) 2>/dev/null || echo refused", timeout_s=2)
    assert (result.exit.kind, result.out) == (ExitKind.EXITED, "refused\n")


def test_a_missing_shell_is_said_when_the_session_starts(
    base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTRONAUT_LAB_DRIVER", "plain")
    with pytest.raises(SessionLost, match="zsh"), open_lab(base_image, tmp_path, SessionSettings(shell="zsh")):
        pass
