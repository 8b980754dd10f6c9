"""The host side of a session: its directories, who owns them, and a lease that tells the living from the dead.

    <sessions>/<id>/lease       locked (flock) for as long as the owning process lives; also after SIGKILL the kernel frees it
                    run ->      FIFOs and scripts for the driver, mounted read-only; in memory where the host has a place for it
                    workspace/ home/ tmp/    mounted writable, owned by the step's user
                    etc/        generated passwd and group
                    cookies/    not mounted: files by which the host orders what it hears of the workspace
                    undo/       not mounted, made when it is needed: content of files, for a session that can be undone

What the directories mean to a container is in `manager.py`.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from platformdirs import user_cache_path

from testronaut_lab.container.stepuser import StepUser
from testronaut_lab.errors import CaptureError

# On a disk's file system each FIFO and each small file of a step costs more than running the step.
_MEMORY = Path("/dev/shm")


class SessionDir:
    """Create with `SessionDir.create`; `remove` deletes everything and gives the lease up."""

    def __init__(self, path: Path, lease_fd: int) -> None:
        self.path = path
        self._lease_fd = lease_fd

    @classmethod
    def create(cls, user: StepUser, parent: Path | None = None) -> SessionDir:
        """Make the directories under `parent` (default: the cache directory) with this process as their owner.

        Raises CaptureError when they cannot be made.
        """
        parent = parent or sessions_root()
        session_id = secrets.token_hex(4)
        path = parent / session_id
        try:
            parent.mkdir(parents=True, exist_ok=True)
            # made under a name that no reaper looks at, and shown only with its lease held
            draft = parent / f".{session_id}"
            draft.mkdir(mode=0o755)
            lease_fd = os.open(draft / "lease", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lease_fd, fcntl.LOCK_EX)
            _fill(draft, user)
            draft.rename(path)
        except OSError as error:
            raise CaptureError(f"making the directories of a session in {parent}: {error}", hint=f"df -h {parent}") from error
        return cls(path, lease_fd)

    @property
    def id(self) -> str:
        return self.path.name

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

    def remove(self) -> None:
        """Delete the directories and give the lease up; may be called twice. Raises CaptureError for what cannot be deleted."""
        if self._lease_fd < 0:
            return
        try:
            remove_session(self.path)
        finally:
            os.close(self._lease_fd)
            self._lease_fd = -1

    def keep(self) -> None:
        """Give the lease up and leave the directories for a look; a marker keeps the reaper away."""
        (self.path / "kept").touch()
        os.close(self._lease_fd)
        self._lease_fd = -1


def sessions_root() -> Path:
    """Where sessions live; TESTRONAUT_LAB_SESSIONS names another place, which the engine must be able to mount from."""
    override = os.environ.get("TESTRONAUT_LAB_SESSIONS")
    return Path(override) if override else user_cache_path("testronaut-lab") / "sessions"


def abandoned(root: Path | None = None, *, kept: bool = False) -> Iterator[Path]:
    """Session directories whose owner is dead; with `kept` also those left on purpose."""
    root = root or sessions_root()
    if not root.is_dir():
        return
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") or not path.is_dir():
            continue
        if (path / "kept").exists():
            if kept:
                yield path
        elif not _is_leased(path / "lease"):
            yield path


def remove_session(path: Path) -> None:
    """Remove a session's directories, wherever they are. Raises CaptureError for what cannot be removed."""
    run = path / "run"
    if run.is_symlink() and run.resolve().parent == _MEMORY:
        remove_tree(run.resolve())
    remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a tree whose directories may have lost their permission bits. Links are removed, never followed."""

    def unlock(_function: object, failed: str, error: BaseException) -> None:
        parent = Path(failed).parent
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
        raise CaptureError(f"removing {path}: {error}", hint=f"sudo rm -r {path}") from error


def _rmtree(path: Path, on_error: Callable[[object, str, BaseException], None]) -> None:
    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=on_error)
        return

    def adapt(function: object, failed: str, info: tuple[type[BaseException], BaseException, TracebackType]) -> None:
        on_error(function, failed, info[1])

    shutil.rmtree(path, onerror=adapt)


def _is_leased(lease: Path) -> bool:
    try:
        fd = os.open(lease, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _run_dir(path: Path) -> Path:
    """A directory for the driver's FIFOs: in memory, or beside the session's others where there is no such place."""
    here = path.with_name(path.name.removeprefix(".")) / "run.d"
    try:
        made = Path(tempfile.mkdtemp(prefix="tlab-", dir=_MEMORY))
    except OSError:
        (path / "run.d").mkdir()
        (path / "run.d").chmod(0o755)
        return here
    made.chmod(0o755)
    return made


def _fill(path: Path, user: StepUser) -> None:
    # Only this user may come near what a tool under test leaves; the engine mounts the inner directories as root.
    (path / "run").symlink_to(_run_dir(path))
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
