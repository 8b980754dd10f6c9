"""Undoing steps of a session: files, shell and what runs beside it are as before them; what is not is said."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SHELLS

from testronaut_lab.api import Session
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.errors import SessionLost, UsageError
from testronaut_lab.execution.context import StepRequest
from testronaut_lab.execution.driver.fast import ptrace
from testronaut_lab.execution.factory import SessionSettings
from testronaut_lab.execution.undo.cache import KeepLimits, UndoCache
from testronaut_lab.model.events import StepsUndone
from testronaut_lab.model.plan import Limits
from testronaut_lab.model.result import ExitKind, ShellState
from testronaut_lab.model.undo import UndoHow, UndoResult
from testronaut_lab.report.state.view import RunView

pytestmark = pytest.mark.engine

MakeUndoable = Callable[..., Session]

TREE = "find . -printf '%P %y %m %s %l %U %T@\\n' | sort; find . -type f -exec md5sum {} + | sort"

SLEEPERS = "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done 2>/dev/null | grep '^sleep' | sed 's/ $//'"


@pytest.fixture
def undoable(tmp_path: Path) -> Iterator[MakeUndoable]:
    """Makes sessions that can be undone four times."""
    made: list[Session] = []

    def make(**settings: object) -> Session:
        made.append(Session(root=tmp_path, settings=SessionSettings(**settings)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for session in made:
        session.close()


@pytest.fixture
def session(undoable: MakeUndoable) -> Session:
    return undoable()


def test_a_sparse_file_comes_back_sparse(session: Session) -> None:
    session.run("truncate -s 40M sparse; echo end >>sparse").check()
    session.run("rm sparse").check()
    session.undo()
    size, blocks = session.run("stat -c '%s %b' sparse").out.split()
    assert (int(size), int(blocks) * 512 < 200_000) == (40 * 2**20 + 4, True)


def test_the_mode_of_the_workspace_itself_is_told_and_comes_back(session: Session) -> None:
    before = session.run("stat -c %a .").out
    [change] = session.run("chmod 711 .").changes
    assert (change.path, change.mode) == (".", 0o711)
    session.undo()
    assert session.run("stat -c %a .").out == before


def test_an_extended_attribute_that_does_not_come_back_is_said(session: Session) -> None:
    session.run("echo x >f").check()
    session.run("true")
    live = session._started()
    os.setxattr(live._place.workspace / "f", "user.note", b"kept")
    live._look_away()
    session.run("echo y >f2; rm f").check()
    undone = session.undo()
    assert [note for note in undone.notes if "not restored" in note and "f (" in note]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, undoable: MakeUndoable, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session in each shell; busybox is an image of its own, which is there by its tag."""
    if request.param == "busybox":
        request.getfixturevalue("busybox_image")
    made = undoable(shell="bash" if request.param == "bash" else "sh")
    if request.param == "busybox":
        monkeypatch.setattr(made, "_image", type(made._image)("testronaut-lab/test-busybox:2"))
    return made


def notes(result: UndoResult) -> list[str]:
    """What was said beyond what is always said."""
    return [note for note in result.notes if "`$$`" not in note]


def test_shell_and_files_are_as_before_the_step(shell: Session) -> None:
    shell.run("echo one >a; mkdir d; v=1; f() { echo in f; }; export e=x").check()
    shell.run("cd d; v=2; rm ../a; unset -f f; export e=y; echo new >n").check()
    undone = shell.undo()
    assert (undone.steps, undone.how, notes(undone)) == (("cd-d-v-2-rm-a-unset-f-f-export-e-y-echo",), UndoHow.SHELL, [])
    after = shell.run('pwd; cat a; echo "$v $e"; f; ls d')
    assert (after.out, after.changes, after.state) == ("/workspace\none\n1 x\nin f\n", (), ShellState.KEPT)


