"""The site is built strictly, and its pages have all that the code has."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import testronaut_lab
from testronaut_lab import config

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run([sys.executable, CHECKOUT / "docs/site/build.py", folder], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = {page.relative_to(CHECKOUT / "docs").with_suffix("") for page in (CHECKOUT / "docs").rglob("*.md")}
    for page in pages:
        name = page.parent if page.name == "index" else page
        assert (site / name / "index.html").is_file(), page


def test_pages_load_nothing_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"?https?://", page.read_text()), page


def test_the_reference_has_every_public_name_and_key(site: Path) -> None:
    python = (site / "reference/python/index.html").read_text()
    assert [name for name in testronaut_lab.__all__ if f'id="testronaut_lab.{name}"' not in python] == []
    plan = (site / "reference/plan/index.html").read_text()
    printed = subprocess.run(
        [sys.executable, "-m", "testronaut_lab.cli", "schema", "plan"], capture_output=True, check=True
    ).stdout
    keys = {key for definition in json.loads(printed)["$defs"].values() for key in definition["properties"]}
    assert [key for key in keys if f"<code>{key}</code>" not in plan] == []


def test_a_broken_link_stops_the_build(tmp_path: Path) -> None:
    build = "import build, pathlib, sys; old = build.stage\ndef stage(folder):\n    config = old(folder)\n"
    build += "    (folder / 'docs/tutorial.md').write_text('[x](shell.md#nowhere)')\n    return config\n"
    build += "build.stage = stage; sys.exit(build.main(pathlib.Path(sys.argv[1])))"
    ended = subprocess.run([sys.executable, "-c", build, tmp_path], cwd=CHECKOUT / "docs/site", capture_output=True, text=True)
    assert ended.returncode != 0 and "anchor does not exist" in ended.stdout


def test_every_setting_and_variable_is_described() -> None:
    page = (CHECKOUT / "docs/reference/configuration.md").read_text()
    code = "\n".join(file.read_text() for file in (CHECKOUT / "testronaut_lab").rglob("*.py"))
    variables = set(re.findall(r"TESTRONAUT_LAB_[A-Z_]*[A-Z]", code)) - {"TESTRONAUT_LAB_COMPLETE"}
    variables |= {f"TESTRONAUT_LAB_{name.upper()}" for name in ("store", "watch", "require_limits", "orphan_timeout")}
    assert [name for name in (*variables, *config.SETTINGS) if name not in page] == []


ARCHITECTURE = (CHECKOUT / "docs/architecture.md").read_text()
CODE = CHECKOUT / "testronaut_lab"


def test_every_file_and_folder_that_the_architecture_names_is_there() -> None:
    named = re.findall(r"`([a-z_/]+(?:/|\.py|\.md))`", ARCHITECTURE)
    assert len(named) > 30
    assert [name for name in named if not (CODE / name).exists() and not (CHECKOUT / name).exists()] == []


def test_every_part_of_the_package_is_in_the_architecture() -> None:
    parts = [each.name for each in CODE.iterdir() if each.suffix == ".py" or (each / "__init__.py").exists()]
    assert [part for part in parts if f"`{part}" not in ARCHITECTURE and part not in ("__init__.py",)] == []


def test_every_thread_that_the_code_starts_is_in_the_architecture() -> None:
    starts = [
        file for file in CODE.rglob("*.py") if re.search(r"Thread\(|Timer\(|ThreadPoolExecutor\(|@work\(", file.read_text())
    ]
    assert len(starts) > 5
    assert [file for file in starts if f"`{file.relative_to(CODE)}`" not in ARCHITECTURE] == []
