"""The table of engines: rows kept in docs/engines.json, and what docs/engines.md shows of them between its two marks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from enginecells import ROOT, Counted
from figures import SHOWN

FILE = ROOT / "docs" / "engines.json"
PAGE = ROOT / "docs" / "engines.md"
BEGIN, END = "<!-- made by `make engines`: begin -->", "<!-- made by `make engines`: end -->"


@dataclass(frozen=True, slots=True)
class Row:
    """`cgroup` has in words what limits there are; `figures` are seconds by name, empty where nothing was measured.

    `chosen` is the expression by which tests were chosen, empty for all. `tried` is the day, and the commit that was tried.
    """

    engine: str
    cgroup: str
    user: str
    passed: int = 0
    failed: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    chosen: str = ""
    tried: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.engine, self.user

    @property
    def failed_paths(self) -> tuple[str, ...]:
        """What pytest calls the failed tests, from the folder of tests."""
        names = (name.removeprefix("tests.").partition("::") for name in self.failed)
        return tuple(f"{module.replace('.', '/')}.py::{test}" for module, _, test in names)

    def again(self, counted: Counted, tried: str) -> Row:
        """With the ends of its failed tests, which were run again."""
        skipped = {
            reason: self.skipped.get(reason, 0) + counted.skipped.get(reason, 0) for reason in {*self.skipped, *counted.skipped}
        }
        first = self.tried.partition("; ")[0]
        return replace(
            self,
            passed=self.passed + counted.passed,
            failed=counted.failed,
            skipped=skipped,
            tried=f"{first}; {len(self.failed)} again: {tried.partition(', ')[2]}",
        )


def load(file: Path = FILE) -> dict[tuple[str, str], Row]:
    """The rows that earlier runs made, by engine and user."""
    if not file.exists():
        return {}
    rows = [Row(**{**raw, "failed": tuple(raw["failed"])}) for raw in json.loads(file.read_text())["rows"]]
    return {row.key: row for row in rows}


def save(rows: Iterable[Row], file: Path = FILE, page: Path = PAGE) -> None:
    """Write the rows, and the page's part that is made of them."""
    kept = sorted(rows, key=lambda row: row.key)
    short = [asdict(replace(row, figures={name: round(value, 4) for name, value in row.figures.items()})) for row in kept]
    file.write_text(json.dumps({"version": 1, "rows": short}, indent=1, sort_keys=True) + "\n")
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{markdown(kept)}{END}{after}")


def markdown(rows: Iterable[Row]) -> str:
    """Two tables, and beneath them what was skipped and what failed."""
    rows = list(rows)
    lines = [
        "",
        "| engine | control groups | user | tests | passed | failed | skipped | tried |",
        "|---|---|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        skipped = sum(row.skipped.values())
        tests = f"`{row.chosen}`" if row.chosen else "all"
        cells = [row.engine, row.cgroup, row.user, tests, str(row.passed), str(len(row.failed)), str(skipped), row.tried]
        lines.append(f"| {' | '.join(cells)} |")
    heads = [f"{said}, {unit}" for said, _, unit in SHOWN.values()]
    lines += ["", f"| engine | user | {' | '.join(heads)} |", f"|---|---|{'---:|' * len(heads)}"]
    for row in (row for row in rows if row.figures):
        cells = [f"{row.figures[name] * factor:.2f}" for name, (_, factor, _) in SHOWN.items()]
        lines.append(f"| {row.engine} | {row.user} | {' | '.join(cells)} |")
    for title, what in (("Skipped", _skipped(rows)), ("Failed", _failed(rows))):
        if what:
            lines += ["", f"{title}:", "", *what]
    return "\n".join(lines) + "\n\n"


def _skipped(rows: Iterable[Row]) -> list[str]:
    """One line a reason, with the rows that it is for."""
    where: dict[str, list[str]] = {}
    for row in rows:
        for reason, count in row.skipped.items():
            where.setdefault(reason, []).append(f"{row.engine} {row.user} ({count})")
    return [f"- {reason}: {', '.join(places)}" for reason, places in sorted(where.items())]


def _failed(rows: Iterable[Row]) -> list[str]:
    where: dict[str, list[str]] = {}
    for row in rows:
        for name in row.failed:
            where.setdefault(name, []).append(f"{row.engine} {row.user}")
    return [f"- `{name}`: {', '.join(places)}" for name, places in sorted(where.items())]
