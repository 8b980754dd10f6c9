"""Timing and printing for the benchmarks: medians of rows measured in turn, so that noise falls on all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """`times_s` are the single measurements."""

    name: str
    times_s: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.times_s) * 1e3

    @property
    def p90_ms(self) -> float:
        return statistics.quantiles(self.times_s, n=10)[-1] * 1e3 if len(self.times_s) > 1 else self.median_ms


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def in_turn(actions: dict[str, Callable[[], object]], rounds: int, per_round: int = 1) -> list[Row]:
    """Measure all actions `rounds` times, one after the other in each round, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds + 1):
        for name, action in actions.items():
            for _ in range(per_round):
                taken = timed(action)
                if turn:
                    times[name].append(taken)
    return [Row(name, tuple(taken)) for name, taken in times.items()]


def print_rows(title: str, rows: Sequence[Row], base: Row) -> None:
    """A Markdown table; `base` is what the last column is in relation to."""
    width = max(len(row.name) for row in rows)
    print(f"\n**{title}** (n = {len(rows[0].times_s)} each, in one run)\n")
    print(f"| {'what':<{width}} | median ms | p90 ms | × {base.name} |")
    print(f"|{'-' * (width + 2)}|----------:|-------:|---:|")
    for row in rows:
        print(f"| {row.name:<{width}} | {row.median_ms:9.2f} | {row.p90_ms:6.2f} | {row.median_ms / base.median_ms:.2f} |")
