"""What a step does to bash that ends no shell of ours: functions, traps and signals that reach further than they look."""

from __future__ import annotations

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab.execution.driver.fast.checkpoints import Traced
from testronaut_lab.model.result import ExitKind, ShellState, Status

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


# how a script takes away a builtin without the word that we look for
DISABLE = 'e=en; "${e}able" -n'


def test_output_that_no_stream_was_open_for_is_no_passed_step(bash: Lab) -> None:
    broken = bash.run("x=lost; ulimit -n 3; echo one")
    assert (broken.status, broken.state) == (Status.ERROR, ShellState.RESTORED)
    assert broken.error is not None and "streams" in broken.error.message
    assert bash.out('echo "two $x"') == "two \n"


def test_a_shell_that_may_open_few_files_says_that_it_cannot_be_copied(bash: Lab) -> None:
    assert any("too few files" in note for note in bash.run("ulimit -n 5; echo one").notes)
    assert bash.out("echo two") == "two\n"


def test_a_shell_without_a_builtin_named_exec_goes_on(bash: Lab) -> None:
    bash.run(f"{DISABLE} exec").check()
    assert bash.out("echo two") == "two\n"


def test_a_step_that_its_shell_never_began_has_not_passed(bash: Lab) -> None:
    bash.run("__lab_next() { exit 0; }")
    results = [bash.run("echo ran") for _ in range(4)]
    assert {result.out for result in results if result.status is Status.PASSED} == {"ran\n"}
    assert {result.error.class_ for result in results if result.error} <= {"SessionLost"}


@pytest.mark.parametrize("builtin", [".", ":", "builtin", "command", "eval", "exec", "read"])
def test_builtins_that_our_lines_need_are_given_back(builtin: str, bash: Lab) -> None:
    bash.run(f"x=kept; enable -n {builtin}").check()
    results = [bash.run('echo "$x"') for _ in range(2)]
    assert [(result.out, result.err, result.state) for result in results] == [("kept\n", "", ShellState.KEPT)] * 2


@pytest.mark.parametrize(
    ("trap", "steps"),
    [
        ("trap 'echo seen' DEBUG", [("echo a", "seen\na\n"), ("exit 3", "seen\n"), ("f() { :; }; f", "seen\n")]),
        ("set -T; trap 'echo seen' DEBUG", [("f() { :; }; f", "seen\nseen\nseen\n"), ("exit 3", "seen\n"), (":", "seen\n")]),
        ("trap 'echo seen' ERR", [("false", "seen\n"), ("f() { (exit 3); }; f", "seen\n"), (":", ""), ("exit 3", "")]),
        ("set -Ee; trap 'echo seen; exit 5' ERR", [("false", "seen\n"), ("echo a; (exit 3)", "a\nseen\n"), ("echo b", "b\n")]),
    ],
)
def test_a_trap_on_commands_hears_of_the_steps_only(trap: str, steps: list[tuple[str, str]], bash: Lab) -> None:
    bash.run(trap).check()
    results = [bash.run(script) for script, _ in steps]
    assert [(result.out, result.error) for result in results] == [(out, None) for _, out in steps]
    assert bash.out("trap -p | grep -c seen").splitlines()[-1] == "1"


def test_an_error_trap_that_exits_ends_no_messenger(bash: Lab) -> None:
    bash.session.put("trap.sh", b"set -E; trap 'exit 5' ERR\n")
    bash.run(". ./trap.sh").check()
    results = [bash.run("false", timeout_s=5) for _ in range(3)]
    assert [(result.exit.kind, result.state is ShellState.LOST) for result in results] == [(ExitKind.EXITED, False)] * 3


def test_a_trap_is_not_traced(bash: Lab) -> None:
    bash.run("set -x; trap ': seen' DEBUG").check()
    assert bash.run("echo a").err.count("trap") == 0


def test_a_restored_shell_that_has_another_number_says_so_where_a_step_names_it(
    fresh: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Traced, "_set_next", lambda self, number: False)  # as for an ordinary user
    first = fresh.out("echo $$").strip()
    fresh.run("exit 3")
    silent, named = fresh.run("echo on"), fresh.run("echo $$")
    assert (silent.notes, named.out.strip()) == ((), first)
    assert any(note.startswith(f"`$$` is {first}, as before the shell was restored") for note in named.notes)
