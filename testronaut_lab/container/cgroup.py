"""A running container's counters, read from the host's cgroup files mostly with fds that stay open: some microseconds each.

Works for cgroup v1 and v2 where the engine shares our kernel and the files are readable; a counter that is not there is
None, and whoever asked says so. Sampling and judging are `execution/`'s business.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

_HOST = Path("/")
_READ_BYTES = 64 * 1024

_REFUSED_FORKS = re.compile(rb"^max (\d+)", re.MULTILINE)
_OOM_KILLS = re.compile(rb"^oom_kill (\d+)", re.MULTILINE)
_CPU_US = re.compile(rb"^usage_usec (\d+)", re.MULTILINE)
_ANON = re.compile(rb"^anon (\d+)", re.MULTILINE)
_TOTAL_RSS = re.compile(rb"^total_rss (\d+)", re.MULTILINE)
_NSPID = re.compile(rb"^NSpid:.*\s(\d+)$", re.MULTILINE)
_NUMBER = re.compile(rb"^(\d+)")


class CgroupMeter:
    """Counters of the container whose first process has `pid` on the host below `host`. Close it with `close`."""

    def __init__(self, pid: int, host: Path = _HOST) -> None:
        root = host / "sys/fs/cgroup"
        self._proc = host / "proc"
        self._inner: dict[bytes, int | None] = {}  # by number on the host; 0 for one that has gone
        paths = _cgroup_paths(host / "proc" / str(pid) / "cgroup")
        unified = "" in paths and (root / "cgroup.controllers").exists()
        where: Callable[[str], Path | None] = (
            (lambda _: _below(root, paths[""])) if unified else (lambda name: _below(root / name, paths.get(name)))
        )
        pids = where("pids")
        self._procs = None if pids is None else str(pids / "cgroup.procs")
        # as engines show a container its own group; what it says is believed only where it can prove something
        self.inner_procs = "/dev/null" if pids is None else f"/sys/fs/cgroup{'' if unified else '/pids'}/cgroup.procs"
        self._pids_events = _open(where("pids"), "pids.events")
        self._oom = _open(where("memory"), "memory.events" if unified else "memory.oom_control")
        self._cpu = _open(where("cpuacct"), "cpu.stat" if unified else "cpuacct.usage")
        self._memory = _open(where("memory"), "memory.stat")
        self._anon = _ANON if unified else _TOTAL_RSS
        peak = "memory.peak" if unified else "memory.max_usage_in_bytes"
        self._peak = _open(where("memory"), peak, os.O_RDWR)
        self._peak_resets = self._peak is not None
        if self._peak is None:  # not ours to write, or a kernel before 6.12
            self._peak = _open(where("memory"), peak)

    def close(self) -> None:
        for fd in (self._pids_events, self._oom, self._cpu, self._memory, self._peak):
            if fd is not None:
                os.close(fd)
        self._procs = None
        self._pids_events = self._oom = self._cpu = self._memory = self._peak = None

    def processes(self) -> int | None:
        """How many processes are alive in the container, zombies not counted."""
        found = self._members()
        return None if found is None else len(found)

    def pids(self) -> frozenset[int] | None:
        """Their numbers inside the container; None where ours cannot be translated. Costs 20 µs for each that is new."""
        found = self._members()
        if found is None:
            return None
        self._inner = {pid: self._inner.get(pid) or _inner_pid(self._proc, pid) for pid in found}
        return None if None in self._inner.values() else frozenset(pid for pid in self._inner.values() if pid)

    def _members(self) -> list[bytes] | None:
        # cgroup v1 gives a file that stays open the list of the first time again and again, while it is asked for every second
        if self._procs is None:
            return None
        try:
            fd = os.open(self._procs, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # the container is gone, and its group with it
            return None
        try:
            text = b""
            while data := os.read(fd, _READ_BYTES):
                text += data
        except OSError:
            return None
        finally:
            os.close(fd)
        return text.split()

    def refused_forks(self) -> int | None:
        """How often the pids limit refused a new process, since the container started."""
        return _field(_read(self._pids_events), _REFUSED_FORKS)

    def oom_kills(self) -> int | None:
        """How many processes were killed for memory, since the container started."""
        return _field(_read(self._oom), _OOM_KILLS)

    def cpu_s(self) -> float | None:
        """CPU time of everything in the container, since it started, in seconds."""
        text = _read(self._cpu)
        if text is None:
            return None
        microseconds = _field(text, _CPU_US)
        return microseconds / 1e6 if microseconds is not None else int(text) / 1e9

    def own_memory_bytes(self) -> int | None:
        """What the container's processes hold in memory of their own now; neither page cache nor what lies in a tmpfs.

        Costs 13 µs on cgroup v1, ten times as much as the other counters. The kernel may lag behind by half a MiB.
        """
        return _field(_read(self._memory), self._anon)

    def reset_peak(self) -> bool:
        """Let `peak_bytes` count from now on; False where it can only be had since the container started. Costs 1 µs."""
        if self._peak is None or not self._peak_resets:
            return False
        try:
            os.pwrite(self._peak, b"0", 0)
        except OSError:
            self._peak_resets = False
        return self._peak_resets

    def peak_bytes(self) -> int | None:
        """The most memory that the container had, page cache and tmpfs included: a `cat` of a large file fills it."""
        return _field(_read(self._peak), _NUMBER)


def _inner_pid(proc: Path, pid: bytes) -> int | None:
    """The process's number in its innermost namespace, 0 if it has gone, None where that cannot be seen."""
    try:
        with open(proc / pid.decode() / "status", "rb") as status:
            found = _NSPID.search(status.read())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except OSError:
        return None
    return int(found[1]) if found else None


def _cgroup_paths(file: Path) -> dict[str, str]:
    """Path by controller; the unified hierarchy is under ''."""
    paths: dict[str, str] = {}
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return paths
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _below(root: Path, path: str | None) -> Path | None:
    return None if path is None else root / path.lstrip("/")


def _open(directory: Path | None, name: str, mode: int = os.O_RDONLY) -> int | None:
    if directory is None:
        return None
    try:
        return os.open(directory / name, mode | os.O_CLOEXEC)
    except OSError:
        return None


def _read(fd: int | None) -> bytes | None:
    if fd is None:
        return None
    try:
        return os.pread(fd, _READ_BYTES, 0)
    except OSError:  # the container is gone, and its group with it
        return None


def _field(text: bytes | None, pattern: re.Pattern[bytes]) -> int | None:
    found = pattern.search(text) if text is not None else None
    return int(found[1]) if found else None
