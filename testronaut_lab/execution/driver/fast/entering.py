"""The environment and directory that end with a step: set by texts of ours before it, taken back by one after it.

What a variable was, the shell says before the step, as text that makes it so again. That text is cut into assignments here and
never interpreted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from testronaut_lab.execution.driver.plain.shell_state import split
from testronaut_lab.execution.driver.script import quote

_NAME = re.compile(r"(?:(?:export|declare|typeset)\s+(?:-\S+\s+)*)?([A-Za-z_][A-Za-z0-9_]*)(?==|$)", re.DOTALL)
_PLACES = ("PWD", "OLDPWD")


def environment_text(lasting: Mapping[str, str], own: Mapping[str, str], *, is_bash: bool) -> str:
    """Sets what stays and what ends with the step, after saying what the latter are now. Fails if one cannot be set."""
    sets = [f"{_builtin(is_bash)}export {name}={quote(value)}" for name, value in (*lasting.items(), *own.items())]
    return "\n".join([*_asking(tuple(own), is_bash=is_bash), " && ".join(sets)]) + "\n"


def directory_text(cwd: str, *, is_bash: bool) -> str:
    """Goes there, after saying where the shell is now. Fails if that is no directory."""
    return "\n".join([*_asking(_PLACES, is_bash=is_bash), f"{_change(is_bash)} -- {quote(cwd)} >/dev/null 2>&1"]) + "\n"


def leaving_environment_text(said: str, names: Sequence[str], *, is_bash: bool) -> str:
    """Makes the variables with these names what the shell said that they were."""
    was = _assignments(said, is_bash=is_bash)
    lines: list[str] = []
    for name in names:
        lines += [f"{_builtin(is_bash)}unset {name}", *was.get(name, ())]
    return "\n".join(lines) + "\n"


def leaving_directory_text(said: str, *, is_bash: bool) -> str:
    """Goes back to where the shell said that it was."""
    was = _assignments(said, is_bash=is_bash)
    back = [f"OLDPWD={was['PWD'][-1].partition('=')[2]}", f"{_change(is_bash)} - >/dev/null 2>&1"] if "PWD" in was else []
    return "\n".join(back) + "\n" + leaving_environment_text(said, ("OLDPWD",), is_bash=is_bash)


def _asking(names: Sequence[str], *, is_bash: bool) -> list[str]:
    if not names:
        return []
    if is_bash:
        return [rf"( \builtin declare -p {' '.join(names)} ) 2>/dev/null"]
    return [r"( \export -p; \echo; \set )"]


def _assignments(said: str, *, is_bash: bool) -> dict[str, list[str]]:
    """The lines that make each variable what it was; of the last one, what stands after `=` is its value."""
    found: dict[str, list[str]] = {}
    for line in split(said):
        name = _NAME.match(line)
        if name is None:
            continue
        if is_bash:
            found[name[1]] = [rf"\builtin {line}"]
        elif line.startswith("export "):
            found[name[1]] = [rf"\export {name[1]}"]
        elif name[1] in found:
            found[name[1]].append(line)
        else:
            found[name[1]] = [line]
    return found


def _builtin(is_bash: bool) -> str:
    r"""In front of a special builtin's name: past a function of the user's, which only bash prefers."""
    return r"\builtin " if is_bash else "\\"


def _change(is_bash: bool) -> str:
    return r"\builtin cd" if is_bash else r"\command cd"
