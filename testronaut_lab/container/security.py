"""What a container for steps may do, as data; `manager.py` turns it into the engine's terms.

Why each line: PID 1 and the watchdog are root with CAP_KILL so that they can end any process of a step; a step's own user
has no capability at all and, with no-new-privileges, gets none. The temporary file systems together stay below half of the
memory limit, because they count as memory and one that can fill it kills every later process of the session.
"""

from __future__ import annotations

from dataclasses import dataclass

NO_CAPABILITIES = ("ALL",)
STEP_CAPABILITIES = ("KILL",)
SECURITY_OPTIONS = ("no-new-privileges",)

# Root file system is read-only by default; these are writable, small, not captured, and said so.
STEP_TMPFS = {
    "/run": "rw,nosuid,nodev,size={share},mode=755",
    "/var/tmp": "rw,nosuid,nodev,size={share},mode=1777",
}
TMPFS_SHARE = 1 / 8  # of the memory limit, each of /run, /var/tmp and /dev/shm
MAX_TMPFS_BYTES = 64 * 1024 * 1024

# Room in the pids limit for the keeper, the watchdog, the shells and a forked copy of one.
PIDS_RESERVE = 8


@dataclass(frozen=True, slots=True)
class Ulimit:
    name: str
    soft: int
    hard: int


STEP_ULIMITS = (Ulimit("core", 0, 0), Ulimit("nofile", 1024, 4096))

# Reaps orphans, and no signal that a step may send ends it. `read` waits on a FIFO that nobody writes to, so that it costs
# nothing, and SIGCHLD interrupts it. A plain `sleep` would leave zombies (which count against the pids limit); an init with a
# child dies with that child when a step runs `kill -9 -1`.
KEEPER = (
    "/bin/sh",
    "-c",
    "trap '' TERM HUP INT QUIT USR1 USR2; trap : CHLD; exec 3<>/run/lab/keeper; while :; do read x <&3; wait; done",
)


def tmpfs_bytes(memory_bytes: int) -> int:
    """The size of each temporary file system under this memory limit."""
    return max(1024 * 1024, min(MAX_TMPFS_BYTES, int(memory_bytes * TMPFS_SHARE)))


def step_tmpfs(memory_bytes: int) -> dict[str, str]:
    """Mount options by path."""
    share = str(tmpfs_bytes(memory_bytes))
    return {path: options.format(share=share) for path, options in STEP_TMPFS.items()}
