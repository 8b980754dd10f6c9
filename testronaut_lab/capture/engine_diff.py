"""Finds changes of a container's root file system through the engine's API: slower than `overlay.py`, but possible everywhere.

The engine compares size and time. It misses a file that was rewritten with its old size and its old time, or within the same
second in an image that keeps whole seconds. A name that is not UTF-8 arrives damaged, and gets a note. `container/rootfs.py`
asks the engine.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from testronaut_lab.capture.file_capture import Entry, Key, ScanLimits
from testronaut_lab.model.files import FileType, path_text

MAX_FETCHED = 100  # files whose content is fetched in one look: each takes the engine 20 to 200 ms


class PathFacts(Protocol):
    """What the engine tells of a path. `mode` is the one of lstat. Some engines round `mtime_ns` to seconds."""

    @property
    def mode(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...


class Archive(Protocol):
    """The files of one container, by absolute paths. Links are not followed. Raises EngineError."""

    def facts(self, path: str) -> PathFacts | None:
        """The facts of a path; None if it does not exist."""
        ...

    def target(self, path: str) -> bytes:
        """The target of a link. Raises FileNotFoundError if it is not a link any more."""
        ...

    def digest(self, path: str) -> str:
        """The SHA-256 of a regular file. Raises FileNotFoundError if it is not a regular file any more."""
        ...

    def read(self, path: str, limit_bytes: int) -> bytes:
        """Like `Scanner.read`."""
        ...

    def below(self, path: str) -> Mapping[str, int]:
        """The mode of everything below a directory."""
        ...


class ArchivedImage:
    """The unchanged root file system, read from a container of the same image that never ran."""

    def __init__(self, archive: Callable[[], Archive], release: Callable[[], None], limits: ScanLimits) -> None:
        """`archive` is called at each look at the image, `release` at `close`."""
        self._archive = archive
        self._release = release
        self._limits = limits
        self._below: dict[str, Mapping[str, Entry]] = {}
        self._directories: dict[str, bool] = {}
        self._bare: dict[str, Entry | None] = {}

    def close(self) -> None:
        self._release()

    def entry(self, path: str) -> Entry | None:
        if not self._is_directory(path.rpartition("/")[0]):
            return None
        archive = self._archive()
        facts = archive.facts(f"/{path}")
        return None if facts is None else _entry(archive, path, facts, self._limits)

    def bare(self, path: str) -> Entry | None:
        if path not in self._bare:
            is_there = self._is_directory(path.rpartition("/")[0])
            facts = self._archive().facts(f"/{path}") if is_there else None
            self._bare[path] = None if facts is None else Entry(_key(facts.mode, facts), _type(facts.mode))
        return self._bare[path]

    def below(self, path: str) -> Mapping[str, Entry]:
        if not self._is_directory(path):
            return {}
        if path not in self._below:
            modes = self._archive().below(f"/{path}")
            self._below[path] = {name.removeprefix("/"): Entry(_key(mode), _type(mode)) for name, mode in modes.items()}
            self._bare |= self._below[path]
        return self._below[path]

    def _is_directory(self, path: str) -> bool:
        """Check every parent as well, because the engine follows links in parents."""
        parts = path.split("/") if path else []
        for i in range(len(parts)):
            above = "/".join(parts[: i + 1])
            if above not in self._directories:
                facts = self._archive().facts(f"/{above}")
                self._directories[above] = facts is not None and stat.S_ISDIR(facts.mode)
            if not self._directories[above]:
                return False
        return True


class EngineDiff:
    """The changes over the image, as the engine's diff lists them."""

    method = "the engine's diff"

    def __init__(
        self, changed: Callable[[], tuple[tuple[bool, str], ...]], now: Archive, image: ArchivedImage, limits: ScanLimits
    ) -> None:
        """`changed` returns (is it deleted, absolute path) for each path that differs from the image."""
        self._changed = changed
        self._now = now
        self._image = image
        self._limits = limits
        self._seen: dict[str, Entry] = {}

    def close(self) -> None:
        """Nothing is held here."""

    def look(self, skip: Callable[[str], bool]) -> tuple[Mapping[str, Entry | None], tuple[str, ...]]:
        """Like `UpperDirectory.look`."""
        found: dict[str, Entry | None] = {}
        notes: list[str] = []
        hiding: list[str] = []
        fetched = 0
        for is_gone, absolute in self._changed():
            path = absolute.removeprefix("/")
            if skip(path):
                continue
            if len(found) >= self._limits.entries:
                notes.append(f"more than {self._limits.entries} entries in /: not all of them were looked at")
                break
            if "\ufffd" in path:
                notes.append(f"/{path_text(path.encode())} has a name that the engine cannot show: it was not looked at")
                continue
            facts = None if is_gone else self._now.facts(absolute)
            entry = None if facts is None else self._entry(path, facts, is_full=fetched >= MAX_FETCHED)
            if entry is not None and entry is not self._seen.get(path):
                fetched += entry.sha256 is not None
            found[path] = entry
            if entry is None or entry.type is not FileType.DIR:
                hiding.append(path)
        if fetched >= MAX_FETCHED:
            notes.append(f"more than {MAX_FETCHED} files changed in /: of the others only mode, size and time were compared")
        self._seen = {path: entry for path, entry in found.items() if entry is not None}
        for path in hiding:
            for gone in self._image.below(path):
                found.setdefault(gone, None)
        return found, tuple(notes)

    def read(self, path: str, limit_bytes: int) -> bytes:
        """Like `Scanner.read`."""
        return self._now.read(f"/{path}", limit_bytes)

    def _entry(self, path: str, facts: PathFacts, *, is_full: bool) -> Entry | None:
        known = self._seen.get(path)
        # the facts of a link do not include its target, so a link is always read again
        if known is not None and known.type is not FileType.LINK and known.key == _key(facts.mode, facts):
            return known
        limits = replace(self._limits, file_bytes=-1) if is_full else self._limits
        return _entry(self._now, path, facts, limits)


def _entry(archive: Archive, path: str, facts: PathFacts, limits: ScanLimits) -> Entry | None:
    kind, key = _type(facts.mode), _key(facts.mode, facts)
    try:
        if kind is FileType.LINK:
            return Entry(key, kind, target=path_text(archive.target(f"/{path}")))
        if kind is not FileType.FILE:
            return Entry(key, kind)
        if facts.size_bytes > limits.file_bytes:
            return Entry(key, kind, note="content not read")
        return Entry(key, kind, archive.digest(f"/{path}"))
    except FileNotFoundError:
        return None


def _key(mode: int, facts: PathFacts | None = None) -> Key:
    size, mtime = (0, 0) if facts is None else (facts.size_bytes, facts.mtime_ns)
    return (mode, size, mtime, 0, 0, 0, 0, 0)


def _type(mode: int) -> FileType:
    if stat.S_ISDIR(mode):
        return FileType.DIR
    return FileType.LINK if stat.S_ISLNK(mode) else FileType.FILE if stat.S_ISREG(mode) else FileType.OTHER
