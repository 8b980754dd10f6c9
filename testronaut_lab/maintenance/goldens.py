"""Finds goldens that no step has any more. Only a stored run of all plans, as they are now, can prove that.

Goldens of tests belong to `pytest_plugin/unused.py`. `golden/store.py` removes goldens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from testronaut_lab.config import load_config
from testronaut_lab.errors import UsageError
from testronaut_lab.golden.elsewhere import elsewhere
from testronaut_lab.golden.names import SNAPSHOTS
from testronaut_lab.golden.pending import Broken, Pending, PendingStore
from testronaut_lab.golden.places import GoldenKey, golden_key
from testronaut_lab.golden.store import GoldenStore, Orphan
from testronaut_lab.model.cells import Cell
from testronaut_lab.model.events import Body, CaseFinished, PlanRecorded, PlanStarted, RunFinished
from testronaut_lab.model.plan import Plan, all_steps
from testronaut_lab.model.result import Status
from testronaut_lab.planfile import find_plans, load_plans
from testronaut_lab.store.database import Store

_LOOK_BACK = 20  # runs; an older complete run hardly matches the present plans


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Goldens, and proposals for goldens, that no step of any plan has. `run` is the complete run that proves it.

    `elsewhere` are goldens of these plans below another root; they are listed, not removed.
    """

    goldens: tuple[Orphan, ...]
    pending: tuple[Pending | Broken, ...]
    run: str
    elsewhere: tuple[Path, ...] = ()

    @property
    def removable(self) -> tuple[str, ...]:
        return tuple(orphan.place for orphan in self.goldens if orphan.strange is None)


def leftovers(root: Path, location: str | None = None, again: str = "") -> Leftovers:
    """Return what can be pruned in the project at `root`.

    `location` names another results database; `again` is the option for it, added to commands in hints. Raises UsageError for a
    wrong plan, and if no stored run ran all present plans to their ends.
    """
    config = load_config(root)
    plans = [plan for path in find_plans([root]) for plan in load_plans(path, root=root, defaults=config.defaults)]
    run = _complete_run(Store.to_read(location or config.store_location), plans, again)
    known = [golden_key(step) for plan in plans for step in all_steps(plan) if step.golden is not None]
    goldens = GoldenStore(root / SNAPSHOTS)
    others = tuple(there for there, _ in elsewhere(root, [plan.file for plan in plans if plan.file is not None]))
    return Leftovers(tuple(goldens.orphans(known)), tuple(_unasked(PendingStore(goldens), known)), run, others)


def remove(root: Path, found: Leftovers) -> None:
    """Remove them, except goldens whose folder holds foreign files. Raises UsageError, CaptureError."""
    goldens = GoldenStore(root / SNAPSHOTS)
    goldens.remove(found.removable)
    PendingStore(goldens).reject(found.pending)


def _unasked(pending: PendingStore, known: Iterable[GoldenKey]) -> list[Pending | Broken]:
    places = {key.place for key in known}
    return [each for each in pending.pending() if isinstance(each, Pending) and each.is_of_plan and each.place not in places]


def _complete_run(store: Store, plans: Sequence[Plan], again: str) -> str:
    """Return the id of the newest run of all plans as they are now, with every case run to its end."""
    first = None
    for run in store.runs()[:_LOOK_BACK]:
        missing = _missing((event.body for event in store.events(run.id)), plans)
        if missing is None:
            return run.id
        first = first or f"run {run.id} {missing}"
    raise UsageError(
        f"pruning goldens: no complete run of all plans as they are now is stored; {first or 'there are no runs yet'}",
        hint=f"testronaut-lab run{again}; testronaut-lab prune{again}",
    )


def _missing(facts: Iterable[Body], plans: Sequence[Plan]) -> str | None:
    """Say what the run lacks, in words that follow the run's id; None if nothing."""
    begun: dict[int, PlanStarted] = {}
    texts: dict[int, str] = {}
    ends: dict[str, Status] = {}
    ended = False
    for fact in facts:
        match fact:
            case PlanStarted(plan=number):
                begun[number] = fact
            case PlanRecorded(plan=number, written=written) if written is not None:
                texts[number] = written.sha256
            case CaseFinished(nodeid=nodeid, status=status):
                ends[nodeid] = status
            case RunFinished():
                ended = True
    if not ended:
        return "was interrupted"
    numbers: dict[tuple[str | None, Cell], int] = {(each.file, each.cell): number for number, each in begun.items()}
    for plan in plans:
        file = None if plan.file is None else plan.file.relative_to(plan.root).as_posix()
        found = numbers.get((file, plan.cell))
        where = f"{file}{''.join(f' [{name}={value}]' for name, value in plan.cell)}"
        if found is None:
            return f"left out {where}"
        if begun[found].partial:
            return f"left out a part of {where}"
        if texts.get(found) != hashlib.sha256((plan.text or "").encode()).hexdigest():
            return f"was not of {where} as it is now"
        for case in plan.cases:
            if ends.get(case.nodeid, Status.ERROR) is Status.ERROR:
                return f"did not bring {case.nodeid} to its end"
    return None
