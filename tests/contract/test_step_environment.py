"""A step's own environment and directory: what keeps a step from being run as asked is an error, and never its failure."""

from __future__ import annotations

import os

import pytest
from support.live_session import Lab

from testronaut_lab.container.stepuser import LAB_UID
from testronaut_lab.model.result import Status

pytestmark = pytest.mark.engine


def test_a_readonly_name_in_a_steps_environment_is_an_error(shell: Lab) -> None:
    shell.run("readonly FIXED=1").check()
    result = shell.run("echo ran; false", env={"FIXED": "2"})
    assert (result.status, result.out, result.err) == (Status.ERROR, "", "")
    assert result.error is not None and "FIXED" in result.error.message
    assert shell.out("echo $FIXED; ls") == "1\n"


def test_a_readonly_name_among_others_leaves_them_as_they_were(shell: Lab) -> None:
    shell.run("readonly FIXED2=1; plain=before; export out=before").check()
    result = shell.run("echo ran", env={"plain": "new", "FIXED2": "2", "out": "new", "fresh": "new"})
    assert (result.status, result.out) == (Status.ERROR, "")
    assert shell.out("echo $plain $out ${fresh-unset}; env | grep -c -e ^plain= -e ^fresh=; :") == "before before unset\n0\n"


def test_a_readonly_name_in_the_environment_of_exact_words_is_no_failure(shell: Lab) -> None:
    shell.run("readonly FIXED3=1").check()
    result = shell.argv("env", "printf", "ran", env={"FIXED3": "2"})
    assert (result.status, result.out) in [(Status.ERROR, ""), (Status.PASSED, "ran")]


def test_a_readonly_name_that_is_to_be_exported_is_an_error(shell: Lab) -> None:
    shell.run("readonly FIXED4=1").check()
    result = shell.run("echo ran", exports={"FIXED4": "2"})
    assert (result.status, result.out) == (Status.ERROR, "")
    assert shell.out("echo $FIXED4") == "1\n"


def test_an_unexported_variable_stays_so_after_a_step_with_it_in_its_environment(shell: Lab) -> None:
    shell.run("mine=before").check()
    assert shell.out("echo $mine") == "before\n"
    assert shell.run("env | grep ^mine=", env={"mine": "new"}).out == "mine=new\n"
    assert shell.out("echo $mine; env | grep -c ^mine=; :") == "before\n0\n"


def test_a_missing_directory_is_an_error_and_leaves_the_environment(shell: Lab) -> None:
    result = shell.run("echo ran", env={"fresh": "new"}, cwd="/nowhere")
    assert (result.status, result.out) == (Status.ERROR, "")
    assert shell.out("echo ${fresh-unset}; pwd") == "unset\n/workspace\n"


@pytest.mark.parametrize("name", ["UID", "EUID", "PPID", "BASHOPTS", "SHELLOPTS"])
def test_a_name_that_bash_makes_readonly_is_an_error(name: str, open_bash: Lab) -> None:
    result = open_bash.run("echo ran", env={name: "0"})
    assert (result.status, result.out) == (Status.ERROR, "")
    assert open_bash.out("echo $UID") == f"{os.getuid() or LAB_UID}\n"
    assert open_bash.out("echo ok") == "ok\n"


def test_the_status_of_the_step_before_is_there_with_an_environment(shell: Lab) -> None:
    shell.run("(exit 5)", env={"A": "b"}, cwd="/tmp")
    assert shell.out("echo $? $PWD ${A-unset}") == "5 /workspace unset\n"
    shell.run("(exit 6)")
    assert shell.run("echo $? $A", env={"A": "b"}, cwd="/tmp").out == "6 b\n"


def test_a_shell_that_writes_elsewhere_has_its_variables_back_and_nothing_of_ours_in_its_files(shell: Lab) -> None:
    shell.run("mine=before; exec 3>&1 4>&2 >said 2>traced; set -x").check()
    shell.run("echo $mine", env={"mine": "new", "fresh": "new"}, cwd="/tmp", nodeid="another").check()
    shell.run("set +x; exec >&3 2>&4 3>&- 4>&-").check()
    assert shell.out("echo $mine ${fresh-unset} $PWD; cat said; rm said") == "before unset /workspace\nnew\n"
    traced = shell.out("cat traced; rm traced")
    assert "/run/lab" not in traced and "+ echo new\n" in traced


@pytest.fixture(scope="module")
def open_bash(open_shared: object) -> Lab:
    return open_shared("bash")  # type: ignore[operator, no-any-return]


def test_a_trace_into_a_file_has_the_steps_own_lines_only(open_bash: Lab) -> None:
    open_bash.run("exec 7>trace; BASH_XTRACEFD=7; set -x", nodeid="p::c::one").check()
    open_bash.run("(exit 3)", nodeid="p::c::two")
    open_bash.run("echo $?; cd /tmp", nodeid="p::c::three", env={"OWN": "x"}).check()
    open_bash.run("false", nodeid="p::c::four", cwd="/")
    open_bash.run("set +x; exec 7>&-", nodeid="p::c::five").check()
    assert open_bash.out("cat /workspace/trace") == "+ exit 3\n+ echo 3\n+ cd /tmp\n+ false\n+ set +x\n"


@pytest.mark.parametrize("way", ["set -x", "PS4='$LINENO: '; set -x", "set -v"])
def test_a_text_that_names_kill_shows_no_line_of_ours(way: str, shell: Lab) -> None:
    shell.run(way)
    said = [shell.run(f"# {word}\necho a").err for word in ("other", "kill")]
    shell.run("set +x; set +v")
    assert said[1] == said[0].replace("other", "kill")
