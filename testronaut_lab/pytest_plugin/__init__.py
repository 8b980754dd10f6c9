"""The pytest plugin: the fixtures `lab` and `golden`, plan files as tests, and the marker `lab`.

Every pytest loads this module where the package is installed. So it imports nothing heavy before a test asks for a session or a
plan is found. Plans as tests are in `plans.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testronaut_lab.errors import LabError
from testronaut_lab.pytest_plugin.settings import OWN_MARKERS, PLAN_SUFFIXES, marker_names
from testronaut_lab.pytest_plugin.unused import GoldenWatch

if TYPE_CHECKING:
    from testronaut_lab.api import Session
    from testronaut_lab.pytest_plugin.assertion import GoldenAssertion
    from testronaut_lab.pytest_plugin.plans import PlanFile

_COLLECT = "testronaut_lab_collect"


class LabFactory:
    """Makes sessions: `lab("debian:bookworm-slim", "apt:jq")`. A session starts on first use and is closed at the test's end."""

    def __init__(self, root: Path, closing: ExitStack) -> None:
        self._root = root
        self._closing = closing

    def __call__(self, image: str | Mapping[str, object], *tools: str) -> Session:
        from testronaut_lab.api import Session

        return self._closing.enter_context(Session(image, *tools, root=self._root))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(_COLLECT, "whether plan files (*.lab.yaml) in folders are collected as tests", type="bool", default=True)


@pytest.hookimpl(tryfirst=True)  # before other plugins register their markers
def pytest_configure(config: pytest.Config) -> None:
    config.stash[OWN_MARKERS] = marker_names(config)
    config.pluginmanager.register(GoldenWatch(config), "testronaut_lab_goldens")
    config.addinivalue_line("markers", "lab: runs commands in a container; deselect with -m 'not lab' where there is no engine")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> PlanFile | None:
    """Collect a plan that is found, unless the project switches that off. A plan that is named is always collected."""
    if not file_path.name.endswith(PLAN_SUFFIXES):
        return None
    if not parent.config.getini(_COLLECT) and not parent.session.isinitpath(file_path):
        return None
    from testronaut_lab.pytest_plugin.plans import PlanFile

    collector: PlanFile = PlanFile.from_parent(parent, path=file_path)
    return collector


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs an engine, so that `-m 'not lab'` leaves it out."""
    if "lab" in getattr(item, "fixturenames", ()):
        item.add_marker("lab")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Prepare the runs: only now are the selected cases known."""
    if not any(item.path.name.endswith(PLAN_SUFFIXES) for item in session.items):
        return
    from testronaut_lab.pytest_plugin.plans import CaseItem
    from testronaut_lab.pytest_plugin.running import PLAN_RUNS, PlanRuns

    items = [item for item in session.items if isinstance(item, CaseItem)]
    try:
        session.config.stash[PLAN_RUNS] = PlanRuns(session.config, items)
    except LabError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """End the runs before other plugins sum up. An error in storing a run is shown last, where it is seen."""
    failed = _close_runs(session.config)
    result = yield
    if failed is not None:
        pytest.exit(str(failed), returncode=pytest.ExitCode.INTERNAL_ERROR)
    return result


def _close_runs(config: pytest.Config) -> LabError | None:
    if "testronaut_lab.pytest_plugin.running" not in sys.modules:
        return None
    from testronaut_lab.pytest_plugin.running import PLAN_RUNS

    try:
        if (runs := config.stash.get(PLAN_RUNS, None)) is not None:
            runs.close()
    except LabError as error:
        return error
    return None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make the report of a test with sessions safe: `assert r.ok, r.err` and `print(r.out)` put a tool's bytes into it."""
    report = yield
    if not {"lab", "golden"}.isdisjoint(getattr(item, "fixturenames", ())):
        report.longrepr = _made_safe(report.longrepr)  # type: ignore[assignment]  # only its text has changed
        report.sections = [(name, _without_colours(text)) for name, text in report.sections]
    elif item.path.name.endswith(PLAN_SUFFIXES) and report.skipped and isinstance(report.longrepr, tuple):
        report.longrepr = (str(item.path), 1, report.longrepr[2])  # instead of the place in this package that raised it
    return report


def _made_safe(part: object) -> object:
    """Return the same structure of pytest's failure text, with every string made safe to show."""
    from testronaut_lab.safetext import safe_text

    if isinstance(part, str):
        return safe_text(part)
    if isinstance(part, list | tuple):
        return type(part)(map(_made_safe, part))
    if is_dataclass(part) and not isinstance(part, type):
        for field in fields(part):
            setattr(part, field.name, _made_safe(getattr(part, field.name)))
    return part


def _without_colours(text: str) -> str:
    from testronaut_lab.report.text.styled import styled

    return "".join(piece for piece, _look in styled(text))


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[LabFactory]:
    """Start sessions in containers: call it with an image and tools."""
    with ExitStack() as closing:
        yield LabFactory(request.config.rootpath, closing)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> GoldenAssertion:
    """The accepted output of a step: `assert lab("debian:bookworm-slim").run("ls") == golden`."""
    if not request.config.pluginmanager.hasplugin("syrupy"):
        raise pytest.UsageError("the fixture `golden` needs syrupy: pip install 'testronaut-lab[pytest]'")
    from testronaut_lab.pytest_plugin.assertion import golden_of

    return golden_of(request.getfixturevalue("snapshot"))
