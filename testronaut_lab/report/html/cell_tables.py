"""The cells of a matrix side by side, as HTML: a table of cases and cells, then a table of differences. No script.

`report/cells.py` decides what is compared; `text/cell_lines.py` shows the same as text. All foreign text is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from testronaut_lab.model import display
from testronaut_lab.model.cells import bracketed
from testronaut_lab.model.comparison import Difference, SideBySide
from testronaut_lab.model.result import Status
from testronaut_lab.report.text.cell_lines import short_names
from testronaut_lab.report.text.lines import WORDS
from testronaut_lab.safetext import clipped, safe_text

_GOOD, _BAD, _OTHER, _GREY = "#3a9a5b", "#d9534f", "#b9822b", "#888"
_COLOURS = {Status.PASSED: _GOOD, Status.FAILED: _BAD, Status.ERROR: _BAD, Status.XPASSED: _BAD}
_CELL = "padding:.15em .8em .15em 0;text-align:left;vertical-align:top;background:none;border:none"
_MONO = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere"
_DIFFERENCES = 200


def beside_html(beside: SideBySide) -> list[str]:
    """Return both tables with their headings; the second only if something differs."""
    parts = [f"<div><strong>{_text(beside.name)}</strong> {_dim(f'{len(beside.cells)} cells side by side')}</div>"]
    rows = [_row(_text(case), map(_status, statuses)) for case, statuses in beside.cases]
    rows += [_row(_dim(f"{name} (tool)"), (_dim(version or "–") for version in versions)) for name, versions in beside.tools]
    parts.append(_table([_row("", map(_dim, short_names(beside))), *rows]))
    if not beside.differences:
        return [*parts, f"<div>{_dim(f'{beside.compared} steps, nothing differs')}</div>"]
    shown = [row for difference in beside.differences[:_DIFFERENCES] for row in _difference(difference)]
    more = len(beside.differences) - _DIFFERENCES
    tail = [f"<div>{_dim(f'… and {more} more differences')}</div>"] if more > 0 else []
    return [*parts, "<div><strong>where they differ</strong></div>", _table(shown), *tail]


def _difference(difference: Difference) -> list[str]:
    line = "" if difference.line is None else f", line {difference.line}"
    where = f"{_text(f'{difference.case}::{difference.step}')} {_dim(f'{difference.aspect}{line}')}"
    heading = f'<tr><td colspan="2" style="{_CELL}">{where}</td></tr>'
    variants = [(" ".join(map(bracketed, variant.cells)), clipped(variant.text)) for variant in difference.variants]
    return [heading, *(_row(_dim(cells), [f'<span style="{_MONO}">{_text(text)}</span>']) for cells, text in variants)]


def _table(rows: Iterable[str]) -> str:
    return f'<table style="border-collapse:collapse;margin:.25em 0">{"".join(rows)}</table>'


def _row(name: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in (name, *cells)) + "</tr>"


def _status(status: Status | None) -> str:
    if status is None:
        return _dim("–")
    return f'<span style="color:{_COLOURS.get(status, _OTHER)};font-weight:600">{WORDS[status]}</span>'


def _dim(text: str) -> str:
    return f'<span style="color:{_GREY}">{_text(text)}</span>'


def _text(text: str) -> str:
    return escape(safe_text(text))


@display.html.register
def _comparison_html(beside: SideBySide) -> str:
    return "".join(beside_html(beside))