def test_four_steps_are_undone_one_by_one_or_at_once(shell: Session) -> None:
    for i in range(6):
        shell.run(f"v={i}; echo {i} >f{i}").check()
    assert len(shell.undo().steps) == 1
    assert shell.run("echo $v; echo *").out == "4\nf0 f1 f2 f3 f4\n"
    assert len(shell.undo(4).steps) == 4
    assert shell.run("echo $v; echo *").out == "1\nf0 f1\n"


def test_more_steps_than_are_kept_are_refused_and_nothing_changes(session: Session) -> None:
    with pytest.raises(UsageError, match="no step has been run"):
        session.undo()
    for i in range(5):
        session.run(f"v={i}").check()
    with pytest.raises(UsageError, match="undoing 5 steps: only the last 4 steps can be undone") as refused:
        session.undo(5)
    assert refused.value.hint == "undo(4)"
    assert session.run("echo $v").out == "4\n"
    with pytest.raises(UsageError, match="at least 1"):
        session.undo(0)


def test_a_session_without_undo_says_how_to_have_it(tmp_path: Path) -> None:
    with Session(root=tmp_path, undo=0) as session:
        with pytest.raises(UsageError) as refused:
            session.undo()
        assert refused.value.hint == "Session(image, undo=4)"
    with pytest.raises(UsageError, match="from 0 to 4"):
        Session(root=tmp_path, undo=5)


def test_results_ids_and_view_forget_undone_steps(session: Session) -> None:
    view = RunView()
    for command in ("echo hi", "echo hi", "true"):
        session.run(command).check()
    session.undo(2)
    assert session.run("echo hi").id == "echo-hi-2"
    assert [result.id for result in session.results] == ["echo-hi", "echo-hi-2"]
    for event in session.log.subscribe().drain():
        view.apply(event)
    assert [step.id for plan in view.plans.values() for case in plan.cases for step in case.steps] == ["echo-hi", "echo-hi-2"]


def test_an_event_tells_it(session: Session) -> None:
    session.run("true").check()
    session.undo()
    bodies = [event.body for event in session.log.subscribe().drain()]
    found = [body for body in bodies if isinstance(body, StepsUndone)]
    assert [(body.nodeids, body.how) for body in found] == [(("session::true",), UndoHow.SHELL)]


def test_a_closed_session_is_not_undone(session: Session) -> None:
    session.run("true").check()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.undo()


# Shells that ended, in every way


def test_a_step_that_ended_the_shell_is_undone(shell: Session) -> None:
    shell.run("v=1; f() { echo in f; }").check()
    shell.run("v=2").check()
    assert shell.run("exit 3").state is ShellState.RESTORED
    assert shell.undo().how is UndoHow.SHELL
    assert shell.run("echo $v; f").out == "2\nin f\n"
    shell.undo(3)
    assert shell.run("echo $v").out == "\n"


def test_a_step_that_ended_a_shell_which_forks_its_copies_is_undone(shell: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ptrace, "is_supported", lambda: False)
    shell.run("export v=1; f() { echo in f; }").check()
    assert shell.run("exit 3").state is ShellState.RESTORED
    assert [shell.undo().how, shell.undo(1).how] == [UndoHow.SHELL, UndoHow.SHELL]
    assert shell.run("echo ${v-unset}").out == "unset\n"


@pytest.mark.usefixtures("root_allowed")
def test_a_fresh_container_has_what_a_forked_copy_had_exported(undoable: MakeUndoable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ptrace, "is_supported", lambda: False)
    session = undoable(user="root", rootfs="writable")
    session.run("export v=1").check()
    session.run("export v=2; echo changed >/etc/changed").check()
    assert session.undo().how is UndoHow.CONTAINER
    assert session.run("echo $v").out == "1\n"


def test_steps_before_and_after_a_restored_shell_are_undone_together(shell: Session) -> None:
    shell.run("v=1").check()
    shell.run("kill -9 $$")
    shell.run("v=2; exit 1")
    shell.run("v=3").check()
    assert shell.undo(3).how is UndoHow.SHELL
    assert shell.run("echo $v").out == "1\n"


