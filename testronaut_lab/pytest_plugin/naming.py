"""Where the goldens of a test lie: below `snapshots/` of the project, in folders named after the module and the test.

Names only, except for the search for the project. Every pytest imports this module, so it imports nothing heavy.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import pytest

_KEPT = " []-_.,=+()'!@#$&~;{}"  # kept as well as letters and digits; some file systems refuse the others
_MAX_NAME = 150


def folder_of(nodeid: str) -> str:
    """Return the test's part of the path: `TestClass.test_name[parameters]`.

    Characters that a file system may refuse are escaped as `%XX`. A very long name is cut and ends in a hash of the whole name.
    """
    tail = nodeid.partition("::")[2]
    path, bracket, parameters = tail.partition("[")
    name = quote(path.replace("::", ".") + bracket + parameters, safe=_KEPT, errors="surrogatepass")
    if len(name) <= _MAX_NAME:
        return name
    return f"{name[:_MAX_NAME]}~{hashlib.sha256(name.encode()).hexdigest()[:12]}"


@lru_cache(maxsize=4096)
def module_of(path: Path, rootpath: Path) -> tuple[Path, str]:
    """Return the root of the module's project, and the module's path below it without the suffix.

    If no file marks a project, the root is pytest's root, or else the module's folder.
    """
    file = path.parent.resolve() / path.name
    root = _marked_root(file.parent)
    if root is None:
        root = rootpath.resolve() if file.is_relative_to(rootpath.resolve()) else file.parent
    return root, file.relative_to(root).with_suffix("").as_posix()


def origin_of(item: pytest.Item) -> tuple[Path, str, str]:
    """Return the project root, the module and the folder of a test."""
    return (*module_of(item.path, item.config.rootpath), folder_of(item.nodeid))


def has_goldens_above(folder: Path) -> bool:
    """Whether tests in this folder may have goldens. This is cheap; reading a project's configuration is not."""
    return any((each / "snapshots").is_dir() for each in (folder, *folder.parents))


@lru_cache(maxsize=1024)
def _marked_root(folder: Path) -> Path | None:
    from testronaut_lab.config import marked_root

    return marked_root(folder)
