"""What one step asks for: exact arguments, its own environment and directory, values that stay."""

from __future__ import annotations

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab.errors import UsageError
from testronaut_lab.execution.context import StepRequest
from testronaut_lab.model.result import ShellState, Status

pytestmark = pytest.mark.engine

ODD_WORDS = ("two words", "'", '"', "$HOME", "`id`", "", "a\nb", "\\", "*", "-n", "~", "é\x01")


def test_arguments_come_through_exactly(shell: Lab) -> None:
    result = shell.argv("printf", "[%s]", *ODD_WORDS)
    assert result.out == "".join(f"[{word}]" for word in ODD_WORDS)


def test_argv_is_the_program_and_no_function(shell: Lab) -> None:
    shell.run("cat() { echo fake; }; true() { return 9; }").check()
    assert shell.argv("cat", stdin=b"real").out == "real"
    shell.run("unset -f cat true").check()


def test_argv_is_no_builtin(shell: Lab) -> None:
    assert shell.argv("cd", "/tmp").exit.code == 127


def test_argv_is_no_alias(shell: Lab) -> None:
    shell.run('test -z "$BASH" || shopt -s expand_aliases; alias cat=false').check()
    assert shell.argv("cat", stdin=b"real").out == "real"
    shell.run("unalias cat").check()


def test_a_program_that_is_not_there_is_status_127(shell: Lab) -> None:
    result = shell.argv("no-such-program", "x")
    assert (result.exit.code, result.status) == (127, Status.FAILED)
    assert "no-such-program" in result.err


def test_a_program_that_may_not_be_run_is_status_126(shell: Lab) -> None:
    shell.session.put("data", b"x", 0o644)
    assert shell.argv("./data").exit.code == 126


def test_a_program_leaves_the_shell_as_it_was(shell: Lab) -> None:
    shell.run("kept=1; cd /tmp").check()
    shell.argv("sh", "-c", "exit 7")
    assert shell.out("echo $kept $PWD; unset kept; cd /workspace") == "1 /tmp\n"


def test_a_steps_environment_ends_with_it(shell: Lab) -> None:
    shell.run("export OWN=before; unset NEW").check()
    assert shell.run("echo $OWN $NEW", env={"OWN": "it's\nmine", "NEW": "n"}).out == "it's mine n\n"
    assert shell.out('echo "$OWN ${NEW-unset}"; unset OWN') == "before unset\n"


def test_a_programs_environment_ends_with_it(shell: Lab) -> None:
    result = shell.argv("sh", "-c", 'printf %s "$NEW"', env={"NEW": "$(id)"})
    assert result.out == "$(id)"
    assert shell.out("echo ${NEW-unset}") == "unset\n"


def test_a_steps_environment_does_not_outlive_its_exit(shell: Lab) -> None:
    shell.run("exit 0", env={"NEW": "n"}).check()
    assert shell.out("echo ${NEW-unset}") == "unset\n"


def test_a_steps_directory_ends_with_it(shell: Lab) -> None:
    shell.run("mkdir -p 'a b'").check()
    result = shell.run("pwd", cwd="a b")
    assert (result.out, shell.out("pwd; rmdir 'a b'")) == ("/workspace/a b\n", "/workspace\n")


def test_a_steps_directory_may_be_absolute(shell: Lab) -> None:
    assert shell.argv("pwd", cwd="/tmp").out == "/tmp\n"


def test_a_step_whose_directory_is_missing_is_an_error_that_names_the_field(shell: Lab) -> None:
    result = shell.run("echo never", cwd="nowhere")
    assert (result.status, result.out) == (Status.ERROR, "")
    assert result.error is not None and "`cwd`" in result.error.message
    assert shell.out("pwd") == "/workspace\n"


def test_exports_of_an_exact_argv_outlive_the_shell(shell: Lab) -> None:
    step = StepRequest("step", "x.lab.yaml::case::step", argv=("true",), exports={"outlives": "yes"})
    shell.session.run(step).check()
    assert shell.run("exit 3").state is ShellState.RESTORED
    assert shell.out("echo ${outlives-lost}") == "yes\n"


def test_exports_stay(shell: Lab) -> None:
    shell.run("true", exports={"answer": "4 2'"}).check()
    assert shell.out("env | grep ^answer=; unset answer") == "answer=4 2'\n"


def test_a_step_knows_its_node_id(shell: Lab) -> None:
    assert shell.out("env | grep ^TESTRONAUT_LAB=") == "TESTRONAUT_LAB=x.lab.yaml::case::step\n"


def test_the_fixed_environment_is_there_and_the_hosts_is_not(make_session: MakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_THE_HOST", "1")
    names = dict(line.split("=", 1) for line in make_session(env={"OWN": "2"}).out("env").splitlines())
    fixed = {"LANG": "C.UTF-8", "TZ": "UTC", "COLUMNS": "80", "TERM": "dumb", "HOME": "/home/lab", "TMPDIR": "/tmp", "OWN": "2"}
    assert fixed.items() <= names.items()
    assert "FROM_THE_HOST" not in names and "HOSTNAME" in names


def test_a_probe_tells_the_status_and_leaves_nothing(shell: Lab) -> None:
    probe = StepRequest("p", "x::p", run="kept=1; cd /tmp; echo seen; exit 3")
    assert shell.session.probe(probe) == 3
    assert shell.out('echo "[$kept] $PWD"') == "[] /workspace\n"


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("run", StepRequest("s", "n", run="a\0b")),
        ("argv", StepRequest("s", "n", argv=("a", "\0"))),
        ("argv", StepRequest("s", "n", argv=("",))),
        ("cwd", StepRequest("s", "n", run="x", cwd="\0")),
        ("env", StepRequest("s", "n", run="x", env={"A": "\0"})),
        ("env", StepRequest("s", "n", run="x", env={"a-b": "1"})),
        ("timeout", StepRequest("s", "n", run="x", timeout_s=0)),
        ("timeout", StepRequest("s", "n", run="x", timeout_s=float("nan"))),
    ],
)
def test_what_no_shell_can_be_given_is_refused_by_name(field: str, request_: StepRequest) -> None:
    with pytest.raises(UsageError, match=f"`{field}`"):
        request_.validate()


def test_a_probe_does_not_end_the_tracing_of_the_shell(shell: Lab) -> None:
    shell.run("set -x")
    shell.session.probe(StepRequest("p", "x::p", run="true"))
    assert "echo hi" in shell.run("echo hi; set +x").err
