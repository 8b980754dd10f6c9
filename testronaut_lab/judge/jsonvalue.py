"""Parses the JSON that programs print, and finds the first difference between two values.

`true` is not equal to `1`, although it is in Python. `1` and `1.0` are the same number. No number is rounded. Paths are written
in the syntax of `json_path`.
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
    """Return the value, with its numbers as `ExactNumber`s.

    Raises ValueError, with a message for users, for anything but one JSON text in UTF-8. NaN and Infinity are not JSON. An object
    that has a key twice is refused, because programs disagree on which value counts.
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
    """The value on one line, its numbers as written, lone surrogates escaped. Raises ValueError if it is nested too deep."""
    try:
        return _sayable(json_text(value))
    except RecursionError as error:
        raise ValueError("nested too deep to be shown") from error


def first_difference(expected: JsonValue, actual: JsonValue, path: str = "") -> tuple[str, str, str] | None:
    """Return (path, expected text, actual text) of the first difference, in the expected value's order; None if equal."""
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
