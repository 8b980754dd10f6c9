"""What of pytest's configuration and of the environment decides how plans are run and goldens are written."""

from __future__ import annotations

import os

import pytest

OWN_MARKERS = pytest.StashKey[frozenset[str]]()
"""The markers that the project itself registered; those of plugins may make a test something else."""
PLAN_SUFFIXES = (".lab.yaml", ".lab.yml", ".lab.json")
"""As `planfile` has them, which is not to be imported for nothing."""

USED_GOLDENS = pytest.StashKey[list[str]]()
"""Of a test: the places of the goldens that it compared with."""


def in_ci() -> bool:
    """Whether nothing may be written."""
    from testronaut_lab import config  # which is not to be imported for nothing

    return config.in_ci(os.environ)


def wants_update(config: pytest.Config) -> bool:
    """Whether goldens that are missing or differ are to be written. The option is syrupy's, which need not be installed."""
    return bool(config.getoption("update_snapshots", False))


def wants_new_only(config: pytest.Config) -> bool:
    """Whether goldens that are missing are to be written, and none that differs."""
    return bool(config.getoption("update_new_snapshots_only", False)) and not wants_update(config)


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of several of xdist, each of which runs a part of the tests."""
    return hasattr(config, "workerinput")


def marker_names(config: pytest.Config) -> frozenset[str]:
    """Of the markers that are registered up to now."""
    return frozenset(line.partition(":")[0].partition("(")[0].strip() for line in config.getini("markers"))
