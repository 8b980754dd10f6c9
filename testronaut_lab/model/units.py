"""Reads durations and sizes as people write them, into seconds and bytes, and writes sizes and ages as text."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

MAX_DURATION_S: Final = 24 * 3600.0
MAX_SIZE_BYTES: Final = 2**50

_AGES_S: Final[dict[str, float]] = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES: Final = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
DURATION_FORM: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
SIZE_FORM: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(B|[KMGT]i?B)")


def parse_duration(value: str | float) -> float:
    """Return seconds from `200ms`, `60s`, `1m`, `1h` or a number of seconds. Raises ValueError unless 0 < t <= 24h."""
    if isinstance(value, str):
        match = DURATION_FORM.fullmatch(value)
        if match is None:
            raise ValueError("expected a duration such as 200ms, 60s, 1.5m or 1h, or a number of seconds")
        seconds = float(match[1]) * _SECONDS[match[2]]
    else:
        seconds = value
    if not 0 < seconds <= MAX_DURATION_S:  # false for NaN too
        raise ValueError("expected a duration above 0 and up to 24h")
    return float(seconds)


def parse_age(value: str) -> float:
    """Return seconds from `30d`, `12h`, `90m` or `2w`; `0d` is 0. Raises ValueError for anything else."""
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", value)
    if match is None:
        raise ValueError("expected an age such as 30d, 12h, 90m or 2w")
    return int(match[1]) * _AGES_S[match[2]]


def parse_size(value: str | int) -> int:
    """Return whole bytes from `512MiB`, `10MB`, `64KiB` or a number of bytes. Raises ValueError for anything else."""
    if isinstance(value, str):
        match = SIZE_FORM.fullmatch(value)
        if match is None:
            raise ValueError("expected a size such as 512MiB, 10MB or 1GiB, or a number of bytes")
        size = float(match[1]) * _BYTES[match[2]] if "." in match[1] else int(match[1]) * _BYTES[match[2]]
    else:
        size = value
    if not 1 <= size <= MAX_SIZE_BYTES:
        raise ValueError("expected a size from 1 byte to 1024TiB")
    return int(size)


def size_text(size_bytes: int) -> str:
    """Return `512 B` or `1.2 MiB`: one digit after the point from KiB on."""
    size, unit = float(size_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size_bytes} B" if unit == "B" else f"{size:.1f} {unit}"


def age_text(iso: str, now: datetime | None = None) -> str:
    """Return how long ago that was, in the largest whole unit: `now`, `5m ago`, `3h ago`, `12d ago`; `-` for a wrong time."""
    try:
        seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(iso)).total_seconds()
    except (ValueError, TypeError):
        return "-"
    for unit, length_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length_s:
            return f"{int(seconds // length_s)}{unit} ago"
    return "now"
