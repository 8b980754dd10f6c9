"""The cells of a matrix side by side, as lines of text: a table of cases and cells, then where the cells differ.

`report/cells.py` decides what is compared. All foreign text is made safe here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from testronaut_lab.model.cells import bracketed
from testronaut_lab.model.comparison import Difference, SideBySide, Variant
from testronaut_lab.model.result import Status
from testronaut_lab.report.text.lines import INDENT, STYLES, WORDS, labelled
from testronaut_lab.safetext import MAX_LINE_CHARACTERS, safe_line, safe_text

_GAP = 2
_NAME_WIDTH = 36
_NUMBERED_WIDTH = 5
_VERSION_WIDTH = 24
_DIFFERENCES = 20
_LEAST_ROOM = 20
_CONTEXT = 12
_LISTED_CELLS = 3
_MORE = " and {} more"
_LISTED_ROWS = 40


def side_by_side_lines(beside: SideBySide, width: int) -> list[Text]:
    """Return the table, fitted to `width`, and for each difference its first line that differs."""
    title = Text(safe_line(beside.name), "bold").append(f"  {len(beside.cells)} side by side", "not bold dim")
    lines = [labelled("cells", title), *_table(beside, width)]
    if not beside.differences:
        steps = "1 step" if beside.compared == 1 else f"{beside.compared} steps"
        same = f"{steps} did the same in every cell" if beside.compared else "no step ran in more than one cell"
        return [*lines, labelled("same", same, "green" if beside.compared else "dim")]
    for difference in beside.differences[:_DIFFERENCES]:
        lines += _difference(difference, width)
    more = len(beside.differences) - _DIFFERENCES
    return [*lines, Text(f"{INDENT}… and {more} more differences", "dim")] if more > 0 else lines


def short_names(beside: SideBySide) -> list[str]:
    """Return a short name for each cell: the values of the keys that tell the cells apart. Not safe to show."""
    keys = beside.telling_keys
    return [", ".join(dict(cell).get(key, "–") for key in keys) for cell in beside.cells]


def _table(beside: SideBySide, width: int) -> list[Text]:
    """Return the table. Its columns are cells, named by their values; if that is too wide, by numbers with a legend; with too
    many cells, each cell is a row.
    """
    rows = [(name, [_status(status) for status in statuses]) for name, statuses in beside.cases]
    rows += [(f"{name} (tool)", [_version(version) for version in versions]) for name, versions in beside.tools]
    names = min(max(cell_len(safe_line(name)) for name, _ in rows) if rows else 0, _NAME_WIDTH)
    room = width - len(INDENT) - names
    titles = [safe_line(name) for name in short_names(beside)]
    needed = [max(cell_len(title), *(texts[i].cell_len for _, texts in rows)) for i, title in enumerate(titles)]
    if sum(needed) + _GAP * len(needed) <= room:
        return [_row("", [Text(title, "dim") for title in titles], names, needed), *_rows(rows, names, needed)]
    rows = rows[: len(beside.cases)]
    if (_NUMBERED_WIDTH + _GAP) * len(titles) <= room:
        numbers = [str(i) for i in range(1, len(titles) + 1)]
        narrow = [_NUMBERED_WIDTH] * len(titles)
        legend = [_legend(number, beside, i, width) for i, number in enumerate(numbers)]
        return [*legend, _row("", [Text(number, "dim") for number in numbers], names, narrow), *_rows(rows, names, narrow)]
    return list(_one_below_the_other(beside, width))


def _rows(rows: Sequence[tuple[str, Sequence[Text]]], names: int, widths: Sequence[int]) -> list[Text]:
    return [_row(safe_line(name, names), texts, names, widths) for name, texts in rows]


def _row(name: str, texts: Sequence[Text], names: int, widths: Sequence[int]) -> Text:
    line = Text(INDENT).append(name + " " * (names - cell_len(name)))
    for text, width in zip(texts, widths, strict=True):
        line.append(" " * _GAP).append_text(text).append(" " * (width - text.cell_len))
    line.rstrip()
    return line


def _legend(number: str, beside: SideBySide, i: int, width: int) -> Text:
    versions = ", ".join(f"{name} {row[i]}" for name, row in beside.tools if row[i] is not None)
    room = width - len(INDENT) - 5
    shown = safe_line(bracketed(beside.cells[i]), room)
    line = Text(INDENT).append(f"{number:>3}  ", "dim").append(shown)
    left = room - cell_len(shown) - _GAP
    return line.append(f"  {safe_line(versions, left)}", "dim") if versions and left > _GAP else line


def _one_below_the_other(beside: SideBySide, width: int) -> Iterator[Text]:
    """Yield one line for each cell, bad cells first, with the number of its cases per status."""
    order = sorted(range(len(beside.cells)), key=lambda i: beside.statuses[i] in (Status.PASSED, Status.SKIPPED))
    for i in order[:_LISTED_ROWS]:
        counts = [(status, sum(row[i] is status for _, row in beside.cases)) for status in Status]
        line = Text(INDENT).append_text(_status(beside.statuses[i])).append(" " * (7 - len(WORDS[beside.statuses[i]])))
        told = "  " + ", ".join(f"{count} {status.value}" for status, count in counts if count)
        line.append(safe_line(bracketed(beside.cells[i]), max(width - line.cell_len - len(told), _LEAST_ROOM)))
        yield line.append(told, "dim")
    if len(order) > _LISTED_ROWS:
        yield Text(f"{INDENT}… and {len(order) - _LISTED_ROWS} more cells", "dim")


def _status(status: Status | None) -> Text:
    return Text("–", "dim") if status is None else Text(WORDS[status], STYLES[status])


def _version(version: str | None) -> Text:
    return Text("–" if version is None else safe_line(version, _VERSION_WIDTH), "dim")


def _difference(difference: Difference, width: int) -> Iterator[Text]:
    line = "" if difference.line is None else f", line {difference.line}"
    where = Text(safe_line(f"{difference.case}::{difference.step}")).append(f"  {safe_line(difference.aspect)}{line}", "dim")
    yield labelled("differs", where, "magenta")
    names = [_cells(variant, max(width - len(INDENT) - 2 - _GAP, _LEAST_ROOM)) for variant in difference.variants]
    texts = [_one_line(variant.text) for variant in difference.variants]
    longest = max(map(cell_len, names))
    side = len(INDENT) + longest + 2 * _GAP
    beneath = side > width // 2 and side + max(map(cell_len, texts)) > width
    room = max(width - (len(INDENT) + 2 * _GAP if beneath else side), _LEAST_ROOM)
    for name, text in zip(names, _fitting(texts, room), strict=True):
        label = Text(f"{INDENT}  ").append(name, "cyan")
        if beneath:
            yield from (label, Text(f"{INDENT}    {text}"))
        else:
            yield label.append(" " * (longest - cell_len(name) + _GAP)).append(text, "default")


def _one_line(text: str) -> str:
    return safe_line(text) if "\n" in text else safe_text(text[:MAX_LINE_CHARACTERS]).replace("\t", " ")


def _fitting(texts: Sequence[str], room: int) -> list[str]:
    """Cut each text to `room`. Drops the end, and the common beginning if the difference would not be visible."""
    if max(map(len, texts)) <= room:
        return list(texts)
    common = next((i for i, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1), 0)
    start = common - _CONTEXT if common > room // 2 else 0
    cut = [f"…{text[start:]}" if start > 0 else text for text in texts]
    return [text if len(text) <= room else f"{text[: room - 1]}…" for text in cut]


def _cells(variant: Variant, room: int) -> str:
    """Name as many cells of the variant as fit, at least one, and how many more there are."""
    names = [safe_line(bracketed(cell), room) for cell in variant.cells]
    shown = names[:1]
    for name in names[1:_LISTED_CELLS]:
        if cell_len(" ".join([*shown, name])) + len(_MORE) <= room:
            shown.append(name)
    more = len(names) - len(shown)
    return " ".join(shown) + (_MORE.format(more) if more else "")
