"""Identifies the owner of a session, and writes it as labels on the session's containers and networks.

An owner is a sessions folder (by a random id in it), a boot of a machine, a pid namespace, and a process in that namespace. Two
containers of CI jobs may have the same path and the same pid, but they differ in the other parts. `execution/reap.py` decides
what to remove; `execution/directory.py` has the directories and the lease.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SESSION_LABEL = "org.testronaut.session"
_LEASE_LABEL = "org.testronaut.lease"
_FOLDER_LABEL = "org.testronaut.owner.folder"
_BOOT_LABEL = "org.testronaut.owner.boot"
_NAMESPACE_LABEL = "org.testronaut.owner.pidns"
_PROCESS_LABEL = "org.testronaut.owner.process"

NAME_PREFIX = "tlab-"
# The name of a session's container; networks and install containers add a suffix.
_NAME = re.compile(rf"{NAME_PREFIX}[0-9a-f]{{8}}-([0-9a-f]{{8}})(?:-net|-install)?")
_FOLDER_FILE = ".folder"
_FOLDER_ID = re.compile(r"[0-9a-f]{32}\n")


@dataclass(frozen=True, slots=True)
class Owner:
    """`folder` is the id of a sessions folder. `namespace` is INODE:START, `process` is PID:START.

    START is a start time in clock ticks since boot. It is needed because the kernel reuses inodes and pids.
    """

    folder: str
    boot: str
    namespace: str
    process: str

    @classmethod
    def here(cls, root: Path) -> Owner:
        """Return this process as the owner of the sessions in `root`. Raises OSError if the folder cannot be written."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        inode = os.stat("/proc/self/ns/pid").st_ino
        return cls(folder_id(root), boot, f"{inode}:{start_ticks(1)}", f"{os.getpid()}:{start_ticks(os.getpid())}")

    @property
    def pid(self) -> int:
        return int(self.process.partition(":")[0])

    def shares_processes_with(self, other: Owner) -> bool:
        """Whether both see the same processes under the same pids."""
        return (self.boot, self.namespace) == (other.boot, other.namespace)

    def is_running(self) -> bool:
        """Whether the process lives. Valid only if `shares_processes_with` this process."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # a process of another user, which /proc may hide from us
            return True
        return self.process == f"{self.pid}:{start_ticks(self.pid)}"


@dataclass(frozen=True, slots=True)
class Claim:
    """How an owner claims containers and networks on the engine: the start of their names, labels, and the keeper's FIFO.

    A container without a `fifo` lives until it is removed. A container with one ends when its owner, the FIFO's last writer, has
    been gone for `orphan_timeout_s`.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    fifo: Path | None = None
    orphan_timeout_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Label:
    """A session as the labels of its container or network describe it. `lease` is the inode of its lease file."""

    owner: Owner
    session: str
    lease: int

    def as_mapping(self) -> dict[str, str]:
        return {
            SESSION_LABEL: self.session,
            _LEASE_LABEL: str(self.lease),
            _FOLDER_LABEL: self.owner.folder,
            _BOOT_LABEL: self.owner.boot,
            _NAMESPACE_LABEL: self.owner.namespace,
            _PROCESS_LABEL: self.owner.process,
        }

    @classmethod
    def read(cls, labels: Mapping[str, str] | None) -> Label | None:
        """Read the labels; None if one is missing, as with older versions and other programs."""
        labels = labels or {}
        try:
            owner = Owner(*(labels[key] for key in (_FOLDER_LABEL, _BOOT_LABEL, _NAMESPACE_LABEL, _PROCESS_LABEL)))
            label = cls(owner, labels[SESSION_LABEL], int(labels[_LEASE_LABEL]))
            _ = owner.pid
        except (KeyError, ValueError):
            return None
        return label


def container_name(session: str, folder: str) -> str:
    """`tlab-FOLDER-SESSION`, for people to read; the owner is in the labels. `folder` is a folder's id."""
    return f"{NAME_PREFIX}{folder[:8]}-{session}"


def session_in(name: str) -> str | None:
    """The session in the name of a container or network; None for a name of another program."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def folder_id(root: Path) -> str:
    """The id of a sessions folder, created on first use. Raises OSError if it cannot be written."""
    found = known_folder_id(root)
    if found is not None:
        return found
    root.mkdir(parents=True, exist_ok=True)
    fd = os.open(root / _FOLDER_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # if two processes come at once, one writes and both read the same id
        if known_folder_id(root) is None:
            os.pwrite(fd, f"{secrets.token_hex(16)}\n".encode(), 0)
    finally:
        os.close(fd)
    found = known_folder_id(root)
    if found is None:
        raise OSError(f"{root / _FOLDER_FILE} does not hold the id of a folder")
    return found


def known_folder_id(root: Path) -> str | None:
    """The id of a sessions folder; None if it has none yet. The inode in the id makes a copied folder differ."""
    try:
        with (root / _FOLDER_FILE).open(errors="replace") as file:
            text, inode = file.read(), os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return None
    return f"{text.strip()}:{inode}" if _FOLDER_ID.fullmatch(text) else None


def start_ticks(pid: int) -> int:
    """The start of a process in clock ticks since boot: field 22 of proc(5)'s stat. 0 if it is gone or hidden."""
    try:
        # PID (COMM) STATE …: COMM may contain blanks and parentheses
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
