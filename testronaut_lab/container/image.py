"""From an image reference to a local image: the engine's own, an earlier bootstrap, a pull, a bootstrap, in this order.

Also lists and removes the images that this package made. Images with tools in them are made by `builder.py` and
`installation/`; how a bootstrap works is in `bootstrap.py`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import docker.errors
from docker.utils import parse_repository_tag

from testronaut_lab.container.bootstrap import Release, bootstrap, release_of
from testronaut_lab.container.engine import Engine
from testronaut_lab.container.faults import CLIENT_ERRORS, explanation, translated
from testronaut_lab.container.lock import exclusive
from testronaut_lab.errors import EngineError
from testronaut_lab.model.plan import ImageSpec
from testronaut_lab.model.result import ImageInfo

BASE_REPOSITORY = "testronaut-lab/base"
TOOL_REPOSITORY = "testronaut-lab/tool"
KIND_LABEL = "org.testronaut.kind"
KEY_LABEL = "org.testronaut.key"
SPEC_LABEL = "org.testronaut.spec"

PULL_TIMEOUT_S = 900.0
_PROGRESS_EVERY_S = 2.0

# What the engine says when no registry was reached at all; anything else is a registry's answer.
_UNREACHABLE = re.compile(
    r"no such host|connection refused|i/o timeout|timeout exceeded|timed out|handshake|x509|certificate|unreachable|"
    r"no route to host|name resolution|server misbehaving|connection reset|proxyconnect|deadline exceeded|\bEOF\b",
    re.IGNORECASE,
)

Kind = Literal["base", "tool"]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image tells its containers; `labels` are pairs."""

    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    user: str = ""
    working_dir: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """A local image. `note` says in words that it is a substitute; `diff_ids` name the contents of its layers."""

    info: ImageInfo
    diff_ids: tuple[str, ...]
    architecture: str
    config: ImageConfig
    note: str | None = None


@dataclass(frozen=True, slots=True)
class ManagedImage:
    """An image that this package made. `key` is empty for a base; `created` is ISO 8601 in UTC."""

    id: str
    tag: str
    kind: Kind
    key: str
    spec: str
    size_bytes: int
    created: str


class _Refused(Exception):
    """A pull that failed; `unreachable` says that no registry answered."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.unreachable = bool(_UNREACHABLE.search(said))


def resolve(engine: Engine, spec: ImageSpec, report: Callable[[str], None]) -> ResolvedImage:
    """The local image for a reference, pulled or bootstrapped if need be; `report` gets a line for each thing that happens.

    A bootstrap stands in only where no registry could be reached, and `note` says so. Blocks for at most the 15 minutes of a
    pull and those of a bootstrap. Raises EngineError that says what was tried in order and what each said.
    """
    tried: list[str] = []
    release = release_of(spec.ref)
    if spec.pull != "always":
        if local := _inspect(engine, spec.ref, spec.ref, "local"):
            return local
        tried.append("the engine has no image of that name")
    if earlier := _earlier(engine, spec, release, tried):
        return earlier
    if spec.pull == "never":
        raise _unresolved(spec.ref, [*tried, "pulling: not allowed (pull: never)"])
    try:
        _pull(engine, spec.ref, report)
    except _Refused as refused:
        tried.append(f"pulling: {refused}")
        if not refused.unreachable:
            raise _unresolved(spec.ref, tried) from refused
    else:
        if pulled := _inspect(engine, spec.ref, spec.ref, "pull"):
            return pulled
        raise _unresolved(spec.ref, [*tried, "pulling: done, yet the engine has no image of that name"])
    if release is None:
        raise _unresolved(spec.ref, [*tried, "bootstrapping: possible for Debian and Ubuntu releases only"])
    report(f"no registry could be reached; bootstrapping {spec.ref} from {release.archive}")
    return _bootstrapped(engine, spec.ref, release, report)


def inspect(engine: Engine, ref: str) -> ResolvedImage | None:
    """A local image by tag or id, or None."""
    return _inspect(engine, ref, ref, "local")


def list_images(engine: Engine) -> list[ManagedImage]:
    """The images this package made on this engine, bases first, then by tag."""
    with translated("listing the images"):
        listed = engine.client.api.images(filters={"label": [KIND_LABEL]})
    return sorted(
        (image for entry in listed for image in _managed(entry)), key=lambda image: (image.kind, image.tag, image.created)
    )


def remove_images(engine: Engine, images: Iterable[ManagedImage]) -> list[tuple[ManagedImage, str]]:
    """Remove these images; gives those that stay, each with the engine's reason (a container uses it)."""
    kept: list[tuple[ManagedImage, str]] = []
    # What stands on another image goes first: it was made later.
    for image in sorted(images, key=lambda image: (image.kind, image.created), reverse=True):
        with translated(f"removing image {image.tag}"):
            try:
                engine.client.api.remove_image(image.tag)
            except docker.errors.NotFound:
                continue
            except docker.errors.APIError as error:
                if error.status_code != 409:
                    raise
                kept.append((image, explanation(error)))
    return kept


