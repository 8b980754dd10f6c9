"""Images that this package made: their size, their last use, their users, and the order of eviction."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.command_line import Project, environment
from support.root_tars import LINKS, busybox_of, write_tar

from testronaut_lab import Session
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image.cache import ManagedImage, evictions, list_images, remove_images, taken_bytes
from testronaut_lab.container.image.local import ResolvedImage, inspect
from testronaut_lab.container.image.resolve import resolve
from testronaut_lab.container.image.usage import ImageUses, image_uses
from testronaut_lab.errors import EngineError
from testronaut_lab.execution import factory
from testronaut_lab.model.units import age_text


def image(name: str, *layers: str, own: int = 10, used: int = 1, by: tuple[str, ...] = ()) -> ManagedImage:
    kind = "tool" if len(layers) > 1 else "base"
    when = f"2026-01-{used:02}T00:00:00Z"
    return ManagedImage(name, f"testronaut-lab/{kind}:{name}", kind, "", name, own, when, own, when, by, layers)


BASE = image("base", "b", own=100, used=1)
OLD, NEW = image("old", "b", "o", used=2), image("new", "b", "n", used=9)
OTHER = image("other", "x", own=50, used=5)
ALL = [BASE, NEW, OLD, OTHER]


def names(images: list[ManagedImage]) -> list[str]:
    return [each.id for each in images]


@pytest.mark.parametrize(
    ("keep", "gone"),
    [(170, []), (169, ["old"]), (160, ["old"]), (159, ["old", "other"]), (109, ["old", "other", "new"]),
     (100, ["old", "other", "new"]), (99, ["old", "other", "new", "base"]), (0, ["old", "other", "new", "base"])],
)  # fmt: skip
def test_what_was_not_used_for_longest_goes_first_and_what_others_stand_on_after_them(keep: int, gone: list[str]) -> None:
    assert names(evictions(ALL, keep_bytes=keep)) == gone


def test_images_not_used_since_a_time_go_but_not_what_a_newer_one_stands_on() -> None:
    assert names(evictions(ALL, unused_since="2026-01-05T00:00:00Z")) == ["old"]
    assert names(evictions([BASE, OLD, OTHER], unused_since="2026-01-05T00:00:00Z")) == ["old", "base"]


def test_images_in_use_stay_and_what_they_stand_on_too() -> None:
    held = replace(OLD, used_by=("tlab-1",))
    assert names(evictions([BASE, NEW, held, OTHER], keep_bytes=0)) == ["other", "new"]


def test_what_images_share_is_counted_once() -> None:
    assert taken_bytes(ALL) == 170
    assert taken_bytes([BASE, replace(BASE, tag="another name")]) == 100


@pytest.mark.parametrize(
    ("ago_s", "text"), [(0, "now"), (59, "now"), (60, "1m ago"), (7199, "1h ago"), (86400 * 40, "40d ago"), (-500, "now")]
)
def test_ages_are_told_in_the_largest_whole_unit(ago_s: int, text: str) -> None:
    then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago_s))
    assert age_text(then) == text


# --- who uses an image


TAG = "testronaut-lab/tool:abc"


def test_an_image_is_in_use_until_its_holder_lets_go(tmp_path: Path) -> None:
    uses = ImageUses(tmp_path / "images")
    first, second = uses.hold(TAG), uses.hold(TAG)
    assert first is not None
    assert second is not None
    os.close(first)
    with uses.unused(TAG) as unused:
        assert not unused
    os.close(second)
    with uses.unused(TAG) as unused:
        assert unused


def test_a_process_that_is_killed_holds_no_image(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from testronaut_lab.container.image.usage import ImageUses\n"
        f"ImageUses(pathlib.Path(sys.argv[1])).hold({TAG!r}); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    uses = ImageUses(tmp_path)
    with subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with uses.unused(TAG) as unused:
            assert not unused
        process.kill()
        process.wait(10)
        with uses.unused(TAG) as unused:
            assert unused


def test_the_last_use_is_when_it_was_last_held(tmp_path: Path) -> None:
    uses = ImageUses(tmp_path)
    assert uses.last_used_s(TAG) is None
    for _ in range(2):
        os.close(uses.hold(TAG) or -1)
        assert abs((uses.last_used_s(TAG) or 0) - time.time()) < 60
        os.utime(tmp_path / "testronaut-lab-tool-abc.use", (0, 0))
    assert uses.last_used_s(TAG) == 0


def test_what_an_image_was_made_of_is_kept_and_rubbish_is_none(tmp_path: Path) -> None:
    uses = ImageUses(tmp_path)
    os.close(uses.hold(TAG, "/a/b\n\x1b") or -1)
    assert uses.origin(TAG) == "/a/b\n\x1b"
    assert uses.origin("other") == ""
    for rubbish in (b"", b"[", b"[1]", b'{"origin": 3}', b"\xff"):
        (tmp_path / "testronaut-lab-tool-abc.json").write_bytes(rubbish)
        assert uses.origin(TAG) == ""


def test_a_cache_that_cannot_be_written_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert ImageUses(tmp_path / "file").hold(TAG) is None


# --- on an engine


@pytest.fixture
def root(engine: Engine, busybox_image: str, tmp_path: Path) -> Iterator[Path]:
    """A root file system with unique content."""
    files = {"bin/busybox": busybox_of(engine, busybox_image), "salt": str(tmp_path).encode()}
    yield write_tar(tmp_path / "root.tar", files, LINKS)
    remove_images(engine, made_of(engine, tmp_path / "root.tar"))


def made_of(engine: Engine, path: Path) -> list[ManagedImage]:
    return [each for each in list_images(engine) if each.spec == str(path)]


def last_used_in_1970(engine: Engine, each: ManagedImage) -> None:
    os.utime(image_uses(engine)._path(each.tag), (86400, 86400))


@pytest.mark.engine
def test_an_image_is_listed_with_what_it_takes_and_is_in_use_while_its_session_lives(engine: Engine, root: Path) -> None:
    with Session({"rootfs": str(root)}, root=root.parent) as session:
        session.run("true")
        [listed] = made_of(engine, root)
        assert (listed.kind, listed.id) == ("rootfs", session.image_id)
        assert 0 < listed.own_bytes == listed.size_bytes
        assert "a run that is going on" in listed.used_by
        assert remove_images(engine, [listed]) == [(listed, "in use by a run that is going on")]
    [listed] = made_of(engine, root)
    assert listed.used_by == ()


@pytest.mark.engine
def test_a_tool_image_counts_only_what_it_adds_and_tells_what_is_in_it(engine: Engine, root: Path) -> None:
    project = Project(root.parent)
    (root.parent / "greet").write_text(f"#!/bin/sh\n# {root}\necho hi\n")
    with Session({"rootfs": str(root)}, f"copy:{root.parent / 'greet'}", root=root.parent) as session:
        session.run("greet").check()
        tool = next(each for each in list_images(engine) if each.id == session.image_id)
    try:
        [base] = made_of(engine, root)
        assert (tool.kind, tool.own_bytes < 10_000, tool.size_bytes > base.size_bytes) == ("tool", True, True)
        told = project.here("images", "--json").json
        [as_json] = [each for each in told["images"] if each["id"] == tool.id]  # type: ignore[index,call-overload,union-attr]
        assert as_json["tools"][0]["name"] == "greet"  # type: ignore[index,call-overload]
        assert as_json["base"]["source"] == "rootfs"  # type: ignore[index,call-overload]
        assert as_json["key"] == tool.key  # type: ignore[index,call-overload]
    finally:
        assert remove_images(engine, [tool]) == []


@pytest.mark.engine
def test_prune_removes_what_was_not_used_for_long_and_says_what_stays(engine: Engine, root: Path) -> None:
    project = Project(root.parent)
    with Session({"rootfs": str(root)}, root=root.parent) as session:
        session.run("true")
        last_used_in_1970(engine, made_of(engine, root)[0])
        in_use = project.here("images", "prune", "--older-than", "18000d")
        [listed] = made_of(engine, root)
        assert in_use.status == 0
        assert f"kept {listed.tag}: in use by tlab-" in in_use.out
    dry = project.here("images", "prune", "--older-than", "18000d", "--dry-run")
    assert f"would remove {listed.tag} (" in dry.out
    assert inspect(engine, listed.tag) is not None
    done = project.here("images", "prune", "--older-than", "18000d")
    assert f"removed {listed.tag} (" in done.out
    assert "\nfreed " in done.out
    assert inspect(engine, listed.tag) is None


@pytest.mark.engine
def test_an_image_of_others_without_a_name_outlives_the_tools_put_into_it(engine: Engine, root: Path, tmp_path: Path) -> None:
    with root.open("rb") as tar:
        said = engine.client.api.import_image(src=tar, repository="tlabtest/nameless", tag="1", changes=["ENV PATH=/bin"])
    base_id = json.loads(str(said).splitlines()[-1])["status"]
    (tmp_path / "greet").write_text(f"#!/bin/sh\n# nameless {root}\necho hi\n")
    with Session(base_id, f"copy:{tmp_path / 'greet'}", root=tmp_path) as session:
        session.run("greet").check()
        tool = next(each for each in list_images(engine) if each.id == session.image_id)
    try:
        engine.client.api.remove_image("tlabtest/nameless:1", noprune=True)
        assert inspect(engine, base_id) is not None
        assert remove_images(engine, [tool]) == []
        assert inspect(engine, base_id) is not None
    finally:
        engine.client.api.remove_image(base_id)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "`images prune` needs --keep SIZE or --older-than AGE"),
        (["--keep", "lots"], "--keep lots: expected a size such as 512MiB"),
        (["--older-than", "1y"], "--older-than 1y: expected an age such as 30d"),
    ],
)
def test_a_prune_that_says_nothing_to_go_by_is_refused(words: list[str], message: str, tmp_path: Path) -> None:
    said = Project(tmp_path).here("images", "prune", *words)
    assert (said.status, message in said.err, "hint: testronaut-lab images prune" in said.err) == (2, True, True)


@pytest.mark.engine
def test_an_image_that_is_removed_just_before_it_is_used_is_made_again(
    engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def resolve_and_lose(*args: object) -> ResolvedImage:
        found = resolve(*args)  # type: ignore[arg-type]
        made.append(found.tag)
        if len(made) == 1:
            engine.client.images.remove(found.tag)  # as a prune in another process would
        return found

    monkeypatch.setattr(factory, "resolve", resolve_and_lose)
    with Session({"rootfs": str(root)}, root=root.parent) as session:
        assert session.run("echo hi").out == "hi\n"
    assert len(made) == 2


@pytest.mark.engine
def test_an_image_that_is_removed_again_and_again_is_an_error(
    engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve_and_lose(*args: object) -> ResolvedImage:
        found = resolve(*args)  # type: ignore[arg-type]
        engine.client.images.remove(found.tag)
        return found

    monkeypatch.setattr(factory, "resolve", resolve_and_lose)
    with (
        Session({"rootfs": str(root)}, root=root.parent) as session,
        pytest.raises(EngineError, match="another process removed it"),
    ):
        session.run("true")
