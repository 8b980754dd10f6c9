"""What the README shows is what there is: its plans load, its verbs and options exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

import testronaut_lab.cli.dispatch  # noqa: F401 - hangs the verbs on the app
from testronaut_lab.cli.app import app
from testronaut_lab.planfile import parse_plans

README = (Path(__file__).parents[1] / "README.md").read_text()
PLANS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("text", PLANS, ids=range(len(PLANS)))
def test_a_plan_of_the_readme_loads(text: str, tmp_path: Path) -> None:
    for name in ("target/release/rg", "dist/tool-1.2.tar.gz"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    text = text.replace("9f86d0…", "9f86d0" + "0" * 58)
    missing = ["image: x"] * (not re.search("^image:", text, re.M)) + ["steps: [x]"] * (
        not re.search("^(steps|cases):", text, re.M)
    )
    assert parse_plans("\n".join([*missing, text]), root=tmp_path)


def test_the_verbs_and_options_of_the_readme_exist() -> None:
    group = typer.main.get_command(app)
    verbs = getattr(group, "commands")  # noqa: B009 - a Group, which typer's own type does not say
    for verb, rest in re.findall(r"^testronaut-lab ([a-z]+)((?: [^#\n;]*)?)", README, re.M):
        options = {name for option in verbs[verb].params for name in option.opts}
        typed = re.sub(r"'[^']*'", "", rest)  # what is quoted is an argument
        assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", typed)) <= options, f"{verb}{rest}"
