"""The results of a matrix's cells side by side. `report/cells.py` computes them. No text in them is safe to show."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from testronaut_lab.model.cells import Cell
from testronaut_lab.model.result import Status


@dataclass(frozen=True, slots=True)
class Variant:
    """What these cells did, in about one line."""

    cells: tuple[Cell, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Difference:
    """One aspect of a step that differs between cells. `line` is the first line that differs, counted from 1."""

    case: str
    step: str
    aspect: str
    variants: tuple[Variant, ...]
    line: int | None = None


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One plan in several cells. `cases` and `tools` have one value for each of `cells`, None where the cell lacks it."""

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
        """Return the keys whose values tell the cells apart."""
        keys = dict.fromkeys(key for cell in self.cells for key, _ in cell)
        return tuple(key for key in keys if len({dict(cell).get(key) for cell in self.cells}) > 1)
