"""Runs command-line tools in throw-away containers and keeps what they did as tests.

    from testronaut_lab import Session
    with Session("debian:bookworm-slim", "apt:jq") as session:
        print(session.run("echo '{}' | jq .").out)

Names are imported when they are first used, so that `import testronaut_lab` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for true; importing typing would take half of the start-up time until ctrl-c works
if TYPE_CHECKING:
    from testronaut_lab.api import Session, run_plan
    from testronaut_lab.errors import CaptureError, EngineError, InstallError, LabError, SessionLost, StepFailed, UsageError
    from testronaut_lab.execution.factory import SessionSettings
    from testronaut_lab.model.interaction import (
        AwaitOutput,
        AwaitScreen,
        AwaitSettled,
        Interaction,
        PressKey,
        Ready,
        Resize,
        SendText,
        Tty,
    )
    from testronaut_lab.model.plan import Limits
    from testronaut_lab.model.result import RunResult, StepResult
    from testronaut_lab.model.undo import UndoResult

_HOMES = {
    "AwaitOutput": "model.interaction",
    "AwaitScreen": "model.interaction",
    "AwaitSettled": "model.interaction",
    "CaptureError": "errors",
    "EngineError": "errors",
    "InstallError": "errors",
    "Interaction": "model.interaction",
    "LabError": "errors",
    "Limits": "model.plan",
    "PressKey": "model.interaction",
    "Ready": "model.interaction",
    "Resize": "model.interaction",
    "RunResult": "model.result",
    "SendText": "model.interaction",
    "Session": "api",
    "SessionLost": "errors",
    "SessionSettings": "execution.factory",
    "StepFailed": "errors",
    "StepResult": "model.result",
    "Tty": "model.interaction",
    "UndoResult": "model.undo",
    "UsageError": "errors",
    "run_plan": "api",
}

__all__ = [
    "AwaitOutput",
    "AwaitScreen",
    "AwaitSettled",
    "CaptureError",
    "EngineError",
    "InstallError",
    "Interaction",
    "LabError",
    "Limits",
    "PressKey",
    "Ready",
    "Resize",
    "RunResult",
    "SendText",
    "Session",
    "SessionLost",
    "SessionSettings",
    "StepFailed",
    "StepResult",
    "Tty",
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
