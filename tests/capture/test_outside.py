"""Changes outside the workspace: in the root file system, by its overlay and by the engine's diff, in /tmp and in home."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab.api import Session
from testronaut_lab.capture import overlay
from testronaut_lab.capture.engine_diff import ArchivedImage, EngineDiff
from testronaut_lab.capture.file_capture import ScanLimits
from testronaut_lab.capture.outside import Root
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.rootfs import ContainerRoot
from testronaut_lab.errors import CaptureError
from testronaut_lab.execution.factory import SessionSettings

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.getuid() != 0, reason="a writable root and its directories on the host are for callers that are root"),
]

LIMITS = ScanLimits()
# What the image of these tests has, in a layer of its own over busybox. Its files are old: the engine's diff takes a file of
# the image's second, which has no fraction there, for the image's own.
IMAGE = """
    mkdir -p /img/d/e /img/dir /img/opaque/sub /img/tree/a; for f in d/1 d/e/2 file shadow mode opaque/old opaque/sub/3 tree/a/4
    do echo $f >/img/$f; done; chmod 755 /img/dir; ln -s opaque /img/link
    find /img -exec touch -h -d 2001-01-01 {} +
"""
# Each entry is one step and its changes in the root file system.
SCRIPTS = {
    "nothing": (":", []),
    "add": ("mkdir -p /opt/a/b; echo x >/opt/a/b/f; ln -s nowhere /opt/l; busybox mkfifo /opt/p", [
        "added dir /opt", "added dir /opt/a", "added dir /opt/a/b", "added file /opt/a/b/f", "added link /opt/l",
        "added other /opt/p"]),
    "the same again": ("echo x >/opt/a/b/f", []),
    "other content, same size": ("echo y >/opt/a/b/f", ["modified file /opt/a/b/f"]),
    "another target": ("ln -sfn elsewhere /opt/l", ["modified link /opt/l"]),
    "only times": ("touch /img/file /img /img/d", []),
    "a file of the image": ("echo FILE >/img/file", ["modified file /img/file"]),
    "a file of the image as it was": ("echo file >/img/file", ["modified file /img/file"]),
    "a mode": ("chmod 700 /img/dir; chmod 600 /img/mode /opt/a/b/f", [
        "modified dir /img/dir", "modified file /img/mode", "modified file /opt/a/b/f"]),
    "a file deleted": ("rm /img/shadow", ["deleted file /img/shadow"]),
    "a directory deleted": ("rm -r /img/d", [
        "deleted dir /img/d", "deleted file /img/d/1", "deleted dir /img/d/e", "deleted file /img/d/e/2"]),
    "and made anew": ("mkdir /img/d; echo x >/img/d/1", ["added dir /img/d", "added file /img/d/1"]),
    "replaced in one step": ("rm -r /img/opaque; mkdir /img/opaque; echo x >/img/opaque/new", [
        "added file /img/opaque/new", "deleted file /img/opaque/old", "deleted dir /img/opaque/sub",
        "deleted file /img/opaque/sub/3"]),
    "a file for a directory": ("rm -r /img/tree/a; echo x >/img/tree/a", [
        "retyped file /img/tree/a", "deleted file /img/tree/a/4"]),
    "a directory for a file": ("rm /img/file; mkdir /img/file; : >/img/file/f", [
        "retyped dir /img/file", "added file /img/file/f"]),
    "a tree moved": ("mv /opt/a /opt/c", [
        "deleted dir /opt/a", "deleted dir /opt/a/b", "deleted file /opt/a/b/f",
        "added dir /opt/c", "added dir /opt/c/b", "added file /opt/c/b/f"]),
    "a tree of the image moved": ("mv /img/tree /opt/c/tree", [
        "deleted dir /img/tree", "deleted file /img/tree/a", "added dir /opt/c/tree", "added file /opt/c/tree/a"]),
    "put back": ("rm -r /opt/c /img/d; chmod 755 /img/dir; mkdir -p /img/d/e; for f in d/1 d/e/2; do echo $f >/img/$f; done", [
        "modified dir /img/dir", "modified file /img/d/1", "added dir /img/d/e", "added file /img/d/e/2",
        "deleted dir /opt/c", "deleted dir /opt/c/b", "deleted file /opt/c/b/f", "deleted dir /opt/c/tree",
        "deleted file /opt/c/tree/a"]),
    "a directory for a link": ("rm /img/link; mkdir /img/link; echo x >/img/link/old", [
        "retyped dir /img/link", "added file /img/link/old"]),
    "where there is no root": (": >/run/x; : >/var/tmp/x; : >/dev/shm/x; : >/tmp/x; : >~/x; : >/workspace/x", []),
    "a name with odd bytes": (": >'/opt/a\nb'; : >/opt/\033; : >'/opt/\\'", [
        "added file /opt/\x1b", "added file /opt/\\\\", "added file /opt/a\nb"]),
}  # fmt: skip


def told(root: Root) -> list[str]:
    changes, notes = root.look()
    assert notes == ()
    return [f"{change.change} {change.type} /{change.path}" for change in changes]


@pytest.fixture(scope="module")
def layered_image(engine: Engine, busybox_image: str) -> Iterator[str]:
    container = engine.client.containers.run(busybox_image, ["sh", "-c", IMAGE], detach=True)
    try:
        container.wait()
        made = container.commit()
    finally:
        container.remove(force=True)
    yield str(made.id)
    engine.client.images.remove(made.id)


@pytest.fixture
def lab(make_session: MakeSession, layered_image: str) -> Lab:
    return make_session(layered_image, user="root", rootfs="writable")


@pytest.fixture
def kept(lab: Lab, engine: Engine) -> Iterator[ContainerRoot]:
    container = engine.client.containers.get(lab.session.container_name)
    kept = ContainerRoot(engine, str(container.id), f"{container.name}-test")
    yield kept
    kept.close()


def by_overlay(kept: ContainerRoot) -> Root:
    layers = kept.layers()
    assert layers is not None and overlay.readable(layers.upper)
    image = overlay.ImageLayers(layers.lower, LIMITS)
    return Root(overlay.UpperDirectory(layers.upper, image, LIMITS), image, "/root")


def by_engine(kept: ContainerRoot) -> Root:
    image = ArchivedImage(lambda: kept.image_files, lambda: None, LIMITS)
    return Root(EngineDiff(kept.changed, kept.files, image, LIMITS), image, "/root")


def test_the_upper_directory_and_the_engines_diff_tell_the_same_of_every_step(lab: Lab, kept: ContainerRoot) -> None:
    by = (by_overlay(kept), by_engine(kept))
    if lab.run("mkdir /new && rmdir /new").exit.code:
        pytest.skip("the engine has the root directory at mode 0555, which root without capabilities cannot write to")
    for root in by:
        root.look()
    for what, (script, expected) in SCRIPTS.items():
        lab.run(script).check()
        from_overlay, from_engine = told(by[0]), told(by[1])
        assert from_overlay == from_engine, what
        assert sorted(expected) == sorted(from_overlay), what
    for root in by:
        root.close()


def test_what_a_step_does_to_the_files_that_the_engine_mounts_is_told_and_undone(tmp_path: Path) -> None:
    with Session(root=tmp_path, settings=SessionSettings(user="root", rootfs="writable")) as session:
        before = session.run("cat /etc/hosts").out
        result = session.run("echo 10.0.0.1 db >>/etc/hosts; echo nameserver 10.0.0.2 >/etc/resolv.conf")
        told = [(change.change, change.path) for change in result.outside]
        assert told == [("modified", "/etc/hosts"), ("modified", "/etc/resolv.conf")]
        assert session.get("/etc/hosts").decode() == before + "10.0.0.1 db\n"
        session.undo()
        assert "10.0.0.1 db" not in session.run("cat /etc/hosts").out


def test_a_session_tells_what_each_step_changed_in_its_root_and_by_which_method(lab: Lab) -> None:
    result = lab.run("echo 1 >/img/new; echo 2 >/tmp/t; echo 3 >~/h; rm /img/file")
    assert [(change.change, change.path) for change in result.outside] == [
        ("added", "/tmp/t"), ("added", "/root/h"), ("deleted", "/img/file"), ("added", "/img/new"),
    ]  # fmt: skip
    assert result.notes == ("changes of the root file system are told by the overlay's upper directory",)
    assert (lab.run("echo 2 >/img/new; mkdir /x; rmdir /x").outside[0].change, lab.run(":").outside) == ("modified", ())


def test_the_engines_diff_is_used_where_the_upper_directory_cannot_be_read(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch, engine: Engine, layered_image: str
) -> None:
    monkeypatch.setattr(overlay, "readable", lambda upper: False)
    lab = make_session(layered_image, user="root", rootfs="writable")
    result = lab.run("echo 1 >/img/new; chmod 700 /img/dir")
    assert [(change.change, change.path) for change in result.outside] == [("modified", "/img/dir"), ("added", "/img/new")]
    assert result.notes == ("changes of the root file system are told by the engine's diff",)
    assert lab.session.read("/img/new") == b"1\n"
    lab.session.close()
    assert engine.client.api.containers(all=True, filters={"name": lab.session.container_name}) == []


@pytest.mark.parametrize("by", [by_overlay, by_engine])
def test_content_is_read_from_the_root_and_never_through_a_link(lab: Lab, kept: ContainerRoot, by: object) -> None:
    root: Root = by(kept)  # type: ignore[operator]
    lab.run("cd /img; echo new >new; ln -sfn /img/mode link; busybox mkfifo p; rm -r d; mkdir d; rm file").check()
    root.look()
    assert root.read("img/new", 100) == b"new\n"
    assert root.read("img/opaque/sub/3", 100) == b"opaque/sub/3\n"
    for path in (
        "opt/link",
        "opt/p",
        "etc/skel/.bashrc",
        "etc/skel",
        "etc/issue",
        "etc/none/x",
        "run/lab/driver",
        "proc/1/environ",
    ):
        with pytest.raises(FileNotFoundError):
            root.read(path, 100)
    with pytest.raises(CaptureError, match="not read"):
        root.read("img/new", 3)


def test_content_of_tmp_and_home_and_workspace_is_read_by_absolute_paths(fresh: Lab, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary")
    fresh.run(f"echo w >w; echo t >/tmp/t; echo h >~/h; ln -s {tmp_path} /tmp/l; ln -s {tmp_path}/secret ~/l")
    read = fresh.session.read
    assert (read("/workspace/w"), read("/tmp/t"), read("/home/lab/h")) == (b"w\n", b"t\n", b"h\n")
    for path in ("/tmp/l/secret", "/home/lab/l", "/tmp", "/etc/passwd", "/tmp/../etc/passwd", "/"):
        with pytest.raises(FileNotFoundError):
            read(path)


def test_a_link_in_the_root_that_leads_to_the_host_is_not_followed(lab: Lab, kept: ContainerRoot, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary")
    root = by_overlay(kept)
    root.look()
    lab.run(f"ln -s {tmp_path} /img/l; rm -r /img/d; ln -s {tmp_path} /img/d").check()
    assert {"added link /img/l", "retyped link /img/d"} <= set(told(root))
    for path in ("img/l/secret", "img/d/secret"):
        with pytest.raises(FileNotFoundError):
            root.read(path, 100)
    root.close()


# --- upper directories that no engine of ours makes


def made(tmp_path: Path) -> tuple[Path, Path]:
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    upper.mkdir()
    (lower / "d").mkdir(parents=True)
    (lower / "d/f").write_text("x")
    return upper, lower


def test_a_directory_that_stands_for_another_one_is_an_error_and_not_a_guess(tmp_path: Path) -> None:
    upper, lower = made(tmp_path)
    (upper / "moved").mkdir()
    os.setxattr(upper / "moved", "trusted.overlay.redirect", b"d")
    root = overlay.UpperDirectory(upper, overlay.ImageLayers([lower], LIMITS), LIMITS)
    with pytest.raises(CaptureError, match="was renamed"):
        root.look(lambda path: False)


@pytest.mark.parametrize("parameter", ["metacopy", "redirect_dir"])
def test_an_overlay_that_does_not_copy_whole_files_up_is_left_to_the_engine(tmp_path: Path, parameter: str) -> None:
    for name in ("metacopy", "redirect_dir"):
        (tmp_path / name).write_text("N\n")
    assert overlay.readable(tmp_path, tmp_path)
    (tmp_path / parameter).write_text("Y\n")
    assert not overlay.readable(tmp_path, tmp_path)


def test_an_image_is_the_sum_of_its_layers(tmp_path: Path) -> None:
    top, bottom = tmp_path / "top", tmp_path / "bottom"
    for path in ("gone/x", "opaque/hidden", "file/x", "both/low", "both/shadow"):
        (bottom / path).parent.mkdir(parents=True, exist_ok=True)
        (bottom / path).write_text("low")
    for path in ("opaque", "both"):
        (top / path).mkdir(parents=True)
    os.setxattr(top / "opaque", "trusted.overlay.opaque", b"y")
    os.mknod(top / "gone", 0o20000, 0)
    os.mknod(top / "both/shadow", 0o20000, 0)
    (top / "file").write_text("high")
    image = overlay.ImageLayers([top, bottom], LIMITS)
    seen = {path: image.entry(path) is not None for path in ("gone", "gone/x", "opaque", "opaque/hidden", "file/x", "both/low")}
    assert [path for path, is_there in seen.items() if is_there] == ["opaque", "both/low"]
    assert [sorted(image.below(path)) for path in ("gone", "opaque", "file", "both")] == [[], [], [], ["both/low"]]
    image.close()
