"""Checks the names that a golden may have on disk, before any I/O: they come from plans and from tools under test.

This module imports nothing heavy, because every run of pytest imports it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

SNAPSHOTS: Final = "snapshots"
"""The folder of a project that holds its goldens."""
PYTEST_MARK: Final = ".pytest"
"""A file that marks the folder of a test module's goldens: tests made them, not plans."""

_MAX_NAME_BYTES = 255
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def name_problem(name: str) -> str | None:
    """Say why this relative path cannot be used; None if it can."""
    if not name:
        return "it is empty"
    if name.startswith("/"):
        return "it is absolute"
    if any(unicodedata.category(char) in _UNSEEN for char in name):
        return "it holds a control character"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return f"it has the segment {part!r}"
        if len(part.encode()) > _MAX_NAME_BYTES:
            return f"a segment is longer than {_MAX_NAME_BYTES} bytes"
    return None


def folded(name: str) -> str:
    """The name as a file system sees it that ignores case and Unicode composition."""
    return unicodedata.normalize("NFC", name).casefold()


def clash(names: Iterable[str]) -> tuple[str, str] | None:
    """Find two names, folders included, that are one name on a file system that ignores case or composition."""
    seen: dict[str, tuple[str, bool]] = {}
    for name in names:
        path = PurePosixPath(name)
        for prefix in (path, *path.parents[:-1]):
            entry = (str(prefix), prefix == path)
            first = seen.setdefault(folded(str(prefix)), entry)
            if first != entry:
                return first[0], name
    return None


def escaped(name: str) -> str:
    """The name on one line: invisible characters become `\\xNN`, which `model.files.path_bytes` reads back."""
    if name.isprintable():
        return name
    return "".join("".join(f"\\x{byte:02x}" for byte in char.encode()) if _unseen(char) else char for char in name)


def _unseen(char: str) -> bool:
    return unicodedata.category(char) in _UNSEEN
