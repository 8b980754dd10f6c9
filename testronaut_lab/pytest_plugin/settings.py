"""The parts of pytest's configuration and of the environment that decide how plans run and goldens are written."""

from __future__ import annotations

import os

import pytest

OWN_MARKERS = pytest.StashKey[frozenset[str]]()
"""The markers that the project registered itself. A marker of a plugin may change what a test does."""
PLAN_SUFFIXES = (".lab.yaml", ".lab.yml", ".lab.json")
"""The same as `planfile.SUFFIXES`, without importing `planfile`."""

USED_GOLDENS = pytest.StashKey[list[str]]()
"""The places of the goldens that a test compared with."""


def in_ci() -> bool:
    """Whether this is CI, where nothing is written."""
    from testronaut_lab import config  # imported only when needed

    return config.in_ci(os.environ)


def wants_update(config: pytest.Config) -> bool:
    """Whether missing and different goldens are written. The option is syrupy's, which may not be installed."""
    return bool(config.getoption("update_snapshots", False))


def wants_new_only(config: pytest.Config) -> bool:
    """Whether only missing goldens are written."""
    return bool(config.getoption("update_new_snapshots_only", False)) and not wants_update(config)


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is a worker of xdist, which runs a part of the tests."""
    return hasattr(config, "workerinput")


def marker_names(config: pytest.Config) -> frozenset[str]:
    """Return the names of the markers that are registered so far."""
    return frozenset(line.partition(":")[0].partition("(")[0].strip() for line in config.getini("markers"))
