"""Whose a session is, told by things that no two owners share by chance, and kept as labels on what the engine holds for it.

An owner is a folder of sessions (by an id made once in it), a boot of a machine, a pid namespace of it, and a process there.
Two job containers have the same path and may have the same process number, and still differ in the other three. What follows
for removing is in `execution/reap.py`; the directories and the lease are in `execution/directory.py`.
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
# What an installation or a session's network adds to its session's name.
_NAME = re.compile(rf"{NAME_PREFIX}[0-9a-f]{{8}}-([0-9a-f]{{8}})(?:-net|-install)?")
_FOLDER_FILE = ".folder"
_FOLDER_ID = re.compile(r"[0-9a-f]{32}\n")


@dataclass(frozen=True, slots=True)
class Owner:
    """`folder` is the id of a sessions folder. `namespace` is INODE:START, `process` PID:START, START in ticks since the boot:
    the kernel uses inodes and process numbers again.
    """

    folder: str
    boot: str
    namespace: str
    process: str

    @classmethod
    def here(cls, root: Path) -> Owner:
        """This process, with its sessions in `root`. Raises OSError if the folder cannot be written."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        inode = os.stat("/proc/self/ns/pid").st_ino
        return cls(folder_id(root), boot, f"{inode}:{start_ticks(1)}", f"{os.getpid()}:{start_ticks(os.getpid())}")

    @property
    def pid(self) -> int:
        return int(self.process.partition(":")[0])

    def shares_processes_with(self, other: Owner) -> bool:
        """Whether the process number of one means the same to the other."""
        return (self.boot, self.namespace) == (other.boot, other.namespace)

    def is_running(self) -> bool:
        """Whether the process lives; ask only an owner that shares processes with this process."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's, which may be hidden from us in /proc
            return True
        return self.process == f"{self.pid}:{start_ticks(self.pid)}"


@dataclass(frozen=True, slots=True)
class Claim:
    """What the engine is told of whose something is: the `name` that all names begin with, labels, and the keeper's FIFO.

    `fifo` is None for what nobody owns: it lives until it is removed. Else it ends when the FIFO's last writer, its owner, has
    been gone for `orphan_timeout_s`.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    fifo: Path | None = None
    orphan_timeout_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Label:
    """What is told of a session by the labels of its container or network. `lease` is the inode of its lease file."""

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
        """None where they do not say all of it, as those of older versions and of other programs."""
        labels = labels or {}
        try:
            owner = Owner(*(labels[key] for key in (_FOLDER_LABEL, _BOOT_LABEL, _NAMESPACE_LABEL, _PROCESS_LABEL)))
            label = cls(owner, labels[SESSION_LABEL], int(labels[_LEASE_LABEL]))
            _ = owner.pid
        except (KeyError, ValueError):
            return None
        return label


def container_name(session: str, folder: str) -> str:
    """`tlab-FOLDER-SESSION`, for people: whose it is the labels tell. `folder` is a folder's id."""
    return f"{NAME_PREFIX}{folder[:8]}-{session}"


def session_in(name: str) -> str | None:
    """The session that a container or network of this name is for, by the name alone; None for another program's."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def folder_id(root: Path) -> str:
    """The id of a sessions folder, made the first time. Raises OSError if that cannot be written."""
    found = known_folder_id(root)
    if found is not None:
        return found
    root.mkdir(parents=True, exist_ok=True)
    fd = os.open(root / _FOLDER_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # of two processes that come at once, one writes and both read the same
        if known_folder_id(root) is None:
            os.pwrite(fd, f"{secrets.token_hex(16)}\n".encode(), 0)
    finally:
        os.close(fd)
    found = known_folder_id(root)
    if found is None:
        raise OSError(f"{root / _FOLDER_FILE} holds something else than the id of a folder")
    return found


def known_folder_id(root: Path) -> str | None:
    """The id of a sessions folder; None where none was made yet. A copy of the folder has another one, by the file's inode."""
    try:
        with (root / _FOLDER_FILE).open(errors="replace") as file:
            text, inode = file.read(), os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return None
    return f"{text.strip()}:{inode}" if _FOLDER_ID.fullmatch(text) else None


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot: field 22 of proc(5)'s stat. 0 for one that is gone or hidden."""
    try:
        # PID (COMM) STATE …, and COMM may have blanks and parentheses in it
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
