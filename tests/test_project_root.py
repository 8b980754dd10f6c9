"""One root for goldens, results and node ids, found from where one stands, with and without a mark."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support.command_line import Project

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("base_image")]

PLAN = """\
version: 1
image: debian:bookworm-slim
steps:
  - {id: x, run: "echo 1", golden: true}
"""


class Unmarked(Project):
    """A checkout that is none: no `.git`, no configuration."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / ".git").rmdir()


@pytest.fixture
def project(tmp_path: Path) -> Unmarked:
    made = Unmarked(tmp_path)
    made.write(PLAN, "sub/deep/a.lab.yaml")
    return made


def printed(text: str, verb: str) -> list[str]:
    """The words of a command that was printed."""
    match = re.search(rf"testronaut-lab ({verb} [^)\n]+)", text)
    assert match is not None, text
    return shlex.split(match[1])


def test_without_a_mark_the_root_is_where_one_stands_and_what_is_printed_finds_it(project: Unmarked) -> None:
    said = project.here("run", "sub/deep/a.lab.yaml")
    assert said.status == 1 and not said.out.startswith("project")
    assert project.here(*printed(said.out, "accept")).status == 0
    assert project.goldens == ["sub/deep/a/main/x"]
    assert project.here("run", "sub").status == 0
    assert project.here(*printed(project.here("run", "sub").out, "show")).status == 0


def test_a_mark_above_is_the_root_and_is_said_first(project: Unmarked) -> None:
    (project.root / "testronaut-lab.toml").write_text("")
    said = project.here("run", "-u", "deep/a.lab.yaml", cwd=project.root / "sub")
    assert (said.status, said.out.splitlines()[0]) == (0, f"project {project.root}")
    assert project.goldens == ["sub/deep/a/main/x"]


def test_a_plan_outside_of_where_one_stands_has_its_own_root(project: Unmarked, tmp_path_factory: pytest.TempPathFactory) -> None:
    away = tmp_path_factory.mktemp("away")
    said = project.here("run", "-u", str(project.root / "sub/deep/a.lab.yaml"), cwd=away)
    assert said.status == 0
    assert (project.root / "sub/deep/snapshots/a/main/x/cmd.txt").is_file()


def test_what_waits_in_another_project_is_decided_from_where_one_stands(
    project: Unmarked, tmp_path_factory: pytest.TempPathFactory
) -> None:
    away, root = tmp_path_factory.mktemp("away"), project.root / "sub/deep"
    said = project.here("run", str(root / "a.lab.yaml"), cwd=away)
    assert said.out.endswith(f"\n1 pending: cd {root} && testronaut-lab review\n")
    assert f"(to accept: cd {root} && testronaut-lab accept a.lab.yaml::main::x)" in said.out


def test_goldens_of_another_root_are_told_with_what_brings_them_over_and_prune_finds_them(project: Unmarked) -> None:
    inner = project.root / "sub"
    assert project.here("run", "-u", "deep/a.lab.yaml", cwd=inner).status == 0
    said = project.here("run", "sub/deep/a.lab.yaml")
    assert said.status == 1 and "goldens in sub/snapshots/deep/a are not looked at" in said.out
    assert f"kept {inner}/snapshots/deep/a" in project.here("prune").out
    command = said.out.partition("hint: ")[2].splitlines()[0]
    assert project.shell(command) == 0
    assert project.here("run", "sub/deep/a.lab.yaml").status == 0
