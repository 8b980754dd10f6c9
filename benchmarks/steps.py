"""What a step costs: the session against `docker exec` in its forms, and against the floor of fork and exec in the container."""

from __future__ import annotations

import subprocess

import docker
from docker.models.containers import Container
from table import Figure, in_turn, print_rows, timed

from testronaut_lab import Session

ROUNDS = 150
AT_A_TIME = 50  # as steps come, and as the loop of the floor has it
SETTLE_S = 0.5
FLOOR_LOOP = 50
SDK = "SDK exec_run('true')"
BUILTIN = "session: builtin step (:)"
EXTERNAL = "session: external command (/bin/true)"
RESTORE = "session: a step that ends its shell (exit 3), restored"
UNDO = "session: a step taken back (undo)"
FLOOR = "floor: fork + exec of /bin/true by a loop"

_LOOP = f"i=0; while [ $i -lt {FLOOR_LOOP} ]; do %s; i=$((i + 1)); done"
_FLOOR_SCRIPT = f"a=$(date +%s%N); {_LOOP % '/bin/true'}; b=$(date +%s%N); {_LOOP % ':'}; echo $((b - a - ($(date +%s%N) - b)))"


def floor_s(session: Session) -> float:
    """Fork and exec by a shell's loop in the session's own container, each; what the loop itself takes is taken off."""
    return int(session.run(["sh", "-c", _FLOOR_SCRIPT]).check().out) / 1e9 / FLOOR_LOOP


def _undo_s(session: Session) -> float:
    session.run("v=1").check()
    return timed(session.undo)()


def measure(image: str, rounds: int = ROUNDS) -> list[Figure]:
    """Print the table of steps."""
    client = docker.from_env()
    with Session(image) as empty, Session(image) as full:
        empty.start()
        for i in range(100):
            full.put(f"d{i % 10}/f{i}", f"{i}\n")
        full.run(":")
        bare = client.containers.run(empty.image_id, ["sleep", "3600"], detach=True, init=True)
        try:
            return _compare(empty, full, bare, rounds)
        finally:
            bare.remove(force=True)
            client.close()


def _compare(empty: Session, full: Session, bare: Container, rounds: int) -> list[Figure]:
    rows = in_turn(
        {
            BUILTIN: timed(lambda: empty.run(":")),
            EXTERNAL: timed(lambda: empty.run("/bin/true")),
            "session: builtin step, 100 entries in the workspace": timed(lambda: full.run(":")),
            RESTORE: timed(lambda: empty.run("exit 3")),
            UNDO: lambda: _undo_s(empty),
            FLOOR: lambda: floor_s(empty),
            SDK: timed(lambda: bare.exec_run("true")),
            "CLI docker exec true": timed(lambda: subprocess.run(["docker", "exec", bare.id, "true"], check=True)),
            "CLI docker run --rm true": timed(
                lambda: subprocess.run(["docker", "run", "--rm", empty.image_id, "true"], check=True)
            ),
        },
        rounds,
        at_a_time=AT_A_TIME,
        settle_s=SETTLE_S,
    )
    print_rows("A step", list(rows.values()), rows[SDK])
    faster = rows[SDK].median_ms / rows[BUILTIN].median_ms
    above = rows[EXTERNAL].median_ms / rows[FLOOR].median_ms
    return [
        Figure("builtin step against SDK exec_run", "≥ 120 × faster", f"{faster:.0f} × faster", faster >= 120),
        Figure("external command against fork + exec", "≤ 1.8 ×", f"{above:.2f} ×", above <= 1.8),
        Figure("a shell restored", "≤ 30 ms", f"{rows[RESTORE].median_ms:.1f} ms", rows[RESTORE].median_ms <= 30),
    ]
