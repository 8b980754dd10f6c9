"""Selects pending goldens by globs over node ids and over the paths of goldens. Pure: no file is read or written."""

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
    """One selected entry. `files` are the selected files of the entry; None selects all of them."""

    entry: Pending | Broken
    files: frozenset[str] | None = None


def choose(entries: Sequence[Pending | Broken], globs: Sequence[str], here: str = "") -> list[Choice]:
    """Return the entries that at least one glob matches, in their order. Without globs, return all of them.

    A glob matches the node id of a step (`a.lab.yaml::main::x`), the plan or case above it (`a.lab.yaml`), the path of a golden
    or of a folder above it (`snapshots/a/*`), or one file that differs (`snapshots/a/main/x/stdout.txt`). `*` and `?` also
    match slashes. A glob that equals a name always matches the name. `here` is a folder relative to the project; globs may be
    relative to `here`.

    Raises UsageError, with the nearest name, for a glob that matches nothing.
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
    """Every name that selects the whole entry: its own names, and the names of the plan, case and folders above it."""
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
    """Try a bracket as part of a cell's name, as in `case[image=*]`, and as a class of characters."""
    return glob == name or fnmatchcase(name, glob) or fnmatchcase(name, glob.replace("[", "[[]"))


def _names_nothing(glob: str, entries: Sequence[Pending | Broken]) -> UsageError:
    if not entries:
        return UsageError(f"{glob!r} names nothing: nothing is pending", hint="testronaut-lab run")
    names = [name for entry in entries for name in (*_names(entry), *(path for _, path in _files(entry)))]
    near = difflib.get_close_matches(glob, names, n=1, cutoff=0.3)
    return UsageError(
        f"{glob!r} names nothing that is pending; the nearest is {(near or names)[0]}", hint="testronaut-lab pending"
    )
