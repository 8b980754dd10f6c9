"""How late a timeout is: from the moment at which the step should have ended to the result in hand, nothing left alive."""

from __future__ import annotations

import time

from table import Figure, Row

from testronaut_lab import Session

ROUNDS = 100
TIMEOUT_S = 0.5
SCRIPTS = (
    "sleep 300",
    "while :; do :; done",
    "trap '' TERM INT HUP; sleep 300",
    "setsid sleep 300 & ( ( sleep 300 & ) & ); sleep 300",
    "yes >/dev/null",
)


def measure(image: str, rounds: int = ROUNDS) -> list[Figure]:
    """Print how late steps of several kinds ended."""
    late: list[float] = []
    survivors = 0
    with Session(image) as session:
        alive = _processes(session)
        for turn in range(rounds):
            script = SCRIPTS[turn % len(SCRIPTS)]
            started = time.perf_counter()
            result = session.run(script, timeout=TIMEOUT_S)
            late.append(time.perf_counter() - started - TIMEOUT_S)
            assert result.exit.kind.value == "timeout", result.exit
            survivors += len(result.left_behind)
        left = _processes(session) - alive
    row = Row("late", tuple(late))
    print(f"\n**A timeout of {TIMEOUT_S} s** (n = {rounds}, five kinds of step in turn)\n")
    print("| | median ms | p90 ms | max ms |\n|---|---:|---:|---:|")
    print(f"| later than asked | {row.median_ms:.1f} | {row.p90_ms:.1f} | {row.max_ms:.1f} |")
    print(f"\nprocesses after the last one, to before the first: {left:+d}")
    is_reached = row.max_ms < 500 and survivors == 0
    return [Figure("timeout: later than asked", "< 500 ms", f"{row.max_ms:.0f} ms at most", is_reached)]


def _processes(session: Session) -> int:
    return int(session.run("set -- /proc/[0-9]*; echo $#; set --").check().out)
