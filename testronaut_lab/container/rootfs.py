"""Asks the engine about a container's root file system: where its layers are, what changed in it, and the content of files.

This module only reads, and unpacks nothing on the host. `capture/overlay.py` and `capture/engine_diff.py` find the changes.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

import docker
from docker.utils import decode_json_header

from testronaut_lab.container.engine.connect import CALL_TIMEOUT_S, Engine
from testronaut_lab.container.engine.faults import translated
from testronaut_lab.container.removal import remove_container
from testronaut_lab.errors import CaptureError, EngineError, FilesUnseen
from testronaut_lab.model.files import path_text

_DELETED = 2
_OVERLAYS = ("overlay2", "overlay")
# The engine tells Go's os.FileMode; these give the bits of lstat.
_GO_TYPES = ((1 << 31, stat.S_IFDIR), (1 << 27, stat.S_IFLNK), (1 << 25, stat.S_IFIFO), (1 << 24, stat.S_IFSOCK))
_GO_BITS = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))
_GO_TIME = re.compile(r"([^.Z+]+?)(?:\.([0-9]+))?(Z|[+-][0-9]{2}:[0-9]{2})")
_GO_DEVICE, _GO_CHARACTER = 1 << 26, 1 << 21


@dataclass(frozen=True, slots=True)
class Layers:
    """Directories on the engine's host: `upper` has the changes, `lower` the layers of the image, topmost first."""

    upper: Path
    lower: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of one path in a container. Links are not followed."""

    mode: int
    size_bytes: int
    mtime_ns: int


class ContainerFiles:
    """The files of one container, running or not; see `capture.engine_diff.Archive`."""

    def __init__(self, engine: Engine, container_id: str) -> None:
        self._api = engine.client.api
        self._id = container_id

    def facts(self, path: str) -> Facts | None:
        with translated(f"looking at {path_text(path.encode(errors='surrogateescape'))} in a container"):
            url = self._api._url("/containers/{0}/archive", self._id)
            response = self._api.head(url, params={"path": path}, timeout=CALL_TIMEOUT_S)
            if response.status_code == 404:
                return None
            self._api._raise_for_status(response)
        told = decode_json_header(response.headers["X-Docker-Container-Path-Stat"])
        return Facts(_mode(told["mode"]), told["size"], _nanoseconds(told["mtime"]))

    def target(self, path: str) -> bytes:
        with self._first(path) as (_, member):
            if not member.issym():
                raise FileNotFoundError(f"no link: {path}")
            return member.linkname.encode(errors="surrogateescape")

    def digest(self, path: str) -> str:
        digest = hashlib.sha256()
        with self._regular(path) as file:
            while piece := file.read(1024 * 1024):
                digest.update(piece)
        return digest.hexdigest()

    def read(self, path: str, limit_bytes: int) -> bytes:
        with self._regular(path) as file:
            content = file.read(limit_bytes + 1)
        if len(content) > limit_bytes:
            raise CaptureError(f"{path} has more than {limit_bytes} bytes, which are not read")
        return content

    def below(self, path: str) -> Mapping[str, int]:
        parent = path.rpartition("/")[0]
        with self._archive(path) as tar:
            modes = {f"{parent}/{member.name.rstrip('/')}": _tar_mode(member) for member in tar}
        modes.pop(path, None)
        return modes

    @contextmanager
    def _regular(self, path: str) -> Iterator[IO[bytes]]:
        with self._first(path) as (tar, member):
            file = tar.extractfile(member) if member.isreg() else None
            if file is None:
                raise FileNotFoundError(f"not a regular file: {path}")
            yield file

    @contextmanager
    def _first(self, path: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        with self._archive(path) as tar:
            member = tar.next()
            if member is None:
                raise FileNotFoundError(f"nothing there: {path}")
            yield tar, member

    @contextmanager
    def _archive(self, path: str) -> Iterator[tarfile.TarFile]:
        what = f"reading {path_text(path.encode(errors='surrogateescape'))} from a container"
        with translated(what):
            try:
                pieces, _ = self._api.get_archive(self._id, path)
            except docker.errors.NotFound as error:
                raise FileNotFoundError(f"no such file: {path}") from error
            try:
                with tarfile.open(fileobj=_Pieces(pieces), mode="r|", errors="surrogateescape") as tar:
                    yield tar
            except tarfile.TarError as error:
                raise CaptureError(f"{what}: {error}") from error
            finally:
                pieces.close()


def check_seen(engine: Engine, container_id: str, fifo: str, source: Path) -> None:
    """Raise FilesUnseen if `fifo` in the container is not our FIFO `source`.

    Call it to find out why a container failed: Podman mounts an empty directory if it cannot see the host's path.
    """
    facts = ContainerFiles(engine, container_id).facts(fifo)
    if facts is None or not stat.S_ISFIFO(facts.mode):
        raise FilesUnseen(f"looking for {fifo} in container {container_id[:12]}", str(source))


class ContainerRoot:
    """The root file system of a container for steps. `close` removes the container made for `image_files`."""

    def __init__(self, engine: Engine, container_id: str, name: str) -> None:
        self._engine = engine
        self._id = container_id
        self._name = f"{name}-image"
        self._pristine: str | None = None

    def layers(self) -> Layers | None:
        """The overlay's directories; None if the engine does not use an overlay."""
        with translated("asking where a container's root file system is kept"):
            driver = self._engine.client.api.inspect_container(self._id).get("GraphDriver") or {}
        data = driver.get("Data") or {}
        if driver.get("Name") not in _OVERLAYS or not data.get("UpperDir") or not data.get("LowerDir"):
            return None
        return Layers(Path(data["UpperDir"]), tuple(Path(lower) for lower in data["LowerDir"].split(":")))

    def changed(self) -> tuple[tuple[bool, str], ...]:
        """(is it deleted, absolute path) for each path that differs from the image. Takes half a second for a Debian image."""
        with translated("asking what changed in a container's root file system"):
            told = self._engine.client.api.diff(self._id) or []
        return tuple((change["Kind"] == _DELETED, change["Path"]) for change in told)

    def mounted(self) -> Mapping[str, Path | None]:
        """The host's files that the engine mounts, by path in the container without the first slash; None if unreadable."""
        with translated("asking for the files that the engine mounts into a container"):
            told = self._engine.client.api.inspect_container(self._id)
        named = {"etc/hosts": "HostsPath", "etc/hostname": "HostnamePath", "etc/resolv.conf": "ResolvConfPath"}
        files = {path: Path(told[key]) for path, key in named.items() if told.get(key)}
        return {path: file if os.access(file, os.R_OK) else None for path, file in files.items()}

    @property
    def files(self) -> ContainerFiles:
        return ContainerFiles(self._engine, self._id)

    @property
    def image_files(self) -> ContainerFiles:
        """The files of a container of the same image that never runs. It is made on first use."""
        if self._pristine is None:
            api = self._engine.client.api
            with translated(f"creating container {self._name}"):
                image = api.inspect_container(self._id)["Image"]
                self._pristine = str(api.create_container(image, ["-"], name=self._name, network_disabled=True)["Id"])
        return ContainerFiles(self._engine, self._pristine)

    def close(self) -> None:
        pristine, self._pristine = self._pristine, None
        if pristine is not None:
            with translated(f"removing container {self._name}"):
                remove_container(self._engine, pristine)


