"""What the cells of a matrix did, beside each other. How it is found is in `report/cells.py`.

Of the text in it nothing is made safe to show.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from testronaut_lab.model.cells import Cell
from testronaut_lab.model.result import Status


@dataclass(frozen=True, slots=True)
class Variant:
    """What these cells did, in a line or so."""

    cells: tuple[Cell, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Difference:
    """One aspect of a step that is not the same in all cells it ran in. `line` is the first that differs, from 1."""

    case: str
    step: str
    aspect: str
    variants: tuple[Variant, ...]
    line: int | None = None


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One plan in several cells. `cases` and `tools` have a value for each of `cells`, None where it is not in that cell."""

    name: str
    file: str | None
    cells: tuple[Cell, ...]
    statuses: tuple[Status, ...]
    cases: tuple[tuple[str, tuple[Status | None, ...]], ...]
    tools: tuple[tuple[str, tuple[str | None, ...]], ...]
    differences: tuple[Difference, ...]
    compared: int

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        parts: list[str] = import_module("testronaut_lab.report.html.cell_tables").beside_html(self)
        return "".join(parts)

    @property
    def telling_keys(self) -> tuple[str, ...]:
        """The keys that not all cells have the same value of."""
        keys = dict.fromkeys(key for cell in self.cells for key, _ in cell)
        return tuple(key for key in keys if len({dict(cell).get(key) for cell in self.cells}) > 1)
