"""The shell text the host sends: every value arrives as it is, checked by a real shell of this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testronaut_lab.execution.driver import script
from testronaut_lab.execution.driver.script import Command

NO_NUL = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40)


def sh(text: str, *args: str) -> bytes:
    return subprocess.run(["sh", "-c", text, "sh", *args], stdout=subprocess.PIPE, check=True).stdout


@given(st.lists(NO_NUL, min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_a_quoted_word_is_itself_to_a_shell(words: list[str]) -> None:
    quoted = " ".join(script.quote(word) for word in words)
    assert sh(f"printf '%s\\0' {quoted}") == b"".join(word.encode() + b"\0" for word in words)


@given(st.binary(max_size=30).filter(lambda raw: b"\0" not in raw))
@settings(max_examples=30, deadline=None)
def test_a_quoted_word_need_not_be_utf8(raw: bytes) -> None:
    quoted = script.quote(raw.decode(errors="surrogateescape")).encode(errors="surrogateescape")
    assert subprocess.run([b"sh", b"-c", b"printf %s " + quoted], stdout=subprocess.PIPE, check=True).stdout == raw


@given(st.lists(NO_NUL, max_size=5))
@settings(max_examples=30, deadline=None)
def test_argv_becomes_that_program_with_these_arguments(args: list[str]) -> None:
    text = script.step_text(Command("n", argv=("printf", r"%s\0", "", *args)), traced=False, stderr="2>&1")
    assert sh(text) == b"\0" + b"".join(arg.encode() + b"\0" for arg in args)


@given(st.dictionaries(st.sampled_from("ABCD"), NO_NUL, min_size=1))
@settings(max_examples=30, deadline=None)
def test_a_steps_environment_is_set_and_taken_back(env: dict[str, str]) -> None:
    command = Command("n", run="", env=env)
    show = 'printf \'%s\\0\' "${A-unset}" "${B-unset}" "${C-unset}" "${D-unset}"\n'
    before = {"A": "old"}
    text = f"A=old\n{script.before_text(command)}{show}{script.after_text(command, '/')}{show}"
    values = [value.decode() for value in sh(text).split(b"\0")]
    assert values[:4] == [{**before, **env}.get(name, "unset") for name in "ABCD"]
    assert values[4:8] == [before.get(name, "unset") for name in "ABCD"]


def test_nothing_of_ours_is_left_in_the_shells_variables() -> None:
    command = Command("n", run="", env={"A": "1", "B": "2"}, cwd="/")
    assert b"__lab" not in sh(f"{script.before_text(command)}{script.after_text(command, '/')}set")


def test_a_steps_directory_is_taken_back_with_the_one_before(tmp_path: Path) -> None:
    command = Command("n", run="", cwd="/tmp")
    text = (
        f"cd /; cd {script.quote(str(tmp_path))}\n{script.before_text(command)}pwd\n{script.after_text(command, str(tmp_path))}"
    )
    assert sh(text + "pwd; echo $OLDPWD") == f"/tmp\n{tmp_path}\n/\n".encode()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (Command("n", run="x"), False),
        (Command("n", run="x", env={"A": "1"}), True),
        (Command("n", run="x", exports={"A": "1"}), True),
        (Command("n", run="x", cwd="/"), True),
    ],
)
def test_only_steps_with_something_of_their_own_are_bracketed(command: Command, expected: bool) -> None:
    assert script.needs_brackets(command) is expected
    assert ("/before" in script.run_line(command, 1, stdin="empty", can_catch=True)) is expected


def test_a_steps_line_is_the_same_whatever_its_node_id_holds_and_ends_with_the_nonce() -> None:
    line = script.run_line(Command("a\nb'; exit 9; '$x`y`", run="x"), 1, stdin="empty", can_catch=True)
    became = sh(f'__c={script.quote(script.run("n0"))}\n{line}printf %s "$__c"').decode()
    assert "\n" not in became
    assert r"TESTRONAUT_LAB='a b'\''; exit 9; '\''$x`y`'" in became
    assert became.endswith(r"\__lab_end n0 /dev/null")


def test_a_steps_line_parks_a_copy_only_where_the_shell_could_list_processes_and_holds_nothing_open() -> None:
    line = script.run_line(Command("n", run="x"), 1, stdin="empty", can_catch=True, park=7, procs="/procs")
    became = sh(f'__c={script.quote(script.run("n0"))}\n{line}printf %s "$__c"').decode()
    assert became.partition(r"\__lab_end ")[2].startswith("n0 /procs; case $__lab_d$__lab_n in --,*) ( ( ")
    assert "k.7" in became
    assert "n0" not in line


def test_an_isolated_step_runs_in_a_shell_of_its_own() -> None:
    line = script.run_line(Command("n", run="x", isolated=True), 1, stdin="empty", can_catch=True)
    assert r"( \command . /run/lab/step )" in line


def test_a_shell_that_cannot_catch_errors_is_not_asked_to() -> None:
    line = script.run_line(Command("n", run="x"), 1, stdin="empty", can_catch=False)
    assert r"\. /run/lab/step" in line and "command ." not in line


def test_the_secret_stands_in_no_argument_of_a_process() -> None:
    secret = "5ec4e7"
    assert secret in script.introduce(secret)
    assert secret not in script.leader("sh", 1) + script.witness(1)