def test_a_step_that_was_ended_at_its_timeout_is_undone(shell: Session) -> None:
    shell.run("v=1; echo kept >a").check()
    late = shell.run("v=2; echo changed >a; while :; do :; done", timeout=0.3)
    assert late.exit.kind is ExitKind.TIMEOUT
    undone = shell.undo()
    assert (undone.how, notes(undone)) == (UndoHow.SHELL, [])
    assert shell.run("echo $v; read a <a; echo $a").out == "1\nkept\n"


def test_exact_arguments_share_a_copy_and_are_undone_one_by_one(shell: Session) -> None:
    shell.run("v=1").check()
    shell.run(["touch", "a"]).check()
    shell.run(["touch", "b"]).check()
    shell.run("v=2").check()
    for there in ("a b", "a", "*"):
        assert shell.undo().how is UndoHow.SHELL
        after = shell.run("echo $v; echo *")
        assert after.out == f"1\n{there}\n"
        shell.undo()
    assert shell.undo().how is UndoHow.SHELL
    assert shell.run("echo $v").out == "\n"


def test_when_every_shell_was_killed_a_fresh_container_has_files_directory_and_exports(shell: Session) -> None:
    shell.run("export e=exported v; v=1; mkdir d; cd d; u=unexported; echo old >f").check()
    container = shell._live.container_name if shell._live else ""
    shell.run(["true"])  # the shell's copy stands, and has told what is exported
    shell.run("echo new >f; kill -9 -1")
    undone = shell.undo()
    assert undone.how is UndoHow.CONTAINER
    assert "killed" in undone.notes[0] and "new container" in undone.notes[0]
    after = shell.run('pwd; read l <f; echo "$l $e $v${u-}"')
    assert (after.out, after.changes) == ("/workspace/d\nold exported 1\n", ())
    assert shell._live is not None and shell._live.container_name != container


def test_steps_before_a_fresh_container_can_be_undone_too(session: Session) -> None:
    session.run("export e=1; echo 1 >f").check()
    session.run("export e=2; echo 2 >f; mkdir d; cd d").check()
    session.run(["true"])  # the shell's copy stands, and has told what is exported
    session.run("kill -9 -1")
    session.undo(2)
    undone = session.undo()
    assert (undone.how, undone.steps) == (UndoHow.CONTAINER, ("export-e-2-echo-2-f-mkdir-d-cd-d",))
    assert "ended with its container" in undone.notes[0]
    assert session.run("cat f; echo $e; pwd").out == "1\n1\n/workspace\n"
    session.run("v=3").check()
    assert session.undo().how is UndoHow.SHELL


def test_a_state_with_open_files_is_had_back_by_a_fresh_container(shell: Session) -> None:
    shell.run("mkfifo pipe; exec 3<>pipe; export e=1; u=2").check()
    shell.run("u=3").check()
    undone = shell.undo()
    assert undone.how is UndoHow.CONTAINER and "file descriptor 3 open then" in undone.notes[0]
    assert shell.run('echo "$e${u-}"').out == "1\n"


def test_open_files_of_an_undone_step_are_closed_and_told(shell: Session) -> None:
    shell.run("u=1").check()
    shell.run("exec 3>lock").check()
    undone = shell.undo()
    assert undone.how is UndoHow.SHELL
    assert any("file descriptors" in note for note in undone.notes)
    assert shell.run("echo $u; echo *; if ( : >&3 ) 2>/dev/null; then echo open; else echo closed; fi").out == "1\n*\nclosed\n"


def test_the_killed_supervisor_of_a_shell_is_no_obstacle(session: Session) -> None:
    session.run("v=1").check()
    session.run("v=2; kill -9 $PPID")
    assert session.undo().how is UndoHow.SHELL
    assert session.run("echo $v").out == "1\n"
    session.run("v=4").check()
    session.undo()
    assert session.run("echo $v").out == "1\n"


