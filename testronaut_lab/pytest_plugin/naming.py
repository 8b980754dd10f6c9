"""Where the goldens of a test lie: its module's path and its name as folders, below `snapshots/` of the module's project.

Pure names but for looking for the project. Imported by the plugin in every pytest, so nothing heavy is.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import pytest

_KEPT = " []-_.,=+()'!@#$&~;{}"  # with letters and digits; the others are not fit for names of files everywhere
_MAX_NAME = 150


def folder_of(nodeid: str) -> str:
    """The test's part of the path: `TestClass.test_name[parameters]`, what no file system takes escaped as `%XX`.

    A very long one is cut and ends in a hash of all of it.
    """
    tail = nodeid.partition("::")[2]
    path, bracket, parameters = tail.partition("[")
    name = quote(path.replace("::", ".") + bracket + parameters, safe=_KEPT, errors="surrogatepass")
    if len(name) <= _MAX_NAME:
        return name
    return f"{name[:_MAX_NAME]}~{hashlib.sha256(name.encode()).hexdigest()[:12]}"


@lru_cache(maxsize=4096)
def module_of(path: Path, rootpath: Path) -> tuple[Path, str]:
    """The root of a test module's project, and the module's path in it without the suffix.

    Where nothing marks a project it is pytest's root, or else the module's own folder.
    """
    file = path.parent.resolve() / path.name
    root = _marked_root(file.parent)
    if root is None:
        root = rootpath.resolve() if file.is_relative_to(rootpath.resolve()) else file.parent
    return root, file.relative_to(root).with_suffix("").as_posix()


def origin_of(item: pytest.Item) -> tuple[Path, str, str]:
    """Project root, module and folder of a test."""
    return (*module_of(item.path, item.config.rootpath), folder_of(item.nodeid))


def has_goldens_above(folder: Path) -> bool:
    """Whether there may be goldens of tests in this folder. Cheap, unlike reading a project's configuration."""
    return any((each / "snapshots").is_dir() for each in (folder, *folder.parents))


@lru_cache(maxsize=1024)
def _marked_root(folder: Path) -> Path | None:
    from testronaut_lab.config import marked_root

    return marked_root(folder)
