"""Makes images from tar files: those of `docker save`, and root file systems. Each content of a file is made into an image once.

The image gets a name of ours. The names in the tar are not used, because loading them could take a name from another image.
`tar.py` checks that the file is a whole tar.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.faults import translated
from testronaut_lab.container.image import architecture
from testronaut_lab.container.image.local import (
    KIND_LABEL,
    LOAD_REPOSITORY,
    PATH_CHANGE,
    ROOTFS_REPOSITORY,
    SOURCE_LABEL,
    SPEC_LABEL,
    ResolvedImage,
    import_root,
    look_up,
)
from testronaut_lab.container.image.lock import exclusive
from testronaut_lab.container.image.tar import OpenTar, open_tar
from testronaut_lab.errors import EngineError, UsageError

Report = Callable[[str], None]
T = TypeVar("T")

LOAD_TIMEOUT_S = 900.0
_MANIFEST: Final = "manifest.json"
_MAX_JSON_BYTES: Final = 8 * 2**20
# Other members of such a tar that name its images.
_NAMING: Final = frozenset({"repositories", "index.json", "oci-layout"})
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Saved:
    """The one image in a tar: the entry of the manifest that names its parts, and its architecture."""

    entry: Mapping[str, object]
    architecture: str


def loaded(engine: Engine, named: str, path: Path, report: Report) -> ResolvedImage:
    """Return the image in a tar that `docker save` wrote.

    Raises UsageError for a broken tar, one without exactly one image, or an image of another architecture. Raises EngineError if
    the engine refuses the image.
    """
    with open_tar(path, f"loading the image {named}") as tar:
        tag = f"{LOAD_REPOSITORY}:{tar.sha256[:24]}"
        return _made_once(engine, tag, named, "load", lambda: _load(engine, tar, tag, named, report), report)


def imported(engine: Engine, named: str, path: Path, report: Report) -> ResolvedImage:
    """Return the image of a tar of a root file system, compressed or not.

    Raises UsageError for a broken tar or another architecture, EngineError if the engine refuses it.
    """
    with open_tar(path, f"importing the root file system {named}") as tar:
        tag = f"{ROOTFS_REPOSITORY}:{tar.sha256[:24]}"
        return _made_once(engine, tag, named, "rootfs", lambda: _import(engine, tar, tag, named, report), report)


def _made_once(engine: Engine, tag: str, named: str, source: str, make: Callable[[], None], report: Report) -> ResolvedImage:
    if there := look_up(engine, tag, named, source, tag=tag):
        return there
    wait = f"waiting for another process that gets {named} ready"
    with exclusive(tag.rpartition("/")[2].replace(":", "-"), lambda: report(wait)):
        if there := look_up(engine, tag, named, source, tag=tag):
            return there
        make()
        if made := look_up(engine, tag, named, source, tag=tag):
            return made
    raise EngineError(f"getting the image {named} ready: the engine has no {tag} afterwards", hint="testronaut-lab images")


def _import(engine: Engine, tar: OpenTar, tag: str, named: str, report: Report) -> None:
    _check_root(engine, tar)
    report(f"importing {named}")
    labels = {KIND_LABEL: "rootfs", SPEC_LABEL: f"sha256:{tar.sha256}", SOURCE_LABEL: "rootfs"}
    changes = [PATH_CHANGE, *(f"LABEL {key}={json.dumps(value)}" for key, value in labels.items())]
    with _unchanged(engine, tar, tag):
        import_root(engine, tar.from_start(), tag, changes, named)


def _check_root(engine: Engine, tar: OpenTar) -> None:
    names, found = set[str](), None
    for archive, member in tar.members():
        names.add(member.name.removeprefix("./").partition("/")[0])
        found = found or architecture.of_member(archive, member)
    if not names:
        raise tar.refused("there is nothing in it")
    if _MANIFEST in names and "bin" not in names:
        raise tar.refused("it is not a root file system, but an image that `docker save` wrote", "{load: FILE} is for those")
    _check_architecture(engine, tar, found or "")


def _load(engine: Engine, tar: OpenTar, tag: str, named: str, report: Report) -> None:
    saved = _the_image(tar)
    _check_architecture(engine, tar, saved.architecture)
    report(f"loading {named}")
    with _unchanged(engine, tar, tag):
        _send(engine, named, _renamed(tar, json.dumps([{**saved.entry, "RepoTags": [tag]}]).encode()))


def _send(engine: Engine, named: str, pieces: Iterator[bytes]) -> None:
    what = f"loading the image {named}"
    api = engine.client.api
    with translated(what):
        response = api._post(api._url("/images/load"), data=pieces, params={"quiet": True}, stream=True, timeout=LOAD_TIMEOUT_S)
        with response:
            api._raise_for_status(response)
            messages = list(api._stream_helper(response, decode=True))
    for message in messages:
        if "error" in message:
            raise EngineError(f"{what}: the engine refused: {message['error']}", hint="testronaut-lab engine status")


@contextmanager
def _unchanged(engine: Engine, tar: OpenTar, tag: str) -> Iterator[None]:
    """Raise UsageError, and remove the image, if the file changed while it was read: the tag has the hash of the old content."""
    try:
        yield
    except EngineError:
        tar.check_unchanged()  # a change is the better reason
        raise
    try:
        tar.check_unchanged()
    except UsageError:
        with translated(f"removing {tag}"):
            engine.client.api.remove_image(tag)
        raise


def _the_image(tar: OpenTar) -> _Saved:
    texts: dict[str, bytes] = {}
    for archive, member in tar.members():
        name = member.name.removeprefix("./")
        if member.isreg() and member.size <= _MAX_JSON_BYTES and (name.endswith(".json") or name.startswith("blobs/")):
            texts[name] = _head(archive, member)
    if _MANIFEST not in texts:
        raise tar.refused(
            f"it is not an image that `docker save` wrote: there is no {_MANIFEST} in it",
            "{rootfs: FILE} is for a root file system",
        )
    entries = _json(tar, texts[_MANIFEST], list)
    if len(entries) != 1:
        names = ", ".join(_name(entry) for entry in entries[:10])
        told = f"one image was expected in it, and it holds {len(entries)}{': ' if names else ''}{names}"
        raise tar.refused(told, "docker save -o FILE IMAGE")
    [entry] = entries
    config = entry.get("Config") if isinstance(entry, dict) else None
    if not isinstance(config, str) or config not in texts:
        raise tar.refused(f"its {_MANIFEST} names no configuration that is in it")
    built_for = _json(tar, texts[config], dict).get("architecture")
    return _Saved(entry, built_for if isinstance(built_for, str) else "")


def _head(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The text of a small JSON member; empty for a layer, of which only the first byte is read."""
    content = archive.extractfile(member)
    if content is None:
        return b""
    first = content.read(1)
    return first + content.read() if first in (b"{", b"[") else b""


