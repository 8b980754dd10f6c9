"""Finds goldens of a plan in the `snapshots/` of a folder that is no longer the project root.

The root is found from the working directory: a new or removed configuration file or `.git` moves it. Goldens below the old root
are not used any more, so the user must be told where they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from testronaut_lab.golden.names import SNAPSHOTS


def elsewhere(root: Path, plans: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Return (the folder that holds goldens, the folder where they belong) for each plan file with goldens below another root."""
    return [found for file in sorted(set(plans)) if file.is_relative_to(root) for found in _of_plan(root, file)]


def _of_plan(root: Path, file: Path) -> Iterator[tuple[Path, Path]]:
    stem = file.name.partition(".lab.")[0]
    wanted = root / SNAPSHOTS / file.parent.relative_to(root) / stem
    for folder in file.parents:
        there = folder / SNAPSHOTS / file.parent.relative_to(folder) / stem
        if folder != root and there.is_dir() and next(there.rglob("cmd.txt"), None) is not None:
            yield there, wanted
