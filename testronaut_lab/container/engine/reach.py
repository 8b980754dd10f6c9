"""Says why an engine cannot be reached, and what to type: addresses of other machines, sockets that this user may not open."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from testronaut_lab.errors import EngineError

_DEFAULT_HINT = "sudo usermod -aG docker $USER && newgrp docker"


def refused(url: str, origin: str) -> EngineError:
    """The error for an address that is not a unix socket. `origin` says in words where the address comes from."""
    scheme, _, host = url.partition("://")
    instead = "unset DOCKER_HOST" if origin == "DOCKER_HOST" else "docker context use default"
    where = f"connecting to {url} ({origin})"
    if scheme == "ssh":
        return EngineError(
            f"{where}: an engine of another machine, by ssh, is not supported yet: steps share files and FIFOs with this "
            f"program, which can run on {host}",
            hint=instead,
        )
    if scheme in ("tcp", "http", "https"):
        return EngineError(
            f"{where}: an engine behind a network address is not supported yet, also where it runs on this machine: steps share "
            "files and FIFOs with this program, and only a unix socket shows that this is possible. A job container can be "
            "given the engine's socket: docs/job-container.md",
            hint=instead,
        )
    return EngineError(
        f"{where}: an address like {url!r} is not supported: steps share files and FIFOs with this program, by a local socket "
        "such as unix:///var/run/docker.sock",
        hint=instead,
    )


def denied_hint(socket: Path) -> str:
    """The command that lets this user open the socket of an engine."""
    try:
        info = socket.stat()
        group = grp.getgrgid(info.st_gid)
    except PermissionError:
        return f"ls -ld {socket.parent}"
    except (OSError, KeyError):
        return _DEFAULT_HINT
    if info.st_gid == 0:
        return f"sudo chgrp docker {socket} && {_DEFAULT_HINT}"
    if info.st_gid in (os.getegid(), *os.getgroups()) or not info.st_mode & stat.S_IWGRP:
        return f"sudo chmod g+rw {socket}"
    if _user() in group.gr_mem:
        return f"newgrp {group.gr_name}"
    return f"sudo usermod -aG {group.gr_name} $USER && newgrp {group.gr_name}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""
