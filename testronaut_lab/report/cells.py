"""Compares the cells of a matrix: the status of each case in each cell, and where the same step did something different.

Pure: it reads a finished result. The `Reading` (in `sidebyside.py`) decides what of a step is compared, raw or normalised.
`text/cell_lines.py` and `html/cell_tables.py` show it. A difference is not a failure by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from testronaut_lab.model.cells import Cell
from testronaut_lab.model.comparison import Difference, SideBySide, Variant
from testronaut_lab.model.result import CaseResult, ExitKind, PlanResult, RunResult, Status, StepResult

_Found = list[tuple[Cell, StepResult]]
_DID_NOT_END = frozenset({ExitKind.CANCELLED, ExitKind.SESSION_LOST, ExitKind.ENGINE_LOST})


@dataclass(frozen=True, slots=True)
class Aspect:
    """One aspect of a step for the comparison. Two are equal if their `identity` is. `lines` is None for content that is not
    read.
    """

    identity: str
    text: str
    lines: tuple[str, ...] | None = None


# The aspects of a step (exit, stdout, stderr, changes …), in the order in which they are shown.
Reading = Callable[[StepResult], Mapping[str, Aspect]]


def compare_cells(result: RunResult, reading: Reading) -> tuple[SideBySide, ...]:
    """Return a comparison for each plan that ran in more than one cell. Reads the output of steps from disk."""
    plans: dict[tuple[str | None, str], list[PlanResult]] = {}
    for plan in result.plans:
        if plan.cell:
            plans.setdefault((plan.file, plan.name), []).append(plan)
    return tuple(_beside(cells, reading) for cells in plans.values() if len(cells) > 1)


def _beside(plans: Sequence[PlanResult], reading: Reading) -> SideBySide:
    cases = [{case.id: case for case in plan.cases} for plan in plans]
    ids = _merged([case.id for case in plan.cases] for plan in plans)
    versions = [{tool.name: tool.version for tool in plan.tools} for plan in plans]
    tools = ((name, tuple(each.get(name) for each in versions)) for name in _merged(versions))
    steps = [(id_, step, found) for id_ in ids for step, found in _steps(plans, [each.get(id_) for each in cases])]
    return SideBySide(
        plans[0].name,
        plans[0].file,
        tuple(plan.cell for plan in plans),
        tuple(plan.status for plan in plans),
        tuple((id_, tuple(each[id_].status if id_ in each else None for each in cases)) for id_ in ids),
        tuple((name, row) for name, row in tools if len(set(row)) > 1),
        tuple(difference for id_, step, found in steps for difference in _differences(id_, step, found, reading)),
        len(steps),
    )


def _steps(plans: Sequence[PlanResult], cases: Sequence[CaseResult | None]) -> Iterator[tuple[str, _Found]]:
    """Yield the steps of one case that ran to their end in more than one cell."""
    ended = [{} if case is None else {step.id: step for step in case.steps if _has_ended(step)} for case in cases]
    for id_ in _merged(ended):
        found = [(plan.cell, steps[id_]) for plan, steps in zip(plans, ended, strict=True) if id_ in steps]
        if len(found) > 1:
            yield id_, found


def _has_ended(step: StepResult) -> bool:
    return step.status is not Status.SKIPPED and step.exit.kind not in _DID_NOT_END


def _differences(case: str, step: str, found: _Found, reading: Reading) -> Iterator[Difference]:
    seen = [(cell, reading(result)) for cell, result in found]
    for aspect in _merged(each for _, each in seen):
        groups: dict[str, tuple[Aspect, list[Cell]]] = {}
        for cell, value in ((cell, each[aspect]) for cell, each in seen if aspect in each):
            groups.setdefault(value.identity, (value, []))[1].append(cell)
        if len(groups) > 1:
            line = _first_difference([value for value, _ in groups.values()])
            variants = tuple(Variant(tuple(cells), _told(value, line)) for value, cells in groups.values())
            yield Difference(case, step, aspect, variants, None if line is None else line + 1)


def _first_difference(values: Sequence[Aspect]) -> int | None:
    texts = [value.lines for value in values]
    if any(lines is None for lines in texts):
        return None
    rows = zip_longest(*(lines or () for lines in texts))
    return next((i for i, row in enumerate(rows) if len(set(row)) > 1), None)


def _told(value: Aspect, line: int | None) -> str:
    if line is None or value.lines is None:
        return value.text
    if line >= len(value.lines):
        return "nothing" if not value.lines else "nothing more"
    text = value.lines[line]
    return text.removesuffix("\n") or "an empty line" if text.endswith("\n") else f"{text}  (without a newline)"


def _merged(lists: Iterable[Iterable[str]]) -> list[str]:
    """Return all names, each once, in an order that agrees with every list if possible."""
    names: list[str] = []
    for each in lists:
        at = 0
        for name in each:
            if name in names:
                at = names.index(name) + 1
            else:
                names.insert(at, name)
                at += 1
    return names
