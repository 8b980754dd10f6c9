"""One cell of a matrix: the value of each key, and how a cell is written in a node id.

`planfile/grammar/matrix.py` makes cells. A plan without a matrix has one cell, which is empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

# (key, value as written) pairs, in the order of the matrix.
Cell = tuple[tuple[str, str], ...]

# Characters that would split a node id. `:` does so only behind another one.
_QUOTED = re.compile(r"[%,\[\]]|(?<=:):")


def bracketed(cell: Cell) -> str:
    """Return `[image=debian:bookworm-slim,jq=1.6]`, which follows a case's id; empty for a plan without a matrix.

    A character that would be misread or invisible there is written `%NN`, as in a URL.
    """
    return f"[{','.join(f'{key}={_quoted(value)}' for key, value in cell)}]" if cell else ""


def from_brackets(text: str) -> Cell | None:
    """Read the text between the brackets of a node id as a cell; None if it is no cell."""
    parts = [pair.partition("=") for pair in text.split(",")]
    if not all(key and sign for key, sign, _ in parts):
        return None
    return tuple((key, unquote(value)) for key, _, value in parts)


@dataclass(frozen=True, slots=True)
class NodeName:
    """A node id in its parts. `cell` is None without brackets; `step` is None in the id of a case."""

    case: str
    cell: Cell | None
    step: str | None

    @classmethod
    def of(cls, nodeid: str) -> NodeName:
        path, _, rest = nodeid.partition("::")
        if "[" in rest.partition("::")[0]:
            case, _, tail = rest.partition("[")
            brackets, _, step = tail.rpartition("]")
            cell = from_brackets(brackets)
            if cell is None or (step and not step.startswith("::")):
                return cls(nodeid, (), None)  # nothing has such a name
            return cls(f"{path}::{case}", cell, step.removeprefix("::") or None)
        case, _, step = rest.partition("::")
        return cls(f"{path}::{case}", None, step or None)

    def names(self, other: NodeName) -> bool:
        """Whether this typed id means `other`. Without brackets, it means all cells; with some keys, all cells with these
        values.
        """
        cells = self.cell is None or set(self.cell) <= set(other.cell or ())
        return (self.case, self.step) == (other.case, other.step) and cells


def folder_name(step: str, cell: Cell) -> str:
    """Return `STEP@KEY=VALUE…`: the folder of a golden of this cell. Values are quoted as in a URL, slashes too."""
    return step + "".join(f"@{key}={quote(value, safe='')}" for key, value in cell)


def without_cell(case: str) -> str:
    """Return the id of a case without its brackets."""
    return case.partition("[")[0]


def _quoted(value: str) -> str:
    parted = _QUOTED.sub(lambda match: _percent(match[0]), value)
    return "".join(char if char.isprintable() else _percent(char) for char in parted)


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())
