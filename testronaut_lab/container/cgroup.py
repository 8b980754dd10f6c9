"""A running container's counters, read from the host's cgroup files with fds that stay open: a few microseconds each.

Works for cgroup v1 and v2 where the engine shares our kernel and the files are readable; a counter that is not there is
None, and whoever asked says so. Sampling and judging are `execution/`'s business.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_READ_BYTES = 64 * 1024


class CgroupMeter:
    """Counters of the container whose first process has `pid` on this host. Close it with `close`."""

    def __init__(self, pid: int) -> None:
        paths = _cgroup_paths(pid)
        unified = "" in paths and (_ROOT / "cgroup.controllers").exists()
        where: Callable[[str], Path | None] = (
            (lambda _: _below(_ROOT, paths[""])) if unified else (lambda name: _below(_ROOT / name, paths.get(name)))
        )
        self._procs = _open(where("pids"), "cgroup.procs")
        self._pids_events = _open(where("pids"), "pids.events")
        self._oom = _open(where("memory"), "memory.events" if unified else "memory.oom_control")
        self._cpu = _open(where("cpuacct"), "cpu.stat" if unified else "cpuacct.usage")

    def close(self) -> None:
        for fd in (self._procs, self._pids_events, self._oom, self._cpu):
            if fd is not None:
                os.close(fd)
        self._procs = self._pids_events = self._oom = self._cpu = None

    def processes(self) -> int | None:
        """How many processes are alive in the container, zombies not counted."""
        text = _read_anew(self._procs)
        return None if text is None else text.count(b"\n")

    def refused_forks(self) -> int | None:
        """How often the pids limit refused a new process, since the container started."""
        return _field(_read(self._pids_events), rb"^max (\d+)")

    def oom_kills(self) -> int | None:
        """How many processes were killed for memory, since the container started."""
        return _field(_read(self._oom), rb"^oom_kill (\d+)")

    def cpu_s(self) -> float | None:
        """CPU time of everything in the container, since it started, in seconds."""
        text = _read(self._cpu)
        if text is None:
            return None
        microseconds = _field(text, rb"^usage_usec (\d+)")
        return microseconds / 1e6 if microseconds is not None else int(text) / 1e9


def _cgroup_paths(pid: int) -> dict[str, str]:
    """Path by controller; the unified hierarchy is under ''."""
    paths: dict[str, str] = {}
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return paths
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _below(root: Path, path: str | None) -> Path | None:
    return None if path is None else root / path.lstrip("/")


def _open(directory: Path | None, name: str) -> int | None:
    if directory is None:
        return None
    try:
        return os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _read(fd: int | None) -> bytes | None:
    if fd is None:
        return None
    try:
        return os.pread(fd, _READ_BYTES, 0)
    except OSError:  # the container is gone, and its group with it
        return None


def _read_anew(fd: int | None) -> bytes | None:
    """By an fd of its own: to one that has read the list of processes before, cgroup v1 gives the same list for a second."""
    try:
        anew = None if fd is None else os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _read(anew)
    finally:
        if anew is not None:
            os.close(anew)


def _field(text: bytes | None, pattern: bytes) -> int | None:
    found = re.search(pattern, text, re.MULTILINE) if text is not None else None
    return int(found[1]) if found else None
