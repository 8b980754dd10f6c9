"""Computes where goldens lie: the key of a step or test, the folder of that key, and which folders would collide.

Pure. A *place* is a golden's folder as a POSIX path relative to `snapshots/`; a pending golden has the same place below
`.testronaut/pending/`. `golden/store.py` reads and writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from testronaut_lab.errors import UsageError
from testronaut_lab.golden.names import SNAPSHOTS, folded, name_problem
from testronaut_lab.model.cells import Cell, folder_name
from testronaut_lab.model.plan import Step

# Who makes a golden and may remove it: steps of plan files, or tests.
Maker = Literal["plan", "pytest"]

_SUFFIX = re.compile(r"\.lab\.(?:yaml|yml|json)\Z")
_NODEID = re.compile(r"(?P<plan>.+?)::(?P<case>[^:\[]+)(?:\[[^\]]*\])?::(?P<step>[^:]+)")


@dataclass(frozen=True, slots=True)
class GoldenKey:
    """Whose golden it is. `plan` is relative to the project root, without its suffix; `cell` holds only the keys of `per:`.

    For a test, `plan` is the module's path without its suffix, `case` the test, `step` the number or name in the test.
    """

    plan: str
    case: str
    step: str
    cell: Cell = ()
    maker: Maker = "plan"

    @classmethod
    def of(cls, nodeid: str, cell: Cell = ()) -> GoldenKey:
        """The key of `PATH::CASE[KEY=VALUE,…]::STEP`. Raises UsageError for anything else."""
        match = _NODEID.fullmatch(nodeid)
        if match is None:
            raise UsageError(f"finding the golden of {nodeid!r}: it is not PATH::CASE::STEP")
        return cls(_SUFFIX.sub("", match["plan"]), match["case"], match["step"], cell)

    @property
    def place(self) -> str:
        """The golden's place, whether it exists or not. Raises UsageError for a name that no folder can have."""
        step = folder_name(self.step, self.cell)
        for part in (self.plan, self.case, step):
            if problem := name_problem(part):
                raise UsageError(f"looking for a golden under the name {part!r}: {problem}")
        for part in (self.case, step):
            if part.startswith(".") or "/" in part:
                raise UsageError(f"looking for a golden under the name {part!r}: it begins with a dot or holds a slash")
        return f"{self.plan}/{self.case}/{step}"


def golden_key(step: Step) -> GoldenKey:
    """The key of a plan's step. In a matrix, each value of `per:` has its own golden. Raises UsageError."""
    return GoldenKey.of(step.nodeid, () if step.golden is None else step.golden.cell)


def check_apart(steps: Iterable[tuple[str, GoldenKey]]) -> None:
    """Raise UsageError if two steps would keep their goldens in one folder, or one inside the other.

    `steps` are pairs of a node id and its key. Names that are one name on some file systems count as one folder. The cells of
    one step may share a folder.
    """
    owners: dict[str, tuple[str, str]] = {}
    for nodeid, key in steps:
        place, owner = key.place, _without_cell(nodeid)
        first = owners.setdefault(folded(place), (place, owner))
        if first != (place, owner):
            raise _together(owner, place, *reversed(first))
    for name, (place, owner) in owners.items():
        for above in PurePosixPath(name).parents[:-1]:
            if str(above) in owners:
                raise _together(owner, place, *reversed(owners[str(above)]))


def twin(name: str, names: Iterable[str]) -> str | None:
    """Find a different name among `names` that is the same name on some file systems; None if there is none."""
    wanted = folded(name)
    return next((each for each in names if each != name and folded(each) == wanted), None)


def _together(owner: str, place: str, first_owner: str, first_place: str) -> UsageError:
    why = "one folder" if folded(place) == folded(first_place) else "one inside the other"
    return UsageError(
        f"the goldens of {first_owner} and {owner} would lie in {SNAPSHOTS}/{first_place} and {SNAPSHOTS}/{place}: {why}",
        hint="rename one of the plans, cases or steps",
    )


def _without_cell(nodeid: str) -> str:
    match = _NODEID.fullmatch(nodeid)
    return nodeid if match is None else f"{match['plan']}::{match['case']}::{match['step']}"
