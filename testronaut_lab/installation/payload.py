"""Packs a file or folder of this machine into one tar for an installation. The tar is hashed, and copied exactly as hashed.

The hash is part of the image's key: a new content, name or mode makes another image; times and owners do not count. Archives are
unpacked here, so that the image needs no program for that.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from testronaut_lab.errors import InstallError, UsageError
from testronaut_lab.installation.strategies import Strategy
from testronaut_lab.model.plan import InstallSpec

_CHUNK = 1 << 20
_IN_MEMORY = 16 << 20
# More than any tool needs: a hostile archive of some kilobytes can unpack to a full disk.
MAX_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class Payload:
    """`tar` has names relative to its target folder. `file` is the name of a package file for a manager, else empty."""

    tar: IO[bytes]
    sha256: str
    file: str = ""


@contextmanager
def packed(spec: InstallSpec, strategy: Strategy, program: str) -> Iterator[Payload]:
    """Pack `spec.source` as it is now. A single file of the strategy `copy` gets the name `program`.

    Raises UsageError if it cannot be read, InstallError for a wrong sha256 or archive.
    """
    source = spec.source
    if source is None:
        raise UsageError(f"installing {spec.strategy}:{spec.spec}: this strategy needs a path")
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
        try:
            if spec.sha256 is not None:
                _check(source, spec)
            with tarfile.open(fileobj=spool, mode="w", format=tarfile.PAX_FORMAT) as tar:
                _fill(tar, source, spec, strategy, program)
        except OSError as error:
            raise UsageError(
                f"installing {spec.strategy}:{spec.spec}: cannot read {error.filename or source}: {error}"
            ) from error
        spool.seek(0)
        digest = hashlib.sha256()
        while chunk := spool.read(_CHUNK):
            digest.update(chunk)
        spool.seek(0)
        yield Payload(spool, digest.hexdigest(), PurePosixPath(spec.spec).name if strategy.takes == "file" else "")


def _check(source: Path, spec: InstallSpec) -> None:
    with source.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != spec.sha256:
        raise InstallError(f"installing {spec.strategy}:{spec.spec}: its sha256 is {actual}, expected {spec.sha256}")


def _fill(tar: tarfile.TarFile, source: Path, spec: InstallSpec, strategy: Strategy, program: str) -> None:
    match strategy.takes:
        case "file":
            _add_file(tar, PurePosixPath(spec.spec).name, source, 0o755)
        case "tree" if source.is_dir():
            _add_folder(tar, source)
        case "tree":
            _add_file(tar, f"bin/{program}", source, 0o755)
        case "archive":
            _add_archive(tar, source, spec)
        case "package":
            raise UsageError(f"installing {spec.strategy}:{spec.spec}: this strategy takes no path")


def _add_file(tar: tarfile.TarFile, name: str, source: Path, mode: int) -> None:
    with source.open("rb") as file:
        _add(tar, name, mode, file, os.fstat(file.fileno()).st_size)


def _add(tar: tarfile.TarFile, name: str, mode: int, content: IO[bytes], size_bytes: int) -> None:
    if tar.offset + size_bytes > MAX_BYTES:
        raise InstallError(f"handing over {name}: with it this is more than {MAX_BYTES >> 20} MiB, which no tool needs")
    info = tarfile.TarInfo(name)
    info.mode, info.size = mode, size_bytes
    tar.addfile(info, content)


def _add_other(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, target: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, target
    tar.addfile(info)


def _add_folder(tar: tarfile.TarFile, folder: Path) -> None:
    """Add all files, folders and links below the folder. Raises InstallError for a link that leads out of it."""
    for base, names, files in os.walk(folder, onerror=_raise):
        names.sort()
        for entry in sorted([*names, *files]):
            path = Path(base, entry)
            name = path.relative_to(folder).as_posix()
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                _add_other(tar, name, tarfile.SYMTYPE, 0o777, _inner_link(name, os.readlink(path)))
            elif stat.S_ISDIR(status.st_mode):
                _add_other(tar, name, tarfile.DIRTYPE, stat.S_IMODE(status.st_mode) | 0o555)
            elif stat.S_ISREG(status.st_mode):
                _add_file(tar, name, path, _mode(status.st_mode))


def _raise(error: OSError) -> None:
    raise error


def _add_archive(tar: tarfile.TarFile, source: Path, spec: InstallSpec) -> None:
    count = len(tar.getmembers())
    try:
        if zipfile.is_zipfile(source):
            _add_zip(tar, source, spec.strip)
        else:
            with tarfile.open(source) as archive:
                _add_tar(tar, archive, spec.strip)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise InstallError(f"installing {spec.strategy}:{spec.spec}: this archive cannot be unpacked: {error}") from error
    if len(tar.getmembers()) == count:
        kind = "zipfile" if zipfile.is_zipfile(source) else "tarfile"
        raise InstallError(
            f"installing {spec.strategy}:{spec.spec}: nothing is left of it with strip: {spec.strip}",
            hint=f"how many folders its names begin with: python3 -m {kind} -l {shlex.quote(str(source))}",
        )


def _add_tar(tar: tarfile.TarFile, archive: tarfile.TarFile, strip: int) -> None:
    for member in archive:
        name = _stripped(member.name, strip)
        if name is None:
            continue
        if member.issym():
            _add_other(tar, name, tarfile.SYMTYPE, 0o777, _inner_link(name, member.linkname))
        elif member.isdir():
            _add_other(tar, name, tarfile.DIRTYPE, member.mode & 0o777 | 0o555)
        elif member.isreg() or member.islnk():
            content = archive.extractfile(member)
            if content is None:
                raise tarfile.TarError(f"{member.name!r} is a link to nothing")
            size = archive.getmember(member.linkname).size if member.islnk() else member.size
            _add(tar, name, _mode(member.mode), content, size)


def _add_zip(tar: tarfile.TarFile, source: Path, strip: int) -> None:
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            name = _stripped(member.filename, strip)
            mode = member.external_attr >> 16
            if name is None:
                continue
            if member.is_dir():
                _add_other(tar, name, tarfile.DIRTYPE, 0o755)
            elif stat.S_ISLNK(mode):
                target = archive.read(member).decode("utf-8", "surrogateescape")
                _add_other(tar, name, tarfile.SYMTYPE, 0o777, _inner_link(name, target))
            else:
                # An archive from another system has no Unix modes; then every file is executable.
                with archive.open(member) as content:
                    _add(tar, name, _mode(mode) if stat.S_ISREG(mode) else 0o755, content, member.file_size)


def _mode(mode: int) -> int:
    """A mode that everybody can read, as for installed programs, without setuid, setgid and sticky bits."""
    return 0o755 if mode & 0o111 else 0o644


def _stripped(name: str, strip: int) -> str | None:
    """The name without its first `strip` parts; None if nothing is left."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts:
        raise tarfile.TarError(f"{name!r} leads out of it")
    return "/".join(parts[strip:]) or None


def _inner_link(name: str, target: str) -> str:
    inside = os.path.normpath(os.path.join(os.path.dirname(name), target))
    if target.startswith("/") or inside == ".." or inside.startswith("../"):
        raise InstallError(f"the link {name!r} leads out, to {target!r}")
    return target
