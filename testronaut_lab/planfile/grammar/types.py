"""The kinds of single values that a plan is made of: an id, a regex, a duration, a glob … The checks are in `values.py`."""

from __future__ import annotations

from typing import Final

from testronaut_lab.model.units import DURATION_FORM, SIZE_FORM, parse_duration, parse_size
from testronaut_lab.planfile.grammar import values
from testronaut_lab.planfile.schema.containers import ListOf, MapOf
from testronaut_lab.planfile.schema.fields import Measure, Number, Text, choice
from testronaut_lab.planfile.schema.interpolation import Holds


def named(pattern: str, words: str, holds: Holds = "text") -> Text:
    return Text(words, values.matching(pattern, words), {"pattern": f"^(?:{pattern})$"}, holds)


TEXT: Final = Text()
FILLED: Final = Text("text that is not empty", values.matching(r"(?s).+", "text that is not empty"), {"minLength": 1})
WORD: Final = Text("text", values.without_nul)
SCRIPT: Final = Text("a command", values.script, {"minLength": 1}, "script")
REGEX: Final = Text("a regex", values.regex, {"format": "regex"}, "regex")
JSON_PATH: Final = Text("a JSON path", values.json_path, {"pattern": r"^\."})
ID: Final = named(r"[a-z0-9_-]{1,100}", "an id of a-z, 0-9, - and _", "nothing")
TAG: Final = named(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "a tag of letters, digits, '.', - and _")
VARIABLE: Final = named(r"[A-Za-z_][A-Za-z0-9_]*", "a name of letters, digits and _", "nothing")
ENV: Final = MapOf(VARIABLE, WORD)
GLOB: Final = Text("a glob in the workspace", values.workspace_path, {"minLength": 1})
ANY_GLOB: Final = Text("a glob in the workspace, or an absolute one", values.any_path, {"minLength": 1})
CHANGED_GLOBS: Final = ListOf(Text("a glob in the workspace, or `.` for itself", values.changed_path, {"minLength": 1}))
IGNORE: Final = ListOf(Text("a pattern as in a .gitignore", values.ignore_pattern, {"minLength": 1}))
OUTSIDE_GLOBS: Final = ListOf(Text("an absolute glob", values.outside_path, {"pattern": "^/"}))
MODE: Final = Text('a mode in octal, such as "0755"', values.file_mode, {"pattern": "^0?[0-7]{3,4}$"})
PATH: Final = Text("a path in the workspace", values.workspace_path, {"minLength": 1})
GLOBS: Final = ListOf(GLOB)
DURATION: Final = Measure("a duration such as 200ms, 60s or 1h", parse_duration, DURATION_FORM.pattern, whole=False)
SIZE: Final = Measure("a size such as 512MiB", parse_size, SIZE_FORM.pattern, whole=True)
COUNT: Final = Number("a whole number", 0, 2**31)
STREAM: Final = choice("stdout", "stderr")
BASE64: Final = Text("base64", values.from_base64, {"contentEncoding": "base64"})
SIGNAL: Final = Text("a signal's name", values.signal_name, {"pattern": "^(?:SIG)?[A-Z0-9]+$"})
