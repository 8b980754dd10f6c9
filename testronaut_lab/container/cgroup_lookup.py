"""Finds the control groups that an engine made for a container, and proves that they are the container's own.

An engine that may make no groups leaves the container in one that is shared: rootless on cgroup v1 it is the engine's, or the
root of the whole machine. Its counters are somebody else's and its limits nobody's, so such a group is never read. A group is
the container's own if the id of the container is in its path as the kernel tells it for the container's first process, if a
mount of ours leads to it, and if it lists that process. Reading counters is `cgroup.py`, reading limits `limits.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HOST = Path("/")
_UNIFIED = ""  # as /proc/PID/cgroup names the one hierarchy of version 2
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class OwnGroup:
    """A container's group in one hierarchy. `whole` is what the engine made, with the limits; `inner` has the first process.

    They are the same but where the runtime makes one more group inside (crun's `container`).
    """

    version: int
    whole: Path
    inner: Path


@dataclass(frozen=True, slots=True)
class OwnGroups:
    """A container's groups by controller of version 1, and the one of version 2; empty where none is its own."""

    by_controller: Mapping[str, OwnGroup]
    unified: OwnGroup | None = None

    def __bool__(self) -> bool:
        return bool(self.by_controller) or self.unified is not None

    def of(self, controller: str) -> OwnGroup | None:
        """The group whose files this controller keeps, if it keeps any for the container."""
        return self.by_controller.get(controller, self.unified)


@dataclass(frozen=True, slots=True)
class _Mount:
    root: str
    place: Path
    controllers: frozenset[str]


def own_groups(container_id: str, pid: int, host: Path = HOST) -> OwnGroups:
    """The groups of the container whose first process is `pid`, as the engine says, below `host`.

    That process may be another one of ours, if the engine counts processes in another namespace: then nothing is found.
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
    """Where the group at `path` is to be seen through the mount, if the container's id is in its path."""
    names = path.strip("/").split("/")
    own = next((i for i, name in enumerate(names, 1) if container_id in name and "conmon" not in name), None)
    root = [name for name in mount.root.split("/") if name]
    # `..` leads out of our own cgroup namespace, where no mount of ours leads
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