def _earlier(engine: Engine, spec: ImageSpec, release: Release | None, tried: list[str]) -> ResolvedImage | None:
    if release is None or spec.pull == "always":
        return None
    tag = _base_tag(spec.ref)
    note = f"{spec.ref} was bootstrapped from {release.archive} earlier, when no registry could be reached"
    found = _inspect(engine, tag, spec.ref, "bootstrap", note)
    if found is None:
        tried.append("it was not bootstrapped earlier")
    return found


def _bootstrapped(engine: Engine, ref: str, release: Release, report: Callable[[str], None]) -> ResolvedImage:
    tag = _base_tag(ref)
    note = f"{ref} was bootstrapped from {release.archive}; no registry could be reached"
    wait = f"waiting for another process that is bootstrapping {ref}"
    with exclusive(f"base-{tag.partition(':')[2]}", lambda: report(wait)):
        if found := _inspect(engine, tag, ref, "bootstrap", note):
            return found
        with bootstrap(release, report) as tar:
            report(f"importing {ref}")
            _import(engine, tar, tag, _base_changes(ref, release))
    found = _inspect(engine, tag, ref, "bootstrap", note)
    if found is None:
        raise EngineError(f"importing the bootstrapped {ref}: the engine has no {tag} afterwards", hint="testronaut-lab images")
    return found


def _base_changes(ref: str, release: Release) -> list[str]:
    labels = {
        KIND_LABEL: "base",
        SPEC_LABEL: ref,
        "org.testronaut.source": "bootstrap",
        "org.testronaut.release": f"{release.distribution} {release.codename}",
    }
    return [
        "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        'CMD ["bash"]',
        *(f"LABEL {key}={json.dumps(value)}" for key, value in labels.items()),
    ]


def _import(engine: Engine, tar: object, tag: str, changes: list[str]) -> None:
    repository, _, name = tag.partition(":")
    with translated(f"importing {tag}"):
        said = str(engine.client.api.import_image(src=tar, repository=repository, tag=name, changes=changes))
    # The engine answers 200 before it has read the tar; a failure after that is a line of the answer.
    for line in said.splitlines():
        if '"error"' in line:
            raise EngineError(f"importing {tag}: the engine refused: {line}", hint="testronaut-lab engine status")


def _base_tag(ref: str) -> str:
    name = ref.removeprefix("docker.io/").removeprefix("library/")
    return f"{BASE_REPOSITORY}:{re.sub(r'[^A-Za-z0-9_.-]', '-', name)[:128]}"


def _inspect(engine: Engine, ref: str, named: str, source: str, note: str | None = None) -> ResolvedImage | None:
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
    )


def _pull(engine: Engine, ref: str, report: Callable[[str], None]) -> None:
    """Raises _Refused with the engine's words; a pull without any progress for 60 s counts as unreachable."""
    repository, tag = parse_repository_tag(ref)
    report(f"pulling {ref}")
    deadline = time.monotonic() + PULL_TIMEOUT_S
    try:
        messages = engine.client.api.pull(repository, tag=tag or "latest", stream=True, decode=True)
        for line in _progress(messages):
            report(line)
            if time.monotonic() > deadline:
                raise _Refused(f"timed out: it took longer than {PULL_TIMEOUT_S:.0f} s")
    except CLIENT_ERRORS as error:
        raise _Refused(explanation(error)) from error


def _progress(messages: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """Each thing that a pull says, but how far a download is only now and then. Raises _Refused for the error it ends with."""
    shown = 0.0
    for message in messages:
        if "error" in message:
            raise _Refused(str(message["error"]))
        if "progress" in message:
            if time.monotonic() - shown < _PROGRESS_EVERY_S:
                continue
            shown = time.monotonic()
        parts = (message.get("id"), message.get("status"), message.get("progress"))
        yield " ".join(str(part) for part in parts if part)


def _unresolved(ref: str, tried: list[str]) -> EngineError:
    hint = f"check the name {ref!r}; `testronaut-lab images` lists what was made here, `docker images` what the engine has"
    return EngineError(f"getting image {ref}: " + "; ".join(tried), hint=hint)


def _managed(entry: Mapping[str, object]) -> Iterator[ManagedImage]:
    labels, tags = entry["Labels"], entry.get("RepoTags") or []
    assert isinstance(labels, dict)
    assert isinstance(tags, list)
    for tag in tags:
        # An image that somebody built on top of ours inherits the labels and is not ours to remove.
        if tag.startswith((f"{BASE_REPOSITORY}:", f"{TOOL_REPOSITORY}:")):
            yield ManagedImage(
                id=str(entry["Id"]),
                tag=tag,
                kind="tool" if tag.startswith(TOOL_REPOSITORY) else "base",
                key=str(labels.get(KEY_LABEL, "")),
                spec=str(labels.get(SPEC_LABEL, "")),
                size_bytes=int(str(entry["Size"])),
                created=_iso(int(str(entry["Created"]))),
            )


def _iso(unix_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))
