"""The example with two systems, as it is in the repository. Making the second base image takes half a minute."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import SOAK

from testronaut_lab import run_plan

pytestmark = pytest.mark.engine
EXAMPLE = Path(__file__).parents[2] / "examples" / "systems.lab.yaml"


@pytest.mark.timeout(900)
def test_the_example_passes_on_both_systems_or_quickly_on_one() -> None:
    result = run_plan(EXAMPLE, store=False, matrix=None if SOAK else {"image": "debian:bookworm-slim"})
    assert 0 == result.exit_status
    differing = {(each.case, each.step) for beside in result.side_by_side() for each in beside.differences}
    assert differing == ({("numbers", "large"), ("pick", "one-key")} if SOAK else set())
