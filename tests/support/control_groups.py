"""Control groups as kernels and engines lay them out, as small trees of files below a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from testronaut_lab.container.cgroup_lookup import OwnGroups, own_groups

PID = 4711
ID = "7f3c" * 16

MOUNT_V2 = (
    "31 24 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
)
_V1_MOUNTS = ("cpu,cpuacct", "memory", "pids", "name=systemd")


def mounts_v1(root: str = "/") -> str:
    return "".join(
        f"{number} 31 0:{number} {root} /sys/fs/cgroup/{names.removeprefix('name=')} rw,relatime - cgroup cgroup rw,{names}\n"
        for number, names in enumerate(_V1_MOUNTS, 32)
    )


def told_v1(path: str) -> str:
    """/proc/PID/cgroup of a process that is in that group of every hierarchy of version 1."""
    return "".join(f"{number}:{names}:{path}\n" for number, names in enumerate(_V1_MOUNTS, 2))


@dataclass(frozen=True)
class Layout:
    """Where one container's group is. `versions` are those of the groups in which its controllers are found."""

    mounts: str
    told: str
    files: Mapping[str, str]
    versions: Mapping[str, int] = field(default_factory=dict)


# In the form of the kernel's cgroup-v2.rst and cgroup-v1 documents.
COUNTERS_V2 = {
    "cgroup.procs": "4711\n4802\n4833\n",
    "cgroup.kill": "",
    "pids.events": "max 17\n",
    "pids.max": "264\n",
    "memory.events": "low 0\nhigh 0\nmax 412\noom 3\noom_kill 2\noom_group_kill 0\n",
    "memory.stat": "anon 5242880\nfile 314572800\nkernel 1236992\nanon_thp 0\ninactive_anon 8192\n",
    "memory.peak": "333447168\n",
    "memory.max": "536870912\n",
    "memory.swap.max": "0\n",
    "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 0\n",
    "cpu.max": "100000 100000\n",
}
COUNTERS_V1 = {
    "pids": {"cgroup.procs": "4711\n4802\n", "pids.events": "max 9\n", "pids.max": "264\n"},
    "memory": {
        "cgroup.procs": "4711\n4802\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        "memory.stat": "cache 314572800\nrss 4096\ntotal_cache 314572800\ntotal_rss 552960\n",
        "memory.max_usage_in_bytes": "316194816\n",
        "memory.limit_in_bytes": "536870912\n",
        "memory.memsw.limit_in_bytes": "536870912\n",
    },
    "cpu,cpuacct": {
        "cgroup.procs": "4711\n4802\n",
        "cpuacct.usage": "2500000000\n",
        "cpu.cfs_quota_us": "100000\n",
        "cpu.cfs_period_us": "100000\n",
    },
}


def tree_v2(group: str, mount: str = "sys/fs/cgroup", without: tuple[str, ...] = ()) -> dict[str, str]:
    """The files of a group of version 2, without those of some controllers."""
    return {f"{mount}/{group}/{name}": text for name, text in COUNTERS_V2.items() if not name.startswith(without or "-")}


def tree_v1(group: str) -> dict[str, str]:
    return {f"sys/fs/cgroup/{names}/{group}/{name}": text for names, files in COUNTERS_V1.items() for name, text in files.items()}


_ALL_V1 = {"memory": 1, "pids": 1, "cpuacct": 1}
_ALL_V2 = {"memory": 2, "pids": 2, "cpuacct": 2}
_USER = "user.slice/user-1000.slice/user@1000.service/user.slice"
_CRUN = f"machine.slice/libpod-{ID}.scope"
_DEEP = f"kubepods/burstable/pod12/{'ab' * 32}/docker/{ID}"

V1 = Layout(mounts_v1(), told_v1(f"/docker/{ID}"), tree_v1(f"docker/{ID}"), _ALL_V1)
V2 = Layout(MOUNT_V2, f"0::/docker/{ID}\n", tree_v2(f"docker/{ID}"), _ALL_V2)
# the unified hierarchy beside version 1 has no controllers, or some that version 1 has not taken
HYBRID = Layout(
    mounts_v1() + MOUNT_V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"),
    told_v1(f"/docker/{ID}") + f"0::/docker/{ID}\n",
    {
        **tree_v1(f"docker/{ID}"),
        **tree_v2(f"docker/{ID}", "sys/fs/cgroup/unified", ("pids", "memory", "cpu.max")),
    },
    _ALL_V1,
)
LAYOUTS = {
    "v1": V1,
    "v2": V2,
    "hybrid": HYBRID,
    "systemd scope": Layout(
        MOUNT_V2, f"0::/system.slice/docker-{ID}.scope\n", tree_v2(f"system.slice/docker-{ID}.scope"), _ALL_V2
    ),
    "systemd scope on v1": Layout(
        mounts_v1(), told_v1(f"/system.slice/docker-{ID}.scope"), tree_v1(f"system.slice/docker-{ID}.scope"), _ALL_V1
    ),
    "rootless with systemd": Layout(
        MOUNT_V2, f"0::/{_USER}/docker-{ID}.scope\n", tree_v2(f"{_USER}/docker-{ID}.scope", without=("cpu.max",)), _ALL_V2
    ),
    "crun": Layout(
        MOUNT_V2,
        f"0::/{_CRUN}/container\n",
        {**tree_v2(_CRUN), **tree_v2(f"{_CRUN}/container"), f"sys/fs/cgroup/{_CRUN}/cgroup.procs": ""},
        _ALL_V2,
    ),
    "nested engines": Layout(MOUNT_V2, f"0::/{_DEEP}\n", tree_v2(_DEEP), _ALL_V2),
    "a part of the hierarchy is mounted": Layout(
        MOUNT_V2.replace(" / ", " /kubepods/burstable "),
        f"0::/{_DEEP}\n",
        tree_v2(_DEEP.removeprefix("kubepods/burstable/")),
        _ALL_V2,
    ),
    "mounted somewhere else": Layout(
        MOUNT_V2.replace("/sys/fs/cgroup", "/mnt/control\\040groups"),
        f"0::/docker/{ID}\n",
        tree_v2(f"docker/{ID}", "mnt/control groups"),
        _ALL_V2,
    ),
}


def write(root: Path, layout: Layout) -> Path:
    """Make these files below `root`, and return it."""
    files = {f"proc/{PID}/cgroup": layout.told, "proc/self/mountinfo": layout.mounts, **layout.files}
    for name, text in {"proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for names in _V1_MOUNTS if layout.mounts.startswith("32 ") else ():
        (root / "sys/fs/cgroup" / names.removeprefix("name=")).mkdir(parents=True, exist_ok=True)
    return root


def may_be_killed(groups: OwnGroups) -> bool:
    """Whether this caller may kill what is in them: root, or the owner, on a host that has groups of version 2."""
    return groups.unified is not None and os.access(groups.unified.whole / "cgroup.kill", os.W_OK)


def own(root: Path) -> OwnGroups:
    return own_groups(ID, PID, root)
