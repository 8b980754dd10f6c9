"""`images` and `clean`: list and remove what was made on the engine and what is in the store."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from testronaut_lab.cli.app import STORE, Verb, app
from testronaut_lab.cli.console import complain, print_json, print_table, say
from testronaut_lab.errors import UsageError

_OLDER_THAN = typer.Option(metavar="AGE", help="With --artifacts: runs that began before 30d, 12h …")


images_app = typer.Typer(rich_markup_mode=None)
app.add_typer(images_app, name="images", invoke_without_command=True)


@images_app.callback()
def images(
    context: typer.Context, json: Annotated[bool, typer.Option("--json", help="As JSON, with every package in them.")] = False
) -> None:
    """List cached images with their sizes and last use. `prune` removes some."""
    if context.invoked_subcommand is not None:
        if json:
            raise UsageError(f"`images {context.invoked_subcommand}` has no --json", hint="testronaut-lab images --json")
        return
    from testronaut_lab.container.engine.connect import connect
    from testronaut_lab.container.image.cache import list_images
    from testronaut_lab.maintenance.images import images_json
    from testronaut_lab.report.text.tables import images_table

    found = list_images(connect())
    if json:
        print_json(images_json(found))
    else:
        print_table(images_table(found, plain=not sys.stdout.isatty()))


@images_app.command("prune", cls=Verb)
def images_prune(
    keep: Annotated[str | None, typer.Option(metavar="SIZE", help="Until they take no more than 5GiB, 500MB …")] = None,
    older_than: Annotated[str | None, typer.Option(metavar="AGE", help="Those not used for 30d, 12h …")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed.")] = False,
) -> None:
    """Remove cached images. The least recently used ones go first; images in use and images of others stay."""
    from testronaut_lab.container.engine.connect import connect
    from testronaut_lab.maintenance.images import prune_images

    for line in prune_images(connect, keep, older_than, dry_run=dry_run):
        say(line)


@app.command(cls=Verb)
def clean(
    kept: Annotated[bool, typer.Option("--kept", help="Also containers that were kept with `run --keep`.")] = False,
    images: Annotated[bool, typer.Option("--images", help="Also the cached images.")] = False,
    artifacts: Annotated[bool, typer.Option("--artifacts", help="Stored runs and files instead; no engine is asked.")] = False,
    older_than: Annotated[str | None, _OLDER_THAN] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --artifacts: say what would be removed.")] = False,
    store: Annotated[str | None, STORE] = None,
) -> None:
    """Remove what killed runs left behind, or old stored runs. Sessions whose owner is alive or unknown are listed and stay."""
    if artifacts and (kept or images):
        raise UsageError("`clean --artifacts` cleans the store, --kept and --images the engine: use one at a time")
    if artifacts:
        from testronaut_lab.maintenance.runs import clean_artifacts

        say(clean_artifacts(older_than, store, dry_run=dry_run))
        return
    if older_than is not None or dry_run or store is not None:
        raise UsageError("--older-than, --dry-run and --store need --artifacts", hint="testronaut-lab clean --artifacts")
    from testronaut_lab.container.engine.connect import connect
    from testronaut_lab.container.image.cache import list_images, remove_images
    from testronaut_lab.execution.reap import reap

    engine = connect()
    reaped = reap(engine, kept=kept)
    for name in reaped.removed:
        say(f"removed {name}")
    for left in reaped.left_alone:
        say(f"left alone: {left}, {left.reason}")
    if not reaped.removed and not reaped.failures and not images:
        say("nothing was left behind")
    if images:
        cached = list_images(engine)
        stays = remove_images(engine, cached)
        say(f"removed {len(cached) - len(stays)} images")
        for image, reason in stays:
            say(f"kept {image.tag}: {reason}")
    for failure in reaped.failures[1:]:
        complain(failure)
    if reaped.failures:
        raise reaped.failures[0]
