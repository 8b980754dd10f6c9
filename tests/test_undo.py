"""Undoing steps of a session: files, shell and what runs beside it are as before them; what is not is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SHELLS

from testronaut_lab.errors import UsageError
from testronaut_lab.lab import Session
from testronaut_lab.model.events import StepsUndone
from testronaut_lab.model.result import ShellState
from testronaut_lab.model.undo import UndoHow, UndoResult
from testronaut_lab.report.view import RunView
from testronaut_lab.workbench import SessionSettings

pytestmark = pytest.mark.engine

MakeUndoable = Callable[..., Session]

TREE = "find . -printf '%P %y %m %s %l %U %T@\\n' | sort; find . -type f -exec md5sum {} + | sort"


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


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, undoable: MakeUndoable, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session in each shell; busybox is an image of its own, which is there by its tag."""
    if request.param == "busybox":
        request.getfixturevalue("busybox_image")
    made = undoable(shell="bash" if request.param == "bash" else "sh")
    if request.param == "busybox":
        monkeypatch.setattr(made, "_image", type(made._image)("testronaut-lab/test-busybox:1"))
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
