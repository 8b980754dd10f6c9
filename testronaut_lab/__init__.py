"""Runs command-line tools in throw-away containers and keeps what they did as tests.

    from testronaut_lab import Session
    with Session("debian:bookworm-slim", "apt:jq") as session:
        print(session.run("echo '{}' | jq .").out)

Names are imported when they are first used, so that `import testronaut_lab` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for true; typing's own costs half of the time until a ctrl-c is understood
if TYPE_CHECKING:
    from testronaut_lab.errors import CaptureError, EngineError, InstallError, LabError, SessionLost, StepFailed, UsageError
    from testronaut_lab.lab import Session, run_plan
    from testronaut_lab.model.result import RunResult, StepResult
    from testronaut_lab.model.undo import UndoResult

_HOMES = {
    "CaptureError": "errors",
    "EngineError": "errors",
    "InstallError": "errors",
    "LabError": "errors",
    "RunResult": "model.result",
    "Session": "lab",
    "SessionLost": "errors",
    "StepFailed": "errors",
    "StepResult": "model.result",
    "UndoResult": "model.undo",
    "UsageError": "errors",
    "run_plan": "lab",
}

__all__ = [
    "CaptureError",
    "EngineError",
    "InstallError",
    "LabError",
    "RunResult",
    "Session",
    "SessionLost",
    "StepFailed",
    "StepResult",
    "UndoResult",
    "UsageError",
    "run_plan",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
