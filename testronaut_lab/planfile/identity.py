"""The ids of cases and steps: checks the written ones, and makes one from the command where there is none."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Sequence

from testronaut_lab.planfile.grammar.raw import RawCase, RawStep
from testronaut_lab.planfile.schema.problems import Problems, below
from testronaut_lab.planfile.schema.tree import ListNode, Node, ScalarNode, TableNode

_SLUG_LENGTH = 40


def slug(command: str) -> str:
    """Make an id from a command: `jq .x a.json` becomes `jq-x-a-json`. At most 40 characters, never empty."""
    plain = unicodedata.normalize("NFKD", command).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain).strip("-")[:_SLUG_LENGTH].strip("-") or "step"


def check_case_ids(cases: Sequence[RawCase], problems: Problems) -> None:
    taken: dict[str, RawCase] = {}
    for case in cases:
        first = taken.setdefault(case.id, case)
        if first is not case:
            _refuse_id(case.node, case.at, case.id, first.node, problems)


def step_ids(phases: Sequence[Sequence[RawStep]], problems: Problems) -> list[list[str]]:
    """Return the ids of the steps of one case, phase by phase, unique over all phases.

    Written ids are taken first, so a new step without an id never changes one. Pass setup and teardown before the steps: then
    their ids are the same in every case.
    """
    taken: dict[str, RawStep] = {}
    for step in (step for phase in phases for step in phase if step.id is not None):
        first = taken.setdefault(step.id or "", step)
        if first is not step:
            _refuse_id(step.node, step.at, step.id or "", first.node, problems)
    names = _Names(taken)
    return [[step.id or names.free(slug(command_of(step))) for step in phase] for phase in phases]


def command_of(step: RawStep) -> str:
    if step.stop is not None:
        return f"stop {step.stop}"
    if step.signal:
        return " ".join(f"signal {name} {signal}" for name, signal in step.signal.items())
    return step.run if step.run is not None else shlex.join(_argv_as_written(step))


def _argv_as_written(step: RawStep) -> Sequence[str]:
    """Return the argv without the values of the matrix: a step has the same id in all cells."""
    words = step.node.entries.get("argv") if isinstance(step.node, TableNode) else None
    if not isinstance(words, ListNode):
        return step.argv or ()  # made in Python, not read from a file
    return [str(word.value) for word in words.items if isinstance(word, ScalarNode)]


class _Names:
    def __init__(self, taken: dict[str, RawStep]) -> None:
        self._taken = set(taken)
        self._counts: dict[str, int] = {}

    def free(self, base: str) -> str:
        """Return a free name: `base`, then `base-2`, `base-3` …"""
        while True:
            count = self._counts[base] = self._counts.get(base, 0) + 1
            name = base if count == 1 else f"{base}-{count}"
            if name not in self._taken:
                self._taken.add(name)
                return name


def _refuse_id(node: Node, at: str, name: str, first: Node, problems: Problems) -> None:
    place = node.keys["id"] if isinstance(node, TableNode) else node.place
    line = f" (line {first.place.line})" if first.place.line else ""
    problems.add(place, below(at, "id"), f"the id {name!r} is taken by an earlier one{line}")
