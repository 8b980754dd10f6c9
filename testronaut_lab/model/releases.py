"""The releases of Debian and Ubuntu that can be bootstrapped: their codenames, numbers and image references. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CODENAMES = {
    "debian": {"11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky", "unstable": "sid"},
    "ubuntu": {"20.04": "focal", "22.04": "jammy", "24.04": "noble", "25.04": "plucky", "25.10": "questing", "26.04": "resolute"},
}


@dataclass(frozen=True, slots=True)
class Release:
    """A release that can be bootstrapped, for instance debian bookworm."""

    distribution: str
    codename: str
    slim: bool = False

    @property
    def archive(self) -> str:
        return f"the {self.distribution.capitalize()} archive"


def release_of(ref: str) -> Release | None:
    """The release in an image reference: debian:bookworm[-slim], debian:12, ubuntu:24.04, ubuntu:noble …; else None."""
    match = re.fullmatch(r"(?:docker\.io/)?(?:library/)?(debian|ubuntu):([a-z0-9.]+?)(-slim)?", ref)
    if match is None or (match[3] and match[1] == "ubuntu"):
        return None
    codenames = _CODENAMES[match[1]]
    codename = codenames.get(match[2], match[2])
    return Release(match[1], codename, slim=bool(match[3])) if codename in codenames.values() else None


def release_called(codename: str) -> str:
    """The reference of the release with that codename, for instance debian:bookworm-slim for bookworm-slim.

    Raises ValueError for a codename that cannot be bootstrapped.
    """
    for distribution, codenames in _CODENAMES.items():
        ref = f"{distribution}:{codename}"
        if codename.removesuffix("-slim") in codenames.values() and release_of(ref) is not None:
            return ref
    known = ", ".join(name for codenames in _CODENAMES.values() for name in codenames.values())
    raise ValueError(f"expected the codename of a release that can be bootstrapped ({known}), found {codename!r}")
