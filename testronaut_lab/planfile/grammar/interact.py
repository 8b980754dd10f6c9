"""The part of a plan about terminals: `tty`, and what `interact` types and waits for."""

from __future__ import annotations

import re
from typing import Final

from testronaut_lab.model.expect import TextExpect
from testronaut_lab.model.interaction import (
    DEFAULT_DEADLINE_S,
    KEYS,
    AwaitOutput,
    AwaitScreen,
    AwaitSettled,
    Interaction,
    PressKey,
    Resize,
    SendText,
    Tty,
)
from testronaut_lab.planfile.grammar import types, values
from testronaut_lab.planfile.grammar.expect import SCREEN
from testronaut_lab.planfile.schema.containers import Converted, Either
from testronaut_lab.planfile.schema.fields import Flag, Number, Text
from testronaut_lab.planfile.schema.problems import did_you_mean
from testronaut_lab.planfile.schema.table import Key, Table

_COLS: Final = Number("columns", 1, 1000)
_ROWS: Final = Number("rows", 1, 1000)

TTY: Final = Either(
    flag=Converted(Flag(), lambda wanted: Tty() if wanted else None),
    table=Table("tty", {"cols": _COLS, "rows": _ROWS, "term": types.named(r"[A-Za-z0-9][A-Za-z0-9+._-]*", "a TERM")}, Tty),
)


def _key(value: str) -> str:
    if value not in KEYS:
        raise ValueError(f"unknown key {value!r}{did_you_mean(value, KEYS) or '; there is ' + ', '.join(KEYS)}")
    return value


def _pattern(value: str) -> str:
    """Check a regex that will be searched in bytes."""
    values.regex(value)
    try:
        re.compile(value.encode())
    except re.error as error:
        raise ValueError(f"cannot read the regex {value!r} over bytes: {error}") from error
    return value


def _interaction(
    screen: TextExpect | None = None,
    settled: float | None = None,
    expect: str | None = None,
    send: str | None = None,
    key: str | None = None,
    resize: tuple[int, int] = (0, 0),
    timeout_s: float = DEFAULT_DEADLINE_S,
) -> Interaction:
    if screen is not None:
        return AwaitScreen(screen, timeout_s)
    if settled is not None:
        return AwaitSettled(settled, timeout_s)
    if expect is not None:
        return AwaitOutput(expect, timeout_s)
    if send is not None:
        return SendText(send, timeout_s)
    if key is not None:
        return PressKey(key, timeout_s)
    return Resize(*resize, timeout_s)


INTERACTION: Final = Table(
    "interaction",
    {
        "screen": Either(text=Converted(types.FILLED, lambda text: TextExpect(contains=(text,))), table=SCREEN),
        "settled": types.DURATION,
        "expect": Text("a regex", _pattern, {"format": "regex"}, "regex"),
        "send": types.FILLED,
        "key": Text("a key", _key, {"enum": list(KEYS)}),
        "resize": Table(
            "resize",
            {"cols": Key(_COLS, required=True), "rows": Key(_ROWS, required=True)},
            lambda cols, rows: (cols, rows),
        ),
        "timeout": Key(types.DURATION, "timeout_s"),
    },
    _interaction,
    exactly_one=[("screen", "settled", "expect", "send", "key", "resize")],
)
