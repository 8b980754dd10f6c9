"""What it costs to see what a step changed in a writable root: the overlay's upper directory against the engine's diff."""

from __future__ import annotations

from collections.abc import Callable

import docker
from docker.models.containers import Container
from table import Figure, in_turn, print_rows, timed

from testronaut_lab import Session
from testronaut_lab.capture import overlay
from testronaut_lab.capture.file_capture import ScanLimits
from testronaut_lab.capture.outside import Root
from testronaut_lab.container.engine.connect import connect
from testronaut_lab.container.rootfs import ContainerRoot

ROUNDS = 20
CHANGED = 100
TARGET = 50
_SCRIPT = f"mkdir -p /opt/d; i=0; while [ $i -lt {CHANGED} ]; do echo $i >/opt/d/f$i; i=$((i + 1)); done"


def measure(image: str, rounds: int = ROUNDS) -> list[Figure]:
    """Print the table; empty where the upper directory cannot be read, as for callers that are not root."""
    engine = connect()
    with Session(image) as session:
        session.start()
        client = docker.from_env()
        bare = client.containers.run(session.image_id, ["sleep", "3600"], detach=True, init=True)
        try:
            bare.exec_run(["sh", "-c", _SCRIPT])
            return _compare(bare, ContainerRoot(engine, bare.id, bare.name), rounds)
        finally:
            bare.remove(force=True)
            client.close()


def _compare(bare: Container, kept: ContainerRoot, rounds: int) -> list[Figure]:
    layers = kept.layers()
    if layers is None or not overlay.readable(layers.upper):
        return []
    limits = ScanLimits()
    image = overlay.ImageLayers(layers.lower, limits)
    root = Root(overlay.UpperDirectory(layers.upper, image, limits), image, "/root")
    root.look()

    def look() -> None:
        changes, _ = root.look()
        assert [change.path for change in changes] == ["opt/d/f0"], changes

    upper, diff = "upper directory: what a step changed", "the engine's diff: its list of paths"
    rows = in_turn({upper: _after(_step(bare), timed(look)), diff: _after(_step(bare), timed(kept.changed))}, rounds)
    root.close()
    print_rows(f"One changed file in a writable root with {CHANGED} changed before", list(rows.values()), rows[diff])
    faster = rows[diff].median_ms / rows[upper].median_ms
    what = "upper directory against the engine's diff"
    return [Figure(what, f"≥ {TARGET} × faster", f"{faster:.0f} × faster", faster >= TARGET)]


def _step(bare: Container) -> Callable[[], object]:
    return lambda: bare.exec_run(["sh", "-c", "date +%N >/opt/d/f0"])


def _after(first: Callable[[], object], measure: Callable[[], float]) -> Callable[[], float]:
    def both() -> float:
        first()
        return measure()

    return both
