"""What the README shows is what there is: its plans load, its verbs and options exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from commandline import Project
from packages import deb

import testronaut_lab.cli.dispatch  # noqa: F401 - hangs the verbs on the app
from testronaut_lab.cli.app import app
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.planfile import parse_plans

README = (Path(__file__).parents[1] / "README.md").read_text()
TIDYLINT = ("dist/tidylint_1.0_all.deb", "dist/tidylint_1.1_all.deb")
# What it says first is echoed; the rest of the program follows.
LINTER = """tidylint VERSION, $(date +%F)
mkdir -p .tidy-cache && date +%s%N >.tidy-cache/stamp
found=0
for file; do
  grep -n ' $' "$file" | sed "s|^\\([0-9]*\\):.*|$file:\\1: trailing blank|"
  grep -q ' $' "$file" && found=1
done
exit $found"""
PLANS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("text", PLANS, ids=range(len(PLANS)))
def test_a_plan_of_the_readme_loads(text: str, tmp_path: Path) -> None:
    for name in ("target/release/rg", "dist/tool-1.2.tar.gz", "fixtures/src/good.txt", *TIDYLINT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    text = text.replace("9f86d0…", "9f86d0" + "0" * 58)
    missing = ["image: x"] * (not re.search("^image:", text, re.M)) + ["steps: [x]"] * (
        not re.search("^(steps|cases):", text, re.M)
    )
    assert parse_plans("\n".join([*missing, text]), root=tmp_path)


@pytest.mark.engine
def test_the_linter_of_the_readme_gets_to_four_green_cells(tmp_path: Path, engine: Engine, base_image: str) -> None:
    project = Project(tmp_path)
    for folder in ("dist", "fixtures/src"):
        (tmp_path / folder).mkdir(parents=True)
    for version in ("1.0", "1.1"):
        deb(tmp_path / "dist", "tidylint", version, LINTER.replace("VERSION", version))
    (tmp_path / "fixtures/src/good.txt").write_text("good\n")
    (tmp_path / "fixtures/src/bad.txt").write_text("good\nbad \n")
    (plan,) = [text for text in PLANS if "tidylint" in text]
    other = "testronaut-lab/test-other-system:1"  # which the test need not bootstrap
    engine.client.api.tag(base_image, *other.split(":"))
    project.write(f"version: 1\n{plan}".replace("debian:trixie-slim", other), "lint.lab.yaml")
    try:
        first = project.here("run")
        assert first.status == 1 and first.out.endswith("4 pending: testronaut-lab review\n")
        assert "+src/bad.txt:2: trailing blank" in first.out and "+tidylint 1.1, [DATE]" in first.out
        assert project.here("accept", "lint.lab.yaml").out.endswith("nothing is pending any more\n")
        again = project.here("run")
        assert again.status == 0 and "4 passed, 0 failed, 0 skipped" in again.out
        assert ".tidy-cache" not in "".join(file.read_text() for file in (tmp_path / "snapshots").rglob("*.txt"))
    finally:
        engine.client.api.remove_image(other, noprune=True)


def test_the_verbs_and_options_of_the_readme_exist() -> None:
    group = typer.main.get_command(app)
    verbs = getattr(group, "commands")  # noqa: B009 - a Group, which typer's own type does not say
    for verb, rest in re.findall(r"^testronaut-lab ([a-z]+)((?: [^#\n;]*)?)", README, re.M):
        options = {name for option in verbs[verb].params for name in option.opts}
        typed = re.sub(r"'[^']*'", "", rest)  # what is quoted is an argument
        assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", typed)) <= options, f"{verb}{rest}"
