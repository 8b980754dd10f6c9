"""Pulls from a local registry that is slow, stops in the middle, or lacks the image: each pull ends."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support.command_line import Project
from support.small_registry import Registry, serving

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image import pull as pull_module
from testronaut_lab.container.image.local import inspect
from testronaut_lab.container.image.resolve import resolve
from testronaut_lab.errors import EngineError
from testronaut_lab.model.plan import ImageSpec

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("held", ["/manifests/", "/blobs/"])
def test_a_registry_that_stalls_is_given_up_and_leaves_nothing(
    held: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "STALL_TIMEOUT_S", 1.0)
    began = time.monotonic()
    with serving(Registry(os.urandom(2000), held)) as address:
        with pytest.raises(EngineError, match=r"pulling: timed out: nothing came for 1 s; bootstrapping: possible for Debian"):
            resolve(engine, ImageSpec(f"{address}/thing:1"), lambda _: None)
        assert time.monotonic() - began < 20
        assert inspect(engine, f"{address}/thing:1") is None


def test_a_slow_pull_is_waited_for_and_told(engine: Engine) -> None:
    registry, lines = Registry(os.urandom(2000), "/blobs/"), list[str]()

    def report(line: str) -> None:
        lines.append(line)
        if "Pulling fs layer" in line or "Pulling from" in line:
            registry.go.set()

    with serving(registry) as address:
        try:
            pulled = resolve(engine, ImageSpec(f"{address}/thing:1"), report)
            assert pulled.info.source == "pull"
            assert pulled.info.digests[0].startswith(f"{address}/thing@sha256:")
            assert any("Pulling fs layer" in line for line in lines)
            assert any("Downloaded newer image" in line for line in lines)
        finally:
            engine.client.images.remove(f"{address}/thing:1")


def test_a_pull_that_takes_too_long_is_given_up_and_is_no_unreachable_registry(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "PULL_TIMEOUT_S", 0.0)
    with serving(Registry(os.urandom(2000), "/blobs/")) as address:
        with pytest.raises(EngineError) as raised:
            resolve(engine, ImageSpec(f"{address}/thing:1"), lambda _: None)
        assert raised.value.message.endswith("; pulling: it took longer than 0 s, and was given up")


def test_a_plan_tells_what_the_registry_does_not_have_and_ends_with_3(tmp_path: Path) -> None:
    project = Project(tmp_path)
    with serving(Registry()) as address:
        project.write(f"image: {address}/thing:nosuch\nsteps: ['true']\n")
        said = project.here("run")
    assert said.status == 3
    assert f"getting image {address}/thing:nosuch: the engine has no image of that name; pulling: " in said.out
    assert "hint: check the name" in said.out


def test_a_plan_that_must_not_pull_asks_no_registry(tmp_path: Path) -> None:
    project, registry = Project(tmp_path), Registry()
    with serving(registry) as address:
        project.write(f"image: {{ref: {address}/thing:1, pull: never}}\nsteps: ['true']\n")
        said = project.here("run")
    assert (said.status, registry.asked) == (3, [])
    assert "pulling: not allowed (pull: never)" in said.out


@pytest.mark.parametrize("pull", ["missing", "never"])
def test_an_image_that_is_there_is_used_without_asking_the_registry(pull: str, engine: Engine) -> None:
    registry = Registry(os.urandom(100))
    with serving(registry) as address:
        try:
            resolve(engine, ImageSpec(f"{address}/thing:1"), lambda _: None)
            registry.asked.clear()
            found = resolve(engine, ImageSpec(f"{address}/thing:1", pull), lambda _: None)  # type: ignore[arg-type]
            assert (found.info.source, registry.asked) == ("local", [])
        finally:
            engine.client.images.remove(f"{address}/thing:1")


def test_an_image_of_another_processor_is_refused(engine: Engine) -> None:
    registry = Registry(os.urandom(100), architecture="s390x")
    with serving(registry) as address:
        try:
            with pytest.raises(EngineError, match=r"thing:1: it is for s390x, and this engine runs amd64"):
                resolve(engine, ImageSpec(f"{address}/thing:1"), lambda _: None)
        finally:
            engine.client.images.remove(f"{address}/thing:1")
