"""Files that a step made unreadable, for a caller that is not root: read, stored, and left as the step made them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.live_session import Lab

from testronaut_lab.api import Session
from testronaut_lab.execution.runner import LiveSession

SECRET = hashlib.sha256(b"secret\n").hexdigest()
NOBODY = 65534


def as_ordinary_user(tree: Path, code: str) -> str:
    """Run a program with `scanner` and `diff` as the owner of the tree, an ordinary user; return its output."""
    if os.getuid() == 0:
        for path in (tree, *tree.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    start = f"""
        import os
        from pathlib import Path
        from testronaut_lab.capture.file_capture import EMPTY, Scanner, diff
        os.chdir({str(tree)!r})
        scanner = Scanner(Path("."))
        if os.getuid() == 0:
            os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
    """
    program = textwrap.dedent(start) + textwrap.dedent(code)
    # coverage would write its data as that user, into a folder of root
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    said = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    return said.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """`d/in/f` and `f`, which say "secret"."""
    (tmp_path / "tree/d/in").mkdir(parents=True)
    for name in ("d/in/f", "f"):
        (tmp_path / "tree" / name).write_text("secret\n")
    return tmp_path / "tree"


LOOK = """
    seen = scanner.scan()
    print(*(f"{path} {entry.mode:o} {entry.sha256}" for path, entry in sorted(seen.entries.items())), *seen.notes, sep="\\n")
"""


@pytest.mark.parametrize("mode", [0o000, 0o200, 0o077])
def test_a_file_that_its_owner_may_not_read_is_read(tree: Path, mode: int) -> None:
    (tree / "f").chmod(mode)
    assert f"f {mode:o} {SECRET}" in as_ordinary_user(tree, LOOK).splitlines()
    assert (tree / "f").stat().st_mode & 0o7777 == mode


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o400, 0o600, 0o1077])
def test_a_directory_that_its_owner_may_not_enter_is_looked_into(tree: Path, mode: int) -> None:
    (tree / "d/in/f").chmod(0)
    (tree / "d/in").chmod(mode)
    (tree / "d").chmod(mode)
    told = as_ordinary_user(tree, LOOK)
    assert told.splitlines() == [f"d {mode:o} None", f"d/in {mode:o} None", f"d/in/f 0 {SECRET}", f"f 644 {SECRET}"]
    assert {mode} == {path.stat().st_mode & 0o7777 for path in (tree / "d",)}


def test_the_root_of_the_tree_may_be_locked_too(tree: Path) -> None:
    code = "os.chmod('.', 0)\n" + textwrap.dedent(LOOK) + "print(oct(os.stat(scanner._root_fd).st_mode))"
    assert as_ordinary_user(tree, code).splitlines()[-2:] == [f"f 644 {SECRET}", "0o40000"]


def test_looking_twice_is_no_change(tree: Path) -> None:
    (tree / "f").chmod(0)
    (tree / "d").chmod(0)
    told = as_ordinary_user(
        tree, "first = scanner.scan()\nsecond = scanner.scan(first)\nprint(diff(first, second), second.notes)"
    )
    assert told == "() ()\n"


def test_a_locked_file_is_not_read_again_until_it_changes(tree: Path) -> None:
    (tree / "f").chmod(0)
    code = """
        first = scanner.scan()
        reads = []
        was, os.read = os.read, lambda fd, size: reads.append(fd) or was(fd, size)
        again = scanner.scan(first)
        print(reads, again.entries["f"] == first.entries["f"])
    """
    assert as_ordinary_user(tree, code) == "[] True\n"


def test_a_file_is_read_by_its_name_below_what_is_locked(tree: Path) -> None:
    for name, mode in (("d/in/f", 0), ("d/in", 0), ("d", 0o400)):
        (tree / name).chmod(mode)
    assert as_ordinary_user(tree, "print(scanner.read('d/in/f', 100), oct(os.stat('d').st_mode))") == "b'secret\\n' 0o40400\n"


@pytest.mark.engine
def test_what_a_step_locks_is_captured_and_stays_locked(fresh: Lab) -> None:
    result = fresh.run("mkdir -p d/in; echo secret | tee d/in/f >f; chmod 0 f d/in/f; chmod 0 d/in d")
    assert [(change.path, change.mode, change.sha256) for change in result.changes] == [
        ("d", 0, None), ("d/in", 0, None), ("d/in/f", 0, SECRET), ("f", 0, SECRET)
    ]  # fmt: skip
    assert fresh.run("stat -c %a f d; cat f 2>/dev/null").stdout == b"0\n0\n"
    assert fresh.run("rm -f f").changes[0].path == "f"


@pytest.mark.engine
@pytest.mark.parametrize("place", ["/workspace", "/tmp", "$HOME"])
def test_a_session_whose_directories_were_locked_goes_on_and_is_removed(fresh: Lab, place: str) -> None:
    fresh.run(f"mkdir -p {place}/a/b; touch {place}/a/b/c; chmod 0 {place}/a/b {place}/a {place}")
    assert fresh.run("echo on").stdout == b"on\n"
    live: LiveSession = fresh.session
    folder = live._place.workspace.parent
    live.close()
    assert not folder.exists()


@pytest.mark.engine
def test_what_was_locked_comes_back_when_a_step_is_undone(tmp_path: Path) -> None:
    with Session(root=tmp_path, undo=1) as session:
        session.run("mkdir -p d/in; echo secret | tee d/in/f >f; chmod 0 f d/in/f; chmod 0 d/in d").check()
        session.run("chmod 700 d; chmod 700 d/in; rm -rf d f").check()
        assert [note for note in session.undo().notes if "`$$`" not in note] == []
        assert (
            session.run("stat -c %a f d; chmod 700 d; stat -c %a d/in; chmod 700 d/in; stat -c %a d/in/f").out == "0\n0\n0\n0\n"
        )
        assert session.run("chmod 600 d/in/f; cat d/in/f").out == "secret\n"
