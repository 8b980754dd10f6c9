"""Formats pending goldens: a line for a list, the command, and the differences, as one column or side by side.

Lines are `rich.text.Text` with foreign text made safe. The verbs choose the entries and print the lines.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator
from itertools import accumulate

from rich.cells import chop_cells
from rich.text import Text

from testronaut_lab.golden.compare import GoldenChange
from testronaut_lab.golden.names import SNAPSHOTS
from testronaut_lab.golden.pending import Broken, Pending
from testronaut_lab.model.units import size_text
from testronaut_lab.report.text.lines import diff_style
from testronaut_lab.safetext import clipped, safe_line, safe_text

_COMMAND_LINES = 8
_GAP = " │ "


def name_of(entry: Pending | Broken) -> str:
    """Return the name that a user types for this entry."""
    return entry.nodeid if isinstance(entry, Pending) else f"{SNAPSHOTS}/{entry.place}"


def summary_of(entry: Pending | Broken) -> str:
    """Return `M stdout.txt, A stderr.txt`, or another short summary."""
    if isinstance(entry, Broken):
        return "cannot be used"
    if entry.expected is None:
        return "new golden"
    return ", ".join(f"{_letter(change)} {change.file}" for change in entry.changes)


def commands_for(entries: Collection[Pending | Broken]) -> list[str]:
    """Return the commands that decide about each entry, for use without a terminal."""
    good = [name_of(entry) for entry in entries if isinstance(entry, Pending) and entry.problem is None]
    lines = [f"testronaut-lab diff {shlex.quote(name_of(entry))}" for entry in entries]
    lines += [f"testronaut-lab accept {shlex.quote(name)}" for name in good]
    return lines + [f"testronaut-lab reject {shlex.quote(name_of(entry))}" for entry in entries]


def heading(entry: Pending | Broken) -> list[Text]:
    """Return the entry's name, its command, and why it cannot be accepted."""
    lines = [Text(safe_line(name_of(entry)), "bold")]
    if isinstance(entry, Broken):
        return [*lines, Text(f"cannot be used: {safe_text(entry.problem)}", "red")]
    command = safe_text(clipped(entry.actual.get("cmd.txt", b"").decode(errors="backslashreplace"))).rstrip("\n").split("\n")
    lines += [Text(line.expandtabs(4)) for line in command[:_COMMAND_LINES]]
    if len(command) > _COMMAND_LINES:
        lines.append(Text(f"… {len(command) - _COMMAND_LINES} more lines", "dim"))
    if entry.problem is not None:
        lines.append(Text(f"cannot be accepted: {safe_text(entry.problem)}", "red"))
    return lines


def details(entry: Pending | Broken) -> list[Text]:
    """Return where the golden is, where the proposal comes from, and how large its files are."""
    facts = [("golden", f"{SNAPSHOTS}/{entry.place}")]
    if isinstance(entry, Pending):
        origin = entry.origin
        facts += [
            ("step", entry.nodeid),
            ("seen", origin.when),
            ("run", origin.run),
            ("compared with", origin.base_sha256),
            ("sha256", origin.sha256),
        ]
        facts += [("also of", nodeid) for nodeid in origin.also]
        facts += [(change.file or "", _sizes(change)) for change in entry.changes]
    return [Text(f"{safe_line(name):>14}  ", "dim").append(safe_line(value)) for name, value in facts]


def differences(entry: Pending | Broken, files: frozenset[str] | None = None) -> list[Text]:
    """Return a unified diff of every file that differs, or only of those in `files`."""
    lines: list[Text] = []
    for change, diff in _diffs(entry, files):
        lines.append(_file_heading(entry, change))
        lines += [Text(line, diff_style(line)) for line in diff]
    return lines


def side_by_side(entry: Pending | Broken, width: int) -> list[Text]:
    """Return the differences in two columns of equal width, the golden on the left. A long line continues on the next row."""
    column = max((width - len(_GAP)) // 2, 1)
    lines: list[Text] = []
    for change, diff in _diffs(entry, None):
        lines.append(_file_heading(entry, change))
        for left, right in _pairs(diff):
            if left is right and left is not None and left.startswith("@"):
                lines.append(Text(left, diff_style(left)))
                continue
            lines += _columns(left, right, column)
    return lines


def _letter(change: GoldenChange) -> str:
    return "A" if change.expected is None else "D" if change.actual is None else "M"


def _sizes(change: GoldenChange) -> str:
    before, after = (None if data is None else size_text(len(data)) for data in (change.expected, change.actual))
    return f"{after}, new" if before is None else f"{before}, gone" if after is None else f"{before}, now {after}"


def _diffs(entry: Pending | Broken, files: frozenset[str] | None) -> Iterator[tuple[GoldenChange, list[str]]]:
    for change in entry.changes if isinstance(entry, Pending) else ():
        if files is None or change.file in files:
            yield change, safe_text(clipped(change.diff or "")).rstrip("\n").split("\n") if change.diff else []


def _file_heading(entry: Pending | Broken, change: GoldenChange) -> Text:
    line = Text(f"{SNAPSHOTS}/{safe_line(entry.place)}/{safe_line(change.file or '')}", "bold")
    word = {"A": "  new", "D": "  gone"}.get(_letter(change), "")
    return line.append(word + ("  empty" if not (change.expected or change.actual) else ""), "not bold dim")


def _pairs(diff: Iterable[str]) -> Iterator[tuple[str | None, str | None]]:
    """Yield the lines of a unified diff in pairs: a removed line beside the line that replaces it; `@@` lines on both sides."""
    removed: list[str] = []
    added: list[str] = []
    last = added

    def flush() -> Iterator[tuple[str | None, str | None]]:
        for i in range(max(len(removed), len(added))):
            yield (removed[i] if i < len(removed) else None, added[i] if i < len(added) else None)
        removed.clear()
        added.clear()

    for line in diff:
        if line.startswith("-"):
            if added:
                yield from flush()
            removed.append(line)
            last = removed
        elif line.startswith("+"):
            added.append(line)
            last = added
        elif line.startswith("\\") and (removed or added):
            last.append(line)
        else:
            yield from flush()
            yield line, line
    yield from flush()


def _columns(left: str | None, right: str | None, width: int) -> list[Text]:
    cells = [_wrapped(side, width) for side in (left, right)]
    rows = max(len(cell) for cell in cells)
    for cell in cells:
        cell += [Text("")] * (rows - len(cell))
    lines = []
    for one, other in zip(*cells, strict=True):
        one = one.copy()
        one.pad_right(width - one.cell_len)
        lines.append(Text.assemble(one, (_GAP, "dim"), other))
    return lines


def _wrapped(line: str | None, width: int) -> list[Text]:
    """Cut a line into pieces of at most `width` cells. Blanks count in a diff, so nothing is reformatted."""
    text = Text(line or "", "" if line is None else diff_style(line))
    return folded(text, width) if line else [Text("")]


def folded(text: Text, width: int) -> list[Text]:
    """Cut `text` into pieces of at most `width` terminal cells, between any two characters."""
    if text.cell_len <= width:
        return [text]
    ends = accumulate(len(piece) for piece in chop_cells(text.plain, width))
    return list(text.divide(list(ends)[:-1]))
