"""The images that this program made: a list for programs, and pruning to a size or an age.

`container/image/cache.py` measures them and decides which ones go. `report/text/tables.py` has the list for people.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image.cache import ManagedImage, evictions, list_images, remove_images, taken_bytes
from testronaut_lab.errors import UsageError
from testronaut_lab.installation import provenance
from testronaut_lab.model.units import age_text, parse_age, parse_size, size_text

_PRUNE_HINT = "testronaut-lab images prune --keep 5GiB --dry-run"


def images_json(images: Sequence[ManagedImage]) -> dict[str, object]:
    """Return what `images --json` prints, version 1. `tools` and `base` come from the labels of an image with tools."""
    return {"version": 1, "images": [_image_json(image) for image in images], "taken_bytes": taken_bytes(images)}


def prune_images(connect: Callable[[], Engine], keep: str | None, older_than: str | None, *, dry_run: bool) -> Iterator[str]:
    """Remove the images not used since `older_than`; then the least recently used ones, until the rest takes at most `keep`.

    Yields a line for each action. Raises UsageError, before it connects, for a wrong size or age, or if neither is given.
    """
    if keep is None and older_than is None:
        raise UsageError("`images prune` needs --keep SIZE or --older-than AGE", hint=_PRUNE_HINT)
    keep_bytes = None if keep is None else _size(keep)
    since = None if older_than is None else _time_ago(older_than)
    engine = connect()
    images = list_images(engine)
    chosen = evictions(images, keep_bytes=keep_bytes, unused_since=since)
    stays: list[tuple[ManagedImage, str]] = []
    for image in chosen:
        if not dry_run and (kept := remove_images(engine, [image])):
            stays += kept
            continue
        size, used = size_text(image.own_bytes), age_text(image.last_used)
        yield f"{'would remove' if dry_run else 'removed'} {image.tag} ({size}, last used {used}): {image.spec}"
    for image, reason in stays:
        yield f"kept {image.tag}: {reason}"
    for image in images:
        if image.used_by:
            yield f"kept {image.tag}: in use by {', '.join(image.used_by)}"
    left = [image for image in images if image not in chosen or image in [each for each, _ in stays]]
    freed, stay = size_text(taken_bytes(images) - taken_bytes(left)), size_text(taken_bytes(left))
    count = f"{len(left)} image{'' if len(left) == 1 else 's'}"
    yield f"{'would free' if dry_run else 'freed'} {freed}; {count} with {stay} stay"


def _image_json(image: ManagedImage) -> dict[str, object]:
    told: dict[str, object] = asdict(image)
    made = provenance.of_labels(dict(image.labels)) if image.kind == "tool" else None
    del told["labels"]
    told["base"] = None if made is None else asdict(made.base)
    told["tools"] = [] if made is None else [asdict(tool) for tool in made.tools]
    return told


def _size(text: str) -> int:
    try:
        return 0 if text in ("0", "0B") else parse_size(text)
    except ValueError as error:
        raise UsageError(f"--keep {text}: {error}", hint=_PRUNE_HINT) from error


def _time_ago(text: str) -> str:
    try:
        then = max(time.time() - parse_age(text), 0.0)
    except ValueError as error:
        raise UsageError(f"--older-than {text}: {error}", hint="testronaut-lab images prune --older-than 30d") from error
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(then))
