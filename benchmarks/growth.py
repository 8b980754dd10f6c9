"""Whether a session with many steps gets slower or larger: what a step costs at the start and the end, what is held then."""

from __future__ import annotations

import statistics
from dataclasses import fields
from functools import partial

from process import MIB, held
from table import Figure, timed

from testronaut_lab import Session

STEPS = 1000
WARM_UP = 50


def measure(image: str, steps: int = STEPS) -> list[Figure]:
    """Print what changed over the steps, which are builtins, programs and changes of a file in turn."""
    with Session(image) as session:
        scripts = (":", "/bin/true", "echo $((i = i + 1)) >f", "cd /tmp; cd /workspace", "exit 3")
        for turn in range(WARM_UP):
            session.run(scripts[turn % len(scripts)])
        before = held()
        times = [timed(partial(session.run, scripts[turn % len(scripts)]))() for turn in range(steps)]
        after = held()
    tenth = max(steps // 10, 1)
    start_ms, end_ms = (statistics.median(times[piece]) * 1e3 for piece in (slice(tenth), slice(-tenth, None)))
    print(f"\n**{steps} steps in one session** (of five kinds in turn; first and last {tenth})\n")
    print("| | before | after |\n|---|---:|---:|")
    print(f"| cost of a step, median ms | {start_ms:.2f} | {end_ms:.2f} |")
    for field in fields(before):
        first, last = getattr(before, field.name), getattr(after, field.name)
        if field.name == "rss_bytes":
            print(f"| RSS of our process, MiB | {first / MIB:.1f} | {last / MIB:.1f} |")
        else:
            print(f"| {field.name} | {first} | {last} |")
    return [
        Figure(f"{steps} steps: cost at the end to the start", "≤ 1.2 ×", f"{end_ms / start_ms:.2f} ×", end_ms <= 1.2 * start_ms),
        Figure("  fds and FIFOs held", "no growth", f"{after.fds - before.fds:+d}", after.fds <= before.fds),
    ]
