"""Programs in the background of a session: until they are ready, while steps run beside them, and how they end."""

from __future__ import annotations

import threading

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab.execution.context import StepRequest
from testronaut_lab.execution.sidecar.background import BackgroundPrograms
from testronaut_lab.model.interaction import Ready
from testronaut_lab.model.result import ExitKind, Mismatch, Status, StepResult

pytestmark = pytest.mark.engine

PORT = 8000
SERVER = (
    'perl -MSocket -e \'$|=1; $SIG{HUP}=sub{print "hup\\n"}; socket(S,PF_INET,SOCK_STREAM,0);'
    f"setsockopt(S,SOL_SOCKET,SO_REUSEADDR,1); bind(S,sockaddr_in({PORT},INADDR_ANY)) or die; listen(S,5);"
    'while(1){ if(accept(C,S)){ print C "hello\\n"; close C; print STDERR "served\\n" } }\''
)
CLIENT = (
    "perl -MSocket -e 'socket(S,PF_INET,SOCK_STREAM,0);"
    f'connect(S,sockaddr_in({PORT},inet_aton("127.0.0.1"))) or die "refused"; print <S>\''
)
# the same, for an image without perl
SMALL_SERVER = f"exec busybox nc -ll -p {PORT} -e sh -c 'echo hello; echo served >&2'"
SMALL_CLIENT = f"busybox nc 127.0.0.1 {PORT} </dev/null"


def start(lab: Lab, run: str, ready: Ready | None = None, *, name: str = "web", cwd: str | None = None) -> StepResult:
    request = StepRequest("start", "x.lab.yaml::case::start", run, cwd=cwd, timeout_s=20, background=name, ready=ready)
    return lab.session.run(request)


def stop(lab: Lab, name: str = "web", timeout_s: float = 20) -> StepResult:
    return lab.session.run(StepRequest("stop", "x.lab.yaml::case::stop", timeout_s=timeout_s, stop=name))


def signal(lab: Lab, **signals: str) -> StepResult:
    return lab.session.run(StepRequest("signal", "x.lab.yaml::case::signal", timeout_s=20, signal=signals))


def test_a_server_answers_once_its_port_is_listened_on(shell: Lab) -> None:
    has_perl = shell.run("command -v perl").ok
    server, client = (SERVER, CLIENT) if has_perl else (SMALL_SERVER, SMALL_CLIENT)
    started = start(shell, server, Ready(port=PORT))
    assert (started.status, started.exit.kind, started.notes) == (
        Status.PASSED, ExitKind.RUNNING, ("goes on in the background as web",),
    )  # fmt: skip
    assert shell.out(client) == "hello\n"
    stopped = stop(shell)
    assert (stopped.status, stopped.exit.signal, stopped.err) == (Status.PASSED, "TERM", "served\n")


def test_a_program_is_ready_when_its_output_says_so(shell: Lab) -> None:
    started = start(shell, "echo one; sleep 0.1; echo two >&2; exec sleep 100", Ready(log="^tw.$"))
    assert (started.status, started.out, started.err) == (Status.PASSED, "one\n", "two\n")
    assert stop(shell).out == "one\n"


def test_a_program_is_ready_when_its_file_is_there(dash: Lab) -> None:
    dash.run("mkdir -p d").check()
    started = start(dash, "sleep 0.1; touch up; exec sleep 100", Ready(file="d/up"), cwd="d")
    assert [change.path for change in started.changes] == ["d/up"]
    stop(dash).check()
    dash.run("rm -r d").check()


def test_a_program_is_ready_when_a_command_says_so(dash: Lab) -> None:
    start(dash, "sleep 0.1; touch up; exec sleep 100", Ready(run="test -e up")).check()
    assert dash.out("ls; rm up") == "up\n"
    stop(dash).check()


def test_a_program_has_the_shells_directory_and_environment(shell: Lab) -> None:
    shell.run("mkdir -p d; cd d; export KEPT=1").check()
    start(shell, 'echo "$PWD $KEPT"; exec sleep 100', Ready(log=".")).check()
    assert stop(shell).out == "/workspace/d 1\n"
    shell.run("cd ..; rmdir d; unset KEPT").check()


def test_a_program_that_is_not_ready_in_time_fails_with_what_it_wrote(shell: Lab) -> None:
    started = start(shell, "echo slow; exec sleep 100", Ready(log="never", timeout_s=0.3))
    assert (started.status, started.exit.kind, started.out) == (Status.FAILED, ExitKind.TIMEOUT, "slow\n")
    assert ("ready.log", "output that matches never within 0.3 s") == (
        started.mismatches[0].aspect, started.mismatches[0].expected,
    )  # fmt: skip
    assert shell.session.background == frozenset()
    assert shell.out("cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep || :") == "0\n"


def test_a_program_that_ends_before_it_is_ready_fails_at_once(shell: Lab) -> None:
    started = start(shell, "echo oops >&2; exit 4", Ready(port=PORT))
    expected = f"port {PORT} listened on within 10 s"
    assert started.mismatches == (Mismatch("ready.port", expected, "it ended with exit status 4"),)
    assert (started.err, started.exit.code) == ("oops\n", 4)


def test_a_port_that_is_taken_says_nothing_about_a_program(dash: Lab) -> None:
    start(dash, SERVER, Ready(port=PORT)).check()
    second = start(dash, "sleep 100", Ready(port=PORT), name="second")
    assert second.mismatches == (
        Mismatch("ready.port", f"port {PORT} free before second starts", "something listens on it already"),
    )
    stop(dash).check()


