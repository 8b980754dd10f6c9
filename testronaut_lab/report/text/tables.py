"""Lists for people: stored runs, cached images, pending goldens. Columns of plain text if the output is no terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from testronaut_lab.model.result import Status
from testronaut_lab.model.runs import RunSummary
from testronaut_lab.model.units import age_text, size_text
from testronaut_lab.report.text.lines import STYLES, cut_middle, duration_text
from testronaut_lab.safetext import safe_line

_NARROWEST = 24
_LONG_ID = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")


class ImageRow(Protocol):
    """What the list of images shows about each. Times are ISO 8601."""

    @property
    def tag(self) -> str: ...
    @property
    def spec(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def own_bytes(self) -> int: ...
    @property
    def created(self) -> str: ...
    @property
    def last_used(self) -> str: ...
    @property
    def used_by(self) -> Sequence[str]: ...


def runs_table(runs: Sequence[RunSummary], *, plain: bool) -> RenderableType:
    """Return a table of stored runs, in the given order. `plain` returns a str without colours, lines or a width limit."""
    header = ("run", "started", "took", "status", "cases", "plans")
    rows = [(run.id, _when(run.started), _took(run), run.status, _cases(run.totals), ", ".join(run.plans)) for run in runs]
    return _table(header, rows, plain=plain, empty="no runs yet")


def images_table(images: Sequence[ImageRow], *, plain: bool, now: datetime | None = None) -> RenderableType:
    """Return a table of cached images, in the given order; `plain` as in `runs_table`. `own` is an image's size without its
    base.
    """
    header = ("image", "of", "size", "own", "made", "used")
    rows = [
        (
            image.tag,
            _LONG_ID.sub(r"\1…", image.spec),
            size_text(image.size_bytes),
            size_text(image.own_bytes),
            age_text(image.created, now),
            "in use" if image.used_by else age_text(image.last_used, now),
        )
        for image in images
    ]
    return _table(header, rows, plain=plain, empty="no images yet")


def pending_table(rows: Sequence[tuple[str, str, str, str]], *, plain: bool) -> RenderableType:
    """Return a table of pending goldens: name, what differs, when it was seen (ISO 8601), why it cannot be accepted."""
    header = ("step", "differs in", "seen", "problem")
    shown = [(name, what, _when(when), problem) for name, what, when, problem in rows]
    columns = 4 if any(problem for *_, problem in rows) else 3
    return _table(header[:columns], [row[:columns] for row in shown], plain=plain, empty="nothing is pending")


class _Cut:
    """A name in the first column. It loses its middle if the other columns need the room."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        wide = cell_len(self._name)
        return Measurement(min(wide, _NARROWEST), wide)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(cut_middle(self._name, options.max_width), no_wrap=True)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, plain: bool, empty: str) -> RenderableType:
    if not rows:
        return empty if plain else Text(empty, "dim")
    safe = [[safe_line(cell) for cell in row] for row in rows]
    if plain:
        lines = [list(header), *safe]
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    table = Table(*header, box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for row in safe:
        table.add_row(_Cut(row[0]), *(Text(cell, STYLES.get(cell, "")) for cell in row[1:]))
    return table


def _cases(totals: dict[str, int]) -> str:
    return ", ".join(f"{totals[status]} {status.value}" for status in Status if totals.get(status)) or "-"


def _when(iso: str) -> str:
    return iso[:19].replace("T", " ")


def _took(run: RunSummary) -> str:
    if run.finished is None:
        return "-"
    try:
        seconds = (datetime.fromisoformat(run.finished) - datetime.fromisoformat(run.started)).total_seconds()
    except (ValueError, TypeError):  # a row that another program wrote
        return "-"
    return duration_text(max(seconds, 0.0))
