"""What a process of the step's own user does below the run directory: it reads no command, writes no stream, tells no end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab.model.result import ExitKind, ShellState, Status, StepResult

pytestmark = pytest.mark.engine


@contextmanager
def attacking(lab: Lab, script: str) -> Iterator[None]:
    """A job of no streams that does this over and over while steps run."""
    job = f"( while [ -e /workspace/on ]; do {script}; done ) </dev/null >/dev/null 2>&1 &"
    lab.run(f": >/workspace/on; {job} attacker=$!")  # it may be an error already
    try:
        yield
    finally:
        lab.run("rm -f /workspace/on; kill -9 $attacker; wait $attacker 2>/dev/null; rm -rf /workspace/*")


def numbered(lab: Lab, count: int = 15) -> list[StepResult]:
    return [lab.run(f"echo secret-{number}; (exit {number % 3})", timeout_s=20) for number in range(count)]


def assert_true_or_error(results: list[StepResult]) -> None:
    """A step may be an error, for somebody interfered; what is no error is as it ran."""
    for number, result in enumerate(results):
        if result.status is not Status.ERROR:
            assert (result.out, result.exit.code) == (f"secret-{number}\n", number % 3)
        assert result.exit.kind is ExitKind.EXITED


def test_no_file_tells_the_next_command(shell: Lab) -> None:
    with attacking(shell, "for f in /run/lab/* /run/lab/*/*; do cat $f >>/workspace/stolen; done"):
        assert_true_or_error(numbered(shell))
        assert shell.run("grep -c secret /workspace/stolen").out in ("0\n", "")


def test_no_command_is_taken_away(shell: Lab) -> None:
    with attacking(shell, "for f in /run/lab/*; do dd if=$f of=/dev/null bs=4096 count=1; done"):
        assert_true_or_error(numbered(shell))


def test_no_foreign_bytes_stand_in_a_stream(shell: Lab) -> None:
    with attacking(shell, "for f in /run/lab/* /run/lab/*/*; do [ -d $f ] || echo foreign >>$f; done"):
        results = numbered(shell)
    assert all("foreign" not in result.out + result.err for result in results if result.status is not Status.ERROR)
    assert_true_or_error(results)


def test_nobody_else_says_how_a_step_ended(shell: Lab) -> None:
    names = "/run/lab/end/0,0,hB /run/lab/end/000000000000,0,hB /run/lab/1.r /run/lab/end/x"
    with attacking(shell, f"for f in {names}; do : >|$f; done"):
        assert_true_or_error(numbered(shell))
    assert_true_or_error(numbered(shell, 2))


def test_files_among_the_reports_are_no_denial(shell: Lab) -> None:
    with attacking(shell, "i=$((i+1)); : >|/run/lab/end/$i; mkdir /run/lab/end/d$i"):
        results = numbered(shell)
    assert [(result.out, result.exit.code, result.error) for result in results] == [
        (f"secret-{number}\n", number % 3, None) for number in range(len(results))
    ]


def test_more_files_among_the_reports_than_the_kernel_tells_of_are_no_denial(fresh: Lab) -> None:
    os.mkfifo(fresh.session._place.workspace / "done", 0o666)
    os.chmod(fresh.session._place.workspace / "done", 0o666)
    flood = "i=0; while [ $i -lt 17000 ]; do : >|/run/lab/end/$i; i=$((i+1)); done; echo >/workspace/done"
    fresh.run(f"( {flood} ) </dev/null >/dev/null 2>&1 &")
    (fresh.session._place.workspace / "done").read_text()
    result = fresh.run("echo on; (exit 3)", timeout_s=60)
    assert (result.out, result.exit.code, result.error) == ("on\n", 3, None)
    assert any("were ignored" in note for note in result.notes)
    assert not fresh.run("echo on").notes


def test_the_run_directory_offers_nothing(shell: Lab) -> None:
    result = shell.run(
        "for f in /run/lab/* /run/lab/*/*; do rm -f $f; mv $f /tmp/; ln -s /etc/passwd $f; mkdir $f.d; done", timeout_s=10
    )
    assert result.exit.kind is ExitKind.EXITED
    assert_true_or_error(numbered(shell, 3))


def test_a_step_that_writes_in_the_run_directory_while_it_runs_forges_nothing(shell: Lab) -> None:
    for target in ("/run/lab/ctl", "/run/lab/end/forged,0,hB", "/run/lab/end/,0,"):
        result = shell.run(f"( echo junk >>{target} ) 2>/dev/null; echo ran; (exit 3)", timeout_s=10)
        assert result.status is Status.ERROR or (result.out, result.exit.code) == ("ran\n", 3)
    assert shell.run("echo on").check().out == "on\n"


def test_a_step_that_makes_very_many_files_there_runs_to_its_end(shell: Lab) -> None:
    loop = "n=0; while [ $n -lt 2000 ]; do : >|/run/lab/end/x$n; n=$((n + 1)); done"
    result = shell.run(f"{loop}; echo ran; (exit 3)")
    assert (result.error, result.out, result.exit.code, result.state) == (None, "ran\n", 3, ShellState.KEPT)
    assert shell.run("echo $n").check().out == "2000\n"


def test_a_job_that_holds_the_file_of_its_step_reads_no_later_text(make_session: MakeSession) -> None:
    dash = make_session(shell="sh")
    find = "for f in /proc/$$/fd/*; do case $(readlink $f) in /run/lab/t.*) exec 5<$f;; esac; done"
    dash.run(f"{find}; (until [ -e go ]; do sleep 0.01; done; exec cat <&5 >read) & exec 5<&-")
    dash.run("echo later >go; until [ -s read ] || ! kill -0 $!; do sleep 0.01; done")
    assert "until [ -e go ]" in dash.out("cat read") and "later" not in dash.out("cat read")
