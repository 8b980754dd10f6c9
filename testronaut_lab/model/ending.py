"""The ways in which a step can end."""

from __future__ import annotations

from enum import StrEnum


class ExitKind(StrEnum):
    """How a step ended. Each kind has its own evidence and is never guessed from an exit code."""

    EXITED = "exited"
    TIMEOUT = "timeout"
    OOM = "oom"
    OUTPUT_LIMIT = "output_limit"
    DISK_LIMIT = "disk_limit"
    PIDS_LIMIT = "pids_limit"
    CANCELLED = "cancelled"
    SESSION_LOST = "session_lost"
    ENGINE_LOST = "engine_lost"
    RUNNING = "running"  # a background program that became ready and still runs
