"""Steps that take too long, write too much or start too many processes: ended, told apart, and survived by the session."""

from __future__ import annotations

import threading
import time

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab.container.stepuser import StepUser
from testronaut_lab.model.events import OutputChunk
from testronaut_lab.model.plan import Limits
from testronaut_lab.model.result import ExitKind, ShellState, Status

pytestmark = pytest.mark.engine

MIB = 2**20
# each line starts something that a careless kill would miss, and that writes its pid
SURVIVORS = {
    "own session": "setsid sleep 300 &",
    "double fork": "( ( sleep 300 & ) & );",
    "deaf to TERM": "sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done' &",
    "no environment": "env -i sleep 300 &",
    "stopped": "sleep 300 & kill -STOP $!",
    "streams elsewhere": "sleep 300 >/dev/null 2>&1 </dev/null &",
}


def processes(lab: Lab) -> int:
    """How many processes there are, the one that counts not included."""
    return int(lab.out("set -- /proc/[0-9]*; echo $#; set --"))


@pytest.mark.parametrize("start", SURVIVORS.values(), ids=SURVIVORS)
def test_a_timeout_kills_all_that_the_step_started(dash: Lab, start: str) -> None:
    before = processes(dash)
    result = dash.run(f"{start} echo started; sleep 300", timeout_s=0.3)
    assert (result.exit.kind, result.status, result.left_behind) == (ExitKind.TIMEOUT, Status.FAILED, ())
    assert processes(dash) - before <= 1  # the shell that waits for a restored one


def test_a_timeout_keeps_partial_output(shell: Lab) -> None:
    result = shell.run("echo partial; echo oops >&2; sleep 300", timeout_s=0.3)
    assert (result.out, result.err, result.exit.code) == ("partial\n", "oops\n", None)


def test_a_timeout_leaves_the_state_from_before_the_step(shell: Lab) -> None:
    shell.run("kept=1; cd /tmp").check()
    result = shell.run("kept=2; while :; do :; done", timeout_s=0.3)
    assert result.state is ShellState.RESTORED
    assert shell.out("echo $kept $PWD; unset kept; cd /workspace") == "1 /tmp\n"


@pytest.mark.parametrize("script", ["sleep 300", "while :; do :; done", "yes >/dev/null", "trap '' TERM; sleep 300"])
def test_a_timeout_is_kept_to_half_a_second(dash: Lab, script: str) -> None:
    result = dash.run(script, timeout_s=0.4)
    assert 0.4 <= result.duration_s < 0.9


def test_jobs_of_earlier_steps_outlive_a_timeout(fresh: Lab) -> None:
    fresh.run("mkfifo in out; ( while read x <in; do echo $x >out; done ) &").check()
    assert fresh.run("sleep 300", timeout_s=0.3).exit.kind is ExitKind.TIMEOUT
    assert fresh.out("echo alive >in; cat out") == "alive\n"


def test_a_timeout_in_a_job_only_does_not_matter(fresh: Lab) -> None:
    assert fresh.run("sleep 300 & true", timeout_s=5).status is Status.PASSED


def interrupted_s(lab: Lab) -> float:
    """How long a step goes on after it was interrupted, in seconds."""
    asked: list[float] = []

    def interrupt() -> None:
        asked.append(time.monotonic())
        lab.session.interrupt()

    lab.when(b"ready", lambda: threading.Thread(target=interrupt).start())
    result = lab.run("echo ready; sleep 300")
    assert (result.exit.kind, result.out, result.status) == (ExitKind.CANCELLED, "ready\n", Status.FAILED)
    return time.monotonic() - asked[0]


def test_an_interrupt_from_another_thread_ends_the_step_at_once(dash: Lab) -> None:
    assert min(interrupted_s(dash) for _ in range(5)) < 0.2  # the machine may be busy once


def test_the_session_goes_on_after_an_interrupt(dash: Lab) -> None:
    dash.run("kept=1").check()
    dash.when(b"ready", dash.session.interrupt)
    dash.run("kept=2; echo ready; while :; do :; done")
    assert dash.out("echo $kept; unset kept") == "1\n"


def test_an_interrupt_between_steps_ends_none(dash: Lab) -> None:
    dash.session.interrupt()
    assert dash.out("echo untouched") == "untouched\n"


def test_too_much_output_ends_the_step_and_keeps_head_and_tail(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(output_bytes=MIB))
    result = lab.run("echo first; yes")
    stream = result.stdout_stream
    assert (result.exit.kind, result.status) == (ExitKind.OUTPUT_LIMIT, Status.FAILED)
    assert stream.truncated and stream.size_bytes == len(result.stdout) <= MIB + 64 * 1024
    assert result.stdout.startswith(b"first\ny\n")
    assert lab.out("echo on") == "on\n"


def test_what_is_kept_and_what_is_dropped_of_too_much_output_adds_up(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(output_bytes=1000))
    stream = lab.run("dd if=/dev/zero bs=1000000 count=3 2>/dev/null; sleep 300").stdout_stream
    came = max((event.offset_bytes or 0) + len(event.data) for event in lab.events.seen if isinstance(event, OutputChunk))
    assert stream.size_bytes + stream.dropped_bytes == came > 1000


def test_the_limit_of_one_stream_leaves_the_other_whole(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(output_bytes=MIB))
    result = lab.run("seq 1 1000; yes >&2")
    assert result.out == "".join(f"{i}\n" for i in range(1, 1001))
    assert result.stderr_stream.truncated and not result.stdout_stream.truncated


def test_output_of_exactly_the_limit_is_no_breach(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(output_bytes=MIB))
    result = lab.run(f"dd if=/dev/zero bs={MIB} count=1 2>/dev/null")
    assert (result.exit.kind, result.stdout_stream.size_bytes) == (ExitKind.EXITED, MIB)


