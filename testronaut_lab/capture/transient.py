"""Finds what a step did that two scans cannot show: paths that came and went, and content that was written again unchanged.

Pure: it compares the events that a watcher heard with the scans before and after the step. It guesses nothing: notes say what
may be missing. It decides no verdict.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from testronaut_lab.capture.file_capture import Entry, Snapshot
from testronaut_lab.capture.watcher import Touch
from testronaut_lab.model.files import FileType, path_text

MAX_TRANSIENT = 1000
_NAMED = 3


@dataclass(frozen=True, slots=True)
class TransientPaths:
    """`transient` are the paths that came and went, in text form, sorted."""

    transient: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Heard:
    """The events heard during a step.

    `places` are the directories (inode by path) that were watched during the whole step. `met` are the new paths that we looked
    at while they existed, each with whether it was a directory.
    """

    touches: frozenset[Touch] = frozenset()
    places: Mapping[str, int] = field(default_factory=dict)
    met: Mapping[str, bool] = field(default_factory=dict)


def traces(before: Snapshot, after: Snapshot, heard: Heard, *, root_changed: bool) -> TransientPaths:
    """Return what the events show and the scans do not."""
    names = _Names(before, after)
    kinds: dict[str, set[str]] = {}
    for touch in heard.touches:
        for path in names.of(touch):
            kinds.setdefault(path, set()).add(touch.what)
    gone = sorted(path for path, what in kinds.items() if "deleted" in what and not names.is_known(path))
    notes = []
    if len(gone) > MAX_TRANSIENT:
        notes.append(f"{len(gone)} transient paths: the first {MAX_TRANSIENT} are listed")
    notes += _unseen_notes(gone, heard.met)
    notes += _unwatched_notes(before, after, heard.places, root_changed=root_changed)
    if _is_lost(before, after, heard.places, kinds):
        notes.append("events of the file system were dropped: transient paths may be missing")
    again = sorted(path for path in kinds if _is_same_again(before.entries.get(path), after.entries.get(path)))
    if again:
        notes.append(f"written again or touched, with the same content: {_listed(again)}")
    return TransientPaths(tuple(_text(path) for path in gone[:MAX_TRANSIENT]), tuple(notes))


class _Names:
    """Finds the paths of a touched name: two in a directory that was renamed during the step.

    A path that a scan shows under either name is not transient.
    """

    def __init__(self, before: Snapshot, after: Snapshot) -> None:
        self._before = before.entries
        self._after = after.entries
        self._now: dict[int, str] | None = None

    def of(self, touch: Touch) -> list[str]:
        where = touch.where
        entry = self._after.get(where.path)
        if not where.path or (entry is not None and entry.key[4] == where.inode):
            return [touch.path]
        now = self._paths_now().get(where.inode)
        paths = [touch.path] if now is None else [touch.path, f"{now}/{touch.name}"]
        return [] if now is not None and any(map(self.is_known, paths)) else paths[-1:]

    def is_known(self, path: str) -> bool:
        return path in self._before or path in self._after

    def _paths_now(self) -> dict[int, str]:
        if self._now is None:
            self._now = {entry.key[4]: path for path, entry in self._after.items() if entry.type is FileType.DIR}
        return self._now


def _unseen_notes(gone: list[str], met: Mapping[str, bool]) -> list[str]:
    """Name the transient directories: events in a new directory are heard only after it is watched, so some may be missing.

    A transient path that was never looked at may have been a directory, too. A note on every temporary file would be noise, so
    only the documentation says so.
    """
    tops = [path for path in gone if met.get(path) and path.rpartition("/")[0] not in gone]
    return [f"transient, perhaps with more in it (gone before that could be seen): {_listed(tops)}"] if tops else []


def _unwatched_notes(before: Snapshot, after: Snapshot, places: Mapping[str, int], *, root_changed: bool) -> list[str]:
    """Name the directories that changed and were not watched."""
    deaf = ["."] if root_changed and "" not in places else []
    for path, entry in after.entries.items():
        if entry.type is not FileType.DIR:
            continue
        old = before.entries.get(path)
        if old is not None and old.type is FileType.DIR and old.key != entry.key and places.get(path) != old.key[4]:
            deaf.append(path)
    return [f"not watched for transient paths: {_listed(sorted(deaf))}"] if deaf else []


def _is_lost(before: Snapshot, after: Snapshot, places: Mapping[str, int], kinds: Mapping[str, set[str]]) -> bool:
    """Whether the scans show that a name came or went in a watched directory without any event."""

    def listened(path: str) -> bool:
        parent = above = path.rpartition("/")[0]
        while above:  # a directory that was deleted and made again may get its old inode
            old, new = before.entries.get(above), after.entries.get(above)
            if old is None or new is None or old.key[4] != new.key[4] or "deleted" in kinds.get(above, ()):
                return False
            above = above.rpartition("/")[0]
        return parent in places and (not parent or places[parent] == after.entries[parent].key[4])

    return any(path not in kinds and listened(path) for path in before.entries.keys() ^ after.entries.keys())


def _is_same_again(old: Entry | None, new: Entry | None) -> bool:
    if old is None or new is None or old.type is not FileType.FILE or new.type is not FileType.FILE:
        return False
    rewritten = (old.key[2], old.key[4]) != (new.key[2], new.key[4])
    return rewritten and old.sha256 is not None and old.same_as(new)


def _listed(paths: Iterable[str]) -> str:
    shown = [_text(path) for path in paths]
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more


def _text(path: str) -> str:
    return path_text(os.fsencode(path))
