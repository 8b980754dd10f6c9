"""The host side of a session: its directories, who owns them, and a lease that tells the living from the dead.

    <sessions>/.folder          the id of this folder, made once (`container/owner.py`)
    <sessions>/<id>/lease       locked (flock) for as long as the owning process lives; also after SIGKILL the kernel frees it
                    run ->      FIFOs and scripts for the driver, mounted read-only; in memory where engine and host share that
                    run/keeper  held open by the owning process: the container's first process sees when that is gone
                    workspace/ home/ tmp/    mounted writable, owned by the step's user
                    etc/        generated passwd and group
                    cookies/    not mounted: files by which the host orders what it hears of the workspace
                    undo/       not mounted, made when it is needed: content of files, for a session that can be undone

What the directories mean to a container is in `container/manager.py`.
"""

from __future__ import annotations

import array
import fcntl
import os
import re
import secrets
import shlex
import shutil
import stat
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from types import TracebackType

from testronaut_lab.container.cachefolder import cache_folder
from testronaut_lab.container.engine.process import as_root
from testronaut_lab.container.owner import Claim, Label, Owner, container_name
from testronaut_lab.container.stepuser import StepUser
from testronaut_lab.errors import CaptureError

# On a disk's file system each FIFO and each small file of a step costs more than running the step.
_MEMORY = Path("/dev/shm")
_KEEPER = "keeper"
_DRAFT = re.compile(r"\.[0-9a-f]{8}")
# Making a session's directories takes milliseconds; a draft this old is a dead process's.
_DRAFT_AGE_S = 3600.0
_SEAL_S = 0.2
_SEAL_LOOK_S = 0.001


class Lease(Enum):
    """What a session's directory tells of its owner."""

    HELD = auto()
    FREE = auto()
    KEPT = auto()  # its owner left it for a look
    HIDDEN = auto()  # another user's
    ABSENT = auto()  # there is no such directory, or it is a copy


class SessionDir:
    """Create with `SessionDir.create`; `remove` deletes everything and gives the lease up."""

    def __init__(self, path: Path, label: Label, fds: tuple[int, int]) -> None:
        self.path = path
        self._label = label
        self._fds: tuple[int, ...] = fds  # the lease, the keeper's FIFO

    @classmethod
    def create(cls, user: StepUser, parent: Path | None = None, *, in_memory: bool = True) -> SessionDir:
        """Make the directories under `parent` (default: the cache directory) with this process as their owner.

        `in_memory` is for the run directory: not on an engine that cannot see this machine's /dev/shm. Raises CaptureError when
        they cannot be made.
        """
        parent = parent or sessions_root()
        session_id = secrets.token_hex(4)
        path = parent / session_id
        try:
            owner = Owner.here(parent)
            # made under a name that no reaper looks at, and shown only with its lease held
            draft = parent / f".{session_id}"
            draft.mkdir(mode=0o755)
            lease_fd = os.open(draft / "lease", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lease_fd, fcntl.LOCK_EX)
            (draft / "run").symlink_to(_run_dir(draft, in_memory=in_memory))
            _fill(draft, user)
            draft.rename(path)
            keeper_fd = _keeper_fifo(path / "run" / _KEEPER)
        except OSError as error:
            raise CaptureError(
                f"making the directories of a session in {parent}: {error}", hint=f"df -h {shlex.quote(str(parent))}"
            ) from error
        return cls(path, Label(owner, session_id, os.fstat(lease_fd).st_ino), (lease_fd, keeper_fd))

    @property
    def id(self) -> str:
        return self.path.name

    def claim(self, orphan_timeout_s: float) -> Claim:
        """What the engine is told of whose this is."""
        name = container_name(self.id, self._label.owner.folder)
        return Claim(name, self._label.as_mapping(), self.keeper, orphan_timeout_s)

    @property
    def keeper(self) -> Path:
        """The FIFO by which the container's first process knows of its owner."""
        return self.run / _KEEPER

    @property
    def run(self) -> Path:
        return (self.path / "run").resolve()

    @property
    def workspace(self) -> Path:
        return self.path / "workspace"

    @property
    def cookies(self) -> Path:
        """Nothing that runs in the session can see it."""
        return self.path / "cookies"

    @property
    def undo(self) -> Path:
        return self.path / "undo"

    @property
    def home(self) -> Path:
        return self.path / "home"

    @property
    def tmp(self) -> Path:
        return self.path / "tmp"

    @property
    def etc(self) -> Path:
        return self.path / "etc"

    def seal(self) -> None:
        """Keep steps from holding the keeper's FIFO open for writing in their owner's stead. Call this before the first step.

        Waits a moment for a keeper that has yet to read what was written, and so may have yet to open it for both directions.
        Where that does not come, as on an engine that shares no FIFOs, the FIFO stays as it is.
        """
        deadline = time.monotonic() + _SEAL_S
        waiting = array.array("i", [1])
        while fcntl.ioctl(self._fds[1], termios.FIONREAD, waiting) == 0 and waiting[0] and time.monotonic() < deadline:
            time.sleep(_SEAL_LOOK_S)
        if waiting[0] == 0:
            self.keeper.chmod(0o444)

    def remove(self) -> None:
        """Delete the directories and give the lease up; may be called twice. Raises CaptureError for what cannot be deleted."""
        if not self._fds:
            return
        try:
            remove_session(self.path)
        finally:
            self._let_go()

    def keep(self) -> None:
        """Give the lease up and leave the directories for a look; markers keep the reaper away, and the container alive."""
        (self.path / "kept").touch()
        (self.run / "kept").touch()
        self.keeper.chmod(0o666)
        self._let_go()

    def _let_go(self) -> None:
        while self._fds:
            *rest, last = self._fds
            self._fds = tuple(rest)
            os.close(last)