def test_too_many_files_end_the_step(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(files=200))
    result = lab.run("i=0; while :; do i=$((i + 1)); : >f$i; done", timeout_s=20)
    assert (result.exit.kind, result.status) == (ExitKind.DISK_LIMIT, Status.FAILED)
    assert lab.run("echo on; rm -f f*").out == "on\n"


def test_too_many_bytes_in_files_end_the_step(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(workspace_bytes=20 * MIB))
    result = lab.run("while :; do dd if=/dev/zero bs=1048576 count=1 2>/dev/null; done >big", timeout_s=20)
    assert result.exit.kind is ExitKind.DISK_LIMIT
    lab.run("rm big")
    assert lab.run("true").status is Status.PASSED


def test_a_breach_that_is_over_before_it_is_seen_is_told_after_the_step(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(files=5))
    result = lab.run("touch 1 2 3 4 5 6 7")
    assert (result.exit.kind, result.status) == (ExitKind.DISK_LIMIT, Status.FAILED)


def test_a_sparse_file_takes_little(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(workspace_bytes=20 * MIB))
    assert lab.run("dd if=/dev/zero of=sparse bs=1 count=1 seek=50M 2>/dev/null").exit.kind is ExitKind.EXITED


@pytest.mark.needs("limits")
def test_a_program_that_takes_all_memory_is_told_from_one_that_is_killed(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(memory_bytes=64 * MIB))
    result = lab.run("sh -c 'a=x; while :; do a=$a$a$a; done'")
    assert (result.exit.kind, result.status) == (ExitKind.OOM, Status.FAILED)
    assert lab.out("echo on") == "on\n"


@pytest.mark.needs("limits")
def test_a_shell_that_takes_all_memory_is_restored(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(memory_bytes=64 * MIB))
    lab.run("kept=1; cd /tmp").check()
    result = lab.run("a=x; while :; do a=$a$a$a; done")
    assert result.exit.kind is ExitKind.OOM
    assert lab.out("echo $PWD") == "/tmp\n"


def test_a_program_that_is_killed_is_not_out_of_memory(dash: Lab) -> None:
    result = dash.run("sh -c 'kill -9 $$'")
    assert (result.exit.kind, result.exit.signal) == (ExitKind.EXITED, "KILL")


@pytest.mark.needs("limits")
def test_a_fork_bomb_ends_and_the_session_goes_on(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(pids=40))
    started = time.monotonic()
    result = lab.run("bomb() { bomb | bomb & }; bomb; sleep 1", timeout_s=5)
    assert (result.exit.kind, result.status) == (ExitKind.PIDS_LIMIT, Status.FAILED)
    assert lab.out("echo on") == "on\n"
    assert time.monotonic() - started < 10


@pytest.mark.needs("limits")
def test_too_many_processes_are_told(make_session: MakeSession) -> None:
    lab = make_session(limits=Limits(pids=20))
    result = lab.run("i=0; while [ $i -lt 40 ]; do sleep 300 & i=$((i + 1)); done")
    assert (result.exit.kind, result.status) == (ExitKind.PIDS_LIMIT, Status.FAILED)
    assert lab.out("ls / >/dev/null; echo on") == "on\n"


@pytest.mark.parametrize("script", ["sh -c 'kill -9 -1'", "setsid sh -c 'kill -9 -1'; echo never"])
def test_a_program_that_kills_everything_it_can_is_survived(fresh: Lab, script: str) -> None:
    fresh.run("cd /tmp; export kept=1").check()
    fresh.run(":").check()  # after which the copy from before it has told what is exported
    result = fresh.run(script)
    assert (result.exit.kind, result.exit.code, result.out) == (ExitKind.EXITED, 137, "")
    assert fresh.out("echo $kept $PWD") == "1 /tmp\n"


def test_a_shell_that_kills_everything_but_itself_goes_on(fresh: Lab) -> None:
    fresh.run("cd /tmp; plain=1").check()
    result = fresh.run("sleep 300 & kill -9 -1; echo alone")
    assert (result.exit.code, result.out, result.left_behind) == (0, "alone\n", ())
    assert fresh.out("echo $plain $PWD") == "1 /tmp\n"


def test_what_is_lost_with_every_shell_is_said(fresh: Lab) -> None:
    fresh.run("plain=1; f() { :; }; export kept=1").check()
    fresh.run(":").check()
    result = fresh.run("sh -c 'kill -9 -1'")
    assert result.state is ShellState.LOST
    assert "every shell of the session was killed" in result.notes
    assert fresh.out('echo "[$plain] $kept"') == "[] 1\n"


@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP", "STOP", "KILL"])
def test_the_first_process_cannot_be_ended(dash: Lab, step_user: StepUser, signal: str) -> None:
    # from its own user the kernel takes the signal, and drops it
    assert dash.run(f"kill -{signal} 1").status is (Status.FAILED if step_user.uid else Status.PASSED)
    assert dash.out("echo on") == "on\n"


def test_a_stopped_shell_is_ended_by_the_timeout(fresh: Lab) -> None:
    result = fresh.run("kept=1; kill -STOP $$", timeout_s=0.5)
    assert result.exit.kind is ExitKind.TIMEOUT
    assert fresh.out("echo on") == "on\n"


def test_orphans_are_reaped(fresh: Lab) -> None:
    fresh.run("i=0; while [ $i -lt 30 ]; do ( ( exit 0 ) & ); i=$((i + 1)); done").check()
    assert fresh.out("cat /proc/[0-9]*/stat | grep -c ' Z ' ; true") == "0\n"
