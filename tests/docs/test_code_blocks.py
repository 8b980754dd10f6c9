"""Every code block of README.md and docs/ is run, in its page's order, in an empty project.

What a block is follows from its first line. One with `title="FILE"` is a file, which later blocks use. `sh` is run line by
line: each line has to end with 0, or with what `# exit status N` behind it says. `python` is run. `yaml` and `toml` are parts
of a plan or of a configuration, and have to be read without an error. `console` is what changes the machine or needs a
terminal: its verbs and options have to exist. `text` is output, `mermaid` a drawing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

from testronaut_lab.cli import dispatch  # noqa: F401 - hangs the verbs on the app
from testronaut_lab.cli.app import app
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.planfile import parse_plans

CHECKOUT = Path(__file__).parents[2]
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
OTHER_SYSTEM = "testronaut-lab/test-other-system:2"  # which a test need not bootstrap


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: `language` and `title` from its first line, which is number `line` of the page."""

    line: int
    language: str
    title: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.finditer(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(page.read_text().count("\n", 0, each.start()) + 1, each[1], each[2], each[3]) for each in found]


def page_id(page: Path) -> str:
    return page.relative_to(CHECKOUT).as_posix()


def test_every_block_says_what_it_is() -> None:
    known = {"sh", "console", "text", "yaml", "toml", "python", "mermaid"}
    for page in PAGES:
        fences = re.findall(r"^```.*$", page.read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page)), f"{page}: a block without a language, or of another form"
        assert {block.language for block in blocks(page)} <= known, page


RUN = [
    page
    for page in PAGES
    if any(block.language == "sh" or (block.language, block.title) == ("python", None) for block in blocks(page))
]


@pytest.mark.engine
@pytest.mark.parametrize("page", RUN, ids=page_id)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path, engine: Engine, base_image: str) -> None:
    (tmp_path / ".git").mkdir()
    engine.client.api.tag(base_image, *OTHER_SYSTEM.split(":"))
    for block in blocks(page):
        if block.title is not None:
            file = tmp_path / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text.replace("debian:trixie-slim", OTHER_SYSTEM))
            file.chmod(0o755)
        elif block.language == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                run(line, tmp_path, f"{page_id(page)}:{block.line}")
        elif block.language == "python":
            (tmp_path / "block.py").write_text(block.text)
            run("python block.py", tmp_path, f"{page_id(page)}:{block.line}")


def run(line: str, folder: Path, where: str) -> None:
    """Run one line as somebody who follows the page would."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    ended = subprocess.run(["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    said = re.search(r"# exit status (\d+)", line)
    expected = int(said[1]) if said else 0
    assert ended.returncode == expected, f"{where}: {line}\n{ended.stdout}\n{ended.stderr}"


PARTS = [(page, block) for page in PAGES for block in blocks(page) if block.language in ("yaml", "toml") and block.title is None]


@pytest.mark.parametrize(("page", "block"), PARTS, ids=[f"{page_id(page)}:{block.line}" for page, block in PARTS])
def test_a_part_of_a_plan_or_configuration_is_read(page: Path, block: Block, tmp_path: Path) -> None:
    if block.language == "toml":
        assert tomllib.loads(block.text)
        return
    for name in ("target/release/rg", "dist/tool-1.2.tar.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    text = block.text.replace("9f86d0…", "9f86d0" + "0" * 58)
    missing = ["image: x"] * (not re.search("^image:", text, re.M)) + ["steps: [x]"] * (
        not re.search("^(steps|cases):", text, re.M)
    )
    assert parse_plans("\n".join([*missing, text]), root=tmp_path)


def test_files_that_are_no_plans_are_yaml() -> None:
    others = [
        block for page in PAGES for block in blocks(page) if block.language == "yaml" and "lab.y" not in (block.title or "lab.y")
    ]
    assert others
    for block in others:
        assert YAML(typ="safe").load(block.text)


def test_every_plan_of_a_page_is_run() -> None:
    for page in PAGES:
        commands = "\n".join(block.text for block in blocks(page) if block.language == "sh" and block.title is None)
        for block in blocks(page):
            if block.title and block.title.endswith(".lab.yaml"):
                assert block.title in commands, f"{page_id(page)}:{block.line}: nothing runs {block.title}"


def test_verbs_and_options_that_are_named_exist() -> None:
    verbs = typer.main.get_group(app).commands
    for page in PAGES:
        shown = "\n".join(block.text for block in blocks(page) if block.language in ("sh", "console"))
        spans = "\n".join(re.findall(r"`([^`\n]+)`", page.read_text()))
        for verb, rest in re.findall(r"^testronaut-lab ([a-z]+)((?: [^#\n;|]*)?)", f"{shown}\n{spans}", re.MULTILINE):
            inner = getattr(verbs[verb], "commands", {})
            params = [*verbs[verb].params, *(param for command in inner.values() for param in command.params)]
            options = {name for param in params for name in param.opts} | {"--help"}
            typed = re.sub(r"'[^']*'", "", rest)  # what is quoted is an argument
            assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", typed)) <= options, f"{page_id(page)}: {verb}{rest}"
