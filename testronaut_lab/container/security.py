"""The profile of a container for steps, as data; `manager.py` passes it to the engine.

PID 1 and the watchdog are root with CAP_KILL, so that they can end any process of a step. A step's own user has no capability,
and cannot get one because of no-new-privileges. The temporary file systems together stay below half of the memory limit: they
count as memory, and a full one would kill every later process of the session.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NO_CAPABILITIES = ("ALL",)
STEP_CAPABILITIES = ("KILL",)
# With these, root in the container can see the folders and open files of a step's processes. Needed if this process has another
# pid namespace than the engine.
LOOK_CAPABILITIES = ("DAC_READ_SEARCH", "SYS_PTRACE")
SECURITY_OPTIONS = ("no-new-privileges",)

# Writable, small and not captured. The root file system itself is read-only by default.
STEP_TMPFS = {
    "/run": "rw,nosuid,nodev,size={share},mode=755",
    "/var/tmp": "rw,nosuid,nodev,size={share},mode=1777",
}
TMPFS_SHARE = 1 / 8  # of the memory limit, for each of /run, /var/tmp and /dev/shm
MAX_TMPFS_BYTES = 64 * 1024 * 1024

# Room in the pids limit for the keeper, the watchdog, the shells and a forked copy of one.
PIDS_RESERVE = 8


@dataclass(frozen=True, slots=True)
class Ulimit:
    name: str
    soft: int
    hard: int


STEP_ULIMITS = (Ulimit("core", 0, 0), Ulimit("nofile", 1024, 4096))

# The FIFO of `execution/directory.py` in the container, and the file that says that the user keeps the session for inspection.
KEEPER_FIFO = "/run/lab/keeper"
_KEPT = "/run/lab/kept"

# The keeper is PID 1. It reaps orphans, and no signal of a step ends it. `read` waits on a FIFO, which costs nothing, and SIGCHLD
# interrupts the read. A plain `sleep` would leave zombies (which count against the pids limit); an init with a child would end
# with that child when a step runs `kill -9 -1`. After it reads the line `lazy`, it reaps only with each line that it reads, so
# that the owner can see how a child has ended.
#
# The keeper is also a dead-man's switch. The owner holds the FIFO open and has written a line into it. When the keeper reads the
# line, it knows that it shares the FIFO with the owner, and opens the FIFO again, for reading only. From then on, end of file
# means that the owner's process is gone; a process that sleeps or is stopped still holds the FIFO. The keeper believes three
# ends of file in a row, without a SIGCHLD that may have cut a read short. It then execs a `sleep` of the orphan timeout; a fork
# could be refused by a full pids table. When the sleep ends, the container ends.
_SCRIPT = (
    "trap '' TERM HUP INT QUIT USR1 USR2; trap c=1 CHLD; exec 3<>{fifo}; until read x <&3; do wait; done; exec 3<{fifo}; n=0; "
    'while [ $n -lt 3 ]; do c=; if read x <&3 || [ "$c" ]; then n=0; else n=$((n + 1)); fi; '
    "case $x in lazy) trap - CHLD ;; esac; wait; done; "
    "if [ -e {kept} ]; then trap : CHLD; exec 3<>{fifo}; while :; do read x <&3; wait; done; fi; "
    "command -v sleep >/dev/null && exec sleep {seconds}; exit 0"
)


def keeper(fifo: str = KEEPER_FIFO, orphan_timeout_s: float = 3600.0) -> tuple[str, ...]:
    """The command of the first process. It ends with exit status 0 after the owner has been gone for `orphan_timeout_s`."""
    return ("/bin/sh", "-c", _SCRIPT.format(fifo=fifo, kept=_KEPT, seconds=math.ceil(orphan_timeout_s)))


def tmpfs_bytes(memory_bytes: int) -> int:
    """The size of each temporary file system under this memory limit."""
    return max(1024 * 1024, min(MAX_TMPFS_BYTES, int(memory_bytes * TMPFS_SHARE)))


def step_tmpfs(memory_bytes: int, *, is_podman: bool = False) -> dict[str, str]:
    """The mount options of the temporary file systems, by path. Podman copies what the image has there into them unless told."""
    share = str(tmpfs_bytes(memory_bytes))
    more = ",notmpcopyup" if is_podman else ""
    return {path: options.format(share=share) + more for path, options in STEP_TMPFS.items()}
