"""Shell completion: runs, node ids of plans and stored runs, pending goldens, schemas, and the words of an option.

Typer calls a completer with the text so far and offers what it returns. A completer never prints and never fails: for something
unreadable it returns nothing. It offers only what the verb would accept.

bash splits a node id at its colons and equals signs and replaces only the last part. So `whole_words` joins the parts before
typer reads them, and cuts the earlier parts off the answers.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from testronaut_lab.errors import LabError

if TYPE_CHECKING:
    from testronaut_lab.golden.pending import Broken, Pending
    from testronaut_lab.store.database import Store

VARIABLE = "_TESTRONAUT_LAB_COMPLETE"
SCHEMAS = ("plan", "result", "events")
_BREAKS = frozenset(":=")


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer `last` and the ids of stored runs."""
    return _fitting(incomplete, lambda: _runs(_store(ctx)))


def steps_of_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the node ids of the steps of the run on the command line."""
    return _fitting(incomplete, lambda: _steps_of_run(_store(ctx), str(ctx.params.get("run_id") or "last")))


def targets(incomplete: str) -> list[str]:
    """Offer plan files; for a complete file name also its cases, and for a complete case also its steps."""
    return _fitting(incomplete, lambda: _nodeids(incomplete) if "::" in incomplete else _plans(incomplete))


def pending(incomplete: str) -> list[str]:
    """Offer what can be shown and rejected."""
    return _fitting(incomplete, lambda: map(_name, _pending()))


def acceptable(incomplete: str) -> list[str]:
    """Offer what can be accepted."""
    return _fitting(incomplete, lambda: (_name(entry) for entry in _pending() if entry.problem is None))


def schemas(incomplete: str) -> list[str]:
    return _fitting(incomplete, lambda: SCHEMAS)


def words(*known: str) -> Callable[[str], list[str]]:
    """Make a completer for an option that takes one of a few words."""

    def complete(incomplete: str) -> list[str]:
        return _fitting(incomplete, lambda: known)

    return complete


@contextmanager
def whole_words(environ: MutableMapping[str, str]) -> Iterator[None]:
    """If bash asks, join the words that it has split, and cut its earlier parts off the answers."""
    if environ.get(VARIABLE) != "complete_bash":
        yield
        return
    try:
        typed, at = _split(environ["COMP_WORDS"]), int(environ["COMP_CWORD"])
    except (KeyError, ValueError):
        yield  # bash did not ask; typer says what is wrong
        return
    joined = _joined(typed, at)
    environ["COMP_WORDS"] = shlex.join(joined)
    environ["COMP_CWORD"] = str(len(joined) - 1)
    kept = "" if typed[at:] == joined[-1:] else _before_last_break(joined[-1])
    answer = io.StringIO()
    try:
        with redirect_stdout(answer):
            yield
    finally:
        sys.stdout.write("".join(line.removeprefix(kept) for line in answer.getvalue().splitlines(keepends=True)))


def _joined(typed: list[str], at: int) -> list[str]:
    """Join the words up to the cursor. The last one is empty if the cursor begins a new word."""
    words: list[str] = []
    for number, word in enumerate(typed[: at + 1]):
        if number > 1 and _belong(typed[number - 1], word):
            words[-1] += word
        else:
            words.append(word)
    return words if at < len(typed) else [*words, ""]


def _belong(before: str, word: str) -> bool:
    """Whether bash split these two: one of them consists only of characters at which bash splits."""
    return any(part and _BREAKS.issuperset(part) for part in (before, word))


def _split(line: str) -> list[str]:
    """Split a line as a shell does. An open quotation ends with the line. A trailing empty word is dropped."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    found: list[str] = []
    try:
        found += lexer
    except ValueError:
        found.append(lexer.token)
    return found


def _before_last_break(word: str) -> str:
    return word[: max(map(word.rfind, _BREAKS)) + 1]


def _fitting(incomplete: str, offer: Callable[[], Iterable[str]]) -> list[str]:
    """Return the offers that begin with the typed text, each once; none if they cannot be read."""
    try:
        return list(dict.fromkeys(name for name in offer() if name.startswith(incomplete)))
    except (LabError, OSError):
        return []


def _store(ctx: typer.Context) -> Store:
    from testronaut_lab.cli.app import open_store

    return open_store(ctx.params.get("store"))


def _runs(store: Store) -> list[str]:
    ids = [run.id for run in store.runs()]
    return ["last", *ids] if ids else []


def _steps_of_run(store: Store, wanted: str) -> Iterator[str]:
    from testronaut_lab.report.state.view import RunView

    view = RunView()
    for event in store.events(store.find(wanted)):
        view.apply(event)
    yield from (step.nodeid for plan in view.plans.values() for case in plan.cases for step in case.steps)


def _plans(incomplete: str) -> Iterator[str]:
    from testronaut_lab.planfile import find_plans

    folder = Path(incomplete if incomplete.endswith("/") else os.path.dirname(incomplete) or ".")
    prefix = "./" if incomplete.startswith("./") else ""
    found = [f"{prefix}{file}" for file in find_plans([folder])]
    yield from found
    if incomplete in found:
        yield from _nodeids(f"{incomplete}::")


def _nodeids(incomplete: str) -> Iterator[str]:
    """Yield the node ids of the plan before the first `::`, under the path as it was typed."""
    from testronaut_lab.config import load_config, plan_root
    from testronaut_lab.planfile import load_plans

    path, _, rest = incomplete.partition("::")
    for plan in load_plans(Path(path), defaults=load_config(plan_root(Path(path))).defaults):
        for case in plan.cases:
            name = case.nodeid.partition("::")[2]
            yield f"{path}::{name}"
            if rest.startswith(name):
                yield from (f"{path}::{step.nodeid.partition('::')[2]}" for step in case.steps)


def _pending() -> list[Pending | Broken]:
    from testronaut_lab.cli.app import open_pending

    return open_pending().pending()


def _name(entry: Pending | Broken) -> str:
    from testronaut_lab.cli.goldentext import name_of

    return name_of(entry)
