"""A run that has one of everything, for reports: every status, attempts, a plan that did not start, cells of a matrix."""

from __future__ import annotations

from dataclasses import replace

from testronaut_lab.errors import ErrorKind, ExitStatus
from testronaut_lab.model.result import (
    Captured,
    CaseAttempt,
    CaseResult,
    EngineInfo,
    ErrorInfo,
    Exit,
    ExitKind,
    ImageInfo,
    Mismatch,
    Phase,
    PlanResult,
    RunResult,
    Status,
    StepResult,
    ToolInfo,
)

FILE = "examples/jq.lab.yaml"


def captured(text: str | bytes) -> Captured:
    data = text if isinstance(text, bytes) else text.encode()
    return Captured(len(data), data=data)


def step(id_: str, case: str, command: str = "jq .x a.json", status: Status = Status.PASSED, **more: object) -> StepResult:
    made = StepResult(id_, f"{FILE}::{case}::{id_}", Exit(ExitKind.EXITED, 0), status, run=command, duration_s=0.003)
    return replace(made, **more)  # type: ignore[arg-type]


def case(id_: str, status: Status, *steps: StepResult, **more: object) -> CaseResult:
    return CaseResult(id_, f"{FILE}::{id_}", status, steps, duration_s=0.25, **more)  # type: ignore[arg-type]


def failing(case_: str, **more: object) -> StepResult:
    """With two expectations that do not hold, on line 7."""
    wrong = (
        Mismatch("exit", "exit 0", "exit 3"),
        Mismatch("stdout.equals", "a\nc\n", "a\nb\n", diff="@@ -1,2 +1,2 @@\n a\n-c\n+b\n"),
    )
    made = step("second", case_, "cat list\nexit 3", Status.FAILED, exit=Exit(ExitKind.EXITED, 3), mismatches=wrong, line=7)
    made = replace(made, stdout_stream=captured("a\nb\n"), stderr_stream=captured("no c\n"))
    return replace(made, **more)  # type: ignore[arg-type]


def run_of(*cases: CaseResult, **more: object) -> RunResult:
    plan = PlanResult("jq basics", FILE, Status.FAILED, cases, IMAGE, TOOLS, started="2026-11-22T18:45:12.250Z")
    return replace(RUN, plans=(plan,), **more)  # type: ignore[arg-type]


IMAGE = ImageInfo("debian:bookworm-slim", "sha256:1", "local")
TOOLS = (ToolInfo("jq", "1.6", "apt"),)
LOST = ErrorInfo(ErrorKind.SESSION_LOST, "the container went away", "testronaut-lab engine status")
ATTEMPT = CaseAttempt(Status.FAILED, (step("first", "flaky"), failing("flaky")), 0.5)
SKIPPED = step("only", "skipped", status=Status.SKIPPED, notes=("`true` held",))
CASES = (
    case("passed", Status.PASSED, step("first", "passed", phase=Phase.SETUP, stdout_stream=captured("1\n"))),
    case("failed", Status.FAILED, step("first", "failed"), failing("failed"), line=5),
    case("error", Status.ERROR, step("lost", "error", status=Status.ERROR, error=LOST, exit=Exit(ExitKind.SESSION_LOST))),
    case("skipped", Status.SKIPPED, SKIPPED),
    case("never", Status.SKIPPED),
    case("xfailed", Status.XFAILED, failing("xfailed"), expect_fail="bug 12"),
    case("xpassed", Status.XPASSED, step("first", "xpassed"), expect_fail="bug 13", line=30),
    case("flaky", Status.FLAKY, step("first", "flaky"), attempts=2, earlier=(ATTEMPT,)),
    case("tried", Status.FAILED, failing("tried"), attempts=2, earlier=(ATTEMPT,)),
)
NO_IMAGE = PlanResult("cells", "cells.lab.yaml", Status.ERROR, (), cell=(("image", "debian:x"),), error=LOST)
ENGINE = EngineInfo("docker", "20.10", "1.41")
RUN = RunResult(
    "20261122-184512-3f9a", "2026-11-22T18:45:12.000Z", "2026-11-22T18:45:16.500Z", Status.ERROR, ENGINE, (), ExitStatus.ENGINE
)
EVERYTHING = replace(run_of(*CASES), plans=(*run_of(*CASES).plans, NO_IMAGE))
