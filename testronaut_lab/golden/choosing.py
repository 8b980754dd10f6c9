"""Which of what is pending a person means: globs over node ids and over the paths of goldens. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from testronaut_lab.errors import UsageError
from testronaut_lab.golden.names import SNAPSHOTS
from testronaut_lab.golden.pending import Broken, Pending


@dataclass(frozen=True, slots=True)
class Choice:
    """`files` are the only ones of the entry that are meant; None: all of it."""

    entry: Pending | Broken
    files: frozenset[str] | None = None


def choose(entries: Sequence[Pending | Broken], globs: Sequence[str], here: str = "") -> list[Choice]:
    """The entries that at least one glob names, in their order; with no globs all of them.

    A glob names a step by its node id or its golden's path, all below a plan, case or folder by that one's, and single files
    that differ by theirs: `a.lab.yaml::main::x`, `a.lab.yaml`, `snapshots/a/*`, `snapshots/a/main/x/stdout.txt`. `*` and `?`
    stand for anything, slashes too; a name as it is written always names itself. `here` is the folder that a glob may be
    relative to, itself relative to the project.

    Raises UsageError, with the nearest name, for a glob that names nothing.
    """
    if not globs:
        return [Choice(entry) for entry in entries]
    for glob in globs:
        if not any(_chosen(entry, [glob], here) for entry in entries):
            raise _names_nothing(glob, entries)
    return [choice for entry in entries if (choice := _chosen(entry, globs, here)) is not None]


def _chosen(entry: Pending | Broken, globs: Sequence[str], here: str) -> Choice | None:
    patterns = [each for glob in globs for each in ((glob, f"{here}/{glob}") if here else (glob,))]
    if any(_matches(pattern, name) for name in _names(entry) for pattern in patterns):
        return Choice(entry)
    files = frozenset(file for file, path in _files(entry) if any(_matches(pattern, path) for pattern in patterns))
    return Choice(entry, files) if files else None


def _names(entry: Pending | Broken) -> Iterator[str]:
    """Every name that means all of the entry: its own, and those of what it is in."""
    for nodeid in entry.nodeids if isinstance(entry, Pending) else ():
        plan, *inner = nodeid.split("::")
        yield from ("::".join([plan, *inner[:depth]]) for depth in range(len(inner) + 1))
    parts = [SNAPSHOTS, *entry.place.split("/")]
    for depth in range(1, len(parts) + 1):
        path = "/".join(parts[:depth])
        yield from (path, f"{path}/")
    yield entry.place


def _files(entry: Pending | Broken) -> Iterator[tuple[str, str]]:
    changes = entry.changes if isinstance(entry, Pending) else ()
    yield from ((change.file, f"{SNAPSHOTS}/{entry.place}/{change.file}") for change in changes if change.file is not None)


def _matches(glob: str, name: str) -> bool:
    """A bracket is one of a cell, as in `case[image=*]`, or a class of characters: both are tried."""
    return glob == name or fnmatchcase(name, glob) or fnmatchcase(name, glob.replace("[", "[[]"))


def _names_nothing(glob: str, entries: Sequence[Pending | Broken]) -> UsageError:
    if not entries:
        return UsageError(f"{glob!r} names nothing: nothing is pending", hint="testronaut-lab run")
    names = [name for entry in entries for name in (*_names(entry), *(path for _, path in _files(entry)))]
    near = difflib.get_close_matches(glob, names, n=1, cutoff=0.3)
    return UsageError(
        f"{glob!r} names nothing that is pending; the nearest is {(near or names)[0]}", hint="testronaut-lab pending"
    )
