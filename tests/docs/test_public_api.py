"""The public Python API is what `testronaut_lab.__all__` names, and these names stay."""

from __future__ import annotations

import inspect

import testronaut_lab

# A name may come; none goes without a new major version.
PROMISED = {
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
}


def test_every_promised_name_is_there() -> None:
    assert set(testronaut_lab.__all__) >= PROMISED
    assert [name for name in testronaut_lab.__all__ if not hasattr(testronaut_lab, name)] == []


def test_a_star_import_brings_the_public_names_alone() -> None:
    space: dict[str, object] = {}
    exec("from testronaut_lab import *", space)
    assert set(space) - {"__builtins__"} == set(testronaut_lab.__all__)


def test_every_public_name_says_what_it_is() -> None:
    public = {name: getattr(testronaut_lab, name) for name in testronaut_lab.__all__}
    assert [name for name, each in public.items() if inspect.isclass(each) and not (each.__doc__ or "").strip()] == []
    methods = [method for _, method in inspect.getmembers(testronaut_lab.Session, inspect.isfunction)]
    assert [each.__name__ for each in methods if not each.__name__.startswith("_") and not each.__doc__] == []


def test_every_error_is_a_lab_error() -> None:
    errors = [getattr(testronaut_lab, name) for name in testronaut_lab.__all__ if name.endswith(("Error", "Lost", "Failed"))]
    assert [error.__name__ for error in errors if not issubclass(error, testronaut_lab.LabError)] == []
