"""What undoing steps of a session came to, as data. How it is done is in `execution/undo/undo.py`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module

MAX_UNDO = 4


class UndoHow(StrEnum):
    """By what the session's shell was had back."""

    SHELL = "shell restored"  # a copy of it that was parked before the undone steps goes on
    CONTAINER = "fresh container"  # with the files, the directory and the exported variables from before; nothing else


@dataclass(frozen=True, slots=True)
class UndoResult:
    """`steps` are the ids of the undone steps as they had run; `notes` say what could not be undone, or is not as it was."""

    steps: tuple[str, ...]
    how: UndoHow
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """In one line: `undone: cd-out, ls (shell restored)`."""
        return f"undone: {', '.join(self.steps)} ({self.how})"

    def _repr_html_(self) -> str:
        """How a notebook shows it. Imported on demand: reports know results, not the other way round."""
        html: str = import_module("testronaut_lab.report.html.results").undo_html(self)
        return html
