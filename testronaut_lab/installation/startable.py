"""Finds in a program's first bytes why it does not start: the system that it was built for, the interpreter in its first line.

The bytes are read because a trial can mislead: some callers pass a program for another processor to a shell. The shell takes
it for a script, and so the program seems to have started.
"""

from __future__ import annotations

import re
import shlex
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from testronaut_lab.container.image.architecture import of_program, runs
from testronaut_lab.installation.causes import Cause, newer

_FOREIGN: Final = {
    b"MZ": "Windows", b"\xcf\xfa\xed\xfe": "macOS", b"\xfe\xed\xfa\xcf": "macOS", b"\xca\xfe\xba\xbe": "macOS",
    b"\xce\xfa\xed\xfe": "macOS",
}  # fmt: skip
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armv7l": "arm", "ppc64le": "ppc64le"}
_NAMES: Final = {"amd64": "amd64 or x86_64", "arm64": "arm64 or aarch64", "386": "386 or i686"}
# The Debian packages that bring the interpreters of a first line.
_BRINGS: Final = {
    "python": "python-is-python3", "python3": "python3", "node": "nodejs", "nodejs": "nodejs", "ruby": "ruby", "perl": "perl",
    "bash": "bash", "zsh": "zsh", "fish": "fish", "php": "php-cli", "lua": "lua5.4", "Rscript": "r-base-core", "tclsh": "tcl",
    "java": "default-jre-headless", "gawk": "gawk", "expect": "expect", "guile": "guile-3.0",
}  # fmt: skip
_LOADERS: Final = {"ld-musl": "Alpine (musl)", "ld-linux": "a system with glibc"}
_PT_INTERP: Final = 3
_GLIBC: Final = re.compile(r"version `GLIBC_(\d+)\.(\d+)' not found")


@dataclass(frozen=True, slots=True)
class Head:
    """The first bytes of a program's file, and the image's processor as `uname -m` prints it."""

    data: bytes
    machine: str

    @property
    def first_line(self) -> bytes | None:
        """The first line behind `#!`, without LF but with a CR; None if there is no `#!`."""
        return self.data.split(b"\n")[0][2:] if self.data.startswith(b"#!") else None


def foreign(head: Head) -> Cause | None:
    """Say why no Linux on this processor runs the program; None if it may run."""
    ours = _MACHINES.get(head.machine, head.machine)
    take = f"take the build of it for Linux on {_NAMES.get(ours, ours)}"
    system = next((name for magic, name in _FOREIGN.items() if head.data.startswith(magic)), None)
    if system is not None:
        return Cause(f"it is a program for {system}, and the image is Linux", take)
    other = of_program(head.data)
    if other is not None and not runs(ours, other):
        return Cause(f"it is a program for {other}, and the image is for {ours}", take)
    return None


@dataclass(frozen=True, slots=True)
class Came:
    """How the program came: by `tool`, as STRATEGY:SPEC, from the file `source` of this machine, empty if there is none."""

    tool: str
    source: str = ""


def unstarted(head: Head, said: str, came: Came, there: Callable[[str], bool]) -> Cause | None:
    """Say why a program did not start. `said` is its output; `there` tells whether the image has a program."""
    if (cause := foreign(head)) is not None:
        return cause
    if (line := head.first_line) is not None:
        return _of_script(line.decode(errors="backslashreplace"), came, there)
    loader = _loader(head.data)
    if loader and not there(loader):
        return _of_loader(loader, came)
    if (missed := [(int(major), int(minor)) for major, minor in _GLIBC.findall(said)]) != []:
        least = max(missed)
        hint = newer(lambda release: release.glibc >= least) or "take a static build of it, or one for an older system"
        text = f"it was built for a newer system: it needs glibc {least[0]}.{least[1]}, and the image has an older one"
        return Cause(text, hint)
    return None


def crlf(source: str) -> Cause:
    """The cause for a script with Windows line ends."""
    hint = f"sed -i 's/\\r$//' {shlex.quote(source) if source else 'FILE'}"
    return Cause("its lines end with CR LF, as on Windows, and the CR is taken for a part of each line", hint)


def _of_script(line: str, came: Came, there: Callable[[str], bool]) -> Cause | None:
    if line.endswith("\r"):
        return crlf(came.source)
    words = line.split()
    by_env = bool(words) and words[0].rpartition("/")[2] == "env"
    candidates = [word for word in words[1:] if not word.startswith("-") and "=" not in word] if by_env else words
    asked = candidates[0] if candidates else ""
    if not asked or there(asked):
        return None
    name = asked.rpartition("/")[2]
    text = f"its first line asks for {asked} (#!{line.strip()}), which the image does not have"
    return Cause(text, _first(_BRINGS[name], came) if name in _BRINGS else f"put what brings {name} before it in `tools`")


def _first(package: str, came: Came) -> str:
    return f"install what it needs before it: tools: [apt:{package}, '{came.tool}']"


def _of_loader(loader: str, came: Came) -> Cause:
    name = loader.rpartition("/")[2]
    system = next((found for begin, found in _LOADERS.items() if name.startswith(begin)), "another system")
    hint = _first("musl", came) if "musl" in name else "take a static build of it, or one for this image's system"
    return Cause(f"it was built for {system}: it needs the loader {loader}, which the image does not have", hint)


def _loader(data: bytes) -> str:
    """The loader of a dynamic 64-bit little-endian ELF program; empty for any other file."""
    if data[:6] != b"\x7fELF\x02\x01" or len(data) < 64:
        return ""
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for i in range(count):
        at = offset + i * size
        if at + 56 > len(data):
            break
        kind, start, length = struct.unpack_from("<I", data, at)[0], *struct.unpack_from("<Q16xQ", data, at + 8)
        if kind == _PT_INTERP:
            return data[start : start + length].split(b"\0")[0].decode(errors="backslashreplace")
    return ""
