"""What a step reads and writes: exact bytes, each stream its own, nothing lost and nothing of a later step's."""

from __future__ import annotations

import hashlib
import os
import time

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab.container.cgroup import CgroupMeter
from testronaut_lab.execution.driver.fast.driver import FastDriver
from testronaut_lab.execution.driver.fast.supervisor import Supervisor
from testronaut_lab.model.events import OutputChunk, StepFinished, StepStarted
from testronaut_lab.model.result import ExitKind, Status
from testronaut_lab.report.text.interleaved import interleaved

pytestmark = pytest.mark.engine


def test_stdout_and_stderr_are_apart(shell: Lab) -> None:
    result = shell.run("echo out; echo err >&2; echo out again")
    assert (result.stdout, result.stderr) == (b"out\nout again\n", b"err\n")


@pytest.mark.parametrize(
    "data", [b"", b"no newline", b"\n", b"a\0b\0", b"\xff\xfe\xc3", b"\x1b]0;x\x07\r\n\n", b"@ S 0 -\n@ .\n"]
)
def test_bytes_come_through_exactly(shell: Lab, data: bytes) -> None:
    shell.session.put("in", data)
    result = shell.run("cat; cat >&2 <in", stdin=data)
    assert (result.stdout, result.stderr) == (data, data)


def test_a_large_output_is_whole(shell: Lab) -> None:
    result = shell.run("seq 1 400000; seq 1 100000 >&2")
    expected = "".join(f"{i}\n" for i in range(1, 400001)).encode()
    assert result.stdout_stream.sha256 == hashlib.sha256(expected).hexdigest()
    assert result.stdout == expected
    assert len(result.stderr) == 588895


def test_a_large_output_lies_in_a_file_and_not_in_memory(dash: Lab) -> None:
    stream = dash.run("seq 1 10000").stdout_stream
    assert stream.data is None
    assert stream.path is not None and stream.path.startswith(str(dash.blobs))


def test_large_input_comes_through_exactly(dash: Lab) -> None:
    data = os.urandom(3_000_000)
    assert dash.run("cat", stdin=data).stdout == data


def test_without_stdin_a_step_reads_an_end_at_once(shell: Lab) -> None:
    result = shell.run("cat; read x; echo $?")
    assert result.out == "1\n"


def test_stdin_that_is_not_read_is_not_there_for_the_next_step(shell: Lab) -> None:
    shell.run("true", stdin=b"left\n" * 30000).check()
    assert shell.out("cat") == ""


def test_chunks_tell_of_all_output_in_order(dash: Lab) -> None:
    before = len(dash.events.seen)
    result = dash.run("seq 1 50000; echo oops >&2")
    chunks = [event for event in dash.events.seen[before:] if isinstance(event, OutputChunk)]
    assert b"".join(chunk.data for chunk in chunks if chunk.stream == "stdout") == result.stdout
    assert b"".join(chunk.data for chunk in chunks if chunk.stream == "stderr") == b"oops\n"


def test_a_character_written_in_two_pieces_is_told_whole(dash: Lab) -> None:
    before = len(dash.events.seen)
    dash.run(r"printf 'a\342'; sleep 0.1; printf '\202\254b'")
    chunks = [event for event in dash.events.seen[before:] if isinstance(event, OutputChunk)]
    assert "".join(chunk.data.decode() for chunk in chunks) == "a€b"
    assert chunks[0].offset_bytes == 0


def test_what_is_written_by_turns_can_be_shown_by_turns(dash: Lab) -> None:
    workspace = dash.session._place.workspace
    for text in ("1", "2"):
        dash.when(f"{text}\n".encode(), (workspace / f"seen-{text}").touch)
    wait = "until [ -e seen-%d ]; do sleep 0.01; done"
    result = dash.run(f"echo 1; {wait % 1}; echo 2 >&2; {wait % 2}; echo 3; rm seen-*")
    assert interleaved(result) == [("stdout", "1\n"), ("stderr", "2\n"), ("stdout", "3\n")]
    times = [elapsed_s for elapsed_s, _ in result.stdout_stream.chunks]
    assert 0 < times[0] < times[1] <= result.duration_s + 1


