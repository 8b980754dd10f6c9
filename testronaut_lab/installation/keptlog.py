"""What package managers wrote while an image was made, kept for as long as the image is likely to be asked about.

A run stores its own log; a run that takes its image from the cache has none, and is shown this one. Kept apart from the
image, since it may be large and nothing hangs on it: the newest of them, each up to its last so many lines.
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
    """Hands each (tool, line) on, and remembers the last of them."""

    def __init__(self) -> None:
        self.lines: deque[tuple[str, str]] = deque(maxlen=KEPT_LINES)

    def add(self, tool: str, line: str) -> None:
        self.lines.append((tool, line))


def keep(key: str, lines: Iterable[tuple[str, str]], folder: Path | None = None) -> None:
    """Keep the log of the image with this key. That it cannot be written is no reason to lose the image: nothing is kept then."""
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
    """The (tool, line) pairs of the log of this key, in order; None where it is not there any more, or is none."""
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
