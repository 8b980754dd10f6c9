"""Cells of a matrix that share a golden: agreement, differences, and the key that tells the cells apart. Without an engine."""

from __future__ import annotations

import itertools

import pytest

from testronaut_lab.golden.places import GoldenKey
from testronaut_lab.judge.shared_golden import SharedGolden, SharedGoldens

KEY = GoldenKey("p", "main", "s")


def nodeid(**cell: object) -> str:
    return f"p.lab.yaml::main[{','.join(f'{key}={value}' for key, value in cell.items())}]::s"


def shared(*voters: str) -> SharedGolden:
    asked = SharedGoldens((voter, KEY) for voter in voters).shared(KEY, voters[0])
    assert asked is not None
    return asked


def test_a_step_that_shares_its_golden_with_nobody_is_not_asked() -> None:
    shared_goldens = SharedGoldens([(nodeid(a=1), KEY), (nodeid(a=2), GoldenKey("p", "main", "s", (("a", "2"),)))])
    assert shared_goldens.shared(KEY, nodeid(a=1)) is None


def test_a_step_that_may_not_write_is_not_asked() -> None:
    shared_goldens = SharedGoldens([(nodeid(a=1), KEY), (nodeid(a=2), KEY)])
    assert shared_goldens.shared(KEY, nodeid(a=3)) is None


def test_it_is_complete_when_all_have_done_the_same() -> None:
    asked = shared(nodeid(a=1), nodeid(a=2))
    asked.votes[nodeid(a=1)] = {"stdout.txt": b"x"}
    assert (True, False) == (asked.agreed, asked.complete)
    asked.votes[nodeid(a=2)] = {"stdout.txt": b"x"}
    assert (True, True) == (asked.agreed, asked.complete)


@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])))
def test_whatever_the_order_everyone_differs_from_somebody(order: tuple[int, ...]) -> None:
    asked = shared(*(nodeid(a=value) for value in (1, 2, 3)))
    for value in order:
        asked.votes[nodeid(a=value)] = {"stdout.txt": b"odd" if value == 2 else b"same"}
        if asked.against(nodeid(a=value)) is None:
            asked.passed.add(nodeid(a=value))
    assert not asked.agreed
    assert all(asked.against(nodeid(a=value)) is not None for value in (1, 2, 3))
    assert asked.passed == set(asked.wrongly_passed)


def test_a_clash_names_both_cells_the_file_and_the_difference() -> None:
    one, two = nodeid(a=1), nodeid(a=2)
    asked = shared(one, two)
    asked.votes |= {one: {"stdout.txt": b"left\nsame\n"}, two: {"stdout.txt": b"right\nsame\n", "stderr.txt": b"more"}}
    mismatches, note = asked.conflict(two, one, "snapshots/p/main/s")
    assert ["stderr.txt", "stdout.txt"] == [mismatch.path for mismatch in mismatches]
    assert "no such file, as in the cell [a=1], with which it shares the golden" == mismatches[0].expected
    assert "--- [a=1]\n+++ [a=2]\n@@ -1,2 +1,2 @@\n-left\n+right\n same\n" == mismatches[1].diff
    expected = "golden not written: snapshots/p/main/s is shared, and the cells [a=1] and [a=2] differ; "
    assert f"{expected}`golden: {{per: [a]}}` keeps one for each" == note


@pytest.mark.parametrize(
    ("outputs", "keys"),
    [
        ({(1, "x"): b"1", (1, "y"): b"1", (2, "x"): b"2", (2, "y"): b"2"}, "a"),
        ({(1, "x"): b"x", (1, "y"): b"y", (2, "x"): b"x", (2, "y"): b"y"}, "b"),
        ({(1, "x"): b"1x", (1, "y"): b"1y", (2, "x"): b"2x", (2, "y"): b"2y"}, "a, b"),
        ({(1, "x"): b"x", (1, "y"): b"y"}, "b"),
    ],
)
def test_the_keys_that_tell_the_cells_apart_are_advised(outputs: dict[tuple[int, str], bytes], keys: str) -> None:
    voters = {nodeid(a=a, b=b): out for (a, b), out in outputs.items()}
    asked = shared(*voters)
    asked.votes |= {voter: {"stdout.txt": out} for voter, out in voters.items()}
    first, *_, last = voters
    assert f"`golden: {{per: [{keys}]}}`" in asked.conflict(last, first, "g")[1]
