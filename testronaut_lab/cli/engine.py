"""`engine`: find the container engine, bring one up, stop it."""

from __future__ import annotations

import typer

from testronaut_lab.cli.app import Verb, app
from testronaut_lab.cli.console import say

engine_app = typer.Typer(help="Find the container engine, bring one up, stop it.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(engine_app, name="engine")


@engine_app.command("status", cls=Verb)
def engine_status() -> None:
    """Say which engine is found, where, and what is missing."""
    from testronaut_lab.container.engine.setup import status

    report = status()
    if report.other is not None:
        say(f"`testronaut-lab engine up` has started another one, which runs: {report.other}")
    if report.problem is not None:
        raise report.problem
    assert report.engine is not None
    whose = ", started by `testronaut-lab engine up`" if report.started_by_us else ""
    say(f"{report.engine.name} {report.engine.version}, API {report.engine.api}, at {report.engine.endpoint}{whose}")
    for program in report.missing:
        say(f"missing: {program}, for base images where no registry can be reached; `testronaut-lab engine up` installs it")


@engine_app.command("up", cls=Verb)
def engine_up() -> None:
    """Start an engine. Install one first if that is needed and possible."""
    from testronaut_lab.container.engine.setup import up

    up(say)


@engine_app.command("down", cls=Verb)
def engine_down() -> None:
    """Stop the engine that `engine up` started, and no other."""
    from testronaut_lab.container.engine.setup import down

    down(say)
