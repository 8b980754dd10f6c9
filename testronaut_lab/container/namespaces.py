"""Finds why an ordinary user cannot make a root file system: that needs a user namespace with many ids of its own.

Nothing is probed here. A program that needs the namespace tries to make it; if that fails, `missing` looks for the reason.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path

IDS = 65536
_FIRST_ID = 100_000
# (setting, its value that forbids user namespaces, the value to set). The second is Debian's; `_CONFINED` is AppArmor's.
_SWITCHES = (("user/max_user_namespaces", "0", "15000"), ("kernel/unprivileged_userns_clone", "0", "1"))
_CONFINED = ("kernel/apparmor_restrict_unprivileged_userns", "1", "0")


def missing(user: str | None = None, root: Path = Path("/")) -> tuple[str, str] | None:
    """Why this user gets no namespace with ids of its own, and the command that repairs it; None if no reason is found."""
    user = user or _name()
    for name, off, on in (*_SWITCHES, _CONFINED):
        if _read(root / "proc/sys" / name).strip() == off:
            setting = name.replace("/", ".")
            return f"this machine lets only root make user namespaces ({setting} is {off})", f"sudo sysctl {setting}={on}"
    if shutil.which("newuidmap") is None or shutil.which("newgidmap") is None:
        return "newuidmap is not installed", "sudo apt-get install -y uidmap"
    kinds = [kind for kind in ("subuid", "subgid") if not _has_ids(_read(root / "etc" / kind), user)]
    if not kinds:
        return None
    first = max(_first_free(_read(root / "etc" / kind)) for kind in ("subuid", "subgid"))
    options = " ".join(f"--add-{kind}s {first}-{first + IDS - 1}" for kind in kinds)
    files = " and ".join(f"/etc/{kind}" for kind in kinds)
    return f"{user} has fewer than {IDS} ids in {files}", f"sudo usermod {options} {user}"


def folder_for_all() -> str:
    """A folder for temporary files that every id can reach: the namespace's other ids may not enter a private home."""
    candidates = [tempfile.gettempdir(), "/tmp", "/var/tmp"]
    return next((path for path in candidates if _is_open(Path(path).resolve())), candidates[0])


def _is_open(path: Path) -> bool:
    try:
        return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))
    except OSError:
        return False


def _name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _ranges(text: str) -> list[tuple[str, int, int]]:
    """The lines of /etc/subuid or /etc/subgid as (owner, first id, count)."""
    found = []
    for line in text.splitlines():
        owner, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if first.isdecimal() and count.isdecimal():
            found.append((owner, int(first), int(count)))
    return found


def _has_ids(text: str, user: str) -> bool:
    return any(owner in (user, str(os.getuid())) and count >= IDS for owner, _, count in _ranges(text))


def _first_free(text: str) -> int:
    return max([_FIRST_ID, *(first + count for _, first, count in _ranges(text))])
