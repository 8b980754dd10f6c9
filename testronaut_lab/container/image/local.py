"""Looks up an image on the engine, and imports a root file system as an image.

`resolve.py` decides how an image gets onto the engine; `cache.py` lists the images that this package made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Final

import docker.errors

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.faults import translated
from testronaut_lab.errors import EngineError
from testronaut_lab.model.result import ImageInfo

BASE_REPOSITORY: Final = "testronaut-lab/base"
TOOL_REPOSITORY: Final = "testronaut-lab/tool"
LOAD_REPOSITORY: Final = "testronaut-lab/load"
ROOTFS_REPOSITORY: Final = "testronaut-lab/rootfs"
BUILD_REPOSITORY: Final = "testronaut-lab/build"
KIND_LABEL: Final = "org.testronaut.kind"
KEY_LABEL: Final = "org.testronaut.key"
SPEC_LABEL: Final = "org.testronaut.spec"
SOURCE_LABEL: Final = "org.testronaut.source"

# An imported root file system has no configuration, and a shell without a PATH finds no program.
PATH_CHANGE: Final = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The defaults that an image gives to its containers. `labels` are pairs."""

    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    user: str = ""
    working_dir: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """A local image. `note` says in words that it is a substitute. `diff_ids` are the digests of its layers.

    `tag` is its name if this package made it, else empty.
    """

    info: ImageInfo
    diff_ids: tuple[str, ...]
    architecture: str
    config: ImageConfig
    note: str | None = None
    tag: str = ""


def inspect(engine: Engine, ref: str) -> ResolvedImage | None:
    """The local image with this tag or id; None if there is none."""
    return look_up(engine, ref, ref, "local")


def look_up(engine: Engine, ref: str, named: str, source: str, *, note: str | None = None, tag: str = "") -> ResolvedImage | None:
    """The local image `ref`, to be shown as `named`, with its `source`; None if the engine has none."""
    with translated(f"looking for image {ref}"):
        try:
            said = engine.client.api.inspect_image(ref)
        except docker.errors.NotFound:
            return None
    config, layers = said.get("Config") or {}, tuple(said["RootFS"].get("Layers") or ())
    return ResolvedImage(
        info=ImageInfo(named, str(said["Id"]), source, digests=tuple(said.get("RepoDigests") or ()), diff_ids=layers),
        diff_ids=layers,
        architecture=str(said["Architecture"]),
        config=ImageConfig(
            env=tuple(config.get("Env") or ()),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            cmd=tuple(config.get("Cmd") or ()),
            labels=tuple(sorted((config.get("Labels") or {}).items())),
            user=config.get("User") or "",
            working_dir=config.get("WorkingDir") or "",
        ),
        note=note,
        tag=tag,
    )


def import_root(engine: Engine, tar: IO[bytes], tag: str, changes: Sequence[str], named: str) -> None:
    """Make an image of a tar of a root file system. The tag exists only once the image is complete. Raises EngineError."""
    repository, _, name = tag.partition(":")
    with translated(f"importing {named}"):
        said = str(engine.client.api.import_image(src=tar, repository=repository, tag=name, changes=list(changes)))
    # The engine answers 200 before it has read the tar. It reports a later failure as a line of the answer.
    for line in said.splitlines():
        if '"error"' in line:
            raise EngineError(f"importing {named}: the engine refused: {line}", hint="testronaut-lab engine status")