def test_a_copy_that_a_step_has_stopped_goes_on(session: Session) -> None:
    session.run("v=1").check()
    session.run(":").check()  # by its end the copy stands; a step that comes at once may stop it before it has told of itself
    session.run(
        "for p in /proc/[0-9]*; do p=${p#/proc/}; case $p in $$ | $PPID) ;; *) kill -STOP $p 2>/dev/null ;; esac; done; v=2"
    )
    assert session.undo(2).how is UndoHow.SHELL
    assert session.run("echo $v").out == "1\n"


def test_options_and_positional_parameters_come_back(shell: Session) -> None:
    shell.run("set -u; set -- a 'b c'; umask 027").check()
    shell.run("set +u; set -f; set --; umask 022").check()
    assert shell.undo().how is UndoHow.SHELL
    assert (
        shell.run('case $- in *u*) echo u ;; esac; case $- in *f*) echo f ;; esac; echo "$# $2"; umask').out == "u\n2 b c\n0027\n"
    )


def test_tracing_is_on_again(shell: Session) -> None:
    shell.run("set -x").check()
    shell.run("set +x").check()
    shell.undo()
    assert "echo hi" in shell.run("echo hi").err


def test_under_errexit_the_shell_goes_on(shell: Session) -> None:
    shell.run("set -e; mkdir d; cd d").check()
    shell.run("cd ..; rmdir d; set +e").check()
    assert shell.undo().how is UndoHow.SHELL
    assert shell.run("case $- in *e*) pwd ;; esac").out == "/workspace/d\n"


# Directories that were made, moved and removed


def test_a_directory_that_was_removed_is_entered_anew(shell: Session) -> None:
    shell.run("mkdir -p d/e; cd d/e; echo x >f").check()
    shell.run("cd /workspace; rm -rf d").check()
    shell.undo()
    after = shell.run("pwd; echo *; echo y >g; cat /workspace/d/e/g; cd -; cd ..; pwd")
    assert after.out == "/workspace/d/e\nf\ny\n/workspace\n/\n"


def test_going_back_before_the_directory_was_made(shell: Session) -> None:
    shell.run("mkdir d; cd d; echo x >f").check()
    shell.undo()
    assert shell.run("pwd; echo *; echo ${OLDPWD-unset}").out == "/workspace\n*\nunset\n"


def test_a_directory_whose_name_is_no_plain_text(shell: Session) -> None:
    name = "a b'\\\n$(x)é"
    quoted = "'" + name.replace("'", "'\\''") + "'"
    shell.run(f"mkdir -- {quoted}; cd -- {quoted}; echo x >f").check()
    shell.run("cd ..; rm -rf -- *").check()
    shell.undo()
    assert shell.run("pwd; echo *").out == f"/workspace/{name}\nf\n"


# Files


def test_every_kind_of_file_comes_back_with_mode_owner_and_time(session: Session) -> None:
    session.run(
        "mkdir -p d/empty d/deep/er; echo x >d/f; chmod 4751 d/f; ln -s 'no where' d/link; mkfifo -m 620 d/fifo; : >d/nothing;"
        "printf 'a\\0\\377\\r\\n' >d/bin; echo y >'d/a\nb'; echo z >$(printf 'd/\\377'); chmod 500 d/deep;"
        "touch -hd 2001-02-03 d/*; touch -d 2002-02-02 d/deep/er d;"
        "echo t >/tmp/t; mkdir ~/h; echo h >~/h/h; cd /; touch -d 2003-03-03 /workspace"
    ).check()
    trees = "for t in /workspace /tmp ~; do cd $t; " + TREE + "; done; cd /"
    before = session.run(trees).check().out
    session.run("chmod -R 777 /workspace; rm -rf /workspace/* /tmp/* ~/*; mkdir /workspace/d; echo other >/workspace/d/f").check()
    assert notes(session.undo()) == []
    after = session.run(trees)
    assert (after.out, after.changes, after.outside) == (before, (), ())


