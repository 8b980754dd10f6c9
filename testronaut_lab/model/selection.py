"""Selects the cases and steps to run: by node id, and by an expression over ids and tags.

A selected step runs with all steps of its case before it, because it builds on them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from urllib.parse import unquote

from testronaut_lab.errors import UsageError
from testronaut_lab.model.cells import NodeName
from testronaut_lab.model.plan import Case, Plan

_TOKENS = re.compile(r"\s*(?:(\(|\))|([^\s()]+))")
_MAX_TOKENS = 400  # well below Python's recursion limit
Matches = Callable[[Case], bool]


def select(plans: Sequence[Plan], nodeids: Sequence[str], keyword: str | None) -> list[Plan]:
    """Return the plans with only what was selected; plans without a case left are left out.

    An id without a cell means all cells. Raises UsageError if an id names nothing, the expression cannot be read, or nothing is
    left.
    """
    named = _named(plans, nodeids)
    chosen = [_by_ids(plan, named) for plan in plans] if nodeids else list(plans)
    if keyword is not None:
        matches = parse_keyword(keyword)
        chosen = [narrowed(plan, matches) for plan in chosen]
    left = [plan for plan in chosen if plan.cases]
    if not left:
        raise UsageError(f"nothing was selected{f' by -k {keyword!r}' if keyword else ''}", hint="testronaut-lab run --help")
    return left


def narrowed(plan: Plan, matches: Matches) -> Plan:
    """Return the plan with only the cases that match; there may be none."""
    return _with_cases(plan, (case for case in plan.cases if matches(case)))


def chosen_steps(plans: Sequence[Plan], nodeids: Sequence[str]) -> frozenset[str]:
    """Return the steps that `nodeids` name, directly or by their case; not the steps that run only because a later one needs
    them.

    Raises UsageError if an id names nothing.
    """
    named = _named(plans, nodeids)
    return frozenset(
        step.nodeid
        for plan in plans
        for case in plan.cases
        for step in (*case.setup, *case.steps, *case.teardown)
        if case.nodeid in named or step.nodeid in named
    )


def parse_keyword(text: str) -> Matches:
    """Read `WORD and (WORD or not WORD)`. A word matches a part of the case's node id (its cell too) or of a step id, or a tag.

    Upper and lower case are equal. Raises UsageError for anything else.
    """
    tokens = [bracket or word for bracket, word in _TOKENS.findall(text)]
    if len(tokens) > _MAX_TOKENS:
        raise UsageError(f"-k cannot be read: it has more than {_MAX_TOKENS} words and brackets", hint="name node ids instead")
    parser = _Parser(tokens, text)
    matches = parser.either()
    parser.end()
    return matches


def _named(plans: Sequence[Plan], nodeids: Sequence[str]) -> frozenset[str]:
    """Return the ids of the cases and steps that `nodeids` name. Raises UsageError for one that names nothing."""
    known = {each for plan in plans for case in plan.cases for each in (case.nodeid, *(step.nodeid for step in case.steps))}
    parted = {each: NodeName.of(each) for each in known} if not known.issuperset(nodeids) else {}
    named: set[str] = set()
    for nodeid in nodeids:
        wanted = NodeName.of(nodeid)
        meant = {nodeid} if nodeid in known else {each for each, name in parted.items() if wanted.names(name)}
        if not meant:
            raise UsageError(f"no case or step is called {nodeid}; there are: {', '.join(_there(plans, nodeid))}")
        named |= meant
    return frozenset(named)


def _there(plans: Sequence[Plan], nodeid: str) -> list[str]:
    """Return what the user may have meant: the steps of the case that the id names, or else all cases."""
    cases = [case for plan in plans for case in plan.cases]
    near = [step.nodeid for case in cases if nodeid.startswith(f"{case.nodeid}::") for step in case.steps]
    return near or [case.nodeid for case in cases]


def _by_ids(plan: Plan, nodeids: frozenset[str]) -> Plan:
    cases = (case if case.nodeid in nodeids else _up_to(case, nodeids) for case in plan.cases)
    return _with_cases(plan, (case for case in cases if case is not None))


def _with_cases(plan: Plan, cases: Iterable[Case]) -> Plan:
    left = tuple(cases)
    return replace(plan, cases=left, partial=plan.partial or left != plan.cases)


def _up_to(case: Case, nodeids: frozenset[str]) -> Case | None:
    last = max((i for i, step in enumerate(case.steps) if step.nodeid in nodeids), default=None)
    return None if last is None else replace(case, steps=case.steps[: last + 1])


class _Parser:
    def __init__(self, tokens: list[str], text: str) -> None:
        self._tokens = tokens
        self._text = text

    def either(self) -> Matches:
        matches = self._both()
        while self._take("or"):
            matches = _either(matches, self._both())
        return matches

    def end(self) -> None:
        if self._tokens:
            raise self._wrong(f"{self._tokens[0]!r} is one too many")

    def _both(self) -> Matches:
        matches = self._one()
        while self._take("and"):
            matches = _both(matches, self._one())
        return matches

    def _one(self) -> Matches:
        if self._take("not"):
            inner = self._one()
            return lambda case: not inner(case)
        if self._take("("):
            matches = self.either()
            if not self._take(")"):
                raise self._wrong("a bracket is not closed")
            return matches
        if not self._tokens or self._tokens[0] in ("and", "or", ")"):
            raise self._wrong(f"a word is missing before {self._tokens[0]!r}" if self._tokens else "a word is missing at the end")
        return _word(self._tokens.pop(0).lower())

    def _take(self, token: str) -> bool:
        if self._tokens and self._tokens[0] == token:
            del self._tokens[0]
            return True
        return False

    def _wrong(self, why: str) -> UsageError:
        return UsageError(f"-k {self._text!r} cannot be read: {why}", hint="an expression is such as -k 'smoke and not slow'")


def _word(word: str) -> Matches:
    def matches(case: Case) -> bool:
        ids = (case.nodeid, unquote(case.nodeid), *(step.id for step in case.steps))  # also with the matrix values unquoted
        return any(word in each.lower() for each in ids) or word in (tag.lower() for tag in case.tags)

    return matches


def _either(one: Matches, other: Matches) -> Matches:
    return lambda case: one(case) or other(case)


def _both(one: Matches, other: Matches) -> Matches:
    return lambda case: one(case) and other(case)
