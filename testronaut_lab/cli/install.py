"""`install`: puts tools into an image, or finds them in the cache. Prints all that package managers write and what was
verified.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from testronaut_lab.cli import reports
from testronaut_lab.cli.app import STORE, Verb, again, app, shown
from testronaut_lab.cli.console import say
from testronaut_lab.cli.run import reported, stopped_by_signals

_SPECS = typer.Argument(metavar="SPEC", help="STRATEGY:SPEC, like 'apt:jq=1.6*', or in full, as in a plan: '{name: …}'.")
_IMAGE = typer.Option(metavar="REF", help="The image to install into.")


@app.command(cls=Verb)
def install(
    specs: Annotated[list[str], _SPECS],
    image: Annotated[str, _IMAGE] = "debian:bookworm-slim",
    json: Annotated[Path | None, reports.JSON] = None,
    events: Annotated[Path | None, reports.EVENTS] = None,
    store: Annotated[str | None, STORE] = None,
) -> None:
    """Install tools into an image and verify them. The image is cached for runs that want the same tools."""
    from testronaut_lab.config import load_config, project_root
    from testronaut_lab.maintenance.runs import keep_to_policy
    from testronaut_lab.report.text.installing import InstallNarrator
    from testronaut_lab.run.plan_run import Run, RunOptions
    from testronaut_lab.run.targets import installation

    root = project_root(Path.cwd())
    plan = installation(specs, image, root)
    wanted = reports.Reports(json, events)
    wanted.check()
    location = store or load_config(root).store_location
    plan_run = Run([plan], RunOptions(ci=True, store=location))
    with stopped_by_signals(plan_run):
        out = sys.stderr if wanted.take_stdout else sys.stdout
        result = reported(plan_run, shown(location), again(store, root), out, InstallNarrator)
    wanted.write(result, plan_run.log.subscribe(hints=False), root)
    if (removed := keep_to_policy(root, location)) is not None:
        say(removed, sys.stderr)
    raise typer.Exit(result.exit_status)
