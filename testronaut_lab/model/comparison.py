"""The results of a matrix's cells side by side. `report/cells.py` computes them. No text in them is safe to show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING

from testronaut_lab.model.cells import Cell
from testronaut_lab.model.display import html

if TYPE_CHECKING:
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
        return html(self)

    @property
    def telling_keys(self) -> tuple[str, ...]:
        """Return the keys whose values tell the cells apart."""
        keys = dict.fromkeys(key for cell in self.cells for key, _ in cell)
        return tuple(key for key in keys if len({dict(cell).get(key) for cell in self.cells}) > 1)


@singledispatch
def side_by_side(run: object) -> tuple[SideBySide, ...]:
    """Return a comparison for each plan that ran in more than one cell of its matrix. `report/sidebyside.py` makes it."""
    raise TypeError(f"nobody compares the cells of a {type(run).__name__}: `report/sidebyside.py` is not imported")
