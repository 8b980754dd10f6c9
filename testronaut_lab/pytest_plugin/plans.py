"""Plan files as tests: one pytest item for each case, with the case's tags as markers.

`running.py` runs them, `failure_text.py` shows failures. A wrong plan is a collection error with file, line and key.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testronaut_lab.config import load_config, plan_root
from testronaut_lab.errors import LabError
from testronaut_lab.golden.places import GoldenKey, golden_key
from testronaut_lab.model.plan import Case, Plan, all_steps
from testronaut_lab.model.result import Status
from testronaut_lab.planfile import load_plans
from testronaut_lab.pytest_plugin.failure_text import CaseText, failure_text
from testronaut_lab.pytest_plugin.running import PLAN_RUNS
from testronaut_lab.pytest_plugin.settings import OWN_MARKERS, marker_names
from testronaut_lab.report.state.findings import skipped_because
from testronaut_lab.safetext import safe_line, safe_text


class CaseFailed(Exception):
    """A case failed. `text` is the failure text."""

    def __init__(self, text: CaseText) -> None:
        super().__init__(text.reprcrash.message)
        self.text = text


class CaseBroken(CaseFailed):
    """The case could not be judged. `expect_fail` does not expect this."""


class PlanFile(pytest.File):
    """A plan file. A matrix makes several plans of it."""

    def collect(self) -> Iterator[CaseItem]:
        try:
            plans = _plans(self.path)
        except LabError as error:
            raise self.CollectError(str(error)) from error
        for plan in plans:
            for case in plan.cases:
                item: CaseItem = CaseItem.from_parent(self, name=_name(case), plan=plan, case=case)
                yield item


class CaseItem(pytest.Item):
    """A case. Its node id equals ours if pytest's root is the project's."""

    def __init__(self, *, plan: Plan, case: Case, **given: object) -> None:
        super().__init__(**given)  # type: ignore[arg-type]  # pytest checks its own arguments
        self.plan = plan
        self.case = case
        self.add_marker("lab")
        self.extra_keyword_matches |= {*case.tags, *(step.id for step in case.steps)}
        for tag in case.tags:
            _mark(self, tag)
        if case.expect_fail is not None:
            self.add_marker(pytest.mark.xfail(reason=safe_line(case.expect_fail), strict=True, raises=CaseFailed))

    def setup(self) -> None:
        """Prepare the image and the tools, once for each plan. A failure here is an error of each case of the plan."""
        runs = self.config.stash[PLAN_RUNS]
        try:
            runs.begin(self)
        except LabError as error:
            why = "\n".join([str(error), *runs.install_log(self)])
            raise pytest.fail.Exception(why, pytrace=False) from None

    def runtest(self) -> None:
        __tracebackhide__ = True
        runs = self.config.stash[PLAN_RUNS]
        try:
            result = runs.run(self)
        except LabError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        if result.status is Status.SKIPPED:
            pytest.skip(safe_text(skipped_because(result)))
        if result.status not in (Status.PASSED, Status.XPASSED):
            kind = CaseBroken if result.status is Status.ERROR else CaseFailed
            raise kind(failure_text(result, runs.lines(self), runs.run_id(self), self.path))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> object:  # type: ignore[override]
        if isinstance(excinfo.value, CaseFailed):
            return excinfo.value.text
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.path.name}::{self.name}"


def golden_places(item: pytest.Item) -> tuple[str, list[str]]:
    """Return the path of the item's plan without its suffix, and the places of all goldens of that plan."""
    assert isinstance(item, CaseItem)
    keys = [golden_key(step) for step in all_steps(item.plan) if step.golden is not None]
    stem = GoldenKey.of(f"{item.case.nodeid}::any").plan
    return stem, [key.place for key in keys]


def _plans(path: Path) -> list[Plan]:
    return list(load_plans(path, defaults=load_config(plan_root(path)).defaults))


def _name(case: Case) -> str:
    """Return the part of the case's node id after the path."""
    return case.nodeid.partition("::")[2]


def _mark(item: pytest.Item, tag: str) -> None:
    """Make the tag a marker that `--strict-markers` knows.

    A marker that pytest or a plugin registered is left alone: a case tagged `skip` or `timeout` does not mean pytest's. `-k`
    finds every tag.
    """
    name = tag.lstrip("_")  # a pytest marker cannot begin with one
    registered = marker_names(item.config)
    own = item.config.stash[OWN_MARKERS]
    if not name or (name in registered and name not in own):
        return
    if name not in registered:
        item.config.addinivalue_line("markers", f"{name}: a tag of plan files")
        item.config.stash[OWN_MARKERS] = own | {name}
    item.add_marker(getattr(pytest.mark, name))
