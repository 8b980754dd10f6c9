"""A session's directories on the host: who owns them, who is told dead, and that everything can be removed again."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from testronaut_lab.container.sessiondir import SessionDir, abandoned, remove_session, remove_tree, sessions_root
from testronaut_lab.container.stepuser import CallerInside, StepUser
from testronaut_lab.errors import CaptureError

LAB = StepUser.choose("lab")
OWNER = """
import sys
from pathlib import Path
from testronaut_lab.container.sessiondir import SessionDir
from testronaut_lab.container.stepuser import StepUser
made = SessionDir.create(StepUser.choose("lab"), Path(sys.argv[1]))
print(made.id, flush=True)
sys.stdin.read()
"""


def owner_of_a_session(root: Path) -> tuple[subprocess.Popen[str], str]:
    """Another process that has made a session, and the session's id."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_the_directories_belong_to_the_steps_user(tmp_path: Path) -> None:
    session = SessionDir.create(LAB, tmp_path)
    for folder in (session.workspace, session.home, session.tmp):
        assert (folder.stat().st_uid, folder.stat().st_gid) == (LAB.uid, LAB.gid)
    session.remove()


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        session = SessionDir.create(LAB, tmp_path)
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE(path.stat().st_mode) for path in (session.workspace, session.home, session.tmp, session.etc, session.run)
    ]
    assert modes == [0o755, 0o755, 0o1777, 0o755, 0o755]
    session.remove()


def test_the_user_and_root_have_names(tmp_path: Path) -> None:
    session = SessionDir.create(LAB, tmp_path)
    users = {line.split(":")[0]: line.split(":")[2] for line in (session.etc / "passwd").read_text().splitlines()}
    assert users == {"root": "0", "lab": str(LAB.uid), "nobody": "65534"}
    session.remove()


def test_an_id_that_is_root_too_has_the_steps_name(tmp_path: Path) -> None:
    session = SessionDir.create(StepUser.choose("lab", CallerInside.ROOT), tmp_path)
    for file in ("passwd", "group"):
        first = (session.etc / file).read_text().splitlines()[0].split(":")
        assert (first[0], first[2]) == ("lab", "0")
    session.remove()


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    session = SessionDir.create(LAB, tmp_path)
    run = session.run
    session.remove()
    assert list(tmp_path.glob("[!.]*")) == []
    assert not run.exists()


def test_removing_twice_is_fine(tmp_path: Path) -> None:
    session = SessionDir.create(LAB, tmp_path)
    session.remove()
    session.remove()


def test_a_session_of_this_process_is_not_abandoned(tmp_path: Path) -> None:
    session = SessionDir.create(LAB, tmp_path)
    assert list(abandoned(tmp_path)) == []
    session.remove()


def test_a_session_of_a_living_process_is_not_abandoned(tmp_path: Path) -> None:
    process, _ = owner_of_a_session(tmp_path)
    assert list(abandoned(tmp_path)) == []
    end(process)


def test_a_session_is_abandoned_once_its_owner_was_killed(tmp_path: Path) -> None:
    process, session_id = owner_of_a_session(tmp_path)
    end(process)
    assert list(abandoned(tmp_path)) == [tmp_path / session_id]


def test_an_abandoned_session_can_be_removed_with_its_run_directory(tmp_path: Path) -> None:
    process, session_id = owner_of_a_session(tmp_path)
    run = (tmp_path / session_id / "run").resolve()
    end(process)
    assert run.is_dir()
    remove_session(tmp_path / session_id)
    assert not run.exists() and not (tmp_path / session_id).exists()


def test_a_kept_session_is_abandoned_only_for_those_who_ask(tmp_path: Path) -> None:
    session = SessionDir.create(LAB, tmp_path)
    session.keep()
    assert list(abandoned(tmp_path)) == []
    assert list(abandoned(tmp_path, kept=True)) == [session.path]
    remove_session(session.path)


def test_a_session_that_is_being_made_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / ".draft").mkdir()
    assert list(abandoned(tmp_path)) == []


def test_no_sessions_at_all_are_no_error(tmp_path: Path) -> None:
    assert list(abandoned(tmp_path / "none")) == []


def test_directories_without_permissions_are_removed(tmp_path: Path) -> None:
    (tmp_path / "x/a/b").mkdir(parents=True)
    (tmp_path / "x/a/b/file").write_text("x")
    for path in ("x/a/b", "x/a"):
        (tmp_path / path).chmod(0)
    remove_as_nobody_in_particular(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def remove_as_nobody_in_particular(path: Path) -> None:
    """In a process of its own, which is not root: root needs no permissions."""
    code = f"""
import os
from pathlib import Path
from testronaut_lab.container.sessiondir import remove_tree
os.chdir({str(path.parent)!r})
if os.getuid() == 0:
    for folder in (".", "x", "x/a", "x/a/b"):
        os.chown(folder, 65534, 65534)
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
remove_tree(Path("x"))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_text("x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(tmp_path / "outside")
    remove_tree(tmp_path / "tree")
    assert (tmp_path / "outside/kept").read_text() == "x"


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")


def test_what_cannot_be_made_is_a_capture_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CaptureError, match="directories of a session"):
        SessionDir.create(LAB, tmp_path / "file" / "sessions")


def test_the_place_of_sessions_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TESTRONAUT_LAB_SESSIONS", str(tmp_path))
    assert sessions_root() == tmp_path
    monkeypatch.delenv("TESTRONAUT_LAB_SESSIONS")
    assert sessions_root().name == "sessions"
