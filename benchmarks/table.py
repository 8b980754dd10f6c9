"""Timing and printing for the benchmarks: medians of rows measured in turn, so that noise falls on all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
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

    @property
    def max_ms(self) -> float:
        return max(self.times_s) * 1e3


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure beside the one to reach, in words."""

    what: str
    to_reach: str
    measured: str
    is_reached: bool


def timed(action: Callable[[], object]) -> Callable[[], float]:
    """The same action, giving how long it took in seconds."""

    def measure() -> float:
        started = time.perf_counter()
        action()
        return time.perf_counter() - started

    return measure


def in_turn(
    measures: Mapping[str, Callable[[], float]], rounds: int, *, at_a_time: int = 1, settle_s: float = 0.0
) -> dict[str, Row]:
    """Measure all of them `rounds` times in turn, each so often `at_a_time`, after one round that does not count.

    One at a time, what is measured in a millisecond always finds the processor's caches full of what takes a hundred; and an
    engine goes on clearing up for a while after it has answered, on the time of whoever comes next unless that `settle`s.
    """
    times: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(rounds // at_a_time + 1):
        for name, measure in measures.items():
            time.sleep(settle_s)
            taken_s = [measure() for _ in range(at_a_time)]
            if turn:
                times[name] += taken_s
    return {name: Row(name, tuple(taken)) for name, taken in times.items()}


def print_rows(title: str, rows: Sequence[Row], base: Row) -> None:
    """A Markdown table; `base` is what the last column is in relation to."""
    width = max(len(row.name) for row in rows)
    print(f"\n**{title}** (n = {len(rows[0].times_s)} each, in turn, in one run)\n")
    print(f"| {'what':<{width}} | median ms | p90 ms | ÷ {base.name} |")
    print(f"|{'-' * (width + 2)}|----------:|-------:|---:|")
    for row in rows:
        print(f"| {row.name:<{width}} | {row.median_ms:9.2f} | {row.p90_ms:6.2f} | {row.median_ms / base.median_ms:.3f} |")


def print_figures(figures: Sequence[Figure]) -> None:
    """What was to be reached, and what was."""
    width = max(len(figure.what) for figure in figures)
    print(f"\n**Figures**\n\n| {'what':<{width}} | to reach | measured | |\n|{'-' * (width + 2)}|---|---|---|")
    for figure in figures:
        print(f"| {figure.what:<{width}} | {figure.to_reach} | {figure.measured} | {'yes' if figure.is_reached else '**no**'} |")
