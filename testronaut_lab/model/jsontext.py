"""Writes JSON with its numbers exactly as they were read. `json` would round some and spell others differently."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import JsonValue

from testronaut_lab.model.number import ExactNumber


def json_text(value: JsonValue, *, indent: int | None = None, sort_keys: bool = False, ensure_ascii: bool = False) -> str:
    """Return JSON on one line without blanks, or indented. Raises RecursionError for a value that is nested too deep."""
    return "".join(_Writer(indent, sort_keys, ensure_ascii).parts(value, "\n"))


class _Writer:
    def __init__(self, indent: int | None, sort_keys: bool, ensure_ascii: bool) -> None:
        self._indent = " " * (indent or 0)
        self._flat = indent is None
        self._sort_keys = sort_keys
        self._ensure_ascii = ensure_ascii

    def parts(self, value: JsonValue, newline: str) -> Iterator[str]:
        match value:
            case ExactNumber():
                yield value.text
            case dict() if value:
                entries = sorted(value.items()) if self._sort_keys else value.items()
                gap = ":" if self._flat else ": "
                yield from self._group("{}", [(f"{self._scalar(key)}{gap}", each) for key, each in entries], newline)
            case list() if value:
                yield from self._group("[]", [("", each) for each in value], newline)
            case _:
                yield self._scalar(value)

    def _group(self, brackets: str, members: list[tuple[str, JsonValue]], newline: str) -> Iterator[str]:
        deeper = newline + self._indent
        yield brackets[0]
        for i, (label, each) in enumerate(members):
            yield f"{',' if i else ''}{'' if self._flat else deeper}{label}"
            yield from self.parts(each, deeper)
        yield brackets[1] if self._flat else newline + brackets[1]

    def _scalar(self, value: JsonValue) -> str:
        return json.dumps(value, ensure_ascii=self._ensure_ascii, allow_nan=False)
