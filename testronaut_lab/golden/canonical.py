"""Rewrites JSON in one form: sorted keys, two spaces a level, one value after the other.

Numbers and repeated keys stay exactly as the tool wrote them. The rule `json` of `golden/normalize.py` uses this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping

_MAX_DEPTH = 100
_HALF_SURROGATE = re.compile(r"[\ud800-\udfff]")
_BLANK = re.compile(r"[ \t\n\r]*")

Order = Callable[[Collection[str]], Mapping[str, str]]


class _Number(str):
    """A number as it is written: 1.0 is not 1, and nothing is rounded."""

    __slots__ = ()


class _Members(list[tuple[str, object]]):
    """An object. A key may occur twice."""


class _NotJson(Exception):
    pass


def canonical(text: str, order: Order) -> tuple[str, int] | None:
    """Return the rewritten text and the number of values in it; None unless the text holds only objects and arrays.

    `order` gives each key its sort key. Keys with equal sort keys keep their order. The last line keeps its newline, or its
    lack of one. Returns None for JSON nested deeper than 100 levels, too.
    """
    if not text.lstrip().startswith(("{", "[")) or _HALF_SURROGATE.search(text):
        return None
    try:
        values = list(_values(text))
        keys: set[str] = set()
        for value in values:
            _collect(value, keys, 0)
    except (_NotJson, ValueError, RecursionError):
        return None
    ranks = order(keys)
    lines = "\n".join("".join(_written(value, ranks, "\n")) for value in values)
    return lines + ("\n" if text.endswith("\n") else ""), len(values)


def _values(text: str) -> Iterator[object]:
    decoder = json.JSONDecoder(
        object_pairs_hook=_Members, parse_float=_Number, parse_int=_Number, parse_constant=_refuse_constant
    )
    at = _skip(text, 0)
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        if not isinstance(value, list):
            raise _NotJson
        yield value
        at = _skip(text, at)


def _refuse_constant(_name: str) -> object:
    raise _NotJson  # NaN and Infinity are Python's own


def _skip(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return at if blank is None else blank.end()


def _collect(value: object, keys: set[str], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise _NotJson
    if isinstance(value, _Members):
        for key, inner in value:
            keys.add(key)
            _collect(inner, keys, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, keys, depth + 1)


def _written(value: object, ranks: Mapping[str, str], newline: str) -> Iterator[str]:
    deeper = newline + "  "
    if isinstance(value, _Members):
        members = sorted(value, key=lambda member: ranks[member[0]])
        yield "{"
        for i, (key, inner) in enumerate(members):
            yield f"{',' if i else ''}{deeper}{_string(key)}: "
            yield from _written(inner, ranks, deeper)
        yield f"{newline}}}" if members else "}"
    elif isinstance(value, list):
        yield "["
        for i, inner in enumerate(value):
            yield f"{',' if i else ''}{deeper}"
            yield from _written(inner, ranks, deeper)
        yield f"{newline}]" if value else "]"
    elif isinstance(value, _Number):
        yield str(value)
    else:
        yield _string(value) if isinstance(value, str) else json.dumps(value)


def _string(text: str) -> str:
    written = json.dumps(text, ensure_ascii=False)
    return _HALF_SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", written)
