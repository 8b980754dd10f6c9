"""What a session's files were when a step was over: what the scan after the step saw, and the bytes that it stored.

A verdict stands on these alone. The files themselves may be others by now: a program in the background goes on, and what is
judged has to be what is kept as evidence. Outside the workspace content is not stored, but its hash is known: a file that is
another one by now cannot be judged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from testronaut_lab.capture.file_capture import Entry, Snapshot
from testronaut_lab.capture.outside import Outside
from testronaut_lab.capture.stream import Blobs
from testronaut_lab.errors import CaptureError
from testronaut_lab.execution.context import WORKSPACE
from testronaut_lab.model.files import FileState, FileType, path_bytes, path_text
from testronaut_lab.model.globs import named_by
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.units import size_text

_MAX_READ_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StepFiles:
    """Paths are in the text form of `model.files.path_text`: relative to the workspace, or absolute outside of it.

    `owners` are the names of users by their number on the host.
    """

    facts: Facts
    workspace: Snapshot
    outside: Outside
    blobs: Blobs
    owners: Mapping[int, str]

    def find(self, pattern: str) -> Mapping[str, FileState]:
        """The paths that a path or a pattern names, sorted. Raises CaptureError where nothing is captured."""
        pattern = _inside(pattern)
        entries = self._entries(pattern)
        texts = {path_text(path.encode(errors="surrogateescape")): path for path in entries}
        return {text: self._state(entries[texts[text]]) for text in named_by(pattern, texts)}

    def read(self, path: str) -> bytes:
        """A regular file as it was captured.

        Raises FileNotFoundError for anything else, CaptureError for what was not captured or is too large to be judged.
        """
        path = _inside(path)
        entry = self._entries(path).get(path_bytes(path).decode(errors="surrogateescape"))
        if entry is None or entry.type is not FileType.FILE:
            raise FileNotFoundError(f"there was no regular file {path}")
        if entry.sha256 is None:
            raise CaptureError(f"judging {path}: {entry.note or 'its content was not read'}")
        if entry.size_bytes > _MAX_READ_BYTES:
            limit = size_text(_MAX_READ_BYTES)
            raise CaptureError(f"judging {path}: it has {entry.size_bytes} bytes, more than {limit} are not judged")
        return self._unchanged(path, entry.sha256) if path.startswith("/") else self.blobs.read(entry.sha256)

    def _entries(self, pattern: str) -> Mapping[str, Entry]:
        return self.outside.entries(pattern) if pattern.startswith("/") else self.workspace.entries

    def _state(self, entry: Entry) -> FileState:
        inode, uid = entry.key[4], entry.key[6]  # an engine that tells of changes tells neither
        return FileState(entry.type, entry.mode, entry.target, self.owners.get(uid, str(uid)) if inode else None)

    def _unchanged(self, path: str, sha256: str) -> bytes:
        try:
            data = self.outside.read(path, _MAX_READ_BYTES)
        except FileNotFoundError:
            data = None
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            raise CaptureError(f"judging {path}: it changed again after the step, and its content is not stored")
        return data


def _inside(path: str) -> str:
    return path.removeprefix(f"{WORKSPACE}/")
