"""What the cells of a matrix say of a golden that they share, while it is updated: it is written if all of them agree.

Pure: writing is the judge's. A cell that differs from another one has no part in what is written, whichever came first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from testronaut_lab.golden.compare import GoldenChange, compare
from testronaut_lab.golden.places import GoldenKey
from testronaut_lab.golden.render import GoldenTree
from testronaut_lab.golden.textdiff import common_prefix, excerpt
from testronaut_lab.model.cells import Cell, NodeName, bracketed
from testronaut_lab.model.result import Mismatch


@dataclass(slots=True)
class Question:
    """What one golden is to be. `voters` are the node ids of the steps that share it, `votes` what each of them did.

    `passed` are those whose verdict was good, no other cell having done anything else by then.
    """

    voters: tuple[str, ...]
    votes: dict[str, GoldenTree] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)
    written: bool = False

    @property
    def agreed(self) -> bool:
        return len({_frozen(tree) for tree in self.votes.values()}) == 1

    @property
    def complete(self) -> bool:
        return self.agreed and len(self.votes) == len(self.voters)

    @property
    def wrongly_passed(self) -> list[str]:
        return [] if self.agreed else [nodeid for nodeid in self.voters if nodeid in self.passed]

    def against(self, nodeid: str) -> str | None:
        """The first step that did something else than this one; None if there is none so far."""
        own = _frozen(self.votes[nodeid])
        return next((other for other in self.voters if other in self.votes and _frozen(self.votes[other]) != own), None)

    def clash(self, nodeid: str, other: str, golden: str) -> tuple[tuple[Mismatch, ...], str]:
        """How the step differs from the other, and what can be done about it. `golden` is the folder they share."""
        theirs, ours = _cell_text(other), _cell_text(nodeid)
        mismatches = tuple(_mismatch(change, theirs, ours) for change in compare(self.votes[other], self.votes[nodeid]))
        per = f"`golden: {{per: [{', '.join(self._telling_keys())}]}}` keeps one for each"
        return mismatches, f"golden not written: {golden} is shared, and the cells {theirs} and {ours} differ; {per}"

    def _telling_keys(self) -> Sequence[str]:
        """The key that alone tells apart what the cells did; where there is none, all that differ."""
        cells = {nodeid: dict(_cell(nodeid)) for nodeid in self.votes}
        keys = list(dict.fromkeys(key for cell in cells.values() for key in cell))
        for key in keys:
            said = {(cell.get(key), _frozen(self.votes[nodeid])) for nodeid, cell in cells.items()}
            if max(Counter(value for value, _ in said).values()) == 1:
                return [key]
        return [key for key in keys if len({cell.get(key) for cell in cells.values()}) > 1]


class Ballot:
    """The questions of one run. `steps` are those that may write, each a node id and the golden that it writes."""

    def __init__(self, steps: Iterable[tuple[str, GoldenKey]] = ()) -> None:
        voters: dict[GoldenKey, list[str]] = {}
        for nodeid, key in steps:
            voters.setdefault(key, []).append(nodeid)
        self._questions = {key: Question(tuple(nodeids)) for key, nodeids in voters.items() if len(nodeids) > 1}

    def question(self, key: GoldenKey, nodeid: str) -> Question | None:
        """None where the step is the only one to say what this golden is."""
        question = self._questions.get(key)
        return question if question is not None and nodeid in question.voters else None

    def open(self) -> Iterator[tuple[GoldenKey, Question]]:
        """What was voted on and is not settled by what was written."""
        return ((key, each) for key, each in self._questions.items() if each.votes and not each.written)


def cells_text(nodeids: Iterable[str]) -> str:
    return ", ".join(map(_cell_text, nodeids))


def _mismatch(change: GoldenChange, theirs: str, ours: str) -> Mismatch:
    at = common_prefix(change.expected or b"", change.actual or b"")
    expected = f"{'no such file, ' if change.expected is None else ''}as in the cell {theirs}, with which it shares the golden"
    actual = "no such file" if change.actual is None else excerpt(change.actual, at)
    diff = None if change.diff is None else f"--- {theirs}\n+++ {ours}\n{change.diff}"
    return Mismatch("golden", expected, actual, change.file, diff)


def _cell_text(nodeid: str) -> str:
    return bracketed(_cell(nodeid)) or nodeid


def _cell(nodeid: str) -> Cell:
    return NodeName.of(nodeid).cell or ()


def _frozen(tree: Mapping[str, bytes]) -> tuple[tuple[str, bytes], ...]:
    return tuple(sorted(tree.items()))