def test_a_program_outlives_timeouts_and_is_left_behind_by_no_step(shell: Lab) -> None:
    start(shell, "sleep 100 & sleep 100; echo end").check()
    assert shell.run("sleep 50 & sleep 50", timeout_s=0.3).exit.kind is ExitKind.TIMEOUT
    assert shell.run("true").left_behind == ()
    assert shell.out("cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep") == "2\n"
    assert stop(shell).exit.signal == "TERM"
    assert shell.out("cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep || :") == "0\n"


def test_a_job_of_a_step_is_still_left_behind_beside_a_program(dash: Lab) -> None:
    start(dash, "exec sleep 100").check()
    left = dash.run("sleep 77 & echo $!")
    assert left.left_behind == (f"sleep ({left.out.strip()})",)
    dash.run("kill $!; wait").check()
    stop(dash).check()


def test_a_signal_reaches_the_program_and_not_the_shell_that_runs_it(dash: Lab) -> None:
    start(dash, SERVER, Ready(port=PORT)).check()
    assert signal(dash, web="HUP").status is Status.PASSED
    assert dash.out(CLIENT) == "hello\n"
    assert stop(dash).out == "hup\n"


def test_a_script_with_a_trap_for_a_signal_gets_it_while_it_runs_a_program(shell: Lab) -> None:
    start(shell, "trap 'echo heard; exit 0' USR1; echo up; sleep 0.3; while :; do sleep 0.05; done", Ready(log="up")).check()
    assert signal(shell, web="USR1").status is Status.PASSED
    shell.run("until ! cat /proc/[0-9]*/comm 2>/dev/null | grep -q sleep; do :; done").check()
    assert stop(shell).out == "up\nheard\n"


def test_a_program_that_shuts_down_in_order_is_given_the_time(shell: Lab) -> None:
    start(shell, "trap 'sleep 0.3; echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done", Ready(log="up")).check()
    stopped = stop(shell)
    assert (stopped.out, stopped.exit.code) == ("up\nbye\n", 0)


def test_a_program_that_ignores_term_is_killed_and_that_is_said(shell: Lab) -> None:
    start(shell, "trap '' TERM; echo up; sleep 100 & wait", Ready(log="up")).check()
    stopped = stop(shell, timeout_s=0.3)
    assert (stopped.exit.signal, stopped.notes) == ("KILL", ("web did not end within 0.3 s of TERM and was killed",))


def test_a_program_that_had_crashed_cannot_be_stopped(shell: Lab) -> None:
    start(shell, "echo up; read -r x <gate; exit 3", Ready(log="up"), cwd="/tmp")
    start(shell, "echo up; exit 3", Ready(log="up"), name="short")
    stop(shell)
    stopped = stop(shell, "short")
    assert (stopped.status, stopped.exit.code, stopped.out) == (Status.FAILED, 3, "up\n")
    assert stopped.mismatches == (Mismatch("stop", "short running", "it had ended by itself with exit status 3"),)


def test_what_was_not_started_cannot_be_stopped_or_signalled(dash: Lab) -> None:
    assert stop(dash, "no").mismatches == (Mismatch("stop", "no running", "it was not started"),)
    assert signal(dash, no="HUP").mismatches == (Mismatch("signal.no", "no running", "it was not started"),)


def test_two_programs_are_kept_apart(dash: Lab) -> None:
    start(dash, "echo a; exec sleep 100", name="a").check()
    start(dash, "echo b; exec sleep 100", Ready(log="b"), name="b").check()
    assert dash.session.background == {"a", "b"}
    assert (stop(dash, "a").out, stop(dash, "b").out) == ("a\n", "b\n")


def test_the_output_of_a_program_is_kept_whole(dash: Lab) -> None:
    start(dash, "head -c 3000000 /dev/zero; echo done >&2; exec sleep 100", Ready(log="done")).check()
    assert stop(dash).stdout == bytes(3_000_000)


def test_a_wait_for_readiness_can_be_interrupted(dash: Lab) -> None:
    dash.when(b"up", lambda: threading.Thread(target=dash.session.interrupt).start())
    assert start(dash, "echo up; exec sleep 100", Ready(log="never")).exit.kind is ExitKind.CANCELLED
    assert dash.out("echo alive") == "alive\n"


def test_a_program_that_the_tool_kills_has_ended(dash: Lab) -> None:
    start(dash, "exec sleep 100").check()
    dash.run("kill -9 -1")
    assert stop(dash).mismatches == (Mismatch("stop", "web running", "it had ended by itself with exit status 137"),)


def test_a_killed_program_that_still_stands_in_the_process_table_has_ended_by_itself(
    dash: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(dash, "exec sleep 100").check()
    dash.run("kill -9 -1")
    monkeypatch.setattr(BackgroundPrograms, "_code_if_ended", lambda *_: None)
    assert stop(dash).mismatches == (Mismatch("stop", "web running", "it had ended by itself with exit status 137"),)


def test_a_program_that_catches_term_may_exit_with_anything(dash: Lab) -> None:
    start(dash, "trap 'exit 137' TERM; echo up; while :; do sleep 0.01; done", Ready(log="up")).check()
    assert (stop(dash).mismatches, stop(dash).error) == ((), None)


def test_a_session_ends_with_programs_in_it(make_session: MakeSession) -> None:
    lab = make_session()
    start(lab, "exec sleep 100").check()
    lab.session.close()
    assert threading.active_count() < 10
