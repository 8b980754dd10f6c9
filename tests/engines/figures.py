"""What a session costs on an engine, beside `docker run --rm` there: run as a program, which prints seconds as JSON."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping

import docker

from testronaut_lab import Session

IMAGE = "debian:bookworm-slim"
ROUNDS = 7
STEPS = 50
TIMEOUT_S = 0.5


def measure() -> dict[str, float]:
    """Medians: of a session's start and end, of a step, of what a step takes beyond its timeout, of a container that is run."""
    taken: dict[str, list[float]] = {name: [] for name in ("start", "end", "step", "late", "run")}
    client = docker.from_env()
    try:
        _round(client, {name: [] for name in taken})  # does not count
        for _ in range(ROUNDS):
            _round(client, taken)
    finally:
        client.close()
    return {name: statistics.median(times) for name, times in taken.items()}


def _round(client: docker.DockerClient, taken: Mapping[str, list[float]]) -> None:
    session = Session(IMAGE)
    taken["start"].append(_seconds(session.start))
    session.run(":")
    taken["step"] += [_seconds(lambda: session.run(":")) for _ in range(STEPS)]
    taken["late"].append(_seconds(lambda: session.run("sleep 300", timeout=TIMEOUT_S)) - TIMEOUT_S)
    image_id = session.image_id
    taken["end"].append(_seconds(session.close))
    taken["run"].append(_seconds(lambda: client.containers.run(image_id, ["true"], remove=True, network_mode="none")))


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(measure()))
