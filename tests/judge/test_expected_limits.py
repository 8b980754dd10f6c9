"""Steps that are expected to run into a limit, and a process that was lost in a step that went on."""

from __future__ import annotations

from pathlib import Path

import pytest

from testronaut_lab.model.result import CaseResult, Status
from testronaut_lab.planfile import parse_plan
from testronaut_lab.run.plan_run import Run, RunOptions

pytestmark = pytest.mark.usefixtures("base_image")

HUNGRY = "sh -c 'a=x; while :; do a=$a$a$a; done'"
BOMB = "bomb() { bomb | bomb & }; bomb; sleep 5"


def run(root: Path, limits: dict[str, object], *steps: object) -> CaseResult:
    plan = parse_plan({"image": "debian:bookworm-slim", "limits": limits, "steps": list(steps)}, root=root)
    return Run([plan], RunOptions()).run([]).plans[0].cases[0]


@pytest.mark.parametrize(
    ("limits", "script", "kind"),
    [
        ({"memory": "64MiB"}, HUNGRY, "oom"),
        ({"output": "1KiB"}, "yes", "output_limit"),
        ({"pids": 40}, BOMB, "pids_limit"),
        ({"files": 5}, "touch 1 2 3 4 5 6 7", "disk_limit"),
        ({"timeout": "500ms"}, "sleep 60", "timeout"),
    ],
)
def test_a_limit_can_be_expected(tmp_path: Path, limits: dict[str, object], script: str, kind: str) -> None:
    met = {"run": script, "expect": {"exit": kind}}
    other = "oom" if kind == "timeout" else "timeout"
    missed = {"id": "missed", "run": script, "expect": {"exit": other}, "continue": True}
    statuses = [step.status for step in run(tmp_path, limits, missed, met).steps]
    assert statuses == [Status.FAILED, Status.PASSED]


def test_a_step_that_gets_over_a_process_that_was_killed_for_lack_of_memory_passes_with_a_note(tmp_path: Path) -> None:
    plain, own_terminal = f"{HUNGRY}; exit 0", {"id": "tty", "run": f"{HUNGRY}; exit 0", "tty": True}
    case = run(tmp_path, {"memory": "64MiB"}, plain, own_terminal)
    assert [step.status for step in case.steps] == [Status.PASSED, Status.PASSED]
    for step in case.steps:
        assert any("killed for lack of memory" in note for note in step.notes), step.id
