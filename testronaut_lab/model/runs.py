"""What a list of stored runs shows, and how a run is named. `store/` keeps the runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from testronaut_lab.model.result import Status

RunState = Literal["running", "interrupted"] | Status


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run in a list. `running` is still written by a live process; `interrupted` has no end, and no process writes it.

    `totals` counts cases by status; for a run without an end, so far. `plans` are files, or names of plans without a file.
    """

    id: str
    started: str
    finished: str | None
    status: RunState
    totals: dict[str, int] = field(default_factory=dict)
    plans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArtifactPolicy:
    """How long stored runs and their files are kept, and how large both may be together; None: no limit."""

    max_age_s: float | None = None
    max_size_bytes: int | None = None

    @property
    def is_set(self) -> bool:
        return self.max_age_s is not None or self.max_size_bytes is not None


def new_run_id(now: datetime, entropy: int) -> str:
    """Make a run's name, `20261122-184512-3f9a`: names sort by start; the last four digits tell runs of one second apart."""
    return f"{now:%Y%m%d-%H%M%S}-{entropy & 0xFFFF:04x}"
