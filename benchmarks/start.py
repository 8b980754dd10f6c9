"""What a session costs until its first step has ended, its image being in the cache, against a container that is run bare.

The bare one has no profile, no directories and no shell that stays: `docker run -d` and one exec, by the same SDK.
"""

from __future__ import annotations

import time

import docker
from table import Figure, in_turn, print_rows

from testronaut_lab import Session

ROUNDS = 24
SETTLE_S = 0.5
TOOL = "apt:jq"
OURS = "session: start, first step"
BARE = "SDK run -d, first exec"


def measure(image: str, rounds: int = ROUNDS) -> list[Figure]:
    """Print the table of starts."""
    with Session(image, TOOL) as first:
        first.start()
        image_id = first.image_id
    client = docker.from_env()

    def ours() -> float:
        started = time.perf_counter()
        with Session(image, TOOL) as session:
            session.run("true").check()
            return time.perf_counter() - started

    def bare() -> float:
        started = time.perf_counter()
        container = client.containers.run(image_id, ["sleep", "3600"], detach=True)
        try:
            assert container.exec_run("true").exit_code == 0
            return time.perf_counter() - started
        finally:
            container.remove(force=True)

    try:
        rows = in_turn({OURS: ours, BARE: bare}, rounds, settle_s=SETTLE_S)
    finally:
        client.close()
    print_rows("A start from the cache", list(rows.values()), rows[BARE])
    ratio = rows[OURS].median_ms / rows[BARE].median_ms
    return [Figure("cached start against a bare run -d", "≤ 1.25 ×", f"{ratio:.2f} ×", ratio <= 1.25)]
