"""Finds the control groups that an engine made for a container, and proves that they are the container's own.

An engine that may not make groups leaves the container in a shared one: a rootless engine on cgroup v1 uses its own group, or the
root of the whole machine. Such a group is never read, because it also counts other processes. A group is the container's own if
the kernel shows the container's id in the group's path for the container's first process, if one of our mounts leads to the
group, and if the group lists that process. `cgroup.py` reads counters, `limits.py` reads limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HOST = Path("/")
_UNIFIED = ""  # the name of the one hierarchy of version 2 in /proc/PID/cgroup
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class OwnGroup:
    """A container's group in one hierarchy. `whole` is the engine's group, with the limits; `inner` has the first process.

    Both are the same, except if the runtime makes one more group inside (crun's `container`).
    """

    version: int
    whole: Path
    inner: Path


@dataclass(frozen=True, slots=True)
class OwnGroups:
    """A container's own groups: by controller for version 1, and the one of version 2. Empty if it has none."""

    by_controller: Mapping[str, OwnGroup]
    unified: OwnGroup | None = None

    def __bool__(self) -> bool:
        return bool(self.by_controller) or self.unified is not None

    def of(self, controller: str) -> OwnGroup | None:
        """The group with the files of this controller; None if the container has none."""
        return self.by_controller.get(controller, self.unified)


@dataclass(frozen=True, slots=True)
class _Mount:
    root: str
    place: Path
    controllers: frozenset[str]


def own_groups(container_id: str, pid: int, host: Path = HOST) -> OwnGroups:
    """Find the groups of the container whose first process is `pid`, as the engine says. `host` is the root for /proc.

    Finds nothing if the engine has another pid namespace, where `pid` is another process.
    """
    mounts = list(_mounts(host))
    found: dict[str, OwnGroup] = {}
    for controller, path in _paths(host / "proc" / str(pid) / "cgroup"):
        version = 2 if controller == _UNIFIED else 1
        for mount in (mount for mount in mounts if controller in mount.controllers):
            group = _own_group(version, mount, path, container_id)
            if group is not None and _lists(group.inner, pid):
                found[controller] = group
                break
    return OwnGroups({name: group for name, group in found.items() if name != _UNIFIED}, found.get(_UNIFIED))


def _own_group(version: int, mount: _Mount, path: str, container_id: str) -> OwnGroup | None:
    """The group at `path` as seen through the mount; None if the container's id is not in the path."""
    names = path.strip("/").split("/")
    own = next((i for i, name in enumerate(names, 1) if container_id in name and "conmon" not in name), None)
    root = [name for name in mount.root.split("/") if name]
    # `..` leads out of our own cgroup namespace, and no mount of ours does
    if own is None or not container_id or ".." in (*names, *root) or names[: len(root)] != root or own < len(root):
        return None
    return OwnGroup(version, mount.place.joinpath(*names[len(root) : own]), mount.place.joinpath(*names[len(root) :]))


def _lists(group: Path, pid: int) -> bool:
    try:
        return str(pid) in (group / "cgroup.procs").read_text().split()
    except OSError:
        return False


def _paths(file: Path) -> Iterator[tuple[str, str]]:
    """(controller, path) of a process; see cgroups(7)."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _mounts(host: Path) -> Iterator[_Mount]:
    """Where hierarchies are mounted; see proc(5) for the fields of mountinfo."""
    try:
        lines = (host / "proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        fields, _, rest = line.partition(" - ")
        kind, *_, options = rest.split(" ")
        if kind not in ("cgroup", "cgroup2"):
            continue
        root, place = fields.split(" ")[3:5]
        controllers = frozenset({_UNIFIED} if kind == "cgroup2" else options.split(","))
        yield _Mount(root, host / _ESCAPED.sub(_character, place).lstrip("/"), controllers)


def _character(escaped: re.Match[str]) -> str:
    return chr(int(escaped[1], 8))
