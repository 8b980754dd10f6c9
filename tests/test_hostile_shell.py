"""What a step does to bash that ends no shell of ours: functions, traps and signals that reach further than they look."""

from __future__ import annotations

import pytest
from conftest import MakeSession
from harness import Lab

from testronaut_lab.model.result import ShellState

pytestmark = pytest.mark.engine


@pytest.fixture
def bash(make_session: MakeSession) -> Lab:
    return make_session(shell="bash")


def test_a_function_named_colon_that_fails_ends_no_shell(bash: Lab) -> None:
    bash.run("x=kept; :() { return 9; }").check()
    bash.run("set -e", cwd="/tmp").check()
    results = [bash.run('echo "$x"', cwd="/tmp") for _ in range(3)]
    assert [(result.out, result.state, result.error) for result in results] == [("kept\n", ShellState.KEPT, None)] * 3


def test_a_debug_trap_that_functions_have_too_is_no_tampering(bash: Lab) -> None:
    bash.run("trap 'echo seen' DEBUG; set -T")
    results = [bash.run("f() { no-such-program; }; f") for _ in range(3)]
    assert [(result.error, result.exit.code) for result in results] == [(None, 127)] * 3
    assert bash.run("case $- in *T*) exit 3 ;; esac").exit.code == 3


@pytest.mark.parametrize("name", ["dash", "bash"])
@pytest.mark.parametrize(("signal", "code"), [("TERM", 143), ("INT", 130), ("HUP", 129), ("USR1", 138)])
def test_a_signal_to_the_whole_group_is_how_the_step_ended(name: str, signal: str, code: int, make_session: MakeSession) -> None:
    lab = make_session(shell="bash" if name == "bash" else "sh")
    result = lab.run(f"echo before; kill -{signal} 0; echo never")
    assert (result.error, result.exit.code, result.out) == (None, code, "before\n")
    assert lab.out("echo on") == "on\n"


@pytest.mark.parametrize("name", ["dash", "bash"])
def test_what_the_leader_outlives_does_its_default_in_a_step(name: str, make_session: MakeSession) -> None:
    lab = make_session(shell="bash" if name == "bash" else "sh")
    codes = [lab.run(f"sh -c 'kill -{signal} $$'").exit.code for signal in ("TERM", "INT", "HUP", "QUIT", "PIPE")]
    assert codes == [143, 130, 129, 131, 141]
    assert lab.run("trap 'echo caught' TERM; kill -TERM $$; trap - TERM").out == "caught\n"
