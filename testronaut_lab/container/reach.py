"""Why an engine is out of reach, and what to type: addresses of other machines, and a socket that this user may not open."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from testronaut_lab.errors import EngineError

_DEFAULT_HINT = "sudo usermod -aG docker $USER   (then log in again)"


def refused(url: str, origin: str) -> EngineError:
    """The error for an address that is no unix socket; `origin` says in words where it comes from."""
    scheme, _, host = url.partition("://")
    instead = "unset DOCKER_HOST" if origin == "DOCKER_HOST" else "docker context use default"
    where = f"connecting to {url} ({origin})"
    if scheme == "ssh":
        return EngineError(
            f"{where}: an engine of another machine, by ssh, is not supported yet: steps share files and FIFOs with this program",
            hint=f"ssh {host} testronaut-lab run   (there), or: {instead}",
        )
    if scheme in ("tcp", "http", "https"):
        return EngineError(
            f"{where}: an engine behind a network address is not supported yet, also where it runs on this machine: steps share "
            "files and FIFOs with this program, and only a unix socket tells that they can",
            hint=f"{instead}   (in a job container: mount the engine's socket, docs/job-container.md)",
        )
    return EngineError(
        f"{where}: an address like {url!r} is not supported: steps share files and FIFOs with this program",
        hint=f"{instead}, or name a local socket: DOCKER_HOST=unix:///var/run/docker.sock",
    )


def denied_hint(socket: Path) -> str:
    """What lets this user talk to an engine behind a socket that may not be opened."""
    try:
        info = socket.stat()
        group = grp.getgrgid(info.st_gid)
    except PermissionError:
        return f"ls -ld {socket.parent}   (the folder of the engine's socket is another user's)"
    except (OSError, KeyError):
        return _DEFAULT_HINT
    if info.st_gid == 0:
        return f"sudo chgrp docker {socket} && {_DEFAULT_HINT}"
    if info.st_gid in (os.getegid(), *os.getgroups()) or not info.st_mode & stat.S_IWGRP:
        return f"sudo chmod g+rw {socket}   (the group {group.gr_name} may not open it)"
    if _user() in group.gr_mem:
        return f"newgrp {group.gr_name}   (or log in again: you are in that group, and were not when you logged in)"
    return f"sudo usermod -aG {group.gr_name} $USER   (then log in again)"


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""
