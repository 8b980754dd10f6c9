"""Watches a session's workspace: hints while a step runs, and after the step the paths that came and went during it.

Scans decide what changed; the watch only adds hints and notes. It never delays a step by more than twice `BOUND_S`.
1. Two watchers hear the same events. The *live* one is read every `TICK_S` for hints. The *exact* one is read once, at the end
   of a step, because each reading may lose an event.
2. `begin` starts a step. After the scan behind the step, `mark` touches a *cookie*: a file in a directory that no step sees.
3. `collect` reads the exact watcher up to the event of the cookie. So everything before it belongs to the step. If the cookie
   does not come within `BOUND_S`, a note says that paths may be missing, and the next step uses another cookie.
4. `collect` then watches the directories that the step made, with a small watcher of their own (`_follow`).
5. The thread of the watch sends the hints, and replaces all watchers by new ones if one failed or a directory is not watched.
   It takes what the old ones heard first. What was lost is in the notes of the step.
`watcher.py` hears the events, `transient.py` compares them with the scans.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from testronaut_lab.capture.file_capture import CLOCK_IS_COARSE, Snapshot
from testronaut_lab.capture.transient import Heard, TransientPaths, traces
from testronaut_lab.capture.watcher import DIR_FLAGS, Touch, Watcher, WatchFailed, open_below
from testronaut_lab.errors import CaptureError
from testronaut_lab.model.events import FileTouched
from testronaut_lab.model.files import FileType, path_text

BOUND_S = 0.1
TICK_S = 0.05
READY_S = 2.0
RETRY_S = 1.0
MAX_TOUCHES = 20_000
_MAX_HINTS = 100  # for each tick
_MAX_BESIDE = 4  # small watchers for directories that are newer than the big watcher
_COOKIES = 16
_MAX_AT_ONCE = 32  # new directories to watch between two steps; if there are more, the thread does it


@dataclass(frozen=True, slots=True)
class _Mark:
    """The end of a step: its scans, and whether the workspace's own directory changed."""

    before: Snapshot
    after: Snapshot
    root_changed: bool


