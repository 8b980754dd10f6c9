"""Records when each image that this package made was last used, and whether a run uses it now.

Each image of each engine has an empty file in the cache folder. The file's time is the last use. A run that uses the image holds
a shared lock on the file; the kernel frees the lock when the run dies. An image with a held lock is not removed, even between two
cases, when it has no container.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from testronaut_lab.container.cachefolder import cache_folder
from testronaut_lab.container.engine.connect import Engine

_MAX_NOTE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ImageUses:
    """The uses of one engine's images, by their tags."""

    folder: Path

    def hold(self, tag: str, origin: str = "") -> int | None:
        """Mark the image as used now, and as in use until the returned file descriptor is closed.

        `origin` is what it was made of. Returns None if the cache folder cannot be written; then only the engine protects the
        image, while it has a container.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path(tag), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return None
        try:
            os.utime(fd)
            # waits only while another process holds it alone to remove the image, which takes a moment
            fcntl.flock(fd, fcntl.LOCK_SH)
            if origin and self.origin(tag) != origin:
                self._write_origin(tag, origin)
        except OSError:
            os.close(fd)
            return None
        return fd

    def last_used_s(self, tag: str) -> float | None:
        """The last use as Unix time; None if it is not known."""
        try:
            return self._path(tag).stat(follow_symlinks=False).st_mtime
        except OSError:
            return None

    def origin(self, tag: str) -> str:
        """What the image was made of when it was last used; empty if it is not known."""
        try:
            with self._path(tag, ".json").open("rb") as file:
                said = json.loads(file.read(_MAX_NOTE_BYTES))
        except (OSError, ValueError):
            return ""
        origin = said.get("origin") if isinstance(said, dict) else None
        return origin if isinstance(origin, str) else ""

    @contextmanager
    def unused(self, tag: str) -> Iterator[bool]:
        """Yield whether no run uses the image. If so, no run starts to use it during the `with`."""
        try:
            fd = os.open(self._path(tag), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            yield True
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(fd)

    def _write_origin(self, tag: str, origin: str) -> None:
        text = json.dumps({"origin": origin, "tag": tag, "version": 1}, sort_keys=True) + "\n"
        with tempfile.NamedTemporaryFile("w", dir=self.folder, prefix=".", delete=False) as file:
            file.write(text)
        os.replace(file.name, self._path(tag, ".json"))

    def _path(self, tag: str, suffix: str = ".use") -> Path:
        return self.folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', tag)[:200]}{suffix}"


def image_uses(engine: Engine) -> ImageUses:
    """The uses on this engine. Engines are told apart by the machine's name and the engine's socket."""
    place = sha256(f"{platform.node()}:{engine.socket_path}".encode()).hexdigest()[:16]
    return ImageUses(cache_folder() / "images" / place)
