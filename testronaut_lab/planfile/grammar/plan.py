"""The plan file, key by key: what each key may hold and what it becomes. Both the reader and the JSON Schema come from here.

The keys about where steps run are in `session.py`, tools in `tools.py`, expectations in `expect.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from testronaut_lab.model.interaction import Ready
from testronaut_lab.model.plan import Retry, Save
from testronaut_lab.planfile.grammar import types, values
from testronaut_lab.planfile.grammar.expect import EXPECT, GOLDEN, NORMALIZE
from testronaut_lab.planfile.grammar.interact import INTERACTION, TTY
from testronaut_lab.planfile.grammar.matrix import MATRIX, WHEN
from testronaut_lab.planfile.grammar.raw import ExpectFail, Placed, RawCase, RawPlan, RawStep, Stdin
from testronaut_lab.planfile.grammar.session import FILES, IMAGE, LIMITS
from testronaut_lab.planfile.grammar.tools import TOOL
from testronaut_lab.planfile.schema.containers import Converted, Either, ListOf, MapOf
from testronaut_lab.planfile.schema.fields import Field, Flag, Number, PlanPath, Text, choice
from testronaut_lab.planfile.schema.table import Key, Table

VERSION: Final = 1
MAX_STDIN_BYTES: Final = 64 * 2**20

# --- steps ---------------------------------------------------------------------------------------------------------------


def _from_file(path: Path) -> Stdin:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_STDIN_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_STDIN_BYTES:
        raise ValueError(f"{path} is larger than {MAX_STDIN_BYTES // 2**20} MiB")
    return Stdin(content, file=path)


def _stdin(file: Stdin | None = None, base64: bytes = b"") -> Stdin:
    return Stdin(base64) if file is None else file


STDIN: Final = Either(
    text=Text(convert=lambda value: Stdin(value.encode(), is_text=True)),
    table=Table(
        "stdin", {"file": Converted(PlanPath(), _from_file), "base64": types.BASE64}, _stdin, exactly_one=[("file", "base64")]
    ),
)
SAVE: Final = Table(
    "save",
    {"from": Key(types.STREAM, "from_"), "json_path": types.JSON_PATH, "matches": types.REGEX},
    Save,
    exactly_one=[("json_path", "matches")],
)
READY: Final = Table(
    "ready",
    {
        "port": Number("a port", 1, 65535),
        "log": types.REGEX,
        "file": types.PATH,
        "run": types.SCRIPT,
        "timeout": Key(types.DURATION, "timeout_s"),
    },
    Ready,
    exactly_one=[("port", "log", "file", "run")],
)
RETRY: Final = Table(
    "retry",
    {"times": Key(Number("a whole number", 1, 1000), required=True), "delay": Key(types.DURATION, "delay_s")},
    Retry,
)
_STEP_KEYS: Final[dict[str, Field | Key]] = {
    "id": types.ID,
    "run": types.SCRIPT,
    "argv": Converted(ListOf(types.WORD, at_least=1), values.argv),
    "stdin": STDIN,
    "env": types.ENV,
    "cwd": Text("a folder", values.working_directory, {"minLength": 1}),
    "timeout": Key(types.DURATION, "timeout_s"),
    "continue": Key(Flag(), "continue_"),
    "skip_if": types.SCRIPT,
    "save": MapOf(types.VARIABLE, SAVE),
    "golden": GOLDEN,
    "expect": EXPECT,
    "when": WHEN,
    "retry": RETRY,
    "tty": TTY,
    "interact": ListOf(INTERACTION, at_least=1),
    "background": types.ID,
    "ready": READY,
    "stop": types.ID,
    "signal": MapOf(types.ID, types.SIGNAL, at_least=1),
    "merge": Flag(),
}
STEP: Final = Placed(
    Either(
        text=Converted(types.SCRIPT, lambda run: RawStep(run=run)),
        table=Table("step", _STEP_KEYS, RawStep, exactly_one=[("run", "argv", "stop", "signal")]),
    )
)
STEPS: Final = ListOf(STEP, at_least=1)

# --- cases and the plan --------------------------------------------------------------------------------------------------

EXPECT_FAIL: Final = Either(
    text=Converted(types.FILLED, ExpectFail),
    table=Table("expect_fail", {"reason": Key(types.FILLED, required=True), "when": WHEN}, ExpectFail),
)
CASE: Final = Placed(
    Table(
        "case",
        {
            "id": Key(types.ID, required=True),
            "tags": ListOf(types.TAG),
            "when": WHEN,
            "expect_fail": EXPECT_FAIL,
            "env": types.ENV,
            "golden": GOLDEN,
            "expect": EXPECT,
            "steps": Key(STEPS, required=True),
        },
        RawCase,
    )
)


def _version(number: int) -> int:
    if number != VERSION:
        raise ValueError(f"this program reads plans of version {VERSION}, found version {number}")
    return number


# These keys may stand in the project's `defaults` too.
_SHARED: Final[dict[str, Field | Key]] = {
    "image": IMAGE,
    "tools": ListOf(TOOL),
    "isolation": choice("case", "plan"),
    "network": choice("none", "internet"),
    "user": choice("lab", "root"),
    "rootfs": choice("read-only", "writable"),
    "shell": Text("a shell", values.shell, {"minLength": 1}),
    "env": types.ENV,
    "limits": LIMITS,
    "normalize": NORMALIZE,
    "ignore": types.IGNORE,
    "golden": GOLDEN,
    "expect": EXPECT,
}
DEFAULTS: Final = Table("defaults", _SHARED)
PLAN: Final = Placed(
    Table(
        "plan",
        {
            "version": Converted(Number("a version", 0, 10**6), _version),
            "name": Text("a name", values.plan_name, {"minLength": 1}, "nothing"),
            **_SHARED,
            "image": Key(IMAGE, required=True),
            "matrix": MATRIX,
            "files": FILES,
            "setup": ListOf(STEP),
            "teardown": ListOf(STEP),
            "cases": ListOf(CASE, at_least=1),
            "steps": STEPS,
        },
        RawPlan,
        exactly_one=[("cases", "steps")],
    )
)
