"""A session's directories on the host: who owns them, who is told dead, and that everything can be removed again."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from testronaut_lab.container.stepuser import CallerInside, StepUser
from testronaut_lab.errors import CaptureError
from testronaut_lab.execution.directory import Lease, SessionDir, abandoned, lease_of, remove_session, remove_tree, sessions_root

LAB = StepUser.choose("lab")
OWNER = """
import sys
from pathlib import Path
from testronaut_lab.execution.directory import SessionDir
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
    assert list(tmp_path.glob("[!.]*")) == []


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
from testronaut_lab.execution.directory import remove_tree
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
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_made_is_a_capture_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CaptureError, match="directories of a session"):
        SessionDir.create(LAB, tmp_path / "file" / "sessions")


def test_the_place_of_sessions_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TESTRONAUT_LAB_SESSIONS", str(tmp_path))
    assert sessions_root() == tmp_path
    monkeypatch.delenv("TESTRONAUT_LAB_SESSIONS")
    assert sessions_root().name == "sessions"


# --- the keeper's FIFO


def mode_of_keeper(session: SessionDir) -> int:
    return stat.S_IMODE(session.keeper.stat().st_mode)


def test_the_keeper_s_fifo_is_sealed_once_the_keeper_has_read_its_line(tmp_path: Path) -> None:
    session = SessionDir.create(LAB, tmp_path)
    with session.keeper.open() as keeper:
        assert keeper.readline() == "owned\n"
        session.seal()
    assert mode_of_keeper(session) == 0o444
    session.remove()


def test_a_keeper_that_has_yet_to_read_can_still_open_its_fifo_for_both_directions(tmp_path: Path) -> None:
    session = SessionDir.create(LAB, tmp_path)
    session.seal()
    assert mode_of_keeper(session) == 0o666
    session.remove()


def test_who_keeps_a_session_lets_the_keeper_open_its_fifo_again(tmp_path: Path) -> None:
    session = SessionDir.create(LAB, tmp_path)
    session.keeper.chmod(0o444)
    session.keep()
    assert (mode_of_keeper(session), (session.run / "kept").exists()) == (0o666, True)
    remove_session(session.path)


# --- where it is


def test_the_run_directory_is_in_memory_unless_the_engine_cannot_see_that(tmp_path: Path) -> None:
    in_memory, beside = SessionDir.create(LAB, tmp_path), SessionDir.create(LAB, tmp_path, in_memory=False)
    assert (in_memory.run.parent, beside.run.parent) == (Path("/dev/shm"), beside.path)
    for session in (in_memory, beside):
        session.remove()
        assert not session.run.exists()


# --- leases


def test_a_lease_tells_the_living_from_the_dead(tmp_path: Path) -> None:
    process, session_id = owner_of_a_session(tmp_path)
    inode = (tmp_path / session_id / "lease").stat().st_ino
    held = lease_of(tmp_path / session_id, inode)
    end(process)
    assert (held, lease_of(tmp_path / session_id, inode)) == (Lease.HELD, Lease.FREE)


def test_a_copy_of_a_session_is_another_one(tmp_path: Path) -> None:
    session = SessionDir.create(LAB, tmp_path)
    assert lease_of(session.path, 1) is Lease.ABSENT
    session.remove()
    assert lease_of(session.path) is Lease.ABSENT


def test_a_draft_is_left_by_the_dead_only_when_it_is_old(tmp_path: Path) -> None:
    draft = tmp_path / ".0a1b2c3d"
    draft.mkdir()
    assert list(abandoned(tmp_path)) == []
    os.utime(draft, (0, 0))
    assert list(abandoned(tmp_path)) == [draft]


def test_what_another_process_removes_meanwhile_keeps_nobody_from_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "x" / name).mkdir(parents=True)
    real, rivals = os.rmdir, iter([True])

    def removed_by_another(path: str, *, dir_fd: int | None = None) -> None:
        if next(rivals, False):
            real(path, dir_fd=dir_fd)
        real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", removed_by_another)
    remove_tree(tmp_path / "x")
    assert not (tmp_path / "x").exists()
