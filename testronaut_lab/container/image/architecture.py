"""Finds the architecture of a program, and whether an engine runs it, before an image is made that could not start."""

from __future__ import annotations

import struct
import tarfile
from pathlib import Path
from typing import Final

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.faults import translated

# The engines' names for e_machine of an ELF header.
_MACHINES: Final = {3: "386", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64", 22: "s390x", 21: "ppc64le"}
_ELF_BYTES: Final = 20
# qemu's names where they differ, and (processor, other architecture that it also runs).
_QEMU: Final = {"arm64": "aarch64", "amd64": "x86_64", "386": "i386"}
_BESIDE: Final = {("amd64", "386"), ("arm64", "arm")}
_EMULATED: Final = Path("/proc/sys/fs/binfmt_misc")


def of_engine(engine: Engine) -> str:
    """The engine's own architecture, for instance amd64."""
    with translated("asking the engine for its architecture"):
        return str(engine.client.api.version(api_version=False).get("Arch", ""))


def runs(ours: str, other: str) -> bool:
    """Whether programs for `other` run on a processor `ours`, natively or emulated. True if one of them is unknown."""
    known = not ours or not other or ours == other or (ours, other) in _BESIDE
    return known or (_EMULATED / f"qemu-{_QEMU.get(other, other)}").exists()


def of_program(head: bytes) -> str | None:
    """The architecture in the first bytes of an ELF file; None for any other file."""
    if len(head) < _ELF_BYTES or head[:4] != b"\x7fELF":
        return None
    number: int = struct.unpack_from(">H" if head[5] == 2 else "<H", head, 18)[0]
    return _MACHINES.get(number, f"machine {number}")


def of_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str | None:
    """`of_program` for a program in a tar; None for any other member."""
    if not member.isreg() or not member.mode & 0o111 or member.size < _ELF_BYTES:
        return None
    content = tar.extractfile(member)
    return None if content is None else of_program(content.read(_ELF_BYTES))
