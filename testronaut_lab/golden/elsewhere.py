"""Goldens of a plan that lie in the `snapshots/` of another folder than the project's: where its root was before it moved.

The root is found from where one stands, so that it moves with a configuration or `.git` that comes or goes. What was accepted
under the old one is not looked at any more; it is told of, and never silently lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from testronaut_lab.golden.names import SNAPSHOTS


def elsewhere(root: Path, plans: Iterable[Path]) -> list[tuple[Path, Path]]:
    """(goldens that are there, where they would have to be) for each plan file below `root` that has some under another root."""
    return [found for file in sorted(set(plans)) if file.is_relative_to(root) for found in _of_plan(root, file)]


def _of_plan(root: Path, file: Path) -> Iterator[tuple[Path, Path]]:
    stem = file.name.partition(".lab.")[0]
    wanted = root / SNAPSHOTS / file.parent.relative_to(root) / stem
    for folder in file.parents:
        there = folder / SNAPSHOTS / file.parent.relative_to(folder) / stem
        if folder != root and there.is_dir() and next(there.rglob("cmd.txt"), None) is not None:
            yield there, wanted
