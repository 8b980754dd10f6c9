"""Files put into a workspace: exact, owned, never through a link, never outside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.execution.files import Placer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    root.mkdir()
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder on the host."""
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "run.sh").write_text("echo\n")
    (source / "sub" / "run.sh").chmod(0o750)
    return source


@pytest.fixture
def placer(root: Path) -> Placer:
    return Placer(root, None)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_file_has_these_bytes_and_mode_and_its_parents_are_made(placer: Placer, root: Path) -> None:
    placer.put("a/b/./c.bin", b"\0\xff\n", 0o751)
    assert (root / "a/b/c.bin").read_bytes() == b"\0\xff\n"
    assert [mode(root / path) for path in ("a", "a/b", "a/b/c.bin")] == [0o755, 0o755, 0o751]


def test_a_folder_keeps_its_times_and_hard_links(placer: Placer, root: Path, source: Path) -> None:
    os.link(source / "sub/run.sh", source / "again.sh")
    (source / "link").symlink_to("sub")
    for name in ("sub/run.sh", "link", "sub"):
        os.utime(source / name, ns=(10**18, 10**18 + 5), follow_symlinks=False)
    placer.copy("data", source)
    assert [(root / "data" / name).lstat().st_mtime_ns for name in ("again.sh", "link", "sub")] == [10**18 + 5] * 3
    assert (root / "data/again.sh").samefile(root / "data/sub/run.sh")
    placer.copy("one", source / "again.sh")
    assert (root / "one").stat().st_mtime_ns == 10**18 + 5


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_the_umask(umask: int, placer: Placer, root: Path) -> None:
    before = os.umask(umask)
    try:
        placer.put("a/b", b"")
    finally:
        os.umask(before)
    assert [mode(root / "a"), mode(root / "a/b")] == [0o755, 0o644]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_everything_belongs_to_the_owner(root: Path, source: Path) -> None:
    (source / "link").symlink_to("sub")
    placer = Placer(root, (1234, 4321))
    placer.put("p/file", b"")
    placer.copy("copied/here", source)
    seen = {(path.lstat().st_uid, path.lstat().st_gid) for path in root.rglob("*")}
    assert seen == {(1234, 4321)}


@pytest.mark.parametrize("path", ["", ".", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "a\0b", "a\ud800"])
def test_a_path_that_is_not_below_the_workspace_is_refused(path: str, placer: Placer, root: Path) -> None:
    with pytest.raises(UsageError, match="is not a path below the workspace"):
        placer.put(path, b"")
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("path", ["/etc", "..", "../x", "a/../../x", "a\0b"])
def test_a_folder_is_not_copied_out_of_the_workspace_either(path: str, placer: Placer, root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir(0o700)
    with pytest.raises(UsageError, match="is not a path below the workspace"):
        placer.copy(path, empty)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["empty", "workspace"]


def test_what_stands_under_the_name_is_replaced_and_a_link_is_not_followed(placer: Placer, root: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (root / "link").symlink_to(victim)
    (root / "folder" / "deep").mkdir(parents=True)
    placer.put("link", b"new")
    placer.put("folder", b"new")
    assert victim.read_text() == "mine"
    assert [(root / name).read_bytes() for name in ("link", "folder")] == [b"new", b"new"]
    assert not (root / "link").is_symlink()


def test_a_folder_that_is_replaced_by_a_file_takes_nothing_with_it_that_it_links_to(
    placer: Placer, root: Path, source: Path
) -> None:
    (root / "folder").mkdir()
    (root / "folder" / "link").symlink_to(source)
    placer.put("folder", b"")
    assert (source / "sub" / "run.sh").exists()


@pytest.mark.parametrize("path", ["out/file", "out/deep/file"])
def test_a_parent_that_is_a_link_is_refused(path: str, placer: Placer, root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CaptureError, match=f"writing {path} into the workspace: "):
        placer.put(path, b"")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_parent_that_is_a_file_is_refused(placer: Placer, root: Path) -> None:
    placer.put("file", b"stays")
    with pytest.raises(CaptureError, match="writing file/below into the workspace: Not a directory"):
        placer.put("file/below", b"")
    assert (root / "file").read_bytes() == b"stays"


def test_a_folder_keeps_its_modes_and_inner_links(placer: Placer, root: Path, source: Path) -> None:
    (source / "sub").chmod(0o700)
    (source / "up").symlink_to("sub/run.sh")
    (source / "sub" / "back").symlink_to("../up")
    (source / "dangling").symlink_to("sub/nothing")
    (source / "loop").symlink_to("loop")
    placer.copy("data", source)
    assert [mode(root / "data/sub"), mode(root / "data/sub/run.sh")] == [0o700, 0o750]
    assert (root / "data/sub/back").read_text() == "echo\n"
    links = {name: os.readlink(root / "data" / name) for name in ("up", "sub/back", "dangling", "loop")}
    assert links == {"up": "sub/run.sh", "sub/back": "../up", "dangling": "sub/nothing", "loop": "loop"}


def test_a_folder_that_may_not_be_written_to_is_copied_whole(placer: Placer, root: Path, source: Path) -> None:
    (source / "sub").chmod(0o555)
    try:
        placer.copy("data", source)
        assert mode(root / "data/sub") == 0o555
        assert (root / "data/sub/run.sh").read_text() == "echo\n"
    finally:
        (source / "sub").chmod(0o755)
        (root / "data/sub").chmod(0o755)


def test_a_folder_can_become_the_workspace_itself(placer: Placer, root: Path, source: Path) -> None:
    source.chmod(0o711)
    before = mode(root)
    placer.copy(".", source)
    assert (root / "sub/run.sh").exists()
    assert mode(root) == before


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "sub/../../secret", "here/../secret"])
def test_a_link_that_leads_out_is_refused(target: str, placer: Placer, root: Path, source: Path) -> None:
    (source.parent / "secret").write_text("secret")
    (source / "here").symlink_to(".")
    (source / "sub" / "evil").symlink_to(target if target[0] == "/" else f"../{target}")
    with pytest.raises(UsageError, match=r"is a link to .*, which leads out of "):
        placer.copy("data", source)


def test_a_link_that_leads_out_of_the_current_folder_is_refused(
    placer: Placer, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "evil").symlink_to("../secret")
    monkeypatch.chdir(source)
    with pytest.raises(UsageError, match="evil is a link to"):
        placer.copy("data", Path())


def test_a_link_through_a_folder_that_leads_out_is_refused(placer: Placer, source: Path) -> None:
    (source / "out").symlink_to("..")
    (source / "a").symlink_to("out/secret")
    with pytest.raises(UsageError, match="leads out of"):
        placer.copy("data", source)


def test_a_fifo_is_refused_and_not_waited_for(placer: Placer, source: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(UsageError, match="pipe is neither file, folder nor link"):
        placer.copy("data", source)


def test_a_single_file_takes_its_own_mode_or_the_one_that_is_asked_for(placer: Placer, root: Path, source: Path) -> None:
    placer.copy("own", source / "sub" / "run.sh")
    placer.copy("asked", source / "sub" / "run.sh", 0o600)
    assert [mode(root / "own"), mode(root / "asked")] == [0o750, 0o600]


def test_a_source_that_is_not_there_says_so(placer: Placer, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=f"copying {tmp_path}/none to x in the workspace: No such file"):
        placer.copy("x", tmp_path / "none")


def test_names_that_are_no_utf8_are_kept(placer: Placer, root: Path, source: Path) -> None:
    (source / os.fsdecode(b"caf\xe9")).write_text("x")
    placer.copy("data", source)
    assert b"caf\xe9" in os.listdir(os.fsencode(root / "data"))
