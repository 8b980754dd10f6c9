"""What a step costs: the session against `docker exec` in its forms, and against the floor of fork and exec in the container.

Run with `make bench`. Every row of a table is measured in turn with the others, in one process, on one engine.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import docker
from table import Row, in_turn, print_rows

from testronaut_lab import Session

IMAGE = "debian:bookworm-slim"
ROUNDS = 100
FLOOR_LOOP = 300


def floor_s(container: str) -> float:
    """Fork and exec of /bin/true by a shell loop in the container, per turn; the time of an empty loop taken off."""

    def loop(body: str) -> float:
        script = f"i=0; while [ $i -lt {FLOOR_LOOP} ]; do {body}; i=$((i+1)); done"
        started = time.perf_counter()
        subprocess.run(["docker", "exec", container, "sh", "-c", script], check=True, capture_output=True)
        return time.perf_counter() - started

    return (loop("/bin/true") - loop(":")) / FLOOR_LOOP


def main() -> None:
    client = docker.from_env()
    with Session(IMAGE) as empty, Session(IMAGE) as full:
        empty.start()
        for i in range(100):
            full.put(f"d{i % 10}/f{i}", f"{i}\n")
        full.run(":")
        bare = client.containers.run(empty.image_id, ["sleep", "3600"], detach=True, init=True)
        try:
            compare(empty, full, bare)
        finally:
            bare.remove(force=True)


def compare(empty: Session, full: Session, bare: docker.models.containers.Container) -> None:
    actions: dict[str, Callable[[], object]] = {
        "session: builtin step, empty workspace": lambda: empty.run(":"),
        "session: external command (/bin/true)": lambda: empty.run("/bin/true"),
        "session: builtin step, 100 entries": lambda: full.run(":"),
        "SDK exec_run('true')": lambda: bare.exec_run("true"),
        "CLI docker exec true": lambda: subprocess.run(["docker", "exec", bare.id, "true"], check=True),
        "CLI docker run --rm true": lambda: subprocess.run(["docker", "run", "--rm", empty.image_id, "true"], check=True),
    }
    rows = in_turn(actions, ROUNDS)
    floors = Row("floor: fork + exec by a loop in the container", tuple(floor_s(bare.id) for _ in range(10)))
    by_name = {row.name: row for row in rows}
    sdk = by_name["SDK exec_run('true')"]
    print_rows("A step", [*rows, floors], sdk)
    builtin, external = (by_name[name].median_ms for name in list(actions)[:2])
    print(f"\nbuiltin step: {sdk.median_ms / builtin:.0f} × faster than SDK exec_run('true')")
    print(f"external command: {external / floors.median_ms:.2f} × the fork + exec floor")


if __name__ == "__main__":
    main()