def sessions_root() -> Path:
    """Where sessions live; TESTRONAUT_LAB_SESSIONS names another place, which the engine must be able to mount from."""
    override = os.environ.get("TESTRONAUT_LAB_SESSIONS")
    return Path(override) if override else cache_folder() / "sessions"


def abandoned(root: Path | None = None, *, kept: bool = False) -> Iterator[Path]:
    """Session directories whose owner is dead; with `kept` also those left on purpose."""
    root = root or sessions_root()
    if not root.is_dir():
        return
    wanted = (Lease.FREE, Lease.KEPT) if kept else (Lease.FREE,)
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") and not _is_old_draft(path):
            continue
        if path.is_dir() and lease_of(path) in wanted:
            yield path


def lease_of(path: Path, inode: int | None = None) -> Lease:
    """What a session's directory tells of its owner; one with another lease than `inode` is another session's copy."""
    if not path.is_dir():
        return Lease.ABSENT
    kept = (path / "kept").exists()
    try:
        fd = os.open(path / "lease", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return Lease.KEPT if kept else Lease.FREE  # somebody was killed while he removed it
    except PermissionError:
        return Lease.HIDDEN
    try:
        if inode not in (None, os.fstat(fd).st_ino):
            return Lease.ABSENT
        if kept:
            return Lease.KEPT
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that ask at once do not take each other for owners
    except BlockingIOError:
        return Lease.HELD
    finally:
        os.close(fd)
    return Lease.FREE


def _is_old_draft(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return _DRAFT.fullmatch(path.name) is not None and path.stat().st_mtime < time.time() - _DRAFT_AGE_S
    return False


def remove_session(path: Path) -> None:
    """Remove a session's directories, wherever they are. Raises CaptureError for what cannot be removed."""
    run = path / "run"
    if run.is_symlink() and (folder := run.resolve()).parent == _MEMORY:
        with suppress(FileNotFoundError):
            folder.chmod(stat.S_IRWXU)  # the driver lets nobody list it
        remove_tree(folder)
    remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a tree whose directories may have lost their permission bits. Links are removed, never followed."""

    def unlock(_function: object, failed: str, error: BaseException) -> None:
        parent = Path(failed).parent
        if isinstance(error, FileNotFoundError):  # another process removes it too
            return
        if not isinstance(error, PermissionError) or not parent.is_relative_to(path):
            raise error
        parent.chmod(stat.S_IRWXU)
        target = Path(failed)
        if target.is_dir() and not target.is_symlink():
            target.chmod(stat.S_IRWXU)
            remove_tree(target)
        else:
            target.unlink(missing_ok=True)

    try:
        _rmtree(path, unlock)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CaptureError(f"removing {path}: {error}", hint=as_root(f"rm -r {shlex.quote(str(path))}")) from error


def _rmtree(path: Path, on_error: Callable[[object, str, BaseException], None]) -> None:
    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=on_error)
        return

    def adapt(function: object, failed: str, info: tuple[type[BaseException], BaseException, TracebackType]) -> None:
        on_error(function, failed, info[1])

    shutil.rmtree(path, onerror=adapt)


def _run_dir(path: Path, *, in_memory: bool) -> Path:
    """A directory for the driver's FIFOs: in memory, or beside the session's others where there is no such place."""
    with suppress(OSError):
        if in_memory:
            made = Path(tempfile.mkdtemp(prefix="tlab-", dir=_MEMORY))
            made.chmod(0o755)
            return made
    (path / "run.d").mkdir()
    (path / "run.d").chmod(0o755)
    return path.with_name(path.name.removeprefix(".")) / "run.d"


def _keeper_fifo(path: Path) -> int:
    """Make the FIFO and hold it open, with a line in it by which the keeper knows that it is shared with its owner."""
    os.mkfifo(path, 0o600)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    os.chmod(path, 0o666)
    os.write(fd, b"owned\n")
    return fd


def _fill(path: Path, user: StepUser) -> None:
    # Only this user may come near what a tool under test leaves; the engine mounts the inner directories as root.
    for name, mode in (("etc", 0o755), ("cookies", 0o700), ("workspace", 0o755), ("home", 0o755), ("tmp", 0o1777)):
        (path / name).mkdir()
        (path / name).chmod(mode)  # whatever the umask is
    for name in ("workspace", "home", "tmp"):
        if user.owner is not None:
            os.chown(path / name, *user.owner)
    # the step's own name first: it is the one that its id has, also where that is 0
    own = "" if user.name == "root" else f"{user.name}:x:{user.uid}:{user.gid}:{user.name}:{user.home}:/bin/sh\n"
    others = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    (path / "etc" / "passwd").write_text(own + others)
    group = "" if user.name == "root" else f"{user.name}:x:{user.gid}:\n"
    (path / "etc" / "group").write_text(group + "root:x:0:\nnogroup:x:65534:\n")
    for name in ("passwd", "group"):
        (path / "etc" / name).chmod(0o644)
