"""Makes the folder of the results, keeps it out of version control, and makes its names durable."""

from __future__ import annotations

import os
from pathlib import Path

RESULTS_FOLDER = ".testronaut"


def make_folder(folder: Path) -> None:
    """Make `folder` and its parents; a `.testronaut` among them gets a `.gitignore` of `*`. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    home = next((path for path in (folder, *folder.parents) if path.name == RESULTS_FOLDER), None)
    if home is None:
        return
    try:
        with open(home / ".gitignore", "x", encoding="utf-8", newline="\n") as ignore:
            ignore.write("*\n")
    except FileExistsError:
        pass


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable (fsync): a renamed file survives a power loss only after this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