def _json(tar: OpenTar, text: bytes, kind: type[T]) -> T:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise tar.refused(f"the JSON in it cannot be read: {error}") from error
    if not isinstance(value, kind):
        raise tar.refused("the JSON in it is not what `docker save` writes")
    return value


def _name(entry: object) -> str:
    tags = entry.get("RepoTags") if isinstance(entry, dict) else None
    return str(tags[0]) if isinstance(tags, list) and tags else "one without a name"


def _renamed(tar: OpenTar, manifest: bytes) -> Iterator[bytes]:
    """The same tar with another manifest, and without the other members that name its images."""
    for archive, member in tar.members():
        name = member.name.removeprefix("./")
        if name in _NAMING:
            continue
        if name == _MANIFEST:
            member.size = len(manifest)
            yield member.tobuf(tarfile.PAX_FORMAT) + _padded(manifest)
            continue
        if member.issparse():
            member.type, member.pax_headers = tarfile.REGTYPE, {}  # tarfile reads it with its holes filled
        yield member.tobuf(tarfile.PAX_FORMAT)
        content = archive.extractfile(member) if member.isreg() else None
        if content is not None:
            while piece := content.read(_CHUNK_BYTES):
                yield piece
            yield _padding(member.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _padded(content: bytes) -> bytes:
    return content + _padding(len(content))


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % tarfile.BLOCKSIZE)


def _check_architecture(engine: Engine, tar: OpenTar, told: str) -> None:
    ours = architecture.of_engine(engine)
    if not architecture.runs(ours, told):
        raise tar.refused(f"it is for {told}, and this engine runs {ours}", f"docker pull --platform linux/{ours} IMAGE")
