"""Finds what `lstat` does not tell about a file: whether a process can still write to it, and its extended attributes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal

_F_SETSIG = 10  # Python's fcntl does not have the constant
_TOLD = ("user.", "system.posix_acl_", "security.capability")
_THE_OVERLAYS = "user.overlay."


def has_writer(file: int) -> bool:
    """Whether a descriptor or a mapping of any process can still write to `file`, which is open for reading.

    Needed because only the first write to a mapped page changes the file's times: of five writes through one mapping only the
    first was seen. The kernel refuses a read lease while there is a writer. True also where no lease can be had (another user's
    file, a file system without leases). The lease is returned after 3 us. A process that opens the file for writing in that
    time waits for the return, and the kernel signals it to us: as SIGURG, ignored by default, because SIGIO would end us.
    """
    try:
        fcntl.fcntl(file, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return True
    return False


def attributes_of(place: int | str) -> bytes:
    """A digest of the extended attributes that a tool can set, of an open file or of a path. A link is not followed."""
    found: list[bytes] = []
    try:
        for name in sorted(os.listxattr(place) if isinstance(place, int) else os.listxattr(place, follow_symlinks=False)):
            if name.startswith(_TOLD) and not name.startswith(_THE_OVERLAYS):
                value = os.getxattr(place, name) if isinstance(place, int) else os.getxattr(place, name, follow_symlinks=False)
                found += (os.fsencode(name), value)
    except OSError:
        return b""  # the file system has no attributes, or the file is gone
    return hashlib.sha256(b"\0".join(found)).digest() if found else b""
