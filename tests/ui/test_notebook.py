"""The notebooks that are shipped run from top to bottom, and show results as HTML."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "notebooks" / "01_quickstart.ipynb"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what notebooks use, so that running them writes nothing here."""
    for folder in ("notebooks", "examples", "snapshots"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "testronaut-lab.toml").touch()
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    return tmp_path


def execute(notebook: Path) -> NotebookNode:
    node = nbformat.read(notebook, as_version=4)
    return NotebookClient(node, timeout=150, resources={"metadata": {"path": str(notebook.parent)}}).execute()


def shown(node: NotebookNode, cell: str, kind: str = "text/html") -> str:
    """What the cell of this id displays last."""
    found = next(each for each in node.cells if each.id == cell)
    return str(found.outputs[-1].data[kind])


@pytest.mark.engine
def test_the_quickstart_runs_and_shows_what_it_says(project: Path) -> None:
    node = execute(project / "notebooks" / QUICKSTART.name)
    assert "not started yet" in shown(node, "session")
    assert "PASS" in shown(node, "run") and "$ jq .x a.json" in shown(node, "run")
    assert "[3,1,2]\n/tmp" in shown(node, "state")
    assert "FAIL" in shown(node, "failing") and "nowhere.json" in shown(node, "failing")
    assert "out/sorted.json" in shown(node, "changes")
    assert "jq basics" in shown(node, "plan")
    assert shown(node, "totals", "text/plain") == "{'passed': 3}"
    assert "closed" in shown(node, "end")


def test_notebooks_are_kept_without_outputs() -> None:
    for path in QUICKSTART.parent.glob("*.ipynb"):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert [] == [cell.id for cell in cells if cell.outputs or cell.execution_count is not None]