def test_a_path_that_became_something_else_is_what_it_was(session: Session) -> None:
    session.run("echo f >file; mkdir dir; echo x >dir/x; ln -s file link; mkfifo fifo").check()
    before = session.run(TREE).check().out
    session.run("rm -rf file dir link fifo; mkdir file fifo; echo y >file/y; ln -s /etc dir; echo z >link").check()
    session.undo()
    assert session.run(TREE).out == before


def test_times_come_back_where_nothing_else_changed(session: Session) -> None:
    session.run("echo x >f; mkdir d; touch -d 2001-01-01 f d").check()
    session.run("touch f d").check()
    session.undo()
    assert session.run("stat -c %Y f d").out == "978307200\n978307200\n"


def test_the_workspace_itself_gets_its_mode_again(session: Session) -> None:
    session.run("echo x >f").check()
    session.run("chmod 000 f /workspace").check()
    assert notes(session.undo()) == []
    assert session.run("stat -c %a /workspace f; cat f").out == "755\n644\nx\n"


def test_files_of_the_host_and_of_the_start_come_back(session: Session) -> None:
    session.put("given", "from the host\n")
    session.run("true").check()
    session.put("later", "put after that\n", mode=0o640)
    session.run("rm given later").check()
    session.undo()
    assert session.run("cat given later; stat -c %a later").out == "from the host\nput after that\n640\n"
    session.undo(2)
    assert session.run("echo *").out == "given\n"


def test_thousands_of_new_files_go_and_come_back(session: Session) -> None:
    session.run("mkdir d; seq 5000 | split -a 3 -l 1 - d/f").check()
    session.run("echo x >d/faaa; rm -rf d/fb*; seq 1000 | split -a 3 -l 1 - g").check()
    session.undo()
    assert session.run("ls | wc -l; ls d | wc -l; cat d/* | sort -n | uniq | wc -l; cat d/faaa").out == "1\n5000\n5000\n1\n"
    session.undo(2)
    assert session.run("ls | wc -l").out == "0\n"


def test_hard_links_come_back_as_copies_and_that_is_said(session: Session) -> None:
    session.run("echo x >a; ln a b").check()
    session.run("echo y >a").check()
    assert notes(session.undo()) == ["hard links came back as files of their own: a, b"]
    assert session.run("cat a b; stat -c %h a b").out == "x\nx\n1\n1\n"


def test_a_file_too_large_to_be_kept_is_named_and_stays_as_it_is(session: Session) -> None:
    session.run("truncate -s 65M big /tmp/big; echo small >s").check()
    session.run("echo more >>big; echo more >>/tmp/big; rm s").check()
    (note,) = notes(session.undo())
    why = "not kept: more than 64 MiB, or too much together"
    assert note == f"not restored: /tmp/big ({why}), big ({why})"
    assert session.run("tail -c 5 big; tail -c 5 /tmp/big; cat s; stat -c %s big").out == "more\nmore\nsmall\n68157445\n"


def test_a_socket_cannot_be_made_again_and_is_named(session: Session) -> None:
    session.run(["perl", "-MSocket", "-e", 'socket S,AF_UNIX,SOCK_STREAM,0; bind S,sockaddr_un("s") or die']).check()
    session.run("rm s").check()
    assert notes(session.undo()) == ["not restored: s (a socket)"]


def test_the_next_step_sees_only_what_it_changes(session: Session) -> None:
    session.run("echo x >a; echo y >b; echo t >/tmp/t").check()
    session.run("rm a; echo z >b; echo u >/tmp/t; mkdir d").check()
    session.undo()
    after = session.run("echo more >>a; echo made >c; rm c")
    assert [(change.change.value, change.path) for change in after.changes] == [("modified", "a")]
    assert (after.outside, after.transient, after.notes) == ((), ("c",), ())


