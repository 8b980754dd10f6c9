"""What a session's files were when a step was over: what the scan after the step saw, and the bytes that it stored.

A verdict stands on these alone. The files themselves may be others by now: a program in the background goes on, and what is
judged has to be what is kept as evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from testronaut_lab.capture.file_capture import Entry, Snapshot
from testronaut_lab.capture.stream import Blobs
from testronaut_lab.errors import CaptureError
from testronaut_lab.model.files import FileType, path_bytes, path_text
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.units import size_text

_MAX_READ_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """Paths are in the text form of `model.files.path_text`, relative to the workspace."""

    facts: Facts
    workspace: Snapshot
    blobs: Blobs

    def paths(self) -> Mapping[str, FileType]:
        """Everything there was in the workspace."""
        entries: Mapping[str, Entry] = self.workspace.entries
        return {path_text(path.encode(errors="surrogateescape")): entry.type for path, entry in entries.items()}

    def read(self, path: str) -> bytes:
        """A regular file as it was captured.

        Raises FileNotFoundError for anything else, CaptureError for what was not captured or is too large to be judged.
        """
        entry = self.workspace.entries.get(path_bytes(path).decode(errors="surrogateescape"))
        if entry is None or entry.type is not FileType.FILE:
            raise FileNotFoundError(f"there was no regular file {path}")
        if entry.sha256 is None:
            raise CaptureError(f"judging {path}: {entry.note or 'its content was not read'}")
        if entry.size_bytes > _MAX_READ_BYTES:
            raise CaptureError(
                f"judging {path}: it has {entry.size_bytes} bytes, more than {size_text(_MAX_READ_BYTES)} are not judged"
            )
        return self.blobs.read(entry.sha256)
