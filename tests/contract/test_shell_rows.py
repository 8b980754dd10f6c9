"""The rows of shell_rows.py and shell_rows2.py, each in a session of its own, in every shell that it is for."""

from __future__ import annotations

import os
import re

import pytest
from behaviours import Do
from conftest import SHELLS, MakeSession
from shell_rows import DESCRIPTORS, FUNCTIONS, STATUS, TRACES, Row
from shell_rows2 import ENDS, MESSAGES, OPEN_ENDS, OPTIONS, TRAPS
from support.live_session import Lab

from testronaut_lab.model.result import ExitKind, StepResult

pytestmark = pytest.mark.engine

ROWS: dict[str, Row] = {**DESCRIPTORS, **STATUS, **TRACES, **FUNCTIONS, **TRAPS, **OPTIONS, **ENDS}


def opened(make_session: MakeSession, request: pytest.FixtureRequest, shell: str) -> Lab:
    image_id = request.getfixturevalue("busybox_image" if shell == "busybox" else "base_image")
    return make_session(image_id, shell="bash" if shell == "bash" else "sh")


# a script names its shell's number, once the shell has been restored
NUMBERED = {
    "a shell is no subshell",
    "a restored shell has its number",
    "a restored shell can be interrupted",
    "a restored shell has its traps",
    "a shell that kills itself is told as the signal that it was",
    "a step that ends its shell says which state is there",
}


def differences(result: StepResult, do: Do) -> dict[str, tuple[object, object]]:
    """What is not as expected: (expected, actual) by name."""
    pairs: dict[str, tuple[object, object]] = {
        "kind": (do.kind, result.exit.kind.value),
        "out": (do.out, result.out),
        "err": (do.err, result.err),
        "code": (do.code, result.exit.code),
        "state": (do.state, result.state.value),
        "changes": (do.changes, tuple(f"{change.change.value} {change.path}" for change in result.changes)),
        "error": ("", result.error.message if result.error else ""),
        "note": (do.note, do.note if do.note and any(do.note in note for note in result.notes) else result.notes),
    }
    return {name: pair for name, pair in pairs.items() if pair[0] is not None and pair[0] != pair[1]}


@pytest.mark.parametrize(("sentence", "shell"), [(sentence, shell) for sentence, row in ROWS.items() for shell in row.shells])
def test_as_in_a_shell(sentence: str, shell: str, make_session: MakeSession, request: pytest.FixtureRequest) -> None:
    if os.getuid() and sentence in NUMBERED:
        pytest.skip("only root can give a restored shell its number back")
    lab = opened(make_session, request, shell)
    for path, text in ROWS[sentence].files.items():
        lab.session.put(path, text.encode())
    found = {}
    for number, do in enumerate(ROWS[sentence].steps, 1):
        result = lab.run(do.run or "", timeout_s=do.timeout_s)
        if wrong := differences(result, do):
            found[f"step {number}: {do.run}"] = wrong
    assert found == {}


def plain_words(err: str) -> str:
    """Without what `-c` adds, the number of a killed process, and the line where bash met an end that it did not expect."""
    err = re.sub(r"(?m)^(\w+: )-c: ", r"\1", err)
    err = re.sub(r"(: line \d+:) +\d+ ", r"\1 [PID] ", err)
    return re.sub(r"line \d+(: (?:syntax error: )?unexpected (?:EOF|end of file))", r"line [N]\1", err)


def did(result: StepResult) -> tuple[str, str, int | None, ExitKind]:
    return result.out, plain_words(result.err), result.exit.code, result.exit.kind


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("texts", [OPEN_ENDS, MESSAGES], ids=["open-ends", "messages"])
def test_as_in_a_script(texts: dict[str, str], shell: str, make_session: MakeSession, request: pytest.FixtureRequest) -> None:
    lab = opened(make_session, request, shell)
    program = "bash" if shell == "bash" else "sh"
    lab.run("x=kept").check()
    found = {}
    for name, text in texts.items():
        lab.session.put(f"script/{program}", text.encode())
        truths = [did(lab.argv(program, *words, cwd="script")) for words in ((program,), ("-c", text))]
        if (actual := did(lab.run(text, timeout_s=10))) not in truths:
            found[name] = (actual, *truths)
        if (kept := lab.run("echo $x").out) != "kept\n":
            found[f"after {name}"] = ("kept\n", kept)
    assert found == {}
