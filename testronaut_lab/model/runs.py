"""What a list of stored runs shows of each, and how a run is named. The runs themselves are in `store/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from testronaut_lab.model.result import Status

RunState = Literal["running", "interrupted"] | Status


@dataclass(frozen=True, slots=True)
class RunSummary:
    """`running` is being written by a live process; `interrupted` was never finished and nobody writes it any more.

    `totals` counts cases by status, so far for a run without an end. `plans` are files, or names of plans without one.
    """

    id: str
    started: str
    finished: str | None
    status: RunState
    totals: dict[str, int] = field(default_factory=dict)
    plans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArtifactPolicy:
    """How long and how much is kept of stored runs and what they name; None: without a limit. `max_size_bytes` is for both."""

    max_age_s: float | None = None
    max_size_bytes: int | None = None

    @property
    def is_set(self) -> bool:
        return self.max_age_s is not None or self.max_size_bytes is not None


def new_run_id(now: datetime, entropy: int) -> str:
    """A run's name, `20261122-184512-3f9a`: sorts by start; the last four digits tell runs of one second apart."""
    return f"{now:%Y%m%d-%H%M%S}-{entropy & 0xFFFF:04x}"
