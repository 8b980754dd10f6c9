"""Globs on the command line select pending goldens."""

from __future__ import annotations

import pytest

from testronaut_lab.errors import UsageError
from testronaut_lab.golden.choosing import choose
from testronaut_lab.golden.pending import Broken, Origin, Pending


def entry(nodeid: str, place: str) -> Pending:
    return Pending(Origin(place, nodeid, "r", "", "none", ""), {"stdout.txt": b"1"}, {"stdout.txt": b"2", "stderr.txt": b"w"})


PLAIN = entry("sub/a.lab.yaml::one::plain", "sub/a/one/plain")
CELL = entry("sub/a.lab.yaml::two[image=debian:12]::s", "sub/a/two/s@image=debian%3A12")
OTHER = entry("b.lab.yaml::one::plain", "b/one/plain")
BROKEN = Broken("c/one/x", "it has no pending.json")
ALL = [PLAIN, CELL, OTHER, BROKEN]


def named(*globs: str, here: str = "") -> list[str]:
    chosen = choose(ALL, globs, here)
    assert all(choice.files is None for choice in chosen)
    return [choice.entry.place for choice in chosen]


@pytest.mark.parametrize(
    ("glob", "places"),
    [
        (PLAIN.nodeid, [PLAIN]),
        (CELL.nodeid, [CELL]),
        ("sub/a.lab.yaml", [PLAIN, CELL]),
        ("sub/a.lab.yaml::one", [PLAIN]),
        ("sub/a.lab.yaml::two[image=*]::s", [CELL]),
        ("sub/a.lab.yaml::two[image=debian:12]", [CELL]),
        ("*::plain", [PLAIN, OTHER]),
        ("[bc].lab.yaml", [OTHER]),
        ("snapshots/sub/a/one/plain", [PLAIN]),
        ("snapshots/sub/a/one/plain/", [PLAIN]),
        ("snapshots/sub", [PLAIN, CELL]),
        ("sub/a/two/s@image=debian%3A12", [CELL]),
        ("snapshots/*/one/*", [PLAIN, OTHER, BROKEN]),
        ("c/one/x", [BROKEN]),
        ("*", ALL),
        ("snapshots", ALL),
    ],
)
def test_glob_names_steps_and_goldens(glob: str, places: list[Pending | Broken]) -> None:
    assert named(glob) == [each.place for each in places]


def test_every_cell_that_shares_it_names_it() -> None:
    shared = Pending(Origin("a/c/s", "a.lab.yaml::c[k=2]::s", "r", "", "none", "", also=("a.lab.yaml::c[k=1]::s",)), None, {})
    assert [choice.entry for choice in choose([shared], ["a.lab.yaml::c[k=1]::s"])] == [shared]


def test_several_globs_name_each_entry_once_in_its_order() -> None:
    assert named("b.lab.yaml", "*::plain") == [PLAIN.place, OTHER.place]


def test_no_glob_names_everything() -> None:
    assert named() == [each.place for each in ALL]


def test_glob_may_be_relative_to_where_one_stands() -> None:
    assert named("a.lab.yaml::one", here="sub") == [PLAIN.place]


def test_single_file_that_differs_is_named_by_its_path() -> None:
    (choice,) = choose(ALL, ["snapshots/sub/a/one/plain/stderr.txt"])
    assert (choice.entry, choice.files) == (PLAIN, {"stderr.txt"})


def test_glob_that_names_nothing_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError) as told:
        choose(ALL, ["*::plain", "sub/a.lab.yaml::one::plian"])
    assert told.value.message == (
        "'sub/a.lab.yaml::one::plian' names nothing that is pending; the nearest is sub/a.lab.yaml::one::plain"
    )
    assert told.value.hint == "testronaut-lab pending"


def test_glob_names_nothing_where_nothing_is_pending() -> None:
    with pytest.raises(UsageError, match="'x' names nothing: nothing is pending"):
        choose([], ["x"])
