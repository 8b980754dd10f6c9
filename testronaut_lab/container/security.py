"""What a container for steps may do, as data; `manager.py` turns it into the engine's terms.

Why each line: PID 1 and the watchdog are root with CAP_KILL so that they can end any process of a step; a step's own user
has no capability at all and, with no-new-privileges, gets none. The temporary file systems together stay below half of the
memory limit, because they count as memory and one that can fill it kills every later process of the session.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NO_CAPABILITIES = ("ALL",)
STEP_CAPABILITIES = ("KILL",)
# For root, to look at the folders and open files of a step's processes where the host has another process table than the engine.
LOOK_CAPABILITIES = ("DAC_READ_SEARCH", "SYS_PTRACE")
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

# The FIFO of `execution/directory.py` in a container for steps, and the file that says that the session was left for a look.
KEEPER_FIFO = "/run/lab/keeper"
_KEPT = "/run/lab/kept"

# Reaps orphans, and no signal that a step may send ends it. `read` waits on a FIFO, so that it costs nothing, and SIGCHLD
# interrupts it. A plain `sleep` would leave zombies (which count against the pids limit); an init with a child dies with that
# child when a step runs `kill -9 -1`. After the line `lazy` it reaps with each line that it reads and not before, so that the
# owner can look how a child of its own has ended.
#
# It is also a dead-man's switch. The owner holds the FIFO open and has put a line into it. Who can read the line shares the FIFO
# with the owner, and opens it anew, for reading only: the end of file then says that the owner's process is gone, asleep or
# stopped it still holds the FIFO. Three such ends in a row, without a SIGCHLD that may have cut the read short, are believed. The
# keeper then becomes a `sleep`, which needs no fork that a full pids table could refuse, and with it the container ends.
_SCRIPT = (
    "trap '' TERM HUP INT QUIT USR1 USR2; trap c=1 CHLD; exec 3<>{fifo}; until read x <&3; do wait; done; exec 3<{fifo}; n=0; "
    'while [ $n -lt 3 ]; do c=; if read x <&3 || [ "$c" ]; then n=0; else n=$((n + 1)); fi; '
    "case $x in lazy) trap - CHLD ;; esac; wait; done; "
    "if [ -e {kept} ]; then trap : CHLD; exec 3<>{fifo}; while :; do read x <&3; wait; done; fi; "
    "command -v sleep >/dev/null && exec sleep {seconds}; exit 0"
)


def keeper(fifo: str = KEEPER_FIFO, orphan_timeout_s: float = 3600.0) -> tuple[str, ...]:
    """The first process of a container, which it ends when the owner has been gone for so long, with exit status 0."""
    return ("/bin/sh", "-c", _SCRIPT.format(fifo=fifo, kept=_KEPT, seconds=math.ceil(orphan_timeout_s)))


def tmpfs_bytes(memory_bytes: int) -> int:
    """The size of each temporary file system under this memory limit."""
    return max(1024 * 1024, min(MAX_TMPFS_BYTES, int(memory_bytes * TMPFS_SHARE)))


def step_tmpfs(memory_bytes: int) -> dict[str, str]:
    """Mount options by path."""
    share = str(tmpfs_bytes(memory_bytes))
    return {path: options.format(share=share) for path, options in STEP_TMPFS.items()}
