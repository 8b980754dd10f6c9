"""Chooses the user of a step: not root unless the plan asks for it, and a user whose files the caller can read and remove.

With an engine that runs as root, container ids are the machine's ids. So a step runs as the caller, or as `lab` (1000) if the
caller is root. A rootless engine puts its containers in a user namespace, where the caller is root:

- Podman can keep the caller's id in a container (`keep-id`), so a step runs with that id. Root in the container is then a sub-id.
- Docker cannot. A step runs as uid 0 of the container, without any capability: every other id is a sub-id of the caller, whose
  files the caller could neither read nor remove. docs/engines.md says in what this is weaker.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.faults import translated
from testronaut_lab.container.security import LOOK_CAPABILITIES, STEP_CAPABILITIES
from testronaut_lab.errors import EngineError, UsageError

LAB_UID = 1000

_ROOTLESS = "name=rootless"
_INITIAL_NAMESPACE = ["0", "0", "4294967295"]
_FIRST_PROCESS_TABLE = 0xEFFFFFFC  # PROC_PID_INIT_INO of the kernel


class CallerInside(Enum):
    """Which ids the caller has in the engine's containers."""

    ITSELF = "ids inside are those of the machine"
    ANY_ID = "rootless, and a container can be told under which id it has the caller"
    ROOT = "rootless, and the caller is root in each container"


@dataclass(frozen=True, slots=True)
class StepUser:
    """The user of a step, with ids inside the container.

    `user_namespace` is the engine's option for the container's namespace, "" for the engine's default. `owner` are the ids to
    which a caller that is root gives the files that it puts into a session; None if such files belong to the step anyway.
    """

    uid: int
    gid: int
    name: str
    home: str
    user_namespace: str = ""
    owner: tuple[int, int] | None = None
    capabilities: tuple[str, ...] = STEP_CAPABILITIES

    @classmethod
    def choose(cls, kind: str, inside: CallerInside = CallerInside.ITSELF) -> StepUser:
        """`kind` is lab or root, as in a plan. Raises UsageError for root if the caller could not remove root's files."""
        caller = os.getuid()
        if kind == "root":
            if inside is CallerInside.ITSELF and caller != 0:
                raise UsageError(
                    "`user: root` needs a caller that is root, or a rootless engine: its files could not be removed",
                    hint="testronaut-lab engine status",
                )
            return cls(0, 0, "root", "/root", owner=(0, 0) if inside is CallerInside.ITSELF else None)
        uid, gid = caller or LAB_UID, os.getgid() or LAB_UID
        match inside:
            case CallerInside.ITSELF:
                owner = None if caller else (uid, gid)
                return cls(uid, gid, "lab", "/home/lab", owner=owner, capabilities=_of_root_inside())
            case CallerInside.ANY_ID:
                keep = f"keep-id:uid={uid},gid={gid}"
                return cls(uid, gid, "lab", "/home/lab", user_namespace=keep, capabilities=_of_root_inside())
            case CallerInside.ROOT:
                # the watchdog needs no CAP_KILL, because it has the same user
                return cls(0, 0, "lab", "/home/lab", capabilities=())

    @property
    def spec(self) -> str:
        return f"{self.uid}:{self.gid}"


def _of_root_inside() -> tuple[str, ...]:
    """If this process is in a container itself, the watchdog must look at the session's processes, and needs more."""
    return STEP_CAPABILITIES if _sees_all_processes() else STEP_CAPABILITIES + LOOK_CAPABILITIES


def _sees_all_processes() -> bool:
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _FIRST_PROCESS_TABLE
    except OSError:
        return False


def caller_inside(engine: Engine) -> CallerInside:
    """Ask the engine, which takes up to 0.2 s, unless its socket shows that the engine runs as root.

    Raises EngineError for a rootless engine of another user: its containers cannot see our files.
    """
    owner = os.stat(engine.socket_path).st_uid
    if owner == 0 and _in_initial_namespace():
        return CallerInside.ITSELF
    with translated(f"asking the engine on {engine.socket_path} whether it is rootless"):
        options = engine.client.api.info().get("SecurityOptions") or []
    if not any(option.startswith(_ROOTLESS) for option in options):
        return CallerInside.ITSELF
    if owner != os.getuid():
        raise EngineError(
            f"the engine on {engine.socket_path} is a rootless one of user {owner}, you are user {os.getuid()}: it cannot "
            "use your files",
            hint=f"sudo -u '#{owner}' testronaut-lab run",
        )
    return CallerInside.ANY_ID if engine.speaks_libpod else CallerInside.ROOT


def _in_initial_namespace() -> bool:
    try:
        return Path("/proc/self/uid_map").read_text().split() == _INITIAL_NAMESPACE
    except OSError:
        return False