class LiveWatch:
    """Watches `root` from its creation on. `cookies` is a directory of the host that no step can see. Close it when done.

    For each step, call `begin`, then `mark` right after the scan of the workspace, then `collect`. Raises CaptureError if the
    directories cannot be opened.
    """

    def __init__(self, root: Path, cookies: Path, tell: Callable[[FileTouched], object]) -> None:
        self._tell = tell
        try:
            self._root_fd = os.open(root, DIR_FLAGS)
            self._cookie_dir = os.open(cookies, DIR_FLAGS)
            for name in map(str, range(_COOKIES)):  # before the watch: creating a cookie looks like touching it
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=self._cookie_dir))
        except OSError as error:
            raise CaptureError(f"opening {root} to watch what is touched in it: {error}") from error
        self._cookie = self._put = "0"
        self._lock = threading.Lock()  # guards the fields below between the session's thread and the watch's thread
        self._exact: list[Watcher] = []  # read only at the end of a step: each reading may lose an event
        self._live: Watcher | None = None
        self._carried: set[Touch] = set()
        self._trouble: list[str] = []
        self._is_deaf = True  # some events of this step were not heard
        self._is_mixed = False  # some events heard are of the step before
        self._wanted: dict[str, int] = {"": os.fstat(self._root_fd).st_ino}
        self._tried: set[tuple[str, int]] = set()
        self._retry_at = 0.0
        self._met: dict[str, bool] = {}
        self._heard = 0
        self._nodeid: str | None = None
        self._places: dict[str, int] = {}
        self._mark: _Mark | None = None
        self._root_key = (0, 0)
        self._wake = threading.Event()
        self._closing = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    # On the session's thread

    def start(self) -> None:
        """Wait for the watch to begin, for at most `READY_S`. Forget what has happened so far: it belongs to no step."""
        self._ready.wait(READY_S)
        self._put_cookie()  # again: the first scan may have touched the cookie before the watch began
        self.forget()

    def close(self) -> None:
        """End the thread and stop watching; may be called twice."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        self._thread.join()
        for watcher in (*self._exact, *filter(None, (self._live,))):
            watcher.close()
        for fd in (self._root_fd, self._cookie_dir):
            os.close(fd)

    def begin(self, nodeid: str) -> None:
        """Call this right before a step starts."""
        self._nodeid = nodeid
        self._met.clear()
        self._heard = 0
        self._places = self._watched()

    def mark(self, before: Snapshot, after: Snapshot) -> None:
        """Call this right after the scan behind a step. If no file and no directory changed, nothing came and went."""
        info = os.fstat(self._root_fd)
        root_key = (info.st_mtime_ns, info.st_ctime_ns)
        root_changed, self._root_key = root_key != self._root_key, root_key
        if root_changed or CLOCK_IS_COARSE or before.entries != after.entries:
            self._mark = _Mark(before, after, root_changed)
            self._put_cookie()

    def collect(self) -> TransientPaths:
        """Return what the step did that no scan shows. Waits at most `BOUND_S` for the kernel's last events."""
        mark, self._mark, self._nodeid = self._mark, None, None
        if mark is None:
            return TransientPaths()
        if not self._lock.acquire(timeout=BOUND_S):
            self._is_mixed = True
            return TransientPaths(notes=("the watcher was busy: transient paths may be missing",))
        try:
            if self._put != self._cookie:  # `_replace` consumed the cookie of `mark`
                self._put_cookie()
            heard = self._hear()
            trouble, self._trouble = dict.fromkeys(self._trouble), []
            self._follow(mark.after)
        finally:
            self._lock.release()
        found = traces(mark.before, mark.after, heard, root_changed=mark.root_changed)
        return TransientPaths(found.transient, (*trouble, *found.notes))

    def forget(self) -> None:
        """Discard the last mark: the host made those changes."""
        self.collect()

    def _hear(self) -> Heard:
        deadline = time.monotonic() + BOUND_S
        exact = True
        for watcher in list(self._exact):
            exact = self._take(watcher, deadline) and exact
        if not exact:
            self._next_cookie()
        touches = frozenset() if self._is_mixed else frozenset(self._carried)
        now = {} if self._is_mixed or self._is_deaf else self._watched()
        self._carried, self._is_mixed, self._is_deaf = set(), False, False
        places = {path: inode for path, inode in self._places.items() if now.get(path) == inode}
        return Heard(touches, places, dict(self._met))

    def _take(self, watcher: Watcher, deadline: float) -> bool:
        """Take over what a watcher heard up to the cookie. Returns whether that is surely everything."""
        try:
            touches, exact = watcher.drain_to(self._cookie, deadline)
        except WatchFailed as error:
            self._failed(watcher, error)
            return False
        self._carried |= touches
        if not exact:
            self._is_deaf = True
            self._trouble.append(f"the watcher did not answer in {BOUND_S * 1000:.0f} ms: transient paths may be missing")
        return exact

    def _failed(self, watcher: Watcher, error: WatchFailed) -> None:
        self._trouble.append(f"the watcher failed and is replaced, transient paths may be missing: {error.message}")
        if watcher in self._exact:
            self._exact.remove(watcher)
        watcher.close()
        self._is_deaf = True
        self._wake.set()  # the thread replaces it; after a failure to do so it waits `RETRY_S`

    def _follow(self, after: Snapshot) -> None:
        """Watch the directories that the step made, before the next step begins."""
        wanted = {path: entry.key[4] for path, entry in after.entries.items() if entry.type is FileType.DIR}
        wanted[""] = self._wanted[""]
        self._wanted = wanted
        watched = self._watched()
        new = {path: inode for path, inode in wanted.items() if watched.get(path) != inode} if watched else {}
        new = {path: inode for path, inode in new.items() if (path, inode) not in self._tried}
        if not new or len(new) > _MAX_AT_ONCE or not 0 < len(self._exact) <= _MAX_BESIDE:
            return
        try:
            self._exact.append(Watcher(self._root_fd, new, self._cookie_dir, patience_s=BOUND_S))
        except WatchFailed:
            return  # the thread tries again, and reports a failure

    def _watched(self) -> dict[str, int]:
        places: dict[str, int] = {}
        for watcher in self._exact:
            places |= watcher.places
        return places

    def _put_cookie(self) -> None:
        self._put = self._cookie
        try:
            os.utime(self._cookie, dir_fd=self._cookie_dir)
        except OSError:
            return  # then the cookie's event does not come, and `_take` notes that

    def _next_cookie(self) -> None:
        """Use another file, so that a late or repeated event of the old cookie is not taken for the next one."""
        self._cookie = str((int(self._cookie) + 1) % _COOKIES)

    # On the watch's own thread

    def _run(self) -> None:
        self._replace()
        self._ready.set()
        while not self._closing:
            self._wake.wait(TICK_S)
            self._wake.clear()
            self._look()
            self._mend()

    def _look(self) -> None:
        """Send hints for the paths touched since the last look, and look at new paths while they exist."""
        if self._live is None:
            return
        try:
            touches = self._live.drain()
        except WatchFailed:
            self._live.close()
            self._live = None
            return
        for touch in list(touches)[:_MAX_HINTS]:
            self._tell(FileTouched(self._nodeid, path_text(os.fsencode(touch.path))))
        self._meet({touch.path for touch in touches if touch.what == "added"})
        self._heard += len(touches)
        if self._heard > MAX_TOUCHES:
            self._give_up(f"more than {MAX_TOUCHES} paths were touched: transient paths are not complete")

    def _meet(self, paths: Iterable[str]) -> None:
        new: dict[str, int] = {}
        for path in list(paths)[:_MAX_HINTS]:
            self._met.update(_look_at(self._root_fd, path, new))
        if new:
            with self._lock:
                self._wanted = {**self._wanted, **new}

    def _give_up(self, why: str) -> None:
        """Drop everything heard in this step: it is too much to keep."""
        self._heard = 0
        with self._lock:
            self._is_deaf = True
            self._carried.clear()
            self._trouble = [why]
            for watcher in list(self._exact):
                try:
                    watcher.drain()
                except WatchFailed as error:
                    self._failed(watcher, error)

    def _mend(self) -> None:
        """Replace the watchers by one over everything if one is missing or a directory is not watched."""
        wanted = set(self._wanted.items())
        is_whole = len(self._exact) == 1 and self._live is not None and wanted <= self._exact[0].places.items() | self._tried
        if not is_whole and time.monotonic() >= self._retry_at:
            self._replace()

    def _replace(self) -> None:
        wanted = dict(self._wanted)
        made: list[Watcher] = []
        try:
            made += [Watcher(self._root_fd, wanted, self._cookie_dir) for _ in ("exact", "live")]
        except WatchFailed as error:
            self._retry_at = time.monotonic() + RETRY_S
            with self._lock:
                self._trouble = [error.message]
                if self._live is None:  # only the live watcher notices when the exact ones hear too much
                    for watcher in list(self._exact):
                        self._failed(watcher, error)
            return
        exact, live = made
        with self._lock:
            retired = [*self._exact, *filter(None, (self._live,))]
            self._put_cookie()
            deadline = time.monotonic() + BOUND_S
            # read the new one too, so that an event that old and new both heard counts once
            for watcher in [*self._exact, exact]:
                self._take(watcher, deadline)
            self._next_cookie()
            self._tried = set(wanted.items()) - exact.places.items()
            self._exact, self._live = [exact], live
        for watcher in retired:
            watcher.close()


def _look_at(root_fd: int, path: str, directories: dict[str, int]) -> dict[str, bool]:
    """Return whether the path, and each directory below it, is a directory; nothing if it is gone. Fills `directories`."""
    try:
        fd = open_below(root_fd, path)
    except NotADirectoryError:
        return {path: False}
    except OSError:
        return {}
    met = {path: True}
    try:
        directories[path] = os.fstat(fd).st_ino
        with os.scandir(fd) as listing:
            below = [found.name for found in listing if found.is_dir(follow_symlinks=False)]
    except OSError:
        return met
    finally:
        os.close(fd)
    for name in below[:_MAX_HINTS]:
        if len(directories) < _MAX_HINTS:
            met |= _look_at(root_fd, f"{path}/{name}", directories)
    return met
