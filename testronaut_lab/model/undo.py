"""The result of undoing steps of a session, as data. `execution/undo/undo.py` undoes them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from testronaut_lab.model.display import html

MAX_UNDO = 4


class UndoHow(StrEnum):
    """How the shell was recovered."""

    SHELL = "shell restored"  # a copy from before the undone steps goes on
    CONTAINER = "fresh container"  # a new shell with only the files, the directory and the exported variables from before


@dataclass(frozen=True, slots=True)
class UndoResult:
    """The undone steps, by id, in the order in which they ran. `notes` say what could not be undone or is not as it was."""

    steps: tuple[str, ...]
    how: UndoHow
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return one line: `undone: cd-out, ls (shell restored)`."""
        return f"undone: {', '.join(self.steps)} ({self.how})"

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return html(self)
