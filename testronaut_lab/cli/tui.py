"""`tui`: starts the dashboard."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from testronaut_lab.cli.app import Verb, app
from testronaut_lab.cli.run import ended_by_signals
from testronaut_lab.errors import UsageError


@app.command(cls=Verb)
def tui(
    plans: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    image: Annotated[str, typer.Option(metavar="REF", help="The image to work in.")] = "debian:bookworm-slim",
    install: Annotated[list[str] | None, typer.Option(metavar="SPEC", help="Tools to install first, like apt:jq.")] = None,
) -> None:
    """Drive a session by hand, in a dashboard."""
    if plans:
        raise UsageError("watching plans in the dashboard is not supported yet", hint=f"testronaut-lab run {shlex.join(plans)}")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):  # without one, it would wait for keys for ever at full CPU load
        raise UsageError("the dashboard needs a terminal", hint="testronaut-lab run; testronaut-lab record --help")
    try:
        from testronaut_lab.ui.tui.app import run_tui
    except ModuleNotFoundError as error:
        raise UsageError(f"the dashboard needs textual: {error}", hint="pip install 'testronaut-lab[tui]'") from error
    with ended_by_signals():
        run_tui(image, tuple(install or ()))
