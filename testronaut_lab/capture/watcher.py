"""Reports created, modified and deleted names in a set of directories, best effort. The only user of watchfiles.

Each directory is watched by itself, through a descriptor that was opened without following a link. watchfiles' recursive mode
follows links: one `ln -s / x` in a new directory made it watch the whole host. `live_watch.py` decides what to watch and handles
failures; `transient.py` finds what the names mean for a step.
"""

from __future__ import annotations

import fcntl
import os
import resource
import struct
import termios
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple

from testronaut_lab.errors import CaptureError, ErrorKind

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

_HAND_OVER_S = 100e-6  # watchfiles needs this from reading the kernel's queue to filling its list, on an idle processor
MAX_DIRECTORIES = 256
DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_BY_FD = "/proc/self/fd/"
_WORDS: Mapping[int, Literal["added", "modified", "deleted"]] = {1: "added", 2: "modified", 3: "deleted"}

# Held while directories are opened for watching: that takes many descriptors for a moment, and we must find our new inotify
# instance among them.
_ATTACHING = threading.Lock()


class WatchedDirectory(NamedTuple):
    """A watched directory: its path relative to the root ("" for the root) when the watch began, and its inode."""

    path: str
    inode: int


class Touch(NamedTuple):
    """An event on a name in a directory. `modified` means its content or anything else about it, times included."""

    what: Literal["added", "modified", "deleted"]
    where: WatchedDirectory
    name: str

    @property
    def path(self) -> str:
        return f"{self.where.path}/{self.name}" if self.where.path else self.name


class WatchFailed(CaptureError):
    """A watcher cannot be made, or hears nothing any more. A new watcher may work."""

    kind = ErrorKind.WATCH_FAILED


class Watcher:
    """Watches `directories` (paths relative to `root_fd`; "" is the root). `places` are those that could be opened.

    `cookie_fd` is a directory that only we write to: `drain_to` waits for the event of a file in it. The watch is active when
    the constructor returns. The constructor waits at most `patience_s` for other watchers of this process that start.
    Raises WatchFailed.
    """

    def __init__(self, root_fd: int, directories: Iterable[str], cookie_fd: int, patience_s: float = 1.0) -> None:
        from watchfiles._rust_notify import RustNotify

        opened: dict[str, int] = {}
        with _one_at_a_time(patience_s):
            try:
                before = _inotify_fds()
                opened = _open_all(root_fd, directories)
                self._cookies = f"{_BY_FD}{cookie_fd}/"
                self._aliases = {f"{_BY_FD}{fd}": WatchedDirectory(path, os.fstat(fd).st_ino) for path, fd in opened.items()}
                watched = [self._cookies.rstrip("/"), *self._aliases]
                self._notify: RustNotify = RustNotify(watched, False, False, 300, False, False)
            except (OSError, RuntimeError) as error:
                raise WatchFailed(f"watching {len(opened) or 'the'} directories: {error}") from error
            finally:
                for fd in opened.values():
                    os.close(fd)
            self._queue_fd = _with_mark(_inotify_fds() - before, os.fstat(cookie_fd).st_ino)
        self.places = {place.path: place.inode for place in self._aliases.values()}

    def close(self) -> None:
        self._notify.close()

    def backlog_bytes(self) -> int:
        """The size of the kernel's queue that watchfiles has not read yet."""
        if self._queue_fd is None:
            return 0
        try:
            return int(struct.unpack("i", fcntl.ioctl(self._queue_fd, termios.FIONREAD, b"\0" * 4))[0])
        except OSError:
            return 0

    def drain(self) -> set[Touch]:
        """Return the events heard so far, without waiting. An event at that very moment may be lost. Raises WatchFailed."""
        return self._touches(self._watch(_AfterTwoLooks()))

    def drain_to(self, cookie: str, deadline: float) -> tuple[set[Touch], bool]:
        """Return the events before `cookie` was touched, and whether they are surely complete. Blocks until `deadline` at most.

        watchfiles loses an event that comes between copying and clearing its list. So we take the list only once, after
        watchfiles has read the kernel's queue to its end. `deadline` is on the monotonic clock. Raises WatchFailed.
        """
        while self.backlog_bytes() > 0 and time.monotonic() < deadline:
            time.sleep(20e-6)
        time.sleep(_HAND_OVER_S)
        wanted = self._cookies + cookie
        touches: set[Touch] = set()
        takes = 0
        while True:
            found = self._watch(_At(deadline))
            takes += bool(found)
            touches |= self._touches(found)
            if any(path == wanted for _, path in found):
                return touches, takes == 1
            if time.monotonic() >= deadline:
                return touches, False

    def _watch(self, until: _AfterTwoLooks | _At) -> set[tuple[int, str]]:
        try:
            found = self._notify.watch(0, 0, 0, until)
        except (OSError, RuntimeError) as error:
            raise WatchFailed(str(error)) from error
        return found if isinstance(found, set) else set()

    def _touches(self, found: Iterable[tuple[int, str]]) -> set[Touch]:
        touches: set[Touch] = set()
        for what, path in found:
            alias, _, name = path.rpartition("/")
            place = self._aliases.get(alias)
            if place is not None:
                touches.add(Touch(_WORDS[what], place, name))
        return touches


class _AfterTwoLooks:
    """Ends a wait in watchfiles after two looks: watchfiles asks before each look, and returns a list that it saw twice."""

    def __init__(self) -> None:
        self._asked = 0

    def is_set(self) -> bool:
        self._asked += 1
        return self._asked > 2


class _At:
    """Ends a wait in watchfiles at a deadline."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def is_set(self) -> bool:
        return time.monotonic() >= self._deadline


@contextmanager
def _one_at_a_time(patience_s: float) -> Iterator[None]:
    if not _ATTACHING.acquire(timeout=patience_s):
        raise WatchFailed("other sessions are beginning to watch")
    try:
        yield
    finally:
        _ATTACHING.release()


def open_below(root_fd: int, path: str) -> int:
    """Open a directory by its relative path, never through a link. Raises OSError."""
    fd = os.dup(root_fd)
    try:
        for name in path.split("/") if path else ():
            below = os.open(name, DIR_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = below
    except OSError:
        os.close(fd)
        raise
    return fd


def _open_all(root_fd: int, directories: Iterable[str]) -> dict[str, int]:
    """Open the directories, the shallowest first; return descriptors by path. One that cannot be opened is left out."""
    limit = min(MAX_DIRECTORIES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
    opened: dict[str, int] = {}
    for path in sorted(directories, key=lambda path: (path.count("/"), path)):
        if len(opened) >= limit:
            break
        parent, _, name = path.rpartition("/")
        try:
            known = opened.get(parent) if path else None
            opened[path] = open_below(root_fd, path) if known is None else open_below(known, name)
        except OSError:
            continue
    return opened


def _inotify_fds() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(_BY_FD + name) == "anon_inode:inotify":
                found.add(int(name))
        except FileNotFoundError:
            continue
    return found


def _with_mark(fds: Iterable[int], inode: int) -> int | None:
    """Find the inotify instance that watches that inode."""
    for fd in fds:
        try:
            with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
                if f" ino:{inode:x} " in info.read():
                    return fd
        except OSError:
            continue
    return None
