"""`prune`: removes goldens that no step has any more. `maintenance/goldens.py` finds them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testronaut_lab.cli.app import STORE, Verb, app, of_store
from testronaut_lab.cli.console import say
from testronaut_lab.cli.goldens import refuse_in_ci
from testronaut_lab.golden.names import SNAPSHOTS

if TYPE_CHECKING:
    from testronaut_lab.maintenance.goldens import Leftovers

_YES = typer.Option("--yes", "-y", help="Remove them without asking.")
_DRY_RUN = typer.Option("--dry-run", help="List them, ask nothing and remove nothing.")


@app.command(cls=Verb)
def prune(
    yes: Annotated[bool, _YES] = False,
    dry_run: Annotated[bool, _DRY_RUN] = False,
    store: Annotated[str | None, STORE] = None,
) -> None:
    """Remove goldens that no step has any more. This needs a complete run of all plans."""
    from testronaut_lab.config import project_root
    from testronaut_lab.maintenance.goldens import leftovers, remove

    refuse_in_ci("pruning goldens")
    root = project_root(Path.cwd())
    found = leftovers(root, store, of_store(store))
    _list(found)
    count = len(found.removable) + len(found.pending)
    if not count:
        say("nothing to prune")
    elif not dry_run and (yes or _agreed(count)):
        remove(root, found)
        say(f"removed {count}")
    else:
        say(f"{count} to remove, by run {found.run}: testronaut-lab prune --yes{of_store(store)}")


def _list(found: Leftovers) -> None:
    for orphan in found.goldens:
        say(f"{SNAPSHOTS}/{orphan.place}" if orphan.strange is None else f"kept {SNAPSHOTS}/{orphan.place}: {orphan.strange}")
    for there in found.elsewhere:
        say(f"kept {there}: goldens of a plan whose project has another folder now")
    for entry in found.pending:
        say(f"{SNAPSHOTS}/{entry.place} (pending)")


def _agreed(count: int) -> bool:
    """Ask on a terminal. Without one, the answer is no."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return typer.confirm(f"remove {'this one' if count == 1 else f'these {count}'}?", default=False)
