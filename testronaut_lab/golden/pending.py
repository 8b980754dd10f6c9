"""Keeps new goldens that wait until a person accepts or rejects them.

1. A run judges a step whose result differs from its golden. `propose` writes the new golden below `.testronaut/pending/`, at
   the golden's place, with a `pending.json` (`Origin`) beside its files. It replaces an older entry at that place.
2. A step that agrees with its golden calls `settle`, which drops the entry of an earlier run or attempt.
3. If two cells of one run share a golden and differ, the entry gets a `clash`: it can be rejected but not accepted.
4. Later, `accept` checks that the entry and the golden are still those that the person saw, writes the golden, then drops the
   entry. A process that dies between the two leaves an entry equal to its golden, which `pending` leaves out.
All of this happens under the one lock of the goldens. `judge/` decides whether a step may propose; `report/` and the command
line show entries.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, get_args

from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.golden import disk
from testronaut_lab.golden.compare import GoldenChange, compare
from testronaut_lab.golden.places import GoldenKey, Maker
from testronaut_lab.golden.render import GoldenTree
from testronaut_lab.golden.store import GoldenStore, check_tree, tree_sha256
from testronaut_lab.model.cells import NodeName

_INDEX: Final = "pending.json"
_VERSION: Final = 1
_TOP_LEVEL: Final = disk.TOP_LEVEL | {_INDEX}
_TEXTS: Final = frozenset({"id", "nodeid", "run", "when", "base_sha256", "sha256", "maker"})


@dataclass(frozen=True, slots=True)
class Origin:
    """The contents of `pending.json`.

    `id` is the golden's place. `base_sha256` is the digest of the golden that the step was compared with, or `none`. `sha256`
    is the digest of the files beside `pending.json`. `also` are the node ids of other cells that proposed the same golden in
    the same run. `clash` is the node id of a cell that did something else in the same run; None if there is none.
    """

    id: str
    nodeid: str
    run: str
    when: str
    base_sha256: str
    sha256: str
    maker: Maker = "plan"
    clash: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pending:
    """One entry. `expected` is the golden as it is now, None if there is none; `actual` is the golden that could replace it."""

    origin: Origin
    expected: GoldenTree | None
    actual: GoldenTree

    @property
    def nodeid(self) -> str:
        return self.origin.nodeid

    @property
    def nodeids(self) -> tuple[str, ...]:
        """Every step that proposed this golden."""
        return (self.origin.nodeid, *self.origin.also)

    @property
    def place(self) -> str:
        return self.origin.id

    @property
    def is_of_plan(self) -> bool:
        return self.origin.maker == "plan"

    @property
    def changes(self) -> tuple[GoldenChange, ...]:
        """The differences, file by file. If there is no golden yet, every file is an added one."""
        return compare(self.expected or {}, self.actual)

    @property
    def problem(self) -> str | None:
        """Why the entry cannot be accepted; None if it can."""
        if self.origin.clash is not None:
            return _clashing(self.origin.clash)
        if tree_sha256(self.expected) not in (self.origin.base_sha256, self.origin.sha256):
            return "the golden has changed since then"
        return None


@dataclass(frozen=True, slots=True)
class Broken:
    """An entry that is damaged, was changed by hand, or has another format. It can only be rejected."""

    place: str
    problem: str


class PendingStore:
    """The entries that wait to become one of `goldens`. Several processes may use the store at once."""

    def __init__(self, goldens: GoldenStore) -> None:
        self._goldens = goldens
        self.root = goldens.root.parent / ".testronaut" / "pending"

    def propose(self, key: GoldenKey, actual: GoldenTree, *, nodeid: str, run: str, clash: str | None = None) -> str | None:
        """Keep `actual` until it is accepted or rejected, in place of the older entry for this golden.

        If `actual` equals the golden, this is `settle`. Entries of earlier runs for this step at other places are dropped.
        `clash` is the node id of another cell of the run that agrees with the golden as it is. With a clash, given or found
        here, the entry cannot be accepted. Returns why it cannot, or None.

        Raises UsageError, CaptureError as `GoldenStore.write` does.
        """
        place = key.place
        check_tree(place, actual)
        with self._locked():
            self._drop_elsewhere(key, nodeid, run)
            sha256, base = tree_sha256(actual), tree_sha256(self._goldens.read_at(place))
            if sha256 == base:
                self._settle(place, nodeid, run)
                return None
            before = self._entry(place)
            also: tuple[str, ...] = ()
            if isinstance(before, Pending) and before.origin.run == run:
                also = tuple(each for each in before.nodeids if each != nodeid)
                differs = before.nodeid != nodeid and before.origin.sha256 != sha256
                clash = clash or (before.nodeid if differs else before.origin.clash if also else None)
            when = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            self._put(Origin(place, nodeid, run, when, base, sha256, key.maker, clash, also), actual)
            return None if clash is None else f"{_clashing(clash)}; {_per_hint(clash, nodeid)}"

    def settle(self, key: GoldenKey, *, nodeid: str, run: str) -> None:
        """Drop the entry that an earlier run or attempt left for a step that now agrees with its golden.

        An entry that another cell made in the same run stays, but gets a clash: the two cells cannot both be right.
        """
        place = key.place
        if os.path.lexists((self.root / place).parent):
            with self._locked():
                self._drop_elsewhere(key, nodeid, run)
                self._settle(place, nodeid, run)

    def pending(self) -> list[Pending | Broken]:
        """Return every entry, sorted by place. An entry that equals its golden by now is left out."""
        if not os.path.lexists(self.root):
            return []  # taking the lock would create the folder
        with self._goldens.locked(fcntl.LOCK_SH):
            found = [self._entry(place) for place in self._places()]
        return [each for each in found if isinstance(each, Broken) or (each is not None and each.changes)]

    def accept(self, chosen: Sequence[Pending]) -> None:
        """Write each entry as a golden, and drop the entry.

        All entries are checked before the first golden is written. Raises UsageError, and writes nothing, if an entry or its
        golden changed since `chosen` was read. Raises CaptureError if writing fails; the goldens before that one are written.
        """
        with self._locked():
            for each in chosen:
                self._check(each)
            for each in chosen:
                self._goldens.write_at(each.place, each.actual, each.origin.maker)
                self._drop(each.place)  # last: a process that dies before this leaves an entry that equals its golden

    def accept_files(self, entry: Pending, files: Iterable[str]) -> None:
        """Accept only these files of an entry, removed files included; the other files stay pending.

        Raises as `accept` does, and UsageError if there is no golden yet.
        """
        if entry.expected is None:
            raise UsageError(
                f"accepting files of {entry.nodeid}: it has no golden yet, which is accepted as a whole",
                hint=f"testronaut-lab accept {shlex.quote(entry.nodeid)}",
            )
        taken = frozenset(files)
        kept = {name: data for name, data in entry.expected.items() if name not in taken}
        golden = {**kept, **{name: data for name, data in entry.actual.items() if name in taken}}
        with self._locked():
            self._check(entry)
            self._goldens.write_at(entry.place, golden, entry.origin.maker)
            if golden == entry.actual:
                self._drop(entry.place)
            else:
                self._put(replace(entry.origin, base_sha256=tree_sha256(golden)), entry.actual)

    def reject(self, chosen: Iterable[Pending | Broken]) -> None:
        """Drop the entries; goldens stay as they are. An entry that another process has dropped is not an error."""
        with self._locked():
            for each in chosen:
                self._drop(each.place)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._goldens.locked(fcntl.LOCK_EX):
            yield

    def _way_to(self, place: str) -> Path:
        project = self._goldens.root.parent
        return disk.way_to(project, (self.root / place).relative_to(project).as_posix())

    def _settle(self, place: str, nodeid: str, run: str) -> None:
        before = self._entry(place)
        if isinstance(before, Pending) and before.origin.run == run and before.nodeid != nodeid:
            self._put(replace(before.origin, clash=nodeid), before.actual)
        elif before is not None:
            self._drop(place)

    def _drop_elsewhere(self, key: GoldenKey, nodeid: str, run: str) -> None:
        """Drop entries of earlier runs for this step at places that an older `per:` gave it."""
        whole = replace(key, cell=()).place
        folder = (self.root / whole).parent
        if key.maker != "plan" or not disk.is_directory(folder):
            return
        for name in os.listdir(folder):
            place = f"{whole.rpartition('/')[0]}/{name}"
            if place == key.place or place.partition("@")[0] != whole.partition("@")[0]:
                continue
            before = self._entry(place)
            if isinstance(before, Pending) and before.origin.run != run and nodeid in before.nodeids:
                self._drop(place)

    def _check(self, chosen: Pending) -> None:
        """Raise UsageError if the entry or its golden changed since `chosen` was read."""
        now = self._entry(chosen.place)
        again = f"testronaut-lab run {shlex.quote(chosen.nodeid.partition('::')[0])}"
        if now is None:
            raise UsageError(f"accepting {chosen.nodeid}: it is not pending any more", hint=again)
        if isinstance(now, Broken):
            raise UsageError(
                f"accepting {chosen.nodeid}: {now.problem}", hint=f"testronaut-lab reject {shlex.quote(chosen.place)}"
            )
        if now.origin.sha256 != chosen.origin.sha256:
            raise UsageError(f"accepting {chosen.nodeid}: another run has put something else in its place", hint=again)
        if now.problem is not None:
            hint = again if now.origin.clash is None else _per_hint(now.origin.clash, chosen.nodeid)
            raise UsageError(f"accepting {chosen.nodeid}: {now.problem}", hint=hint)

    def _entry(self, place: str) -> Pending | Broken | None:
        """Return the entry at this place, None if there is none. The caller holds the lock."""
        try:
            there = disk.present(self._way_to(place))
            if there is None:
                return None
            tree = dict(disk.read_tree(there, _TOP_LEVEL))
            origin = _origin(place, tree.pop(_INDEX, None), tree)
            return Pending(origin, self._goldens.read_at(place), MappingProxyType(tree))
        except UsageError as error:
            return Broken(place, error.message)

    def _put(self, origin: Origin, tree: GoldenTree) -> None:
        directory = self._way_to(origin.id)
        disk.refuse_neighbours(self._goldens.root, origin.id)
        disk.refuse_neighbours(self.root, origin.id)
        try:
            disk.replace_tree(directory, {**tree, _INDEX: _written(origin)}, _TOP_LEVEL)
        except OSError as error:
            raise CaptureError(f"keeping a pending golden in {directory}: {error}") from error

    def _drop(self, place: str) -> None:
        try:
            disk.remove_tree(self.root / place, self.root)
        except OSError as error:
            raise CaptureError(f"dropping a pending golden in {self.root / place}: {error}") from error

    def _places(self) -> list[str]:
        try:
            if not disk.is_directory(self.root.parent) or not disk.is_directory(self.root):
                return []
            return list(disk.folders(self.root, lambda files: not files.isdisjoint(_TOP_LEVEL)))
        except OSError as error:
            raise CaptureError(f"looking for pending goldens in {self.root}: {error}") from error


def _clashing(other: str) -> str:
    return f"{other} gave something else for the same golden in the same run"


def _per_hint(one: str, other: str) -> str:
    """Suggest the `per:` that gives the two cells goldens of their own."""
    first, second = (dict(NodeName.of(nodeid).cell or ()) for nodeid in (one, other))
    keys = [key for key in first if first[key] != second.get(key)]
    return f"`golden: {{per: [{', '.join(keys) or 'KEY'}]}}` in the plan keeps one for each value"


def _written(origin: Origin) -> bytes:
    return json.dumps({"version": _VERSION, **asdict(origin)}, indent=2, sort_keys=True).encode() + b"\n"


def _origin(place: str, index: bytes | None, tree: GoldenTree) -> Origin:
    """Read `pending.json`. Raises UsageError if it does not fit the place and the files."""
    if index is None:
        raise UsageError(f"it has no {_INDEX}")
    try:
        fields = json.loads(index)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"its {_INDEX} is not JSON: {error}") from error
    if not isinstance(fields, dict) or fields.pop("version", None) != _VERSION:
        raise UsageError(f"its {_INDEX} is not of version {_VERSION}")
    clash, also = fields.pop("clash", None), fields.pop("also", [])
    texts = (*fields.values(), clash or "", *(also if isinstance(also, list) else [None]))
    if fields.keys() != _TEXTS or not all(isinstance(value, str) for value in texts):
        raise UsageError(f"its {_INDEX} does not have the fields that it must have")
    origin = Origin(**fields, clash=clash, also=tuple(also))
    if origin.maker not in get_args(Maker) or not _is_of(origin, place):
        raise UsageError(f"its {_INDEX} is of another golden: {origin.nodeid}, {origin.id}")
    if origin.sha256 != tree_sha256(tree):
        raise UsageError("its files are not those that the run wrote")
    return origin


def _is_of(origin: Origin, place: str) -> bool:
    if origin.id != place or origin.maker == "pytest":
        return origin.id == place
    whole = GoldenKey.of(origin.nodeid).place
    return place == whole or place.startswith(f"{whole}@")
