"""Finds the folder for this user's sessions, locks and logs: the usual cache folder, or one below /var/tmp.

A service, a container or a CI job may have no home, or a read-only one; the folder below /var/tmp is for them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from platformdirs import user_cache_path

from testronaut_lab.errors import EngineError

HINT = "export XDG_CACHE_HOME=/var/tmp/cache-$(id -u)"
_ELSEWHERE = Path("/var/tmp")


def cache_folder(elsewhere: Path = _ELSEWHERE) -> Path:
    """Return the folder; it may not exist yet. A folder named by XDG_CACHE_HOME is returned without a check.

    Raises EngineError if the folder below /var/tmp belongs to another user or cannot be made.
    """
    usual = user_cache_path("testronaut-lab")
    if os.environ.get("XDG_CACHE_HOME") or _can_be_written(usual):
        return usual
    own = elsewhere / f"testronaut-lab-{os.getuid()}"
    try:
        own.mkdir(mode=0o700, exist_ok=True)
        info = own.lstat()
    except OSError as error:
        raise EngineError(f"{usual} cannot be written to, and neither can {own}: {error.strerror}", hint=HINT) from error
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
        raise EngineError(f"{usual} cannot be written to, and {own} is not this user's own folder", hint=HINT)
    return own


def _can_be_written(folder: Path) -> bool:
    """Whether we can create files in the folder, or in the nearest folder above it that exists."""
    try:
        there = next(each for each in (folder, *folder.parents) if each.exists())
    except OSError:
        return False
    on_proc = there == Path("/proc") or there.is_relative_to("/proc")  # nobody can create a file there, not even root
    return there.is_dir() and not on_proc and os.access(there, os.W_OK | os.X_OK)
