"""JSON as programs print it: parsing, equality as JSON means it, and where two values differ first.

`true` is not `1` here (it is in Python); `1` and `1.0` are the same number. No number is rounded. Paths are written as
`json_path` reads them.
"""

from __future__ import annotations

import json
import re
from collections import Counter

from pydantic import JsonValue

from testronaut_lab.model.jsontext import json_text
from testronaut_lab.model.number import ExactNumber

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def parse_json(data: bytes) -> JsonValue:
    """The value, its numbers as `ExactNumber`s.

    Raises ValueError in words for anything but one JSON text in UTF-8: NaN and Infinity are none, and of a key that an object
    has twice nobody knows which one counts.
    """
    try:
        value: JsonValue = json.loads(
            data.decode(),
            parse_constant=_refuse_constant,
            parse_int=ExactNumber,
            parse_float=ExactNumber,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise ValueError("nested too deep to be read") from error
    return value


def compact(value: JsonValue) -> str:
    """One line, its numbers as they are written; a lone surrogate is escaped. Raises ValueError for what is nested too deep."""
    try:
        return _sayable(json_text(value))
    except RecursionError as error:
        raise ValueError("nested too deep to be shown") from error


def first_difference(expected: JsonValue, actual: JsonValue, path: str = "") -> tuple[str, str, str] | None:
    """(path, expected there, actual there) of the first difference in the expected value's order; None if equal."""
    match expected, actual:
        case dict(), dict():
            return _in_objects(expected, actual, path)
        case list(), list():
            return _in_arrays(expected, actual, path)
        case _ if _same_scalar(expected, actual):
            return None
    return path or ".", compact(expected), compact(actual)


def _in_objects(expected: dict[str, JsonValue], actual: dict[str, JsonValue], path: str) -> tuple[str, str, str] | None:
    for key, value in expected.items():
        here = path + _key(key)
        if key not in actual:
            return here, compact(value), "no such key"
        if found := first_difference(value, actual[key], here):
            return found
    extra = next((key for key in actual if key not in expected), None)
    return None if extra is None else (path + _key(extra), "no such key", compact(actual[extra]))


def _in_arrays(expected: list[JsonValue], actual: list[JsonValue], path: str) -> tuple[str, str, str] | None:
    for index, (left, right) in enumerate(zip(expected, actual, strict=False)):
        if found := first_difference(left, right, f"{path or '.'}[{index}]"):
            return found
    if len(expected) == len(actual):
        return None
    return path or ".", f"{len(expected)} elements", f"{len(actual)} elements"


def _same_scalar(expected: JsonValue, actual: JsonValue) -> bool:
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    return expected == actual


def _key(key: str) -> str:
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else _sayable(f".[{json.dumps(key, ensure_ascii=False)}]")


def _sayable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _object(members: list[tuple[str, JsonValue]]) -> JsonValue:
    value = dict(members)
    if len(value) < len(members):
        twice, _ = Counter(key for key, _ in members).most_common(1)[0]
        raise ValueError(f"an object has the key {_sayable(json.dumps(twice, ensure_ascii=False))} twice")
    return value


def _refuse_constant(name: str) -> JsonValue:
    raise ValueError(f"{name} is not JSON")
