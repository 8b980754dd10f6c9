"""Keeps the package managers' output from the making of an image, for later runs that take the image from the cache.

The run that made the image stores the log itself. The copy here is in the cache folder, not in the image, because it may be large
and may be lost. It keeps the newest KEPT_LOGS logs, and the last KEPT_LINES lines of each.
"""

from __future__ import annotations

import json
import os
import secrets
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from testronaut_lab.container.cachefolder import cache_folder

KEPT_LOGS = 200
KEPT_LINES = 20_000


class Recorder:
    """Remembers the last KEPT_LINES pairs of (tool, line)."""

    def __init__(self) -> None:
        self.lines: deque[tuple[str, str]] = deque(maxlen=KEPT_LINES)

    def add(self, tool: str, line: str) -> None:
        self.lines.append((tool, line))


def keep(key: str, lines: Iterable[tuple[str, str]], folder: Path | None = None) -> None:
    """Keep the log of the image with this key. No-op if it cannot be written: the image is more important."""
    folder = folder or _folder()
    draft = folder / f".{key}.{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        os.replace(draft, folder / f"{key}.jsonl")
        _forget_old(folder)
    except OSError:
        with suppress(OSError):
            draft.unlink()


def kept(key: str, folder: Path | None = None) -> list[tuple[str, str]] | None:
    """The (tool, line) pairs of the log of this key, in order; None if the log is gone or damaged."""
    try:
        text = ((folder or _folder()) / f"{key}.jsonl").read_text(encoding="utf-8")
        return [(str(tool), str(line)) for tool, line in map(json.loads, text.rstrip("\n").split("\n") if text else [])]
    except (OSError, ValueError, TypeError):
        return None


def _forget_old(folder: Path) -> None:
    logs = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in logs[KEPT_LOGS:]:
        path.unlink(missing_ok=True)


def _folder() -> Path:
    return cache_folder() / "install-logs"
