"""Ending what a step started, where the watchdog does not manage it at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import pytest

from testronaut_lab.container.protocol import Container
from testronaut_lab.errors import SessionLost
from testronaut_lab.execution.driver.processes import leftovers
from testronaut_lab.execution.driver.processes.guard import Guard
from testronaut_lab.execution.driver.processes.leftovers import LeftoverProcesses


class SlowGuard:
    """Its sweeps fail so many times, as on a machine where what was killed does not come to run."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def sweep(self, keep: Iterable[int], sessions: Iterable[int]) -> bool:
        self.failures -= 1
        return self.failures < 0


class Killable:
    killed = False

    def patience_s(self, usual_s: float) -> float:
        return usual_s

    def kill(self) -> None:
        self.killed = True


def test_a_sweep_that_fails_is_tried_again_before_the_container_is_killed() -> None:
    container = Killable()
    LeftoverProcesses(cast(Container, container), cast(Guard, SlowGuard(3))).sweep()
    assert not container.killed


def test_a_sweep_that_goes_on_failing_kills_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_KILL_S", 0.0)
    container = Killable()
    with pytest.raises(SessionLost, match="were not dead 0 s after they had been killed"):
        LeftoverProcesses(cast(Container, container), cast(Guard, SlowGuard(10_000))).sweep()
    assert container.killed
