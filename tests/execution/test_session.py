"""A session's shell: what carries on from step to step, and what a step cannot break, in dash, bash and busybox alike."""

from __future__ import annotations

import os
import re

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.execution.context import StepRequest
from testronaut_lab.execution.driver.fast.driver import ENDED_NOTE
from testronaut_lab.model.result import ExitKind, ShellState, Status

pytestmark = pytest.mark.engine


@pytest.fixture
def own_shell(shell: Lab, make_session: MakeSession, request: pytest.FixtureRequest) -> Lab:
    """A session of the test's own, once for each shell."""
    name = request.node.callspec.params["shell"]
    image_id = request.getfixturevalue("busybox_image" if name == "busybox" else "base_image")
    return make_session(image_id, shell="bash" if name == "bash" else "sh")


def test_the_directory_carries_on(shell: Lab) -> None:
    shell.run("cd /tmp").check()
    assert shell.out("pwd; cd /workspace") == "/tmp\n"


def test_exported_and_unexported_variables_carry_on(shell: Lab) -> None:
    shell.run("plain=1; export shown=2").check()
    assert shell.out('echo "$plain $shown"; env | grep -E "^(plain|shown)="; unset plain shown') == "1 2\nshown=2\n"


def test_functions_carry_on(shell: Lab) -> None:
    shell.run("greet() { echo hello $1; }").check()
    assert shell.out("greet you; unset -f greet") == "hello you\n"


def test_options_carry_on(shell: Lab) -> None:
    shell.run("set -f").check()
    assert shell.out("echo /*; set +f") == "/*\n"


def test_the_umask_carries_on(shell: Lab) -> None:
    shell.run("umask 027").check()
    assert shell.out("umask; umask 022").strip() in ("0027", "027")


def test_positional_parameters_carry_on(shell: Lab) -> None:
    shell.run("set -- a 'b c'").check()
    assert shell.out('echo "$# $2"; set --') == "2 b c\n"


def test_a_background_job_can_be_waited_for_in_a_later_step(shell: Lab) -> None:
    shell.run("( exit 9 ) & job=$!").check()
    assert shell.out("wait $job; echo $?; unset job") == "9\n"


def test_a_bare_wait_waits_for_no_process_of_ours(shell: Lab) -> None:
    assert shell.out("true & wait; echo done") == "done\n"


def test_the_exit_status_is_that_of_the_last_command(shell: Lab) -> None:
    result = shell.run("true; ( exit 42 )")
    assert (result.exit.kind, result.exit.code, result.status) == (ExitKind.EXITED, 42, Status.FAILED)


def test_exit_ends_the_step_and_not_the_session(shell: Lab) -> None:
    shell.run("kept=yes; cd /tmp").check()
    result = shell.run("kept=no; exit 3")
    assert (result.exit.code, result.state) == (3, ShellState.RESTORED)
    assert shell.out("echo $kept $PWD; cd /workspace; unset kept") == "yes /tmp\n"


def test_exit_restores_functions_and_options_too(shell: Lab) -> None:
    shell.run("set -f; f() { echo f; }").check()
    shell.run("set +f; unset -f f; exit 0").check()
    assert shell.out("f; echo /*; set +f; unset -f f") == "f\n/*\n"


def test_a_shell_may_end_in_every_step(shell: Lab) -> None:
    shell.run("kept=1").check()
    results = [shell.run("echo $kept; exit 0") for _ in range(30)]
    assert [(result.out, result.status) for result in results] == [("1\n", Status.PASSED)] * 30
    shell.run("unset kept").check()


def test_exit_after_exit_still_restores(shell: Lab) -> None:
    shell.run("kept=1").check()
    assert [shell.run(f"exit {code}").exit.code for code in (1, 2, 3)] == [1, 2, 3]
    assert shell.out("echo $kept; unset kept") == "1\n"


@pytest.mark.parametrize("script", ["cd .; cat", "true && cat", "false || cat", "true\ncat", "cat"])
def test_a_restored_shell_outlives_the_last_program_of_a_step(shell: Lab, script: str) -> None:
    shell.run("exit 0").check()
    assert shell.run(script).state is ShellState.KEPT


def test_a_syntax_error_is_a_failed_step(shell: Lab) -> None:
    result = shell.run("if then fi (")
    assert result.status is Status.FAILED
    assert result.err != ""
    assert shell.out("echo on") == "on\n"


def test_a_step_may_become_another_program(shell: Lab) -> None:
    result = shell.run("exec cat", stdin=b"through")
    assert (result.exit.code, result.stdout, result.state) == (0, b"through", ShellState.RESTORED)


def test_a_shell_that_kills_itself_is_restored(own_shell: Lab) -> None:
    own_shell.run("kept=1").check()
    result = own_shell.run("kill -9 $$")
    assert (result.exit.code, result.exit.signal, result.state) == (137, "KILL", ShellState.RESTORED)
    assert own_shell.out("echo $kept") == "1\n"


