"""`make bench`: all benchmarks, one after the other, as Markdown tables, then the figures to reach beside those measured.

A ratio is between rows of one run; the absolute times are the machine's. Names of parts as arguments run only those.
"""

from __future__ import annotations

import os
import platform
import sys
import time

import growth
import rootfs
import scans
import start
import steps
import throughput
import timeouts
from table import Figure, print_figures

IMAGE = "debian:bookworm-slim"
PARTS = {
    "start": start.measure,
    "steps": steps.measure,
    "throughput": throughput.measure,
    "timeouts": timeouts.measure,
    "growth": growth.measure,
    "scans": scans.measure,
    "rootfs": rootfs.measure,
}


def main(names: list[str]) -> None:
    """The parts of these names, or all."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Linux {platform.release()}"
    print(f"{machine}, {time.strftime('%Y-%m-%d')}")
    figures: list[Figure] = []
    for name in names or PARTS:
        figures += PARTS[name](IMAGE)
    print_figures(figures)


if __name__ == "__main__":
    main(sys.argv[1:])
