"""Numbers of JSON and YAML as they are written (`1.10`, `1e3`, `1E400`): nothing is rounded; equal values are equal."""

from __future__ import annotations

import re
from typing import Final

WRITTEN: Final = re.compile(r"([-+]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([-+]?[0-9]+))?")
_MAX_EXPONENT_DIGITS: Final = 1000  # Python reads no number of more than 4300 digits

# The sign, the digits without zeros at either end, and the power of ten of the last digit.
_Exact = tuple[str, str, int]


class ExactNumber(float):
    """A number with its text. As a float it is the nearest one, infinite if the number is too large.

    Raises ValueError for text that is no number, or whose exponent is absurdly long.
    """

    __slots__ = ("_exact", "text")
    text: str
    _exact: _Exact

    def __new__(cls, text: str) -> ExactNumber:
        exact = _exact(text)
        self = super().__new__(cls, text)
        self.text, self._exact = text, exact
        return self

    def __eq__(self, other: object) -> bool:
        if isinstance(other, bool) or not isinstance(other, int | float):
            return NotImplemented
        return self._exact == (other._exact if isinstance(other, ExactNumber) else _of(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._exact)

    def __repr__(self) -> str:
        return f"ExactNumber({self.text!r})"

    def __reduce__(self) -> tuple[type[ExactNumber], tuple[str]]:
        return ExactNumber, (self.text,)


def _of(value: float) -> _Exact | None:
    try:
        return _exact(str(value) if isinstance(value, int) else float.__repr__(value))
    except ValueError:
        return None  # not finite


def _exact(text: str) -> _Exact:
    match = WRITTEN.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise ValueError(f"{text[:40]!r} is no number")
    sign, whole, fraction, exponent = (part or "" for part in match.groups())
    if len(exponent) > _MAX_EXPONENT_DIGITS:
        raise ValueError(f"a number with an exponent of {len(exponent)} digits")
    digits = (whole + fraction).lstrip("0")
    kept = digits.rstrip("0")
    if not kept:
        return "", "", 0
    return sign.replace("+", ""), kept, int(exponent or 0) - len(fraction) + len(digits) - len(kept)