def test_a_step_is_undone_however_old_the_project_s_blobs_are(session: Session, tmp_path: Path) -> None:
    session.run("echo precious >a").check()
    for blob in (tmp_path / ".testronaut" / "blobs").glob("??/*"):
        blob.unlink()
    session.run("rm a").check()
    assert notes(session.undo()) == []
    assert session.get("a") == b"precious\n"


def test_content_that_nobody_can_ask_for_any_more_makes_room(tmp_path: Path) -> None:
    keep = UndoCache(tmp_path / "keep", KeepLimits(file_bytes=100, total_bytes=250))
    used: set[str] = set()
    keep.in_use = lambda: used

    def store(text: bytes) -> str:
        spool = keep.new_spool()
        spool.write_bytes(text)
        sha = hashlib.sha256(text).hexdigest()
        keep.adopt(spool, sha)
        return sha

    first, second = store(b"a" * 100), store(b"b" * 100)
    assert keep.path(store(b"c" * 101)) is None
    assert keep.path(store(b"d" * 60)) is None  # all that is there was seen just now
    keep.recent.clear()
    used.add(second)
    third = store(b"e" * 100)
    assert [keep.path(sha) is not None for sha in (first, second, third)] == [False, True, True]
    assert sorted(path.name for path in (tmp_path / "keep").iterdir()) == sorted([second, third])


# What runs beside the shell


def test_what_an_undone_step_left_running_is_ended_and_what_ran_before_goes_on(session: Session) -> None:
    session.run("sleep 1001 & echo $! >pid").check()
    session.run("sleep 1002 & (sleep 1003 & setsid sleep 1004 &)").check()
    said = notes(session.undo())
    assert [note.partition(":")[0] for note in said] == [
        "ended what the undone steps had left running",
        "goes on, unknown to the shell's `jobs`, `wait` and `fg`",
    ]
    assert session.run(SLEEPERS).out == "sleep 1001\n"
    assert session.run("kill $(cat pid)").left_behind == ()


def test_a_job_that_an_undone_step_ended_does_not_come_back_and_that_is_said(session: Session) -> None:
    session.run("sleep 1001 & echo $! >pid").check()
    session.run("kill $(cat pid)").check()
    (note,) = notes(session.undo())
    assert note.startswith("no longer runs, and does not come back: sleep (")


def test_a_background_program_of_an_undone_step_is_ended(session: Session) -> None:
    session.run("true").check()
    live = session._started()
    start = StepRequest("web", "session::web", run="sleep 1000", background="web")
    assert live.run(start).exit.kind is ExitKind.RUNNING
    assert notes(live.undo(1)) == ["ended the background program web"]
    assert live.background == frozenset()
    assert session.run(SLEEPERS).out == ""


def test_a_background_program_that_was_stopped_is_told(session: Session) -> None:
    live = session._started()
    live.run(StepRequest("web", "session::web", run="sleep 1000", background="web"))
    live.run(StepRequest("stop", "session::stop", stop="web"))
    assert notes(live.undo(1)) == ["the background program web was stopped and does not come back"]


def test_what_is_in_memory_is_told_only_where_there_is_something(session: Session) -> None:
    session.run("echo x >/var/tmp/x; set -f").check()
    assert notes(session.undo()) == ["not undone: what is in /var/tmp, which is in memory and not captured"]


def test_traps_are_as_they_were_then(session: Session) -> None:
    session.run("trap 'echo bye' EXIT").check()
    session.run("trap 'echo never' EXIT").check()
    session.run("trap - EXIT").check()
    assert notes(session.undo(2)) == []
    assert session.run("exit 3").out == "bye\n"
    assert notes(session.undo(2)) == []
    assert session.run("exit 3").out == ""


def test_steps_find_as_much_room_for_processes_as_without_undo(undoable: MakeUndoable) -> None:
    session = undoable(limits=Limits(pids=20))
    for i in range(6):
        session.run(f"v={i}").check()
    crowd = 'i=0; while [ $i -lt 18 ]; do sleep 100 & p="$p $!"; i=$((i+1)); done; kill $p'
    result = session.run(crowd)
    assert (result.exit.kind, result.err) == (ExitKind.EXITED, "")
    assert session.undo(4).how is UndoHow.SHELL
    assert session.run("echo $v").out == "2\n"


