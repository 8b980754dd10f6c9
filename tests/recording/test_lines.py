"""Which lines are whole commands, and after which a shell would wait for more."""

from __future__ import annotations

import subprocess

import pytest

from testronaut_lab.recording.lines import unfinished

WHOLE = [
    "ls", "", "echo 'a' \"b\"", "echo \\'", "echo a \\\\", "echo it\\'s", "echo \"a\\\"b\"", "echo # 'not open", "echo a#'b'",
    "cat <<X\na\nX", "cat <<'X' <<-Y\n$a\nX\nb\n\tY", "cat <<<x", "for i in 1 2; do echo $i; done", "if a; then b; else c; fi",
    "greet() { echo hi; }",
    "greet() {\necho hi\n}", "(cd /; pwd)", "echo $(echo a)", "case x in a) b;; *) c;; esac", "a | b", "a &",
    "echo for if case {", "echo fi", "while read x; do :; done <a", "{ a; }", "echo done", "! true", "a &&\nb", "a |\nb\n",
    "x=$((1 + (2)))", "echo ${a#b}", "until false; do break; done", "if ! a; then b; fi", "cat <<X; echo 'b'\na'\nX",
]  # fmt: skip
OPEN = [
    "echo 'a", 'echo "a', "echo \"a\\\"", "ls \\", "cat <<X", "cat <<X\na", "cat <<'E O'\nE", "for i in 1 2; do", "if a; then b",
    "greet() {",
    "(cd /", "echo $(echo a", "case x in", "case x in a) b;;", "a |", "a &&", "a ||\n", "while :\n", "{ a;", "echo 'a\nb",
    "echo a | # why", "cat <<A <<B\na\nA\nb",
]  # fmt: skip


@pytest.mark.parametrize("text", WHOLE)
def test_a_whole_command_is_run_at_once(text: str) -> None:
    assert not unfinished(text)


@pytest.mark.parametrize("text", OPEN)
def test_a_command_that_goes_on_waits_for_its_end(text: str) -> None:
    assert unfinished(text)


@pytest.mark.parametrize("text", [text for text in WHOLE if text and "<<<" not in text and "<<" not in text])
def test_what_is_whole_to_us_is_whole_to_a_shell(text: str) -> None:
    assert 0 == subprocess.run(["sh", "-n"], input=text + "\n", text=True, capture_output=True, check=False).returncode


@pytest.mark.parametrize("text", [text for text in OPEN if "<<" not in text and not text.endswith("\\")])
def test_what_goes_on_to_us_is_an_error_to_a_shell(text: str) -> None:
    assert 0 != subprocess.run(["sh", "-n"], input=text + "\n", text=True, capture_output=True, check=False).returncode
