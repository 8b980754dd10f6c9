"""`images`, `clean`: what was made on the engine and what lies in the store, listed and removed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from testronaut_lab.cli.app import STORE, app
from testronaut_lab.console import print_table, say
from testronaut_lab.errors import UsageError

_OLDER_THAN = typer.Option(metavar="AGE", help="With --artifacts: runs that began before 30d, 12h …")


@app.command()
def images() -> None:
    """List the images that were made here: bases and bases with tools."""
    from testronaut_lab.container.engine import connect
    from testronaut_lab.container.image import list_images
    from testronaut_lab.report.tables import images_table

    print_table(images_table(list_images(connect()), plain=not sys.stdout.isatty()))


@app.command()
def clean(
    kept: Annotated[bool, typer.Option("--kept", help="Also containers that were kept with `run --keep`.")] = False,
    images: Annotated[bool, typer.Option("--images", help="Also the cached images.")] = False,
    artifacts: Annotated[bool, typer.Option("--artifacts", help="Stored runs and files instead; no engine is asked.")] = False,
    older_than: Annotated[str | None, _OLDER_THAN] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --artifacts: say what would be removed.")] = False,
    store: Annotated[str | None, STORE] = None,
) -> None:
    """Remove what runs that were killed have left behind, or what is stored of old runs."""
    if artifacts and (kept or images):
        raise UsageError("`clean --artifacts` is about what is stored, --kept and --images about the engine: one at a time")
    if artifacts:
        from testronaut_lab.housekeeping import clean_artifacts

        say(clean_artifacts(older_than, store, dry_run=dry_run))
        return
    if older_than is not None or dry_run or store is not None:
        raise UsageError("--older-than, --dry-run and --store need --artifacts", hint="testronaut-lab clean --artifacts")
    from testronaut_lab.container.engine import connect
    from testronaut_lab.container.image import list_images, remove_images
    from testronaut_lab.container.manager import reap

    engine = connect()
    for name in reap(engine, kept=kept):
        say(f"removed {name}")
    if images:
        cached = list_images(engine)
        stays = remove_images(engine, cached)
        say(f"removed {len(cached) - len(stays)} images")
        for image, reason in stays:
            say(f"kept {image.tag}: {reason}")
