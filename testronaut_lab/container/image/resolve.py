"""Finds or makes the local image for the `image` of a plan: a name, a tar file, a folder with a Dockerfile, or a bootstrap.

For a name it tries, in this order: an image on the engine, an earlier bootstrap, a pull, a bootstrap. `pull.py`, `bootstrap.py`,
`archive.py` and `dockerfile.py` do the work; `builder.py` and `installation/` make images with tools.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from typing import assert_never

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image import architecture
from testronaut_lab.container.image.archive import imported, loaded
from testronaut_lab.container.image.bootstrap import bootstrap
from testronaut_lab.container.image.dockerfile import built
from testronaut_lab.container.image.local import (
    BASE_REPOSITORY,
    KIND_LABEL,
    PATH_CHANGE,
    SOURCE_LABEL,
    SPEC_LABEL,
    ResolvedImage,
    import_root,
    look_up,
)
from testronaut_lab.container.image.lock import exclusive
from testronaut_lab.container.image.pull import PullRefused, pull
from testronaut_lab.errors import EngineError
from testronaut_lab.model.files import path_text
from testronaut_lab.model.plan import Bootstrap, Build, ImageSpec, Load, Rootfs
from testronaut_lab.model.releases import Release, release_of

Report = Callable[[str], None]


def resolve(engine: Engine, spec: ImageSpec, report: Report) -> ResolvedImage:
    """Return the local image for a spec; make or fetch it if needed. `report` gets a line for each thing that happens.

    Blocks for at most 15 minutes for a pull and 15 for a bootstrap, or half an hour for a build. Raises EngineError that lists
    every attempt with its answer, UsageError for a file or folder that cannot become an image.
    """
    found = _resolved(engine, spec, report)
    ours = architecture.of_engine(engine)
    if not architecture.runs(ours, found.architecture):
        raise EngineError(
            f"getting image {spec.ref}: it is for {found.architecture}, and this engine runs {ours}",
            hint=f"docker pull --platform linux/{ours} {shlex.quote(spec.ref)}",
        )
    return found


def _resolved(engine: Engine, spec: ImageSpec, report: Report) -> ResolvedImage:
    match spec.source:
        case None:
            return _by_name(engine, spec, report)
        case Build(folder):
            return built(engine, spec.ref, folder, report)
        case Load(file):
            return loaded(engine, spec.ref, file, report)
        case Rootfs(file):
            return imported(engine, spec.ref, file, report)
        case Bootstrap():
            return _bootstrapped_always(engine, spec.ref, report)
        case _:
            assert_never(spec.source)


def origin_of(spec: ImageSpec) -> str:
    """The file or folder of this machine from which the image is made; empty if there is none."""
    match spec.source:
        case Build(path) | Load(path) | Rootfs(path):
            return path_text(os.fsencode(path))
        case None | Bootstrap():
            return ""
        case _:
            assert_never(spec.source)


def _by_name(engine: Engine, spec: ImageSpec, report: Report) -> ResolvedImage:
    """Find an image by its name. A bootstrap replaces it only if no registry can be reached; the image's `note` says so."""
    tried: list[str] = []
    release = release_of(spec.ref)
    if spec.pull != "always":
        if local := look_up(engine, spec.ref, spec.ref, "local", tag=_own_tag(spec.ref)):
            return local
        tried.append("the engine has no image of that name")
    if earlier := _earlier(engine, spec, release, tried):
        return earlier
    if spec.pull == "never":
        raise _unresolved(spec.ref, [*tried, "pulling: not allowed (pull: never)"])
    try:
        pull(engine, spec.ref, report)
    except PullRefused as refused:
        tried.append(f"pulling: {refused}")
        if not refused.unreachable:
            raise _unresolved(spec.ref, tried) from refused
    else:
        if pulled := look_up(engine, spec.ref, spec.ref, "pull"):
            return pulled
        raise _unresolved(spec.ref, [*tried, "pulling: done, yet the engine has no image of that name"])
    if release is None:
        raise _unresolved(spec.ref, [*tried, "bootstrapping: possible for Debian and Ubuntu releases only"])
    report(f"no registry could be reached; bootstrapping {spec.ref} from {release.archive}")
    note = f"{spec.ref} was bootstrapped from {release.archive}; no registry could be reached"
    return _bootstrapped(engine, spec.ref, release, report, note)


def _own_tag(ref: str) -> str:
    """The reference itself if this package made the image, else empty."""
    return ref if ref.startswith("testronaut-lab/") else ""


def _earlier(engine: Engine, spec: ImageSpec, release: Release | None, tried: list[str]) -> ResolvedImage | None:
    if release is None or spec.pull == "always":
        return None
    tag = _base_tag(spec.ref)
    note = f"{spec.ref} was bootstrapped from {release.archive} earlier, when no registry could be reached"
    found = look_up(engine, tag, spec.ref, "bootstrap", note=note, tag=tag)
    if found is None:
        tried.append("it was not bootstrapped earlier")
    return found


def _bootstrapped_always(engine: Engine, ref: str, report: Report) -> ResolvedImage:
    release = release_of(ref)
    if release is None:
        raise _unresolved(ref, ["bootstrapping: possible for Debian and Ubuntu releases only"])
    tag = _base_tag(ref)
    if found := look_up(engine, tag, ref, "bootstrap", tag=tag):
        return found
    report(f"bootstrapping {ref} from {release.archive}")
    return _bootstrapped(engine, ref, release, report, None)


def _bootstrapped(engine: Engine, ref: str, release: Release, report: Report, note: str | None) -> ResolvedImage:
    tag = _base_tag(ref)
    wait = f"waiting for another process that is bootstrapping {ref}"
    with exclusive(f"base-{tag.partition(':')[2]}", lambda: report(wait)):
        if found := look_up(engine, tag, ref, "bootstrap", note=note, tag=tag):
            return found
        with bootstrap(release, report) as tar:
            report(f"importing {ref}")
            import_root(engine, tar, tag, _base_changes(ref, release), tag)
    found = look_up(engine, tag, ref, "bootstrap", note=note, tag=tag)
    if found is None:
        raise EngineError(f"importing the bootstrapped {ref}: the engine has no {tag} afterwards", hint="testronaut-lab images")
    return found


def _base_changes(ref: str, release: Release) -> list[str]:
    labels = {
        KIND_LABEL: "base",
        SPEC_LABEL: ref,
        SOURCE_LABEL: "bootstrap",
        "org.testronaut.release": f"{release.distribution} {release.codename}",
    }
    return [PATH_CHANGE, 'CMD ["bash"]', *(f"LABEL {key}={json.dumps(value)}" for key, value in labels.items())]


def _base_tag(ref: str) -> str:
    name = ref.removeprefix("docker.io/").removeprefix("library/")
    return f"{BASE_REPOSITORY}:{re.sub(r'[^A-Za-z0-9_.-]', '-', name)[:128]}"


def _unresolved(ref: str, tried: list[str]) -> EngineError:
    hint = f"check the name {ref!r}; `testronaut-lab images` lists what was made here, `docker images` what the engine has"
    return EngineError(f"getting image {ref}: " + "; ".join(tried), hint=hint)
