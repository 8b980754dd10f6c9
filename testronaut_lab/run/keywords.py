"""Turns the plain keywords of `Session` and `Session.run` into the types of the model.

The plan's grammar reads every value that is not an instance of such a type already. So a keyword can say only what a plan can
say, and errors have the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from testronaut_lab.errors import UsageError
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
from testronaut_lab.planfile import parse_part

LimitsGiven = Limits | Mapping[str, object]
InteractionGiven = Interaction | Mapping[str, object]
_INTERACTIONS = (AwaitOutput, AwaitScreen, AwaitSettled, PressKey, Resize, SendText)
_CHOICES = {"network": ("none", "internet"), "user": ("lab", "root"), "rootfs": ("read-only", "writable")}


def settings_of(
    settings: SessionSettings | None, given: Mapping[str, object], limits: LimitsGiven | None, timeout: float | None
) -> SessionSettings:
    """Return `settings` with the `given` values replaced. Raises UsageError for a value that no session can have."""
    made = settings or SessionSettings()
    for name, value in given.items():
        if value is not None and name in _CHOICES and value not in _CHOICES[name]:
            choices = " or ".join(map(repr, _CHOICES[name]))
            raise UsageError(f"Session({name}={value!r}): it is {choices}", hint=f"Session(image, {name}={_CHOICES[name][0]!r})")
    made = replace(made, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    if limits is not None:
        made = replace(made, limits=_limits_of(limits))
    if timeout is not None:
        made = replace(made, limits=replace(made.limits, timeout_s=float(timeout)))
    return made


def _limits_of(given: LimitsGiven) -> Limits:
    found = given if isinstance(given, Limits) else parse_part("limits", given)
    assert isinstance(found, Limits)
    return found


def tty_of(given: bool | Tty | Mapping[str, object]) -> Tty | None:
    if isinstance(given, Tty):
        return given
    if given is False:  # the usual case; not worth a parse
        return None
    found = parse_part("tty", given)
    assert found is None or isinstance(found, Tty)
    return found


def ready_of(given: Ready | Mapping[str, object] | None) -> Ready | None:
    if given is None or isinstance(given, Ready):
        return given
    found = parse_part("ready", given)
    assert isinstance(found, Ready)
    return found


def interactions_of(given: Sequence[InteractionGiven]) -> tuple[Interaction, ...]:
    return tuple(map(_interaction_of, given))


def _interaction_of(given: InteractionGiven) -> Interaction:
    found = given if isinstance(given, _INTERACTIONS) else parse_part("interaction", given)
    assert isinstance(found, _INTERACTIONS)
    return found
