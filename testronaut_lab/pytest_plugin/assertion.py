"""The fixture `golden`: `assert lab(…).run(…) == golden`. A thin extension of syrupy over `golden/`.

syrupy counts, sums up, and decides by its options what is written. `golden/` reads, compares, writes and keeps pending goldens.
`unused.py` finds goldens that nothing uses any more.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from syrupy.assertion import DiffMode, SnapshotAssertion
from syrupy.data import SnapshotCollections
from syrupy.extensions.single_file import SingleFileSnapshotExtension

from testronaut_lab.api import session_of
from testronaut_lab.errors import UsageError
from testronaut_lab.golden.compare import GoldenChange, compare
from testronaut_lab.golden.pending import PendingStore
from testronaut_lab.golden.places import GoldenKey
from testronaut_lab.golden.render import GoldenTree
from testronaut_lab.golden.store import GoldenStore
from testronaut_lab.model.plan import GoldenSpec, Normalizer, Stream
from testronaut_lab.model.result import Status, StepResult
from testronaut_lab.pytest_plugin.naming import origin_of
from testronaut_lab.pytest_plugin.settings import USED_GOLDENS, in_ci
from testronaut_lab.safetext import clipped, safe_text

if TYPE_CHECKING:
    from syrupy.location import PyTestLocation

_SHOWN_FILES = 20
_SHOWN_LINES = 200
_RUN = "pytest"  # the run that a pending golden names: one name for all runs of pytest

RuleGiven = str | Normalizer | Mapping[str, str]


class GoldenExtension(SingleFileSnapshotExtension):
    """One golden folder as a syrupy snapshot. Its data is a tree of files."""

    file_extension = ""
    write_immediately = True

    @classmethod
    def get_location(cls, *, test_location: PyTestLocation, index: str | int) -> str:
        return str(_store(test_location.item).directory(_key(test_location.item, index)))

    @classmethod
    def get_snapshot_name(cls, *, test_location: PyTestLocation, index: str | int = 0) -> str:
        return f"{origin_of(test_location.item)[2]}[{_step(index)}]"

    @classmethod
    def dirname(cls, *, test_location: PyTestLocation) -> str:
        return str(_store(test_location.item).root)

    @classmethod
    def matches_test_location(cls, *, test_location: PyTestLocation, snapshot_location: str) -> bool:
        root, module, test = origin_of(test_location.item)
        return Path(snapshot_location).is_relative_to(root / "snapshots" / module / test)

    def discover_snapshots(
        self,
        *,
        test_location: PyTestLocation,  # noqa: ARG002 - syrupy's
        ignore_extensions: list[str] | None = None,  # noqa: ARG002
    ) -> SnapshotCollections:
        """Return nothing: syrupy cannot tell a test that failed before its second golden from a test with only one."""
        return SnapshotCollections()

    def serialize(self, data: Any, **_given: Any) -> Any:
        return data

    def matches(self, *, serialized_data: Any, snapshot_data: Any) -> bool:
        return not compare(snapshot_data, serialized_data)

    def read_snapshot(self, *, test_location: PyTestLocation, index: str | int, session_id: str) -> Any:  # noqa: ARG002
        from syrupy.exceptions import SnapshotDoesNotExist

        tree = _store(test_location.item).read(_key(test_location.item, index))
        if tree is None:
            raise SnapshotDoesNotExist
        return tree

    @classmethod
    def write_snapshot(
        cls,
        *,
        snapshot_location: str,  # noqa: ARG003 - GoldenStore knows where
        snapshots: list[tuple[Any, PyTestLocation, str | int]],
        name_order: dict[str, int] | None = None,  # noqa: ARG003
    ) -> None:
        for tree, test_location, index in snapshots:
            _store(test_location.item).write(_key(test_location.item, index), tree)


@dataclass(eq=False, order=False, repr=False)
class GoldenAssertion(SnapshotAssertion):
    """What the fixture `golden` returns. A call sets the name and the settings of the next comparison."""

    _spec: GoldenSpec = field(init=False, default=GoldenSpec())

    def __call__(  # type: ignore[override]  # syrupy's own options are about Python values
        self,
        name: str | None = None,
        *,
        files: str | Sequence[str] = (),
        normalize: RuleGiven | Sequence[RuleGiven] = (),
        streams: Stream | Sequence[Stream] = ("stdout", "stderr"),
    ) -> GoldenAssertion:
        """Set the next comparison. `files` are globs of changed files to keep; `normalize` takes rules as a plan does.

        Raises UsageError for a name that no folder can have.
        """
        if name is not None:
            if not name or name.isdigit():
                raise UsageError(
                    f"golden(name={name!r}): a name must not be empty or a number; goldens without a name are numbered"
                )
            super().__call__(name=name)
        kept = (streams,) if isinstance(streams, str) else tuple(streams)
        if unknown := sorted(set(kept) - {"stdout", "stderr"}):
            raise UsageError(f"golden(streams={list(kept)!r}): there is no stream {unknown[0]!r}", hint="stdout, stderr")
        given = [normalize] if isinstance(normalize, str | Mapping | Normalizer) else normalize
        globs = (files,) if isinstance(files, str) else tuple(files)
        self._spec = GoldenSpec(streams=kept, files=globs, normalize=tuple(map(_rule, given)))
        return self

    def __eq__(self, other: object) -> bool:
        """Return True if the step equals its golden, or if the golden was written from it.

        Otherwise raises AssertionError, whose text pytest does not cut, and LabError if the step cannot be compared.
        """
        __tracebackhide__ = True
        return self._assert(other)

    def _assert(self, data: Any) -> bool:
        __tracebackhide__ = True
        try:
            return self._compared(data)
        finally:
            self._spec = GoldenSpec()
            self._post_assert()  # the settings end with this comparison, even if it did not happen

    def _compared(self, data: object) -> bool:
        __tracebackhide__ = True
        item = self.test_location.item
        key = _key(item, self.index)
        tree = self._claimed(item, key, data)
        if super()._assert(tree):
            self._settle(item, key)
            return True
        result = self.executions[self.num_executions - 1]
        if result.exception is not None:
            raise result.exception
        expected: GoldenTree | None = result.recalled_data  # type: ignore[assignment]  # what `read_snapshot` gave
        raise AssertionError(self._said(item, key, expected, tree))

    def _claimed(self, item: pytest.Item, key: GoldenKey, data: object) -> GoldenTree:
        """Return what the step did as a golden.

        Raises if this test has already used the golden's name, and for `data` that is no good result of a session in this
        process.
        """
        used = item.stash[USED_GOLDENS]
        if key.place in used:
            raise UsageError(f"golden(name={key.step!r}): this test has a golden of that name already")
        used.append(key.place)
        if not isinstance(data, StepResult):
            raise TypeError(f"a golden is of what a step did: compare the result of `run`, not {type(data).__name__}")
        if data.status is Status.ERROR or data.mismatches:
            data.check()
        session = session_of(data)
        if session is None:
            raise UsageError(f"comparing {data.id} with a golden: it is not a result of a session in this process")
        return session.golden(data, self._spec)

    def _settle(self, item: pytest.Item, key: GoldenKey) -> None:
        if not in_ci():
            PendingStore(_store(item)).settle(key, nodeid=_nodeid(item, key), run=_RUN)

    def _said(self, item: pytest.Item, key: GoldenKey, expected: GoldenTree | None, actual: GoldenTree) -> str:
        where = _store(item).shown(key)
        first = f"{where} is not there yet" if expected is None else f"the step is not as in {where}"
        lines = [first, *actual["cmd.txt"].decode(errors="backslashreplace").splitlines()]
        changes = compare(expected or {}, actual)
        whole = item.config.getoption("diff_mode", DiffMode.DETAILED) != DiffMode.DISABLED
        for change in changes[:_SHOWN_FILES]:
            if expected is not None or change.file != "cmd.txt":  # for a new golden, the heading shows the command
                lines += _told(change, whole=whole)
        if len(changes) > _SHOWN_FILES:
            lines.append(f"… {len(changes) - _SHOWN_FILES} more files")
        lines.append(self._advice(item, key, actual))
        return safe_text("\n".join(lines))

    def _advice(self, item: pytest.Item, key: GoldenKey, actual: GoldenTree) -> str:
        """Say how to accept the step as its golden. Outside CI, this also makes it pending."""
        again = f"{os.path.relpath(item.path)}::{item.nodeid.partition('::')[2]}"
        update = f"pytest --snapshot-update {shlex.quote(again)}"
        if in_ci():
            return f"nothing is written under CI; to accept elsewhere: {update}"
        if _is_to_fail(item):
            return "cannot be accepted: the test is expected to fail"
        nodeid = _nodeid(item, key)
        PendingStore(_store(item)).propose(key, actual, nodeid=nodeid, run=_RUN)
        return f"to accept: testronaut-lab accept {shlex.quote(nodeid)}\nor write it now: {update}"


def golden_of(snapshot: SnapshotAssertion) -> GoldenAssertion:
    """Return our assertion for the test of syrupy's `snapshot`. It writes nothing on CI."""
    item = snapshot.test_location.item
    item.stash[USED_GOLDENS] = []  # a rerun of the test begins with none
    writes = not in_ci() and not _is_to_fail(item)
    return GoldenAssertion(
        session=snapshot.session,
        extension_class=GoldenExtension,
        test_location=snapshot.test_location,
        update_snapshots=snapshot.update_snapshots and writes,
        update_new_snapshots_only=snapshot.update_new_snapshots_only and writes,
    )