numbered = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a restored shell its number back")


@numbered
def test_a_restored_shell_has_its_number_back(own_shell: Lab) -> None:
    before = own_shell.out("echo $$")
    for _ in range(3):
        assert own_shell.run("exit 0").state is ShellState.RESTORED
        assert own_shell.out("echo $$; sh -c 'echo $PPID'") == before * 2
    assert own_shell.run("kill -9 $$").exit.code == 137
    assert own_shell.out("echo $$") == before


@numbered
def test_a_restored_shell_has_its_number_back_beside_a_job_of_before(own_shell: Lab) -> None:
    before = own_shell.out("echo $$")
    own_shell.run("exit 0")
    own_shell.run("sleep 300 >/dev/null 2>&1 &").check()
    own_shell.run("exit 0")
    assert own_shell.out("echo $$") == before


def test_a_step_that_ends_its_shell_says_whose_state_goes_on(shell: Lab) -> None:
    assert shell.run("cd /tmp; exit 3").notes == (ENDED_NOTE,)
    assert shell.out("pwd") == "/workspace\n"


def test_a_step_that_kills_all_but_its_shell_ends_as_the_shell_says(own_shell: Lab) -> None:
    own_shell.run("export kept=1; cd /tmp").check()
    result = own_shell.run("kill -9 -1; echo alive; exit 0")
    assert (result.error, result.exit.code, result.out, result.state) == (None, 0, "alive\n", ShellState.LOST)
    assert own_shell.out("echo $kept $PWD") == "1 /tmp\n"


def test_the_status_of_a_step_whose_program_kills_all_is_that_of_its_shell(own_shell: Lab) -> None:
    assert own_shell.run("sh -c 'kill -ABRT -1'").exit.code == 134
    assert own_shell.out("echo on") == "on\n"


def test_set_e_ends_the_step_at_the_first_failure(shell: Lab) -> None:
    shell.run("set -e").check()
    result = shell.run("false; echo never")
    assert (result.exit.code, result.out) == (1, "")
    assert shell.out("case $- in *e*) echo still on;; esac; set +e") == "still on\n"


def test_set_u_ends_the_step_at_an_unset_variable(shell: Lab) -> None:
    shell.run("set -u").check()
    result = shell.run("echo $nowhere_set; echo never")
    assert (result.status, result.out) == (Status.FAILED, "")
    assert "nowhere_set" in result.err
    shell.run("set +u").check()


def test_tracing_shows_nothing_but_the_step(shell: Lab) -> None:
    errs = [shell.run(script).err for script in ("set -x; echo one", "echo two", "set +x", "echo three")]
    # bash repeats the first character for each level of sourcing and eval that it is in
    assert [re.sub(r"^\++", "+", err) for err in errs] == ["+ echo one\n", "+ echo two\n", "+ set +x\n", ""]


def test_exporting_everything_leaves_nothing_of_ours_in_the_environment(shell: Lab) -> None:
    shell.run("set -a", env={"E": "1"}).check()
    assert shell.out("env | grep -c lab_ ; set +a; true") == "0\n"


def test_noclobber_does_not_stop_the_session(shell: Lab) -> None:
    shell.run("set -C").check()
    assert shell.out("echo fine; set +C") == "fine\n"


def test_functions_with_names_of_builtins_stay_in_the_step(shell: Lab) -> None:
    names = "echo read printf pwd cd test kill true wait"
    shell.run("; ".join(f"{name}() {{ return 9; }}" for name in names.split())).check()
    assert shell.run("exit 4").exit.code == 4
    assert shell.out(f"unset -f {names}; echo back") == "back\n"


def test_a_function_called_command_does_not_stop_the_session(shell: Lab) -> None:
    shell.run("command() { return 9; }; read() { return 9; }")
    assert shell.out("unset -f command read; echo back") == "back\n"


def test_bash_functions_with_names_of_special_builtins_do_not_stop_the_session(make_session: MakeSession) -> None:
    lab = make_session(shell="bash")
    names = ("eval", "exec", "unset", "export", "set", "return", "trap", "shift", "times")
    lab.run("; ".join(f"{name}() {{ printf nonsense; }}" for name in names)).check()
    results = [lab.run("echo on", env={"E": "1"}, cwd="/tmp"), lab.argv("echo", "on")]
    assert [(result.out, result.err, result.state) for result in results] == [("on\n", "", ShellState.KEPT)] * 2


def test_aliases_carry_on_and_stay_in_the_step(shell: Lab) -> None:
    names = "echo read printf eval command exec unset export cd pwd set"
    enable = 'test -z "$BASH" || shopt -s expand_aliases'
    shell.run(f"{enable}; alias hi='cat -' " + " ".join(f"{name}=false" for name in names.split())).check()
    assert shell.run("hi", stdin=b"hello").out == "hello"
    shell.run("unalias -a").check()
    assert shell.out("echo back") == "back\n"


