"""One builder at a time: two processes that need the same image wait for each other instead of building it twice."""

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
    """Hold the lock `name`, over all processes of this user, inside the `with`; `on_wait` is called once if it is taken.

    The kernel frees it when its owner dies, so there is no deadline. Look again for what you wanted to make once you hold it.
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
