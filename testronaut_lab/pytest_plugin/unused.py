"""Finds goldens that no test and no plan uses any more. They fail the session; `--snapshot-update` removes them instead.

Options and words are syrupy's. Unlike syrupy, this keeps the goldens of a test that failed, was skipped or never began. If only
some tests were selected, it looks for nothing.

The order: each test notes its goldens in its report. `pytest_runtest_logreport` gathers the notes, in the main process also
those of xdist workers. A worker sends at its end what it collected. The main process then compares both with the folders on
disk.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testronaut_lab.errors import LabError
from testronaut_lab.pytest_plugin.naming import folder_of, has_goldens_above, module_of
from testronaut_lab.pytest_plugin.settings import PLAN_SUFFIXES, USED_GOLDENS, in_ci, is_worker, wants_update
from testronaut_lab.safetext import safe_text

if TYPE_CHECKING:
    from testronaut_lab.golden.places import GoldenKey
    from testronaut_lab.golden.store import GoldenStore, Orphan

_REPORTED = "testronaut_lab_goldens"  # attribute of a test's report: the places of the goldens it compared with
_SENT = "testronaut_lab_collected"
_MARK = ".pytest"  # GoldenStore puts this file into a module's folder; a `snapshots/` folder without it is not ours
_SHOWN = 20


@dataclass
class Collected:
    """What pytest collected of one project.

    `modules` say whether everything in a module was collected. `tests` have module/test by node id. `plans` have the places of
    all goldens of a plan, by the plan's path without its suffix.
    """

    modules: dict[str, bool] = field(default_factory=dict)
    tests: dict[str, str] = field(default_factory=dict)
    plans: dict[str, list[str]] = field(default_factory=dict)


class GoldenWatch:
    """A pytest plugin object for one session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._chosen = any("::" in argument for argument in config.args) or bool(config.getoption("lf", False))
        self._modules: dict[Path, bool] = {}
        self._passed: set[str] = set()
        self._not_passed: set[str] = set()
        self._used: set[str] = set()
        self._sent: dict[str, dict[str, Any]] | None = None
        self._unused: list[tuple[Path, Orphan]] = []
        self._removed = False
        self._problem: LabError | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if isinstance(collector, pytest.Module | pytest.Class):
            self._modules[collector.path] = report.passed and self._modules.get(collector.path, True)
        return report

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._chosen = self._chosen or bool(items)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if used := item.stash.get(USED_GOLDENS, None):
            setattr(report, _REPORTED, list(used))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather results and used goldens. This is also called for tests that workers ran."""
        self._used.update(getattr(report, _REPORTED, ()))
        if report.outcome != "passed" or hasattr(report, "wasxfail"):
            self._not_passed.add(report.nodeid)
        elif report.when == "call":
            self._passed.add(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what an ended xdist worker collected. All workers collect the same, so one of them is enough."""
        sent = getattr(node, "workeroutput", {}).get(_SENT)
        if sent is not None:
            self._sent = sent["projects"]
            self._chosen = self._chosen or sent["chosen"]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
        if is_worker(self._config):
            projects = {} if self._chosen else {str(root): asdict(each) for root, each in self._collected(session)}
            self._config.workeroutput[_SENT] = {"chosen": self._chosen, "projects": projects}  # type: ignore[attr-defined]
        elif exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
            self._look(session)
        if self._problem is not None or (self._unused and not self._is_forgiven):
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
        return (yield)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = list(self._lines())
        if lines:
            terminalreporter.write_sep("-", "unused goldens")
            for line in lines:
                terminalreporter.write_line(safe_text(line))

    @property
    def _is_forgiven(self) -> bool:
        return self._option("warn_unused_snapshots") or (wants_update(self._config) and not in_ci())

    def _option(self, name: str) -> bool:
        return bool(self._config.getoption(name, False))

    def _look(self, session: pytest.Session) -> None:
        """Find unused goldens, and remove them if the options ask for it. Nothing is removed on CI."""
        if self._chosen or self._option("disable_unused_snapshots") or not self._config.pluginmanager.hasplugin("syrupy"):
            return
        sent = self._sent
        projects = dict(self._collected(session)) if sent is None else {Path(root): Collected(**sent[root]) for root in sent}
        try:
            self._unused = [(root, each) for root, found in projects.items() for each in self._unused_of(root, found)]
            if wants_update(self._config) and not self._option("no_cleanup") and not in_ci():
                for root, orphan in self._unused:
                    _store(root).remove([orphan.place])
                self._removed = True
        except LabError as error:
            self._problem = error

    def _collected(self, session: pytest.Session) -> Iterator[tuple[Path, Collected]]:
        """Yield what was collected, for each project that keeps goldens."""
        found: dict[Path, Collected] = {}
        if not any(map(has_goldens_above, {path.parent for path in (*self._modules, *(item.path for item in session.items))})):
            return
        for path, whole in self._modules.items():
            root, module = module_of(path, self._config.rootpath)
            found.setdefault(root, Collected()).modules[module] = whole
        for item in session.items:
            root, module = module_of(item.path, self._config.rootpath)
            if item.path.name.endswith(PLAN_SUFFIXES):
                from testronaut_lab.pytest_plugin.plans import golden_places

                stem, places = golden_places(item)
                known = found.setdefault(root, Collected()).plans.setdefault(stem, [])
                known += [place for place in places if place not in known]
            else:
                found.setdefault(root, Collected()).tests[item.nodeid] = f"{module}/{folder_of(item.nodeid)}"
        yield from ((root, each) for root, each in found.items() if (root / "snapshots").is_dir())

    def _unused_of(self, root: Path, found: Collected) -> Iterator[Orphan]:
        if next((root / "snapshots").rglob(_MARK), None) is not None:
            orphans = _store(root).orphans(map(_key, self._used), "pytest")
            yield from (each for each in orphans if self._no_test_has(root, found, each.place))
        if found.plans:
            orphans = _store(root).orphans((_key(place) for places in found.plans.values() for place in places), "plan")
            yield from (each for each in orphans if each.place.rsplit("/", 2)[0] in found.plans)

    def _no_test_has(self, root: Path, found: Collected, place: str) -> bool:
        """Whether an unused golden belongs to no test, or only to tests that passed without it."""
        test = place.rpartition("/")[0]
        module = test.rpartition("/")[0]
        if not (root / "snapshots" / module / _MARK).exists():
            return False
        if module in found.modules:
            tests = [nodeid for nodeid, name in found.tests.items() if name == test]
            return found.modules[module] and all(each in self._passed - self._not_passed for each in tests)
        file = root / f"{module}.py"
        return not file.exists() and any(file.is_relative_to(folder) for folder in self._folders())

    def _folders(self) -> list[Path]:
        """Return the folders that pytest was told to search."""
        given = [(self._config.invocation_params.dir / argument).resolve() for argument in self._config.args]
        return [path for path in given if path.is_dir()]

    def _lines(self) -> Iterator[str]:
        if self._problem is not None:
            yield from f"looking for unused goldens: {self._problem}".split("\n")
            return
        if not self._unused:
            return
        count = len(self._unused)
        what = "unused snapshot deleted." if self._removed else "snapshot unused."
        yield f"{count} {what if count == 1 else what.replace('snapshot', 'snapshots')}"
        shown = count if self._option("include_snapshot_details") else _SHOWN
        for root, orphan in self._unused[:shown]:
            path = os.path.relpath(root / "snapshots" / orphan.place, self._config.invocation_params.dir)
            yield f"{'Deleted' if self._removed else 'Unused'} {path}"
        if count > shown:
            yield f"… and {count - shown} more: --snapshot-details"
        if in_ci() or not wants_update(self._config):
            yield "Re-run pytest with --snapshot-update to delete unused snapshots."


def _key(place: str) -> GoldenKey:
    from testronaut_lab.golden.places import GoldenKey

    folder, test, step = place.rsplit("/", 2)
    return GoldenKey(folder, test, step)


def _store(root: Path) -> GoldenStore:
    from testronaut_lab.golden.store import GoldenStore

    return GoldenStore(root / "snapshots")
