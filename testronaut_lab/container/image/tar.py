"""Opens a tar file that a user gives as an image: safely, with its hash, and read to its end before the engine gets it.

Nothing is unpacked here, and no name in the tar is trusted. `archive.py` makes the image.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shlex
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from testronaut_lab.errors import UsageError
from testronaut_lab.model.files import path_text

_CHUNK_BYTES = 1 << 20
# The errors of a broken tar, or of a broken compression around it. gzip raises OSError.
_BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, UnicodeError, OverflowError)


class _Header(tarfile.TarInfo):
    """One member's header. Raises for a bad header, which Python takes for the end of the tar: a cut tar would pass."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Header:
        offset = tarfile.offset
        try:
            return super().fromtarfile(tarfile)
        except _HEADER_ERRORS as error:
            if offset == 0:
                raise
            raise _read_error(f"at byte {offset}: {error}") from error


_HEADER_ERRORS = (
    tarfile.InvalidHeaderError,  # type: ignore[attr-defined]  # not in __all__
    tarfile.EmptyHeaderError,  # type: ignore[attr-defined]
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
    tarfile.SubsequentHeaderError,  # type: ignore[attr-defined]
)


def _read_error(text: str) -> tarfile.ReadError:
    return tarfile.ReadError(text)


@dataclass(frozen=True, slots=True)
class OpenTar:
    """An open tar file. `what` begins its messages: which file it is, and what it is for."""

    file: IO[bytes]
    sha256: str
    what: str

    def members(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        """Yield every member, in order. Raises UsageError if the file is not a tar, is broken, or ends too early."""
        self.file.seek(0)
        began = False
        try:
            with tarfile.open(fileobj=self.file, mode="r:*", tarinfo=_Header, errors="surrogateescape") as tar:
                for member in tar:
                    began = True
                    yield tar, member
                    tar.members.clear()  # type: ignore[attr-defined]  # it keeps every header for lookups by name
        except _BROKEN as error:
            raise self._broken(error, began=began) from error
        except OSError as error:
            raise self.refused(f"it cannot be read: {error.strerror or error}") from error

    def refused(self, why: str, hint: str | None = None) -> UsageError:
        return UsageError(f"{self.what}: {why}", hint=hint)

    def from_start(self) -> IO[bytes]:
        self.file.seek(0)
        return self.file

    def check_unchanged(self) -> None:
        """Raise UsageError if the content of the file has changed since it was opened."""
        if _sha256(self.file) != self.sha256:
            raise self.refused("it was changed while it was read")

    def _broken(self, error: Exception, *, began: bool) -> UsageError:
        said = " ".join(str(error).split())
        if self.file.seek(0, os.SEEK_END) == 0:
            return self.refused("it is empty")
        if not began and isinstance(error, tarfile.ReadError) and "end of" not in said.lower():
            return self.refused("it is not a tar file, or compressed by something else than gzip, bzip2 or xz")
        return self.refused(f"it is broken or cut off: {said}")


@contextmanager
def open_tar(path: Path, what: str) -> Iterator[OpenTar]:
    """Open a tar file. Raises UsageError for anything but a readable regular file; never blocks on a FIFO."""
    shown = path_text(os.fsencode(path))
    hint = f"ls -ld {shlex.quote(shown)}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"{what}: cannot open {shown}: {error.strerror}", hint=hint) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(f"{what}: {shown} is not a file", hint=hint)
    with open(fd, "rb") as file:
        try:
            sha256 = _sha256(file)
        except OSError as error:
            raise UsageError(f"{what}: cannot read {shown}: {error.strerror}", hint=hint) from error
        yield OpenTar(file, sha256, what)


def _sha256(file: IO[bytes]) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
