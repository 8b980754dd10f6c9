"""A chosen part of the contract on other engines than the one that runs: each is started for it, as its users would have it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from enginecells import run_tests
from otherengines import OtherEngine, started

from testronaut_lab.container.engine.connect import Engine

# Debian's stable: what continuous integration fetches must be there tomorrow too. `make engines` has all.
OTHERS = (OtherEngine("docker", "trixie"), OtherEngine("podman", "trixie"))
CHOSEN = "fast-dash or plain-busybox or profile or loss or terminal or manager"
PATHS = (
    "contract/test_contract.py",
    "execution/test_session_profile.py",
    "execution/test_session_loss.py",
    "execution/test_terminal.py",
    "container/test_manager.py",
)
BUSYBOX = "testronaut-lab/test-busybox:2"
BASE = "testronaut-lab/base:debian-bookworm-slim"


@pytest.mark.engine
@pytest.mark.timeout(1800)  # the first run on a machine makes the engines' image
@pytest.mark.parametrize("other", OTHERS, ids=lambda other: other.id)
def test_the_contract_holds_on(other: OtherEngine, engine: Engine, base_image: str, busybox_image: str, tmp_path: Path) -> None:
    with started(engine, other, os.getuid(), (BASE, BUSYBOX), print) as there:
        counted = run_tests(there.environment(), there.caller, (), PATHS, CHOSEN, there.folder / "tmp")
    assert counted.failed == (), counted.said
    assert counted.passed > 240
