"""Steps with a terminal of their own: what they find in it, what is typed and waited for, and how they end."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab import Session
from testronaut_lab.errors import UsageError
from testronaut_lab.execution.context import StepRequest
from testronaut_lab.model.expect import TextExpect
from testronaut_lab.model.interaction import AwaitOutput, AwaitScreen, AwaitSettled, Interaction, PressKey, Resize, SendText, Tty
from testronaut_lab.model.plan import Limits
from testronaut_lab.model.result import ExitKind, ShellState, Status, StepResult

pytestmark = pytest.mark.engine


def in_terminal(
    lab: Lab,
    run: str,
    *interact: Interaction,
    tty: Tty | None = None,
    env: dict[str, str] | None = None,
    cwd: str | None = None,
    timeout_s: float = 20.0,
) -> StepResult:
    nodeid = "x.lab.yaml::case::step"
    request = StepRequest("step", nodeid, run, env=env or {}, cwd=cwd, timeout_s=timeout_s, tty=tty or Tty(), interact=interact)
    return lab.session.run(request)


def shows(text: str, timeout_s: float = 10.0) -> AwaitScreen:
    return AwaitScreen(TextExpect(contains=(text,)), timeout_s)


def test_a_terminal_has_its_size_from_the_start(shell: Lab) -> None:
    result = in_terminal(shell, "test -t 0 && test -t 1 && test -t 2 && echo all; echo $TERM", tty=Tty(100, 30, "xterm"))
    assert (result.out, result.screen) == ("all\r\nxterm\r\n", "all\nxterm\n")


def test_a_terminals_size_is_what_was_asked_for(dash: Lab) -> None:
    assert in_terminal(dash, "stty size", tty=Tty(100, 30)).check().screen == "30 100\n"


def test_a_terminal_step_takes_directory_and_environment_and_gives_none_back(shell: Lab) -> None:
    shell.run("mkdir -p 'a b'; cd 'a b'; export KEPT='it'\\''s\nmine'; local=1").check()
    result = in_terminal(shell, 'echo "$PWD [$KEPT] [$local]"; cd /tmp; export KEPT=other')
    assert result.screen == "/workspace/a b [it's\nmine] []\n"
    assert shell.out('echo "$PWD $local $KEPT"; cd ..; rmdir "a b"; unset KEPT local') == "/workspace/a b 1 it's\nmine\n"


def test_a_variable_that_the_shell_has_not_is_not_in_a_terminal_either(shell: Lab) -> None:
    shell.run("before=$TZ; unset TZ").check()
    assert in_terminal(shell, 'echo "[${TZ-unset}]"').screen == "[unset]\n"
    shell.run("export TZ=$before; unset before").check()


def test_a_terminal_steps_own_environment_and_directory_end_with_it(dash: Lab) -> None:
    assert in_terminal(dash, "echo $OWN $PWD $TERM", env={"OWN": "1", "TERM": "dumb"}, cwd="/tmp").screen == "1 /tmp dumb\n"
    assert dash.out("echo [$OWN] $PWD") == "[] /workspace\n"


def test_a_terminal_step_whose_directory_is_missing_is_an_error(dash: Lab) -> None:
    result = in_terminal(dash, "echo never", cwd="nowhere")
    assert (result.status, result.out) == (Status.ERROR, "")
    assert result.error is not None and "`cwd`" in result.error.message


def test_argv_runs_in_a_terminal(dash: Lab) -> None:
    request = StepRequest("s", "x::c::s", argv=("printf", "[%s]", "a b", "'"), timeout_s=20, tty=Tty())
    assert dash.session.run(request).out == "[a b][']"


def test_a_program_reaches_its_terminal_by_name(shell: Lab) -> None:
    assert in_terminal(shell, "echo seen >/dev/tty").out == "seen\r\n"


def test_the_exit_status_of_a_terminal_step_is_the_commands(shell: Lab) -> None:
    result = in_terminal(shell, "exit 7")
    assert (result.exit.kind, result.exit.code, result.status) == (ExitKind.EXITED, 7, Status.FAILED)


def test_a_signal_ends_a_terminal_step(shell: Lab) -> None:
    assert in_terminal(shell, "kill -9 $$").exit.signal == "KILL"


def test_text_and_keys_are_typed(shell: Lab) -> None:
    talk = (shows("name?"), SendText("world"), PressKey("enter"), shows("hello world"))
    result = in_terminal(shell, "printf 'name? '; read -r name; echo hello $name", *talk)
    assert (result.status, result.screen) == (Status.PASSED, "name? world\nhello world\n")


def test_bytes_are_waited_for_and_used_up(dash: Lab) -> None:
    talk = (AwaitOutput(r"go \x1b\[1m"), SendText("a\r"), AwaitOutput("go "), SendText("b\r"))
    result = in_terminal(dash, r"for i in 1 2; do printf 'go \033[1m'; read -r x; done; echo end $x", *talk)
    assert result.out.endswith("end b\r\n")


def test_control_c_ends_the_program_in_the_foreground(shell: Lab) -> None:
    result = in_terminal(shell, "echo started; exec sleep 100", shows("started"), PressKey("ctrl-c"))
    assert (result.exit.code, result.exit.signal) == (130, "INT")


def test_control_d_is_the_end_of_input(dash: Lab) -> None:
    assert in_terminal(dash, "cat; echo end", PressKey("ctrl-d"), shows("end")).status is Status.PASSED


def test_job_control_works(dash: Lab) -> None:
    talk = (
        shows("$"), SendText("cat\r"), SendText("one\r"), AwaitOutput("one\r\none\r\n"), PressKey("ctrl-z"),
        AwaitOutput(r"Stopped[^$]*\$ "), SendText("fg\r"), AwaitOutput("fg\r\ncat\r\n"), SendText("two\r"),
        AwaitOutput("two\r\ntwo\r\n"), PressKey("ctrl-d"), SendText("exit 3\r"),
    )  # fmt: skip
    result = in_terminal(dash, "PS1='$ ' exec sh -i", *talk)
    assert ((), 3) == (result.mismatches, result.exit.code)


def test_a_resize_is_told_to_the_program(dash: Lab) -> None:
    script = "trap 'stty size' WINCH; echo ready; while [ ! -e done ]; do sleep 0.05; done"
    talk = (shows("ready"), Resize(100, 30), shows("30 100"), PressKey("ctrl-c"))
    assert ((), 130) == ((result := in_terminal(dash, script, *talk)).mismatches, result.exit.code)


def test_the_cursors_keys_are_sent_as_the_program_asked_for(dash: Lab) -> None:
    script = r"printf '\033[?1hgo'; stty raw -echo; dd bs=3 count=1 2>/dev/null | od -An -c"
    assert "033   O   A" in in_terminal(dash, script, shows("go"), PressKey("up")).out


def test_the_terminal_answers_where_the_cursor_is(dash: Lab) -> None:
    script = r"stty raw -echo; printf 'ab\033[6n'; dd bs=6 count=1 2>/dev/null | od -An -c"
    assert "033   [   1   ;   3   R" in in_terminal(dash, script).out


def test_a_screen_that_does_not_come_fails_the_step_and_is_shown(shell: Lab) -> None:
    result = in_terminal(shell, "echo here; exec sleep 100", shows("here"), shows("there", 0.2))
    assert (result.status, result.exit.kind) == (Status.FAILED, ExitKind.TIMEOUT)
    (mismatch,) = result.mismatches
    assert (mismatch.aspect, mismatch.expected) == ("interact[1].screen", "a screen with 'there' within 0.2 s")
    after = re.fullmatch(r"after (\d+\.\d+) s, the screen showed:\nhere\n", mismatch.actual)
    assert after is not None and float(after[1]) >= 0.2
    assert shell.out("echo alive") == "alive\n"


def test_a_prompt_that_ends_in_a_blank_is_waited_for_and_expected(dash: Lab) -> None:
    result = in_terminal(dash, "printf 'name? '; read -r name", shows("name? "), SendText("x\r"))
    assert (result.mismatches, result.screen) == ((), "name? x\n")


def test_a_step_whose_time_is_up_while_it_waits_says_for_what(dash: Lab) -> None:
    result = in_terminal(dash, "echo here; exec sleep 100", shows("here"), shows("there"), timeout_s=0.5)
    assert result.exit.kind is ExitKind.TIMEOUT
    (mismatch,) = result.mismatches
    assert mismatch.aspect == "interact[1].screen"
    assert re.fullmatch(
        r"the step's time \(0\.5 s\) was up after 0\.\d+ s of waiting, the screen showed:\nhere\n", mismatch.actual
    )


def test_a_screen_is_waited_for_until_it_has_settled(dash: Lab) -> None:
    script = "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; read -r x; echo got $x"
    result = in_terminal(dash, script, AwaitSettled(0.8), SendText("it\r"), AwaitSettled(0.3))
    assert (result.mismatches, result.screen) == ((), "1\n2\n3\n4\n5\nit\ngot it\n")


def test_a_screen_that_never_settles_is_a_mismatch(dash: Lab) -> None:
    result = in_terminal(dash, "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done", AwaitSettled(5.0, 0.6))
    (mismatch,) = result.mismatches
    assert (mismatch.aspect, mismatch.expected) == ("interact[0].settled", "a screen that stays the same for 5 s within 0.6 s")


def test_a_program_that_ends_before_it_was_done_with_is_a_mismatch(dash: Lab) -> None:
    result = in_terminal(dash, "echo bye", shows("bye"), shows("more"))
    assert (result.exit.code, result.status) == (0, Status.FAILED)
    assert ("interact[1].screen", "the program had ended, the screen showed:\nbye\n") == (
        result.mismatches[0].aspect, result.mismatches[0].actual,
    )  # fmt: skip


@pytest.mark.needs("unread input")
def test_a_program_that_reads_nothing_is_a_mismatch_of_what_was_sent(dash: Lab) -> None:
    result = in_terminal(dash, "stty raw -echo; exec sleep 100", SendText("x" * 3_000_000, 0.5))
    assert [mismatch.aspect for mismatch in result.mismatches] == ["interact[0].send"]


def test_a_timeout_ends_all_that_a_terminal_step_started(shell: Lab) -> None:
    result = in_terminal(shell, "trap '' HUP TERM INT; setsid sleep 300 & sleep 300; sleep 300", timeout_s=0.5)
    assert (result.exit.kind, result.state) == (ExitKind.TIMEOUT, ShellState.KEPT)
    assert 0.5 <= result.duration_s < 100  # how late it may be is measured by `make bench`
    assert shell.out("cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep || :") == "0\n"


def test_an_interrupt_ends_a_terminal_step(dash: Lab) -> None:
    dash.when(b"started", lambda: threading.Thread(target=dash.session.interrupt).start())
    result = in_terminal(dash, "echo started; sleep 100")
    assert (result.exit.kind, result.out) == (ExitKind.CANCELLED, "started\r\n")
    assert dash.out("echo alive") == "alive\n"


def test_a_terminal_step_that_writes_too_much_is_ended(make_session: MakeSession) -> None:
    result = in_terminal(make_session(limits=Limits(output_bytes=100_000)), "yes")
    assert (result.exit.kind, result.stdout[:6]) == (ExitKind.OUTPUT_LIMIT, b"y\r\ny\r\n")


def test_changes_of_a_terminal_step_are_seen(dash: Lab) -> None:
    result = in_terminal(dash, "echo x >made")
    assert [change.path for change in result.changes] == ["made"]
    dash.run("rm made").check()


def test_what_a_terminal_step_leaves_running_is_listed(dash: Lab) -> None:
    result = in_terminal(dash, "setsid sleep 301 </dev/null >/dev/null 2>&1 & sleep 0.2")
    assert len(result.left_behind) == 1 and result.left_behind[0].startswith("sleep")
    dash.run("kill -9 ${pid:-$(grep -l sleep /proc/[0-9]*/comm | cut -d/ -f3)}").check()


def test_a_container_that_goes_away_is_no_end_of_the_step(fresh: Lab) -> None:
    container = fresh.session._container
    fresh.when(b"started", lambda: threading.Thread(target=container.kill).start())
    result = in_terminal(fresh, "echo started; sleep 100")
    assert (result.status, result.exit.kind, result.out) == (Status.ERROR, ExitKind.SESSION_LOST, "started\r\n")


def test_a_long_script_runs_in_a_terminal(dash: Lab) -> None:
    assert in_terminal(dash, "#" + "x" * 200_000 + "\necho end").out == "end\r\n"


def test_a_session_gives_a_step_a_terminal(base_image: str, tmp_path: Path) -> None:
    with Session("debian:bookworm-slim", root=tmp_path) as session:
        result = session.run("read -r x; echo got $x", tty=True, interact=[SendText("it\r")])
        assert result.check().screen == "it\ngot it\n"
        with pytest.raises(UsageError, match="`interact` needs a terminal"):
            session.run("true", interact=[SendText("it\r")])