@pytest.mark.parametrize("ifs", ["", ":", "/0123456789", "@ "])
def test_ifs_carries_on_and_splits_nothing_of_ours(shell: Lab, ifs: str) -> None:
    shell.run(f"IFS='{ifs}'").check()
    result = shell.run('printf "[%s]" "$IFS"; false')
    assert (result.stdout, result.exit.code) == (f"[{ifs}]".encode(), 1)
    shell.run("unset IFS").check()


def test_an_empty_path_does_not_stop_the_session(shell: Lab) -> None:
    shell.run("was=$PATH; PATH=").check()
    assert shell.run("nothing_here").exit.code == 127
    assert shell.out("echo still; PATH=$was; unset was") == "still\n"


def test_the_output_of_an_exit_trap_belongs_to_the_step(shell: Lab) -> None:
    result = shell.run("trap 'echo bye' EXIT; exit 5")
    assert (result.out, result.exit.code) == ("bye\n", 5)


def test_closing_other_descriptors_does_not_stop_the_session(shell: Lab) -> None:
    shell.run("exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-").check()
    assert shell.run("exit 6").exit.code == 6


def test_a_descriptor_that_the_shell_holds_is_noted_and_ends_with_exit(make_session: MakeSession) -> None:
    lab = make_session()
    result = lab.run("mkfifo held; exec 5<>held; kept=1")
    assert any("file descriptor 5" in note for note in result.notes)
    assert lab.run("exit 2").state is ShellState.LOST
    assert lab.out("echo [$kept]") == "[]\n"


def test_a_file_that_the_shell_holds_is_held_by_a_restored_one_too(fresh: Lab) -> None:
    fresh.run("exec 5>held; kept=1").check()
    assert fresh.run("echo x >&5; exit 2").state is ShellState.RESTORED
    assert fresh.out("echo y >&5; cat held; echo [$kept]") == "x\ny\n[1]\n"


def test_a_lock_that_the_shell_holds_is_held_by_no_copy(fresh: Lab) -> None:
    fresh.run("exec 5>lock; flock 5").check()
    assert fresh.out("exec 5>&-; exec 6>lock; flock -n 6 && echo free; exec 6>&-") == "free\n"


def test_a_directory_with_a_newline_in_its_name_carries_on(shell: Lab) -> None:
    result = shell.run("mkdir -p 'a\nb'; cd 'a\nb'").check()
    assert result.cwd == "/workspace/a\nb"
    assert shell.out("pwd; cd ..; rmdir a*b") == "/workspace/a\nb\n"


def test_a_deleted_directory_does_not_stop_the_session(shell: Lab) -> None:
    shell.run("mkdir gone; cd gone; rmdir ../gone").check()
    assert shell.run("exit 3").exit.code == 3
    assert shell.out("cd /workspace; echo on") == "on\n"


def test_few_open_files_do_not_stop_the_session(make_session: MakeSession) -> None:
    lab = make_session()
    lab.run("ulimit -n 20").check()
    assert lab.run("exit 3").exit.code == 3
    assert lab.out("ulimit -n") == "20\n"


def test_a_shell_that_is_killed_while_it_reports_is_restored_or_started_anew(own_shell: Lab) -> None:
    own_shell.run("export kept=1; cd /tmp").check()
    assert own_shell.run("( kill -9 $$ ) &").error is None
    after = own_shell.run("echo $kept $PWD")
    # the kill may come so late that the step after finds no shell, and then it says so; or later still, in that step
    late = (Status.FAILED, after.out) if after.exit.code == 137 else (Status.ERROR, "")
    assert (after.status, after.out) in ((Status.PASSED, "1 /tmp\n"), late)
    assert own_shell.out("echo $kept $PWD") == "1 /tmp\n"


def test_a_session_can_be_closed_twice(fresh: Lab, engine: Engine) -> None:
    fresh.session.close()
    fresh.session.close()
    assert not engine.client.containers.list(all=True, filters={"name": fresh.session.container_name})


def test_a_step_that_is_unwanted_before_it_begins_is_ended(fresh: Lab) -> None:
    request = StepRequest("step", "x.lab.yaml::case::step", run="echo go; sleep 60", timeout_s=30, is_unwanted=lambda: True)
    result = fresh.session.run(request)
    assert (result.exit.kind, result.out) == (ExitKind.CANCELLED, "go\n")
    assert result.duration_s < 5


@pytest.mark.parametrize("word", ["break", "continue"])
def test_leaving_a_loop_that_is_none_is_no_passed_step_that_was_not_run(own_shell: Lab, word: str) -> None:
    own_shell.run("x=kept").check()
    result = own_shell.run(f"{word}; echo yes", timeout_s=5)
    assert result.error is not None or result.out == "yes\n"
    assert own_shell.out('for i in 1 2; do break; done; echo "$x"') == "kept\n"
