"""The ids of cases and steps: those that are written, and those that are made from a command."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Sequence

from testronaut_lab.planfile.grammar.raw import WrittenCase, WrittenStep
from testronaut_lab.planfile.schema.problems import Problems, below
from testronaut_lab.planfile.schema.tree import ListNode, Node, ScalarNode, TableNode

_SLUG_LENGTH = 40


def slug(command: str) -> str:
    """An id made of a command: `jq .x a.json` is `jq-x-a-json`. At most 40 characters, never empty."""
    plain = unicodedata.normalize("NFKD", command).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain).strip("-")[:_SLUG_LENGTH].strip("-") or "step"


def check_case_ids(cases: Sequence[WrittenCase], problems: Problems) -> None:
    taken: dict[str, WrittenCase] = {}
    for case in cases:
        first = taken.setdefault(case.id, case)
        if first is not case:
            _refuse_id(case.node, case.at, case.id, first.node, problems)


def step_ids(phases: Sequence[Sequence[WrittenStep]], problems: Problems) -> list[list[str]]:
    """The id of every step of one case, for each phase; unique over all of them.

    Ids that are written come first, so that adding a step without one never takes a name away. Put setup and teardown
    before the steps, and theirs will be the same in every case.
    """
    taken: dict[str, WrittenStep] = {}
    for step in (step for phase in phases for step in phase if step.id is not None):
        first = taken.setdefault(step.id or "", step)
        if first is not step:
            _refuse_id(step.node, step.at, step.id or "", first.node, problems)
    names = _Names(taken)
    return [[step.id or names.free(slug(command_of(step))) for step in phase] for phase in phases]


def command_of(step: WrittenStep) -> str:
    if step.stop is not None:
        return f"stop {step.stop}"
    if step.signal:
        return " ".join(f"signal {name} {signal}" for name, signal in step.signal.items())
    return step.run if step.run is not None else shlex.join(_argv_as_written(step))


def _argv_as_written(step: WrittenStep) -> Sequence[str]:
    """Without a matrix's values in it: a step is called the same in all cells."""
    words = step.node.entries.get("argv") if isinstance(step.node, TableNode) else None
    if not isinstance(words, ListNode):
        return step.argv or ()  # made, and not read
    return [str(word.value) for word in words.items if isinstance(word, ScalarNode)]


class _Names:
    def __init__(self, taken: dict[str, WrittenStep]) -> None:
        self._taken = set(taken)
        self._counts: dict[str, int] = {}

    def free(self, base: str) -> str:
        """The base itself, then -2, -3 …"""
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
