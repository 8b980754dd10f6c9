"""A resolved plan as JSON, stored with its run: every default in it, paths relative to the project, bytes as base64.

It says what was asked for. It does not hold the content of files that the plan names, nor the plan's line numbers.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path

from pydantic import JsonValue

from testronaut_lab.model.jsontext import json_text
from testronaut_lab.model.number import ExactNumber
from testronaut_lab.model.plan import Plan


def plan_json(plan: Plan) -> bytes:
    """Return the plan without its text and its root: the same on every machine that resolves it in the same way."""
    tree = {name: value for name, value in _fields(plan, plan.root).items() if name not in ("text", "root")}
    return json_text(tree, indent=2, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def _fields(value: object, root: Path) -> dict[str, JsonValue]:
    assert is_dataclass(value)
    return {field.name: _json(getattr(value, field.name), root) for field in fields(value) if field.compare}


def _json(value: object, root: Path) -> JsonValue:
    if isinstance(value, Enum):
        return _json(value.value, root)
    if isinstance(value, float) and not isinstance(value, ExactNumber) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Path):
        return value.relative_to(root).as_posix() if value.is_relative_to(root) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _json(each, root) for key, each in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        return [_json(each, root) for each in value]
    return _fields(value, root)
