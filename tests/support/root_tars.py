"""Root file systems and images for tests, as tar files: made of one static busybox, each with a content of its own."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from testronaut_lab.container.engine.connect import Engine

PROGRAMS = (
    "sh cat ls sleep true false mkdir rmdir rm mv ln chmod touch id env head tail wc dd printf kill grep setsid timeout".split()
)
LINKS = tuple((f"bin/{name}", "busybox") for name in PROGRAMS)


def busybox_of(engine: Engine, image_id: str) -> bytes:
    return content_of(engine, image_id, "/bin/busybox")


def content_of(engine: Engine, image_id: str, path: str) -> bytes:
    """Of a file in an image. (What a short program says through `docker run` is now and then lost by docker's client.)"""
    container = engine.client.containers.create(image_id, ["true"])
    try:
        pieces, _ = container.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
            file = tar.extractfile(path.rpartition("/")[2])
            assert file is not None
            return file.read()
    finally:
        container.remove(force=True)


def write_tar(
    path: Path, files: Mapping[str, bytes], links: Sequence[tuple[str, str]] = (), folders: Sequence[str] = (), mode: str = "w"
) -> Path:
    """Files are programs, of mode 0755."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name in folders:
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mode, info.size = 0o755, len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return path
