"""Who a step is: never root unless asked for, and one whose files the caller can read and remove afterwards.

An engine that runs as root gives a container the ids of the machine, so a step is the caller, or `lab` (1000) where that is
root. A rootless engine puts the caller's processes and containers in a user namespace, where the caller is root:

- One that can keep the caller's id in a container (Podman's `keep-id`) is asked to. Root in the container is a sub-id then.
- With others (Docker) a step is uid 0 of the container without any capability: every other id of the container is one of the
  caller's sub-ids, whose files the caller could neither read nor remove. What that is weaker in is in docs/engines.md.
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
    """Who the caller is in the engine's containers."""

    ITSELF = "ids inside are those of the machine"
    ANY_ID = "rootless, and a container can be told under which id it has the caller"
    ROOT = "rootless, and the caller is root in each container"


@dataclass(frozen=True, slots=True)
class StepUser:
    """Ids are those inside. `user_namespace` is what the engine is told of the container's, "" for its own way; `owner` is whom
    files that are put into a session are given to by a caller that is root, None where they are the step's as they are made."""

    uid: int
    gid: int
    name: str
    home: str
    user_namespace: str = ""
    owner: tuple[int, int] | None = None
    capabilities: tuple[str, ...] = STEP_CAPABILITIES

    @classmethod
    def choose(cls, kind: str, inside: CallerInside = CallerInside.ITSELF) -> StepUser:
        """`kind` is lab or root, as in a plan. Raises UsageError for a root whose files the caller could not remove."""
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
                # no CAP_KILL for the watchdog: it is the same user
                return cls(0, 0, "lab", "/home/lab", capabilities=())

    @property
    def spec(self) -> str:
        return f"{self.uid}:{self.gid}"


def _of_root_inside() -> tuple[str, ...]:
    """Where this process is in a container itself, the watchdog has to look at the session's processes for it."""
    return STEP_CAPABILITIES if _sees_all_processes() else STEP_CAPABILITIES + LOOK_CAPABILITIES


def _sees_all_processes() -> bool:
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _FIRST_PROCESS_TABLE
    except OSError:
        return False


def caller_inside(engine: Engine) -> CallerInside:
    """Ask the engine, which takes it up to 0.2 s, unless its socket shows that it runs as root.

    Raises EngineError for a rootless engine of another user, whose containers cannot see our files.
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
