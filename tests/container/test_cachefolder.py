"""The cache folder of a user whose home cannot be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.command_line import Project

from testronaut_lab.container.cachefolder import HINT, cache_folder
from testronaut_lab.errors import EngineError


@pytest.fixture(autouse=True)
def _no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/no-home")


def test_a_home_that_takes_nothing_is_replaced_by_a_folder_of_this_user(tmp_path: Path) -> None:
    found = cache_folder(tmp_path)
    assert found == tmp_path / f"testronaut-lab-{os.getuid()}"
    assert found.stat().st_mode & 0o777 == 0o700
    assert cache_folder(tmp_path) == found


def test_the_usual_place_is_taken_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/testronaut-lab"
    monkeypatch.setenv("XDG_CACHE_HOME", "/named")
    assert cache_folder() == Path("/named/testronaut-lab")


def test_a_folder_that_somebody_else_can_write_to_is_refused_with_what_to_type(tmp_path: Path) -> None:
    (tmp_path / f"testronaut-lab-{os.getuid()}").mkdir()
    (tmp_path / f"testronaut-lab-{os.getuid()}").chmod(0o777)
    with pytest.raises(EngineError, match="is not this user's own folder") as caught:
        cache_folder(tmp_path)
    assert caught.value.hint == HINT


@pytest.mark.engine
@pytest.mark.usefixtures("base_image")
def test_a_run_without_a_home_goes_well(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write()
    said = project("run", env={"HOME": "/proc/no-home", "TESTRONAUT_LAB_SESSIONS": ""})
    assert said.status == 0, said
