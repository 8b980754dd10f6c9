"""What `lstat` does not tell of a file: who could still write to it, and which extended attributes it has."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal

_F_SETSIG = 10  # fcntl has no name for it
_TOLD = ("user.", "system.posix_acl_", "security.capability")
_THE_OVERLAYS = "user.overlay."


def has_writer(file: int) -> bool:
    """Whether a descriptor or a mapping anywhere can still write to this file, which is open for reading.

    Only the first write to a mapped page moves the file's times: of five writes through one mapping the first alone was told.
    The kernel refuses a read lease exactly while there is a writer. Where leases cannot be had (another user's file, a file
    system without them) there may be one. A lease is given back at once, in 3 us; who opens the file for writing meanwhile
    waits for that, and the signal that tells us of it is one that is ignored by default, where SIGIO would end this process.
    """
    try:
        fcntl.fcntl(file, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return True
    return False


def attributes_of(place: int | str) -> bytes:
    """A digest of the extended attributes that a tool sets, of an open file or by a path whose last part may be a link."""
    found: list[bytes] = []
    try:
        for name in sorted(os.listxattr(place) if isinstance(place, int) else os.listxattr(place, follow_symlinks=False)):
            if name.startswith(_TOLD) and not name.startswith(_THE_OVERLAYS):
                value = os.getxattr(place, name) if isinstance(place, int) else os.getxattr(place, name, follow_symlinks=False)
                found += (os.fsencode(name), value)
    except OSError:
        return b""  # none can be had there, or what they belong to is gone
    return hashlib.sha256(b"\0".join(found)).digest() if found else b""