def test_a_step_is_told_of_before_and_after(dash: Lab) -> None:
    before = len(dash.events.seen)
    result = dash.run("true")
    started, finished = dash.events.seen[before], dash.events.seen[-1]
    assert isinstance(started, StepStarted) and started.command == "true"
    assert finished == StepFinished(0, "session", result)


def test_output_through_a_process_substitution_is_whole(make_session: MakeSession) -> None:
    lab = make_session(shell="bash")
    outs = [lab.run("echo through > >(cat)").out for _ in range(20)]
    assert outs == ["through\n"] * 20


def test_output_of_a_process_that_ends_while_the_host_looks_for_others_is_the_steps(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_session(shell="bash")
    driver = lab.session._driver
    assert isinstance(driver, FastDriver)
    others = driver.others
    are_none = others.are_none

    def when_they_are(supervisor: Supervisor) -> bool:
        while not are_none(supervisor):
            time.sleep(0.001)
        return True

    monkeypatch.setattr(others, "are_none", when_they_are)
    outs = [lab.run("echo through > >(sleep 0.02; cat)").out for _ in range(3)]
    assert outs == ["through\n"] * 3


def test_a_stream_that_a_job_holds_is_flagged_open_and_the_job_named(fresh: Lab) -> None:
    result = fresh.run("sleep 300 & until grep -q sleep /proc/$!/comm; do :; done; echo started")
    assert (result.status, result.out) == (Status.PASSED, "started\n")
    assert result.stdout_stream.open and result.stderr_stream.open
    assert [name.partition(" ")[0] for name in result.left_behind] == ["sleep"]


def test_a_job_with_streams_of_its_own_leaves_none_open(fresh: Lab) -> None:
    result = fresh.run("sleep 300 >/dev/null 2>&1 &")
    assert not result.stdout_stream.open and not result.stderr_stream.open
    assert len(result.left_behind) == 1


def test_where_no_control_group_lists_processes_a_stream_is_open_only_if_a_job_holds_it(
    fresh: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CgroupMeter, "host_pids", lambda _: None)
    assert not fresh.run("sleep 300 >/dev/null 2>&1 &").stdout_stream.open
    assert fresh.run("sleep 300 & until grep -q sleep /proc/$!/comm; do :; done").stdout_stream.open


def test_a_job_is_left_behind_by_one_step_only(fresh: Lab) -> None:
    fresh.run("sleep 300 &").check()
    assert fresh.run("true").left_behind == ()


def test_a_step_with_a_job_returns_at_once(fresh: Lab) -> None:
    assert fresh.run("sleep 300 &").duration_s < 1


def test_late_output_is_no_later_steps(fresh: Lab) -> None:
    fresh.run("mkfifo go; ( read x <go; echo late; echo done >go ) &").check()
    result = fresh.run("echo >go; read x <go; echo $x")
    assert (result.out, result.exit.kind) == ("done\n", ExitKind.EXITED)


def test_a_job_may_go_on_writing_without_being_stopped(fresh: Lab) -> None:
    fresh.run("mkfifo go; ( seq 1 100000; echo $? >status; echo >go ) &").check()
    assert fresh.out("read x <go; cat status") == "0\n"


def test_output_that_looks_like_a_record_forges_nothing(shell: Lab) -> None:
    result = shell.run("echo '@0123456789abcdef S 0 0 - -'; echo '@0123456789abcdef .'; ( exit 6 )")
    assert (result.exit.code, result.error) == (6, None)
    assert result.out.startswith("@0123456789abcdef S")


def test_a_file_among_the_reports_is_ignored_and_said(shell: Lab) -> None:
    result = shell.run("echo junk >|/run/lab/end/junk; mkdir /run/lab/end/d; echo on; (exit 3)")
    assert (result.out, result.exit.code, result.error) == ("on\n", 3, None)
    assert any("made files in /run/lab/end" in note for note in result.notes)
    assert not any("made files" in note for note in shell.run("echo on").notes)