class _Pieces(io.RawIOBase):
    """A readable file over an iterator of pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest += piece
        size = len(self._rest) if size < 0 else size
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _mode(go: int) -> int:
    mode = go & 0o777
    mode |= next((bits for flag, bits in _GO_TYPES if go & flag), 0)
    if go & _GO_DEVICE:
        mode |= stat.S_IFCHR if go & _GO_CHARACTER else stat.S_IFBLK
    if not stat.S_IFMT(mode):
        mode |= stat.S_IFREG
    return mode | sum(bits for flag, bits in _GO_BITS if go & flag)


def _tar_mode(member: tarfile.TarInfo) -> int:
    kinds = ((member.isdir(), stat.S_IFDIR), (member.issym(), stat.S_IFLNK), (member.isreg() or member.islnk(), stat.S_IFREG))
    return member.mode | next((bits for is_one, bits in kinds if is_one), stat.S_IFIFO)


def _nanoseconds(text: str) -> int:
    """Convert a time as Go writes it: RFC 3339 with up to nine digits of a second."""
    found = _GO_TIME.fullmatch(text)
    if found is None:
        raise EngineError(f"the engine sent an invalid time: {text!r}")
    whole, fraction, zone = found.groups(default="")
    moment = datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone))
    return int(moment.timestamp()) * 10**9 + int(fraction.ljust(9, "0"))
