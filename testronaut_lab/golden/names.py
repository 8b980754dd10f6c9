"""Which names a golden may use on disk: checked before any I/O, because they come from plans and from tools under test.

And the two names that are always ours. Nothing heavy is imported here: every pytest does.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

SNAPSHOTS: Final = "snapshots"
"""The folder of a project that its goldens are in."""
PYTEST_MARK: Final = ".pytest"
"""A file in the folder of a test module's goldens: tests made them."""

_MAX_NAME_BYTES = 255
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def name_problem(name: str) -> str | None:
    """Why this relative path cannot be used, in words; None if it can."""
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
    """What a name is to a file system that tells neither case nor composition apart."""
    return unicodedata.normalize("NFC", name).casefold()


def clash(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that some file system takes for one (upper and lower case, composed and decomposed), folders included."""
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
    """A name in one line: what cannot be seen as `\\xNN`, which `model.files.path_bytes` reads back."""
    if name.isprintable():
        return name
    return "".join("".join(f"\\x{byte:02x}" for byte in char.encode()) if _unseen(char) else char for char in name)


def _unseen(char: str) -> bool:
    return unicodedata.category(char) in _UNSEEN
