"""The paths of `json_path`: `.`, `.a.b`, `.a[0]`, `.["a key"]`: the part of jq's language that names one place.

No other jq is understood: no pipes, no `[]`, no slices.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

from pydantic import JsonValue

_PART = re.compile(r"""\.?\[(?P<index>-?[0-9]{1,9})\]|\.?\[(?P<quoted>"(?:[^"\\]|\\.)*")\]|\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)""")


@lru_cache(maxsize=256)
def parse(path: str) -> tuple[str | int, ...]:
    """Return the keys and indices from the root on; none for `.`. Raises ValueError that names what it cannot read."""
    if not path.startswith("."):
        raise ValueError(f"a JSON path begins with '.': .{path}" if path else "a JSON path begins with '.'")
    parts: list[str | int] = []
    at = 1 if path == "." else 0
    while at < len(path):
        match = _PART.match(path, at)
        if match is None:
            raise ValueError(f'cannot read {path[at:]!r} in the JSON path; it is made of .key, [0] and ["key"]')
        parts.append(_part(match))
        at = match.end()
    return tuple(parts)


def lookup(tree: JsonValue, path: str) -> JsonValue:
    """Return the value at `path`. An index below 0 counts from the end. Raises LookupError if the tree has no such place."""
    here = tree
    for part in parse(path):
        match part, here:
            case str(), dict():
                here = here[part]
            case int(), list():
                here = here[part]
            case _:
                raise LookupError(part)
    return here


def _part(match: re.Match[str]) -> str | int:
    if match["index"] is not None:
        return int(match["index"])
    if match["name"] is not None:
        return match["name"]
    key: str = json.loads(match["quoted"])
    return key