def _is_to_fail(item: pytest.Item) -> bool:
    """Whether pytest expects the failure that a different golden causes.

    A marker alone does not say so: its condition may not hold, `raises` may name another exception, and `--runxfail` disables
    all markers. pytest has no public function for this.
    """
    from _pytest.skipping import evaluate_xfail_marks

    expected = None if item.config.option.runxfail else evaluate_xfail_marks(item)
    if expected is None or expected.raises is None:
        return expected is not None
    raises = expected.raises
    if isinstance(raises, type | tuple):
        return issubclass(AssertionError, raises)
    return bool(raises.matches(AssertionError()))


def _store(item: pytest.Item) -> GoldenStore:
    return GoldenStore(origin_of(item)[0] / "snapshots")


def _key(item: pytest.Item, index: str | int) -> GoldenKey:
    _, module, test = origin_of(item)
    return GoldenKey(module, test, _step(index), maker="pytest")


def _step(index: str | int) -> str:
    """Return the golden's name. Goldens without a name are numbered from 1 within their test."""
    return index if isinstance(index, str) else str(index + 1)


def _nodeid(item: pytest.Item, key: GoldenKey) -> str:
    """Return pytest's node id, relative to the project, followed by the golden's name or number."""
    return f"{key.plan}{item.path.suffix}::{item.nodeid.partition('::')[2]}::{key.step}"


def _rule(given: RuleGiven) -> str | Normalizer:
    if isinstance(given, str | Normalizer):
        return given
    if given.keys() != {"matches", "replace"} or not all(isinstance(value, str) for value in given.values()):
        raise UsageError(f"golden(normalize=[{given!r}]): a rule is a name, or has `matches` and `replace`")
    return Normalizer(given["matches"], given["replace"])


def _told(change: GoldenChange, *, whole: bool) -> list[str]:
    """Describe one file that differs; `whole` adds the diff (syrupy's option `--snapshot-diff-mode`)."""
    gone = "  (no longer there)" if change.actual is None else ""
    new = "  (new)" if change.expected is None else ""
    diff = clipped(change.diff or "").rstrip("\n").split("\n") if whole else []
    more = [f"  … {len(diff) - _SHOWN_LINES} more lines"] if len(diff) > _SHOWN_LINES else []
    return [f"{change.file}{gone}{new}", *(f"  {line}" for line in diff[:_SHOWN_LINES]), *more]