@pytest.mark.needs("limits")
def test_a_fork_bomb_is_undone(undoable: MakeUndoable) -> None:
    session = undoable(limits=Limits(pids=40))
    session.run("v=1; echo x >f").check()
    bomb = session.run("b() { b | b & }; rm f; b; sleep 5")
    assert bomb.exit.kind in (ExitKind.PIDS_LIMIT, ExitKind.EXITED, ExitKind.TIMEOUT)
    session.undo()
    assert session.run("cat f").out == "x\n"


# The rest of the container


@pytest.mark.usefixtures("root_allowed")
def test_a_changed_root_file_system_needs_a_fresh_container(undoable: MakeUndoable) -> None:
    session = undoable(user="root", rootfs="writable")
    session.run("echo first >/etc/first; echo a >a; export e=1; u=2").check()
    session.run("echo second >/etc/second; rm a").check()
    undone = session.undo()
    assert undone.how is UndoHow.CONTAINER
    assert "the undone steps had changed the root file system" in undone.notes[0]
    assert "changes of the root file system by earlier steps are gone too: /etc/first" in undone.notes
    assert session.run('cat a; echo "$e${u-}"; ls /etc/first /etc/second 2>&1 | wc -l').out == "a\n1\n2\n"


@pytest.mark.usefixtures("root_allowed")
def test_a_root_file_system_that_did_not_change_is_no_matter(undoable: MakeUndoable) -> None:
    session = undoable(user="root", rootfs="writable")
    session.run("echo first >/etc/first; u=2").check()
    session.run("u=3").check()
    assert session.undo().how is UndoHow.SHELL
    assert session.run("cat /etc/first; echo $u").out == "first\n2\n"


def test_steps_before_an_installation_are_undone_and_the_tool_stays(session: Session) -> None:
    session.run("export e=1; echo 1 >f").check()
    session.run("export e=2; echo 2 >f").check()
    session.install("apt:jq")
    assert session.undo().how is UndoHow.CONTAINER
    assert session.run("cat f; echo $e; jq -n 1").out == "1\n1\n1\n"


def test_the_plain_driver_refuses_it_by_name(undoable: MakeUndoable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTRONAUT_LAB_DRIVER", "plain")
    session = undoable()
    session.run("true").check()
    with pytest.raises(UsageError, match="plain driver"):
        session.undo()
    assert session.run("true").ok


def test_a_lost_session_is_not_undone(session: Session, engine: Engine) -> None:
    session.run("true").check()
    assert session._live is not None
    engine.client.api.kill(session._live.container_name)
    assert session.run("true").exit.kind is ExitKind.SESSION_LOST
    with pytest.raises(SessionLost, match="lost before this undo"):
        session.undo()


def test_a_container_that_is_gone_at_the_undo_is_a_lost_session(session: Session, engine: Engine) -> None:
    session.run("true").check()
    assert session._live is not None
    engine.client.api.kill(session._live.container_name)
    with pytest.raises(SessionLost):
        session.undo()
    with pytest.raises(SessionLost):
        session.run("true")


def test_a_session_s_directory_is_gone_with_what_it_kept(undoable: MakeUndoable, own_sessions_root: Path) -> None:
    session = undoable()
    session.run("echo x >f; echo y >/tmp/t").check()
    assert len(list(own_sessions_root.glob("*/undo/*"))) == 2
    session.close()
    assert list(own_sessions_root.glob("*/undo")) == []


def test_what_asking_the_shell_has_brought_to_light_is_among_the_notes(session: Session) -> None:
    session.run("while :; do : >/run/lab/end/mine; done &").check()
    session.run("v=1").check()
    undone = session.undo()
    assert [note for note in undone.notes if "made files in /run/lab/end" in note] != []
