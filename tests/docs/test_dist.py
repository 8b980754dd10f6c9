"""What `make dist` makes can be installed in an empty environment, outside of the checkout, and runs the demo there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source archive of this checkout, and the wheel that was built from that archive."""
    folder = tmp_path_factory.mktemp("dist")
    # The build tool's own packages are those of this environment: nothing is fetched.
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, CHECKOUT], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_wheel_has_the_package_alone_with_its_types_and_shell_programs(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    there = (file for file in (CHECKOUT / "testronaut_lab").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    assert package == {file.relative_to(CHECKOUT).as_posix() for file in there}
    assert "testronaut_lab/py.typed" in package and any(name.endswith(".sh") for name in package)


def test_a_source_archive_has_what_the_tests_and_the_demo_need_and_nothing_that_git_ignores(dist: Path) -> None:
    (archive,) = dist.glob("*.tar.gz")
    names = {name.partition("/")[2] for name in tarfile.open(archive).getnames()}
    assert {"Makefile", "constraints.txt", "examples/jq.lab.yaml", "tests/conftest.py", "docs/site/mkdocs.yml"} <= names
    ignored = {".venv", ".testronaut", "build", "dist", "__pycache__", ".hypothesis", ".mypy_cache"}
    assert [name for name in names if ignored & set(Path(name).parts)] == []


@pytest.mark.engine
def test_the_wheel_runs_the_demo_in_an_empty_environment(dist: Path, tmp_path: Path, base_image: str) -> None:
    (wheel,) = dist.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [
        str(tmp_path / "venv/bin/python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "-c",
        str(CHECKOUT / "constraints.txt"),
        str(wheel),
    ]
    subprocess.run(pip, check=True, cwd=tmp_path, capture_output=True)
    (archive,) = dist.glob("*.tar.gz")
    subprocess.run(["tar", "--extract", "--file", archive, "--directory", tmp_path], check=True)
    (unpacked,) = tmp_path.glob("testronaut_lab-*")
    project = tmp_path / "project"
    for folder in ("examples", "snapshots"):
        shutil.copytree(unpacked / folder, project / folder)
    (project / ".git").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_", "COVERAGE"))}
    demo = [str(tmp_path / "venv/bin/testronaut-lab"), "run", "examples/jq.lab.yaml", "--json", "-"]
    done = subprocess.run(demo, cwd=project, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["totals"]["passed"] == 3
