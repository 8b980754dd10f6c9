"""Reads the counters of a running container from its own control groups: some microseconds each, through open descriptors.

It works for cgroup v1 and v2 if `cgroup_lookup.py` finds the container's own groups and their files are readable. A counter that
is missing is None. `execution/` samples the counters, and says which are missing.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from testronaut_lab.container.cgroup_lookup import HOST, OwnGroup, OwnGroups

_READ_BYTES = 16 * 1024

_REFUSED_FORKS = re.compile(rb"^max (\d+)", re.MULTILINE)
_OOM_KILLS = re.compile(rb"^oom_kill (\d+)", re.MULTILINE)
_CPU_US = re.compile(rb"^usage_usec (\d+)", re.MULTILINE)
_ANON = re.compile(rb"^anon (\d+)", re.MULTILINE)
_TOTAL_RSS = re.compile(rb"^total_rss (\d+)", re.MULTILINE)
_NSPID = re.compile(rb"^NSpid:.*\s(\d+)$", re.MULTILINE)
_NUMBER = re.compile(rb"^(\d+)")


class CgroupMeter:
    """The counters of the container with these groups. `host` is the root for /proc. Close it when done."""

    def __init__(self, groups: OwnGroups, host: Path = HOST) -> None:
        self._proc = host / "proc"
        self._kill = None if groups.unified is None else groups.unified.whole / "cgroup.kill"
        self._inner: dict[bytes, int | None] = {}  # pid in the container by pid on the host; 0 if the process is gone
        pids, memory = groups.of("pids"), groups.of("memory")
        cpu = groups.of("cpuacct")
        self._groups = () if pids is None else _distinct(pids)
        # where the container sees its own group; readers check the contents before they trust them
        self.inner_procs = "/dev/null" if pids is None else f"/sys/fs/cgroup{'' if pids.version == 2 else '/pids'}/cgroup.procs"
        # Linux 6.11 counts a refusal in the group with the limit, older kernels in the group of the process
        self._refusals = [fd for group in self._groups if (fd := _open(group / "pids.events")) is not None]
        self._tasks = _open_of(pids, "pids.current", "pids.current")
        self._counts: dict[int, tuple[bytes | None, int | None]] = {}
        self._oom = _open_of(memory, "memory.oom_control", "memory.events")
        self._cpu = _open_of(cpu, "cpuacct.usage", "cpu.stat")
        self._memory = _open_of(memory, "memory.stat", "memory.stat")
        self._anon = _TOTAL_RSS if memory is not None and memory.version == 1 else _ANON
        peak = ("memory.max_usage_in_bytes", "memory.peak")
        self._peak = _open_of(memory, *peak, os.O_RDWR)
        self._peak_resets = self._peak is not None
        if self._peak is None:  # we may not write it, or it is version 2 before Linux 6.12
            self._peak = _open_of(memory, *peak)

    def close(self) -> None:
        for fd in (*self._refusals, self._tasks, self._oom, self._cpu, self._memory, self._peak):
            if fd is not None:
                os.close(fd)
        self._groups, self._refusals = (), []
        self._tasks = self._oom = self._cpu = self._memory = self._peak = None

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """The names of the counters that cannot be read here."""
        counters = {
            "CPU time": self.cpu_s(),
            "memory": self.own_memory_bytes(),
            "kills for lack of memory": self.oom_kills(),
            "refused processes": self.refused_forks(),
        }
        return tuple(name for name, value in counters.items() if value is None)

    def kill_all(self) -> bool:
        """Kill every process in the container at once, the first one too, without the engine, which may not answer.

        Needs a group of version 2 (also beside version 1), Linux 5.14, and root or the owner of the group. Returns False if it
        does not work or the container is gone. May be called after `close`.
        """
        try:
            if self._kill is None:
                return False
            with self._kill.open("r+") as file:  # r+ never creates the file
                return file.write("1") == 1
        except OSError:
            return False

    def processes(self) -> int | None:
        """The number of live processes in the container, without zombies."""
        found = self._members()
        return None if found is None else len(found)

    def tasks(self) -> int | None:
        """The number of processes and threads in the container, zombies included. Costs 1 µs."""
        return _field(_read(self._tasks), _NUMBER)

    def pids(self) -> frozenset[int] | None:
        """The pids of the processes inside the container; None if they cannot be found. Costs 20 µs for each new process."""
        found = self._members()
        if found is None:
            return None
        self._inner = {pid: self._inner.get(pid) or _inner_pid(self._proc, pid) for pid in found}
        return None if None in self._inner.values() else frozenset(pid for pid in self._inner.values() if pid)

    def host_pids(self) -> frozenset[int] | None:
        """The pids of the processes on the host."""
        found = self._members()
        return None if found is None else frozenset(map(int, found))

    def _members(self) -> list[bytes] | None:
        """The pids of the processes on the host, as bytes; None if there is no group or the container is gone."""
        try:
            return [pid for group in self._groups for pid in _listed(group)] if self._groups else None
        except OSError:
            return None

    def _counted(self, fd: int, pattern: re.Pattern[bytes]) -> int | None:
        """The counter in an open file. Most reads give the same text as before, which is not searched again."""
        text = _read(fd)
        before = self._counts.get(fd)
        if before is None or before[0] != text:
            before = self._counts[fd] = text, _field(text, pattern)
        return before[1]

    def refused_forks(self) -> int | None:
        """How often the pids limit refused a new process since the container started."""
        counted = [self._counted(fd, _REFUSED_FORKS) for fd in self._refusals]
        known = [count for count in counted if count is not None]
        return sum(known) if known else None

    def oom_kills(self) -> int | None:
        """How many processes were killed for lack of memory since the container started."""
        return None if self._oom is None else self._counted(self._oom, _OOM_KILLS)

    def cpu_s(self) -> float | None:
        """The CPU time of all processes of the container since it started, in seconds."""
        text = _read(self._cpu)
        if text is None:
            return None
        microseconds = _field(text, _CPU_US)
        return microseconds / 1e6 if microseconds is not None else int(text) / 1e9

    def own_memory_bytes(self) -> int | None:
        """The anonymous memory of the container's processes now, without page cache and tmpfs.

        Costs 13 µs on cgroup v1, ten times as much as the other counters. The kernel may lag behind by half a MiB.
        """
        return _field(_read(self._memory), self._anon)

    def reset_peak(self) -> bool:
        """Let `peak_bytes` count from now on. Returns False if it only counts from the container's start. Costs 1 µs."""
        if self._peak is None or not self._peak_resets:
            return False
        try:
            os.pwrite(self._peak, b"0", 0)
        except OSError:
            self._peak_resets = False
        return self._peak_resets

    def peak_bytes(self) -> int | None:
        """The container's peak of memory, page cache and tmpfs included: `cat` of a large file raises it."""
        return _field(_read(self._peak), _NUMBER)


def _distinct(group: OwnGroup) -> tuple[Path, ...]:
    return (group.whole,) if group.whole == group.inner else (group.whole, group.inner)


def _listed(group: Path) -> list[bytes]:
    # Open it each time: on cgroup v1 a file that stays open repeats its first list if it is read every second.
    fd = os.open(group / "cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b""
        while data := os.read(fd, _READ_BYTES):
            text += data
    finally:
        os.close(fd)
    return text.split()


def _inner_pid(proc: Path, pid: bytes) -> int | None:
    """The pid in the process's innermost namespace; 0 if the process is gone, None if we cannot see it."""
    try:
        with open(proc / pid.decode() / "status", "rb") as status:
            found = _NSPID.search(status.read())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except OSError:
        return None
    return int(found[1]) if found else None


def _open_of(group: OwnGroup | None, name_v1: str, name_v2: str, mode: int = os.O_RDONLY) -> int | None:
    return None if group is None else _open(group.whole / (name_v1 if group.version == 1 else name_v2), mode)


def _open(file: Path, mode: int = os.O_RDONLY) -> int | None:
    try:
        return os.open(file, mode | os.O_CLOEXEC)
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
