"""The plan file, key by key: what each may hold and what becomes of it. The reference for both reading and the JSON Schema.

Where steps run is in `setting.py`, the tools there in `tools.py`, what has to come out in `expectation.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from testronaut_lab.model.interaction import Ready
from testronaut_lab.model.plan import Retry, Save
from testronaut_lab.planfile import terms, values
from testronaut_lab.planfile.composite import Either, ListOf, Made, MapOf
from testronaut_lab.planfile.expectation import EXPECT, GOLDEN, NORMALIZE
from testronaut_lab.planfile.interaction import INTERACTION, TTY
from testronaut_lab.planfile.kinds import Flag, Kind, Number, PlanPath, Text, choice
from testronaut_lab.planfile.matrix import MATRIX, WHEN
from testronaut_lab.planfile.setting import FILES, IMAGE, LIMITS
from testronaut_lab.planfile.table import Key, Table
from testronaut_lab.planfile.tools import TOOL
from testronaut_lab.planfile.written import ExpectFail, Placed, Stdin, WrittenCase, WrittenPlan, WrittenStep

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
        "stdin", {"file": Made(PlanPath(), _from_file), "base64": terms.BASE64}, _stdin, exactly_one=[("file", "base64")]
    ),
)
SAVE: Final = Table(
    "save",
    {"from": Key(terms.STREAM, "from_"), "json_path": terms.JSON_PATH, "matches": terms.REGEX},
    Save,
    exactly_one=[("json_path", "matches")],
)
READY: Final = Table(
    "ready",
    {
        "port": Number("a port", 1, 65535),
        "log": terms.REGEX,
        "file": terms.PATH,
        "run": terms.SCRIPT,
        "timeout": Key(terms.DURATION, "timeout_s"),
    },
    Ready,
    exactly_one=[("port", "log", "file", "run")],
)
RETRY: Final = Table(
    "retry",
    {"times": Key(Number("a whole number", 1, 1000), required=True), "delay": Key(terms.DURATION, "delay_s")},
    Retry,
)
_STEP_KEYS: Final[dict[str, Kind | Key]] = {
    "id": terms.ID,
    "run": terms.SCRIPT,
    "argv": Made(ListOf(terms.WORD, at_least=1), values.argv),
    "stdin": STDIN,
    "env": terms.ENV,
    "cwd": Text("a folder", values.working_directory, {"minLength": 1}),
    "timeout": Key(terms.DURATION, "timeout_s"),
    "continue": Key(Flag(), "continue_"),
    "skip_if": terms.SCRIPT,
    "save": MapOf(terms.VARIABLE, SAVE),
    "golden": GOLDEN,
    "expect": EXPECT,
    "when": WHEN,
    "retry": RETRY,
    "tty": TTY,
    "interact": ListOf(INTERACTION, at_least=1),
    "background": terms.ID,
    "ready": READY,
    "stop": terms.ID,
    "signal": MapOf(terms.ID, terms.SIGNAL, at_least=1),
    "merge": Flag(),
}
STEP: Final = Placed(
    Either(
        text=Made(terms.SCRIPT, lambda run: WrittenStep(run=run)),
        table=Table("step", _STEP_KEYS, WrittenStep, exactly_one=[("run", "argv", "stop", "signal")]),
    )
)
STEPS: Final = ListOf(STEP, at_least=1)

# --- cases and the plan --------------------------------------------------------------------------------------------------

EXPECT_FAIL: Final = Either(
    text=Made(terms.FILLED, ExpectFail),
    table=Table("expect_fail", {"reason": Key(terms.FILLED, required=True), "when": WHEN}, ExpectFail),
)
CASE: Final = Placed(
    Table(
        "case",
        {
            "id": Key(terms.ID, required=True),
            "tags": ListOf(terms.TAG),
            "when": WHEN,
            "expect_fail": EXPECT_FAIL,
            "env": terms.ENV,
            "golden": GOLDEN,
            "expect": EXPECT,
            "steps": Key(STEPS, required=True),
        },
        WrittenCase,
    )
)


def _version(number: int) -> int:
    if number != VERSION:
        raise ValueError(f"this program reads plans of version {VERSION}, found version {number}")
    return number


# What may stand in the project's `defaults` too.
_SHARED: Final[dict[str, Kind | Key]] = {
    "image": IMAGE,
    "tools": ListOf(TOOL),
    "isolation": choice("case", "plan"),
    "network": choice("none", "internet"),
    "user": choice("lab", "root"),
    "rootfs": choice("read-only", "writable"),
    "shell": Text("a shell", values.shell, {"minLength": 1}),
    "env": terms.ENV,
    "limits": LIMITS,
    "normalize": NORMALIZE,
    "ignore": terms.IGNORE,
    "golden": GOLDEN,
    "expect": EXPECT,
}
DEFAULTS: Final = Table("defaults", _SHARED)
PLAN: Final = Placed(
    Table(
        "plan",
        {
            "version": Made(Number("a version", 0, 10**6), _version),
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
        WrittenPlan,
        exactly_one=[("cases", "steps")],
    )
)
