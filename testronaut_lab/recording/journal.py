"""What was done in a session, in order, as far as a plan can do it again. The session writes it, `draft.py` reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from testronaut_lab.execution.context import StepRequest
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.result import StepResult


@dataclass(frozen=True, slots=True)
class Seen:
    """What a step did, and the facts of its session. `blob` returns the content of a changed file by its SHA-256."""

    result: StepResult
    facts: Facts
    blob: Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Ran:
    """One step. `id` is the name that the user gave it, or None.

    `expect` has the added expectations, with the keys of a plan. `golden` says whether the step has a golden.
    """

    request: StepRequest
    seen: Seen
    id: str | None = None
    expect: Mapping[str, object] = field(default_factory=dict)
    golden: bool = True

    @property
    def result(self) -> StepResult:
        return self.seen.result


@dataclass(frozen=True, slots=True)
class Put:
    """A file or folder that was put into the workspace between two steps: from `content`, or from `source` on the host."""

    path: str
    content: bytes | None = None
    source: Path | None = None
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class Restarted:
    """The session was restarted between two steps: files are kept, shell state and background programs are gone."""


Entry = Ran | Put | Restarted


class Journal:
    def __init__(self) -> None:
        self._entries: list[Entry] = []

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries)

    @property
    def steps(self) -> tuple[Ran, ...]:
        return tuple(entry for entry in self._entries if isinstance(entry, Ran))

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)

    def undo(self, steps: int) -> None:
        """Remove the last steps, and everything after the first of them."""
        for _ in range(min(steps, len(self.steps))):
            while not isinstance(self._entries.pop(), Ran):
                pass

    def amend(self, **changes: object) -> Ran:
        """Change fields of the last step and return it. There must be one."""
        position = max(i for i, entry in enumerate(self._entries) if isinstance(entry, Ran))
        last = self._entries[position]
        assert isinstance(last, Ran)
        amended = replace(last, **changes)  # type: ignore[arg-type]
        self._entries[position] = amended
        return amended
