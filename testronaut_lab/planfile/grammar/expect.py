"""The part of a plan that says what has to come out: `expect`, `golden` and `normalize`. `judge/` compares it with a result."""

from __future__ import annotations

from typing import Final

from testronaut_lab.golden.patterns import NAMED
from testronaut_lab.model.expect import LIMITS, ChangesExpect, ExitExpect, FileExpect, MaxExpect, TextExpect
from testronaut_lab.model.files import FileType
from testronaut_lab.model.result import ExitKind
from testronaut_lab.planfile.grammar import types, values
from testronaut_lab.planfile.grammar.matrix import PER
from testronaut_lab.planfile.schema.containers import Converted, Either, ListOf, MapOf
from testronaut_lab.planfile.schema.fields import AnyJson, Field, Flag, Number, PlanPath, Text, choice
from testronaut_lab.planfile.schema.table import Key, Table

NORMALIZER: Final = Either(
    text=Text(
        "a name",
        values.named_normalizer,
        {"oneOf": [{"const": name, "description": description} for name, description in NAMED.items()]},
    ),
    table=Table(
        "normalizer",
        {"matches": Key(types.REGEX, required=True), "replace": Key(Text(holds="template"), required=True)},
        values.normalizer,
    ),
)
NORMALIZE: Final = ListOf(NORMALIZER)
GOLDEN: Final = Either(
    flag=Flag(),
    table=Table(
        "golden",
        {"streams": ListOf(types.STREAM), "files": types.GLOBS, "normalize": NORMALIZE, "per": PER},
    ),
)


def _matchers(**given: object) -> TextExpect:
    return TextExpect(**given, has_json="json" in given)  # type: ignore[arg-type]


_MATCHERS: Final[dict[str, Field | Key]] = {
    "equals": types.TEXT,
    "contains": ListOf(types.FILLED, at_least=1),
    "not_contains": ListOf(types.FILLED, at_least=1),
    "matches": types.REGEX,
    "json": AnyJson(),
    "json_path": MapOf(types.JSON_PATH, AnyJson(), at_least=1),
    "lines": types.COUNT,
    "empty": Flag(),
    "file": PlanPath(),
}
MATCHERS: Final = Table("matchers", _MATCHERS, _matchers, at_least=1)
SCREEN: Final = Table(
    "screen",
    {key: _MATCHERS[key] for key in ("equals", "contains", "not_contains", "matches", "lines", "empty")},
    _matchers,
    at_least=1,
)
STREAM_EXPECT: Final = Either(text=Text(convert=lambda value: TextExpect(equals=value)), table=MATCHERS)


def _file_text(value: str) -> FileExpect:
    return FileExpect(absent=True) if value == "absent" else FileExpect(text=TextExpect(equals=value))


_EXIT_WORD: Final = choice("nonzero", *(kind.value for kind in LIMITS))


def _exit_word(word: str) -> ExitExpect:
    return ExitExpect(nonzero=True) if word == "nonzero" else ExitExpect(ended_by=ExitKind(word))


_CODE: Final = Number("an exit code", 0, 255)
EXIT: Final = Either(
    text=Converted(_EXIT_WORD, _exit_word),
    number=Converted(_CODE, lambda code: ExitExpect((code,))),
    items=Converted(ListOf(_CODE, at_least=1), ExitExpect),
)
_OWNER: Final = "lab, root or the number of a user"


def _file(**given: object) -> FileExpect:
    own = {key: given.pop(key) for key in ("type", "mode", "target", "owner") if key in given}
    return FileExpect(text=_matchers(**given) if given else None, **own)  # type: ignore[arg-type]


FILE_EXPECT: Final = Either(
    text=Text("absent, text", _file_text),
    table=Table(
        "file_expect",
        {
            **_MATCHERS,
            "type": Converted(choice(*(kind.value for kind in FileType)), FileType),
            "mode": types.MODE,
            "target": types.WORD,
            "owner": Either(
                text=Text(_OWNER, values.owner),
                number=Converted(Number(_OWNER, 0, 2**32 - 1), lambda uid: values.owner(str(uid))),
            ),
        },
        _file,
        at_least=1,
    ),
)
_NONE: Final = Converted(choice("none"), lambda _: ChangesExpect())
_KINDS: Final = ("added", "modified", "deleted", "retyped")
CHANGES: Final = Either(
    text=_NONE,
    table=Table(
        "changes",
        {
            **dict.fromkeys(_KINDS, types.CHANGED_GLOBS),
            "outside": Either(
                text=_NONE,
                table=Table("outside", dict.fromkeys(_KINDS, types.OUTSIDE_GLOBS), ChangesExpect, at_least=1),
            ),
        },
        ChangesExpect,
        at_least=1,
    ),
)
MAX: Final = Table(
    "max",
    {
        "duration": Key(types.DURATION, "duration_s"),
        "cpu": Key(types.DURATION, "cpu_s"),
        "memory": Key(types.SIZE, "memory_bytes"),
    },
    MaxExpect,
    at_least=1,
)
EXPECT: Final = Table(
    "expect",
    {
        "exit": EXIT,
        "signal": Key(Converted(types.SIGNAL, lambda name: ExitExpect(signal=name)), "exit"),
        "stdout": STREAM_EXPECT,
        "stderr": STREAM_EXPECT,
        "files": MapOf(types.ANY_GLOB, FILE_EXPECT),
        "changes": CHANGES,
        "screen": SCREEN,
        "max": MAX,
    },
    at_most_one=[("exit", "signal")],
)
