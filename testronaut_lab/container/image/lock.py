"""Makes two processes that need the same image wait for each other, instead of building it twice."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from testronaut_lab.container.cachefolder import HINT, cache_folder
from testronaut_lab.errors import EngineError


@contextmanager
def exclusive(name: str, on_wait: Callable[[], None], folder: Path | None = None) -> Iterator[None]:
    """Hold the lock `name` among all processes of this user during the `with`. `on_wait` is called once if it is taken.

    There is no deadline, because the kernel frees the lock when its holder dies. When you hold it, look again whether the image
    exists by now.
    """
    folder = folder or cache_folder() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EngineError(f"making the lock {name} in {folder}: {error}", hint=HINT) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
