"""What this process and a session hold at the moment: memory, file descriptors, threads. Linux only."""

from __future__ import annotations

import os
import re
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Held:
    """`fifos` are those among the `fds`; `rss_bytes` is this process's."""

    fds: int
    fifos: int
    threads: int
    rss_bytes: int


def held() -> Held:
    modes = [mode for fd in os.listdir("/proc/self/fd") if (mode := _mode(int(fd))) is not None]
    return Held(len(modes), sum(map(stat.S_ISFIFO, modes)), threading.active_count(), memory_bytes("VmRSS"))


def memory_bytes(field: str) -> int:
    """VmRSS (now) or VmHWM (the most since `forget_peak`)."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, field
    return int(found[1]) * 1024


def forget_peak() -> None:
    """Start VmHWM anew from what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


def _mode(fd: int) -> int | None:
    try:
        return os.fstat(fd).st_mode
    except OSError:  # the one that listed them
        return None
