"""Counts the votes of the cells of a matrix on a golden that they share: it is written only if all cells agree.

A *vote* is the golden that a cell's step would have. Pure: `judge/judge.py` asks for votes and writes. If two cells differ,
neither of them gets its golden written, whichever came first.
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
class SharedGolden:
    """The vote on one golden. `voters` are the node ids of the steps that share it, `votes` the golden of each step so far.

    `passed` are the steps that passed because no other vote differed at that time.
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
        """The first step whose vote differs from this step's; None if there is none so far."""
        own = _frozen(self.votes[nodeid])
        return next((other for other in self.voters if other in self.votes and _frozen(self.votes[other]) != own), None)

    def conflict(self, nodeid: str, other: str, golden: str) -> tuple[tuple[Mismatch, ...], str]:
        """Return how the step differs from the other, and a note that says what to do. `golden` is the folder they share."""
        theirs, ours = _cell_text(other), _cell_text(nodeid)
        mismatches = tuple(_mismatch(change, theirs, ours) for change in compare(self.votes[other], self.votes[nodeid]))
        per = f"`golden: {{per: [{', '.join(self._telling_keys())}]}}` keeps one for each"
        return mismatches, f"golden not written: {golden} is shared, and the cells {theirs} and {ours} differ; {per}"

    def _telling_keys(self) -> Sequence[str]:
        """The one key whose values tell the different votes apart; without such a key, every key with several values."""
        cells = {nodeid: dict(_cell(nodeid)) for nodeid in self.votes}
        keys = list(dict.fromkeys(key for cell in cells.values() for key in cell))
        for key in keys:
            said = {(cell.get(key), _frozen(self.votes[nodeid])) for nodeid, cell in cells.items()}
            if max(Counter(value for value, _ in said).values()) == 1:
                return [key]
        return [key for key in keys if len({cell.get(key) for cell in cells.values()}) > 1]


class SharedGoldens:
    """The votes of one run, by golden. `steps` are the steps that may write, each a node id and the key of its golden."""

    def __init__(self, steps: Iterable[tuple[str, GoldenKey]] = ()) -> None:
        voters: dict[GoldenKey, list[str]] = {}
        for nodeid, key in steps:
            voters.setdefault(key, []).append(nodeid)
        self._shared = {key: SharedGolden(tuple(nodeids)) for key, nodeids in voters.items() if len(nodeids) > 1}

    def shared(self, key: GoldenKey, nodeid: str) -> SharedGolden | None:
        """The vote on this golden; None if no other step shares it."""
        shared = self._shared.get(key)
        return shared if shared is not None and nodeid in shared.voters else None

    def open(self) -> Iterator[tuple[GoldenKey, SharedGolden]]:
        """The goldens that have votes and are not written yet."""
        return ((key, each) for key, each in self._shared.items() if each.votes and not each.written)


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
