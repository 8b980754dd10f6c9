"""What a session costs on an engine, beside `docker run --rm` there: run as a program, which prints seconds as JSON.

    python figures.py [ROUNDS STEPS]

A round is a whole session and a container that is run; `STEPS` steps are measured in each.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import docker

from testronaut_lab import Session

IMAGE = "debian:bookworm-slim"
ROUNDS = 7
STEPS = 50
TIMEOUT_S = 0.5
# What each figure is called, the factor to what it is shown in, and that unit.
SHOWN = {
    "start": ("start of a session", 1, "s"),
    "end": ("end of a session", 1, "s"),
    "step": ("a step", 1000, "ms"),
    "late": ("a timeout, later than asked", 1000, "ms"),
    "run": ("`docker run --rm`", 1, "s"),
}


def measure(rounds: int = ROUNDS, steps: int = STEPS) -> dict[str, float]:
    """Medians: of a session's start and end, of a step, of what a step takes beyond its timeout, of a container that is run.

    The first round, which does not count, loads what the others find loaded.
    """
    taken: dict[str, list[float]] = {name: [] for name in SHOWN}
    client = docker.from_env()
    try:
        _round(client, {name: [] for name in taken}, steps)
        for _ in range(rounds):
            _round(client, taken, steps)
    finally:
        client.close()
    return {name: statistics.median(times) for name, times in taken.items()}


def _round(client: docker.DockerClient, taken: Mapping[str, list[float]], steps: int) -> None:
    session = Session(IMAGE)
    taken["start"].append(_seconds(session.start))
    session.run(":")
    taken["step"] += [_seconds(lambda: session.run(":")) for _ in range(steps)]
    taken["late"].append(_seconds(lambda: session.run("sleep 300", timeout=TIMEOUT_S)) - TIMEOUT_S)
    image_id = session.image_id
    taken["end"].append(_seconds(session.close))
    taken["run"].append(_seconds(lambda: client.containers.run(image_id, ["true"], remove=True, network_mode="none")))


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:]))))
