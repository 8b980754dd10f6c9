"""Lists the images that this package made, with their size and last use, removes them, and chooses which ones to evict.

Other images are never touched. An image is ours by its name, not by a label, because derived images inherit labels.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, cast, get_args

import docker.errors

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.faults import explanation, translated
from testronaut_lab.container.image.local import KEY_LABEL, SPEC_LABEL
from testronaut_lab.container.image.usage import ImageUses, image_uses

Kind = Literal["base", "load", "rootfs", "build", "tool"]
_PREFIX: Final = "testronaut-lab/"
_A_RUN: Final = "a run that is going on"


@dataclass(frozen=True, slots=True)
class ManagedImage:
    """An image that this package made. `key` is empty except for images with tools; `spec` says what it was made of.

    `size_bytes` is its whole size, `own_bytes` its size without the largest image that it is based on. `created` and `last_used`
    are ISO 8601 in UTC. `used_by` says in words who uses it now, containers by their names. `labels` are pairs.
    """

    id: str
    tag: str
    kind: Kind
    key: str
    spec: str
    size_bytes: int
    created: str
    own_bytes: int = 0
    last_used: str = ""
    used_by: tuple[str, ...] = ()
    diff_ids: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class _Told:
    """What the engine tells about one image, ours or not."""

    id: str
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    size_bytes: int
    created_s: float
    diff_ids: tuple[str, ...]


def list_images(engine: Engine) -> list[ManagedImage]:
    """The images that this package made on this engine, sorted by kind (bases first), then by tag."""
    with translated("listing the images"):
        told = [_told(engine, entry) for entry in engine.client.api.images()]
        users = _users(engine)
    everything = [each for each in told if each is not None]
    uses = image_uses(engine)
    kinds = get_args(Kind)
    found = [image for each in everything for image in _managed(each, everything, users.get(each.id, ()), uses)]
    return sorted(found, key=lambda image: (kinds.index(image.kind), image.tag, image.created))


def remove_images(engine: Engine, images: Iterable[ManagedImage]) -> list[tuple[ManagedImage, str]]:
    """Remove these images. Returns those that stay, each with the reason (a container or a run uses it)."""
    kept: list[tuple[ManagedImage, str]] = []
    uses = image_uses(engine)
    # An image that is based on another one is removed first.
    for image in sorted(images, key=lambda image: (image.kind == "tool", len(image.diff_ids), image.created), reverse=True):
        with uses.unused(image.tag) as is_unused:
            reason = _remove(engine, image) if is_unused else f"in use by {_A_RUN}"
        if reason is not None:
            kept.append((image, reason))
    return kept


def taken_bytes(images: Sequence[ManagedImage]) -> int:
    """The space of these images on the engine's disk, without the images that they are based on. Equal layers count once."""
    return sum({image.diff_ids or (image.id,): image.own_bytes for image in images}.values())


def evictions(
    images: Sequence[ManagedImage], *, keep_bytes: int | None = None, unused_since: str | None = None
) -> list[ManagedImage]:
    """Return which images to remove, the least recently used first.

    These are the images last used before `unused_since` (ISO 8601 in UTC), and then more until the rest takes at most
    `keep_bytes`. Images in use stay, and so do images that a remaining image is based on: removing those frees nothing.
    """
    left, gone = list(images), []
    while (image := _next(left)) is not None:
        is_old = unused_since is not None and image.last_used < unused_since
        is_too_much = keep_bytes is not None and taken_bytes(left) > keep_bytes
        if not is_old and not is_too_much:
            break
        left.remove(image)
        gone.append(image)
    return gone


def _next(images: Sequence[ManagedImage]) -> ManagedImage | None:
    free = [image for image in images if not image.used_by and not any(_stands_on(other, image) for other in images)]
    return min(free, key=lambda image: (image.last_used, image.tag), default=None)


def _stands_on(image: ManagedImage, other: ManagedImage) -> bool:
    return _is_below(other.diff_ids, image.diff_ids)


def _is_below(lower: tuple[str, ...], upper: tuple[str, ...]) -> bool:
    return 0 < len(lower) < len(upper) and upper[: len(lower)] == lower


def _told(engine: Engine, entry: Mapping[str, object]) -> _Told | None:
    """Ask the engine about an image; None if it has just been removed."""
    try:
        said = engine.client.api.inspect_image(entry["Id"])
    except docker.errors.NotFound:
        return None
    tagged = str((said.get("Metadata") or {}).get("LastTagTime") or "")
    return _Told(
        str(entry["Id"]),
        tuple(cast("list[str] | None", entry.get("RepoTags")) or ()),
        cast("dict[str, str] | None", entry.get("Labels")) or {},
        int(str(entry["Size"])),
        max(float(str(entry["Created"])), _unix_s(tagged)),
        tuple(said["RootFS"].get("Layers") or ()),
    )


def _managed(told: _Told, everything: Sequence[_Told], users: tuple[str, ...], uses: ImageUses) -> Iterator[ManagedImage]:
    below = max((each.size_bytes for each in everything if _is_below(each.diff_ids, told.diff_ids)), default=0)
    for tag in told.tags:
        kind = tag.partition(":")[0].removeprefix(_PREFIX)
        if not tag.startswith(_PREFIX) or kind not in get_args(Kind):
            continue
        last_used_s = uses.last_used_s(tag)
        with uses.unused(tag) as is_unused:
            running = () if is_unused else (_A_RUN,)
        origin = uses.origin(tag)
        yield ManagedImage(
            id=told.id,
            tag=tag,
            kind=cast("Kind", kind),
            key=told.labels.get(KEY_LABEL, "") if kind == "tool" else "",
            spec=origin or told.labels.get(SPEC_LABEL, ""),
            size_bytes=told.size_bytes,
            created=_iso(told.created_s),
            own_bytes=max(told.size_bytes - below, 0),
            last_used=_iso(told.created_s if last_used_s is None else last_used_s),
            used_by=(*users, *running),
            diff_ids=told.diff_ids,
            labels=tuple(sorted(told.labels.items())),
        )


def _users(engine: Engine) -> dict[str, tuple[str, ...]]:
    """The names of containers, running or not, by the id of their image."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in engine.client.api.containers(all=True):
        name = str((entry.get("Names") or [entry["Id"][:12]])[0]).removeprefix("/")
        found[entry["ImageID"]] = (*found.get(entry["ImageID"], ()), name)
    return found


def _remove(engine: Engine, image: ManagedImage) -> str | None:
    """Remove the image; return why it stays, or None."""
    with translated(f"removing image {image.tag}"):
        try:
            # Remove the unnamed parents of a build with it: the build made them. Those of other images were there before.
            engine.client.api.remove_image(image.tag, noprune=image.kind != "build")
        except docker.errors.NotFound:
            return None
        except docker.errors.APIError as error:
            if error.status_code != 409:
                raise
            return explanation(error)
    return None


def _unix_s(iso: str) -> float:
    """Unix time; 0 for text that is not a time, and for the year 1, by which the engine means no time."""
    try:
        return max(datetime.fromisoformat(iso[:19] + "+00:00").timestamp(), 0.0)
    except ValueError:
        return 0.0


def _iso(unix_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))
