"""`pending`, `diff`, `accept`, `reject`: lists, shows and decides pending goldens without a terminal.

`golden/pending.py` keeps them, `golden/choosing.py` matches globs, `cli/goldentext.py` formats them. `cli/review.py` decides
them on a terminal.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testronaut_lab.cli import completion
from testronaut_lab.cli.app import Verb, app, open_pending
from testronaut_lab.cli.console import Printer, complain, print_json, print_table, say, write_line
from testronaut_lab.errors import LabError, UsageError
from testronaut_lab.golden.names import SNAPSHOTS

if TYPE_CHECKING:
    from rich.text import Text

    from testronaut_lab.golden.choosing import Choice
    from testronaut_lab.golden.pending import Broken, Pending, PendingStore

_NAMES = "Node ids or paths of goldens"
_GLOBS = typer.Argument(metavar="GLOB", help=f"{_NAMES}, with * and ?; all if none is given.", autocompletion=completion.pending)
_TO_ACCEPT = typer.Argument(
    metavar="GLOB", help=f"{_NAMES} or of single files in them, with * and ?.", autocompletion=completion.acceptable
)
_TO_REJECT = typer.Argument(metavar="GLOB", help=f"{_NAMES}, with * and ?.", autocompletion=completion.pending)


@app.command(cls=Verb)
def pending(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List pending goldens. A golden is pending if a step's output differs from it or if it is new."""
    from testronaut_lab.report.text.tables import pending_table

    found = open_pending().pending()
    if json:
        print_json([_as_json(entry) for entry in found])
        return
    print_table(pending_table([table_row(entry) for entry in found], plain=not sys.stdout.isatty()))
    if found:
        say(f"{len(found)} pending: testronaut-lab review")


@app.command(cls=Verb)
def diff(globs: Annotated[list[str] | None, _GLOBS] = None) -> None:
    """Show how pending goldens differ. Lines of the golden have -, lines of the new output have +."""
    chosen = _chosen(globs or [])
    if not chosen:
        say("nothing is pending")
    for i, choice in enumerate(chosen):
        write_lines([*_gap(i), *shown(choice.entry, choice.files)])


@app.command(cls=Verb)
def accept(globs: Annotated[list[str], _TO_ACCEPT]) -> None:
    """Accept pending goldens. They replace the goldens."""
    from testronaut_lab.golden.pending import Pending

    refuse_in_ci("accepting goldens")
    store, chosen = open_pending(), _chosen(globs)
    for choice in chosen:
        if not isinstance(choice.entry, Pending):
            place = f"{SNAPSHOTS}/{choice.entry.place}"
            raise UsageError(f"accepting {place}: {choice.entry.problem}", hint=f"testronaut-lab reject {shlex.quote(place)}")
    good = [(choice.entry, choice.files) for choice in chosen if isinstance(choice.entry, Pending)]
    store.accept([entry for entry, files in good if files is None])
    for entry, files in good:
        if files is not None:
            store.accept_files(entry, files)
        say(f"accepted {entry.nodeid}{_only(files)}: {SNAPSHOTS}/{entry.place}")
    _say_left(store)


@app.command(cls=Verb)
def reject(globs: Annotated[list[str], _TO_REJECT]) -> None:
    """Drop pending goldens. The goldens stay as they are."""
    from testronaut_lab.cli.goldentext import name_of

    refuse_in_ci("rejecting what is pending")
    store, chosen = open_pending(), _chosen(globs)
    for choice in chosen:
        if choice.files is not None:
            raise UsageError(
                f"rejecting {', '.join(sorted(choice.files))} of {name_of(choice.entry)}: a pending golden is rejected whole",
                hint=f"testronaut-lab reject {shlex.quote(name_of(choice.entry))}",
            )
    store.reject([choice.entry for choice in chosen])
    for choice in chosen:
        say(f"rejected {name_of(choice.entry)}")
    _say_left(store)


def tell_pending(root: Path, run: str, printer: Printer) -> None:
    """Print, after a run, how many goldens of the project at `root` it left pending, and how many other runs left.

    If this run left none, nothing is printed. An error in reading them is printed and does not change the run's result.
    """
    from testronaut_lab.config import way_to
    from testronaut_lab.golden.pending import Pending

    try:
        found = open_pending(root).pending()
    except LabError as error:
        complain(error)
        return
    own = sum(isinstance(entry, Pending) and entry.origin.run == run for entry in found)
    others = f", and {len(found) - own} from earlier" if len(found) > own else ""
    if own:
        printer.write(f"{own} pending{others}: {way_to(root)}testronaut-lab review\n")


def refuse_in_ci(doing: str) -> None:
    """Raise UsageError on CI: people decide about goldens."""
    from testronaut_lab.config import in_ci

    if in_ci(os.environ):
        raise UsageError(
            f"{doing}: nothing is written where CI is set", hint=f"CI= {shlex.join(['testronaut-lab', *sys.argv[1:]])}"
        )


def shown(entry: Pending | Broken, files: frozenset[str] | None = None) -> list[Text]:
    """Return the heading and the differences of an entry."""
    from testronaut_lab.cli.goldentext import differences, heading

    return [*heading(entry), *differences(entry, files)]


def write_lines(lines: Sequence[Text]) -> None:
    """Write lines, coloured on a terminal and plain elsewhere."""
    from testronaut_lab.report.text.plain import to_ansi

    colored = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for line in lines:
        write_line(f"{to_ansi(line) if colored else line.plain}\n")


def _chosen(globs: Sequence[str]) -> list[Choice]:
    from testronaut_lab.config import project_root
    from testronaut_lab.golden.choosing import choose

    here = Path.cwd().resolve()
    inside = here.relative_to(project_root(here)).as_posix()
    return choose(open_pending().pending(), globs, "" if inside == "." else inside)


def _gap(number: int) -> list[Text]:
    from rich.text import Text

    return [Text("")] if number else []


def _only(files: frozenset[str] | None) -> str:
    return "" if files is None else f" ({', '.join(sorted(files))})"


def _say_left(store: PendingStore) -> None:
    left = len(store.pending())
    say(f"{left} pending: testronaut-lab review" if left else "nothing is pending any more")


def table_row(entry: Pending | Broken) -> tuple[str, str, str, str]:
    """Return the row of an entry: name, what differs, when it was seen, why it cannot be accepted."""
    from testronaut_lab.cli.goldentext import name_of, summary_of
    from testronaut_lab.golden.pending import Pending

    when = entry.origin.when if isinstance(entry, Pending) else ""
    return name_of(entry), summary_of(entry), when, entry.problem or ""


def _as_json(entry: Pending | Broken) -> dict[str, object]:
    from testronaut_lab.golden.pending import Pending

    common = {"id": entry.place, "golden": f"{SNAPSHOTS}/{entry.place}", "problem": entry.problem}
    if not isinstance(entry, Pending):
        return {**common, "status": "broken"}
    origin = entry.origin
    return {
        **common,
        "status": "new" if entry.expected is None else "changed",
        "nodeid": entry.nodeid,
        "also": list(origin.also),
        "run": origin.run,
        "when": origin.when,
        "base_sha256": origin.base_sha256,
        "sha256": origin.sha256,
        "files": [
            {
                "file": change.file,
                "change": "added" if change.expected is None else "deleted" if change.actual is None else "modified",
                "diff": change.diff,
            }
            for change in entry.changes
        ],
    }
