"""Proves that a tool was installed: the package manager knows its version, its program is there and starts.

A package that brings no program at all (data, a library) is proved by its version alone.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from testronaut_lab.container.builder import Executed, InstallContainer
from testronaut_lab.errors import InstallError
from testronaut_lab.installation.strategies import Strategy, fill
from testronaut_lab.model.plan import ToolSpec, Verify

_QUERY_TIMEOUT_S = 60.0
_START_TIMEOUT_S = 20
_PROGRAM = re.compile(r"/(?:usr/(?:local/)?)?(?:bin|sbin|games)/[^/]+")
_LOADER_ERROR = re.compile(r"error while loading shared libraries|symbol lookup error|Error relocating|version `[^']*' not found")
# What a program leaves in its home directory while it is tried must not be in the image: /dev/shm is not committed.
_ENV = {"LC_ALL": "C.UTF-8", "HOME": "/dev/shm"}
# `command -v` would find the shell's own kill, time or printf. The name is an argument and no part of the script.
_WHICH = """
case $1 in /*) [ -f "$1" ] && [ -x "$1" ] && printf '%s\\n' "$1"; exit ;; esac
IFS=:
for folder in $PATH; do
    [ -f "$folder/$1" ] && [ -x "$folder/$1" ] && printf '%s\\n' "$folder/$1" && exit
done
exit 1
"""
_NOT_FOUND, _SIGNALLED = (126, 127), 128


def installed_version(container: InstallContainer, strategy: Strategy, package: str) -> str:
    """The version that the package manager reports. Raises InstallError if it knows of none."""
    asked = container.run(fill(strategy.installed, name=package), timeout_s=_QUERY_TIMEOUT_S)
    match = re.search(r"^installed (\S+)$", asked.text, re.MULTILINE)
    if not asked.ok or match is None:
        raise InstallError(
            f"installing {package}: {strategy.name} reported success and knows no such installed package:\n  {asked.text}",
            hint=strategy.hint.replace("{name}", package),
        )
    return match[1]


def verify(container: InstallContainer, tool: ToolSpec, strategy: Strategy, package: str) -> None:
    """Raises InstallError with the evidence if the tool's program is missing or does not start, or its `verify` fails."""
    program = _program(container, tool, strategy, package)
    if program is not None:
        _start(container, tool, program)
    if tool.verify is not None:
        _check(container, tool, tool.verify)


def _program(container: InstallContainer, tool: ToolSpec, strategy: Strategy, package: str) -> str | None:
    """Its path: the command that the plan names, or the tool's name, or the first program of the package on the PATH."""
    if found := _which(container, tool.command or tool.name):
        return found
    if tool.command is not None:
        raise InstallError(
            f"verifying {tool.name}: there is no command {tool.command!r} on the PATH after installing {package}",
            hint=f"name the program that {package} brings: command: NAME",
        )
    lines: list[str] = []
    container.run(fill(strategy.files, name=package), timeout_s=_QUERY_TIMEOUT_S, on_line=lines.append)
    brought = sorted(line for line in lines if _PROGRAM.fullmatch(line))
    for path in brought:
        if found := _which(container, PurePosixPath(path).name):
            return found
    if brought:
        raise InstallError(
            f"verifying {tool.name}: {package} brings {', '.join(brought[:5])}, none of which is on the PATH",
            hint=f"name it with its path: command: {brought[0]}",
        )
    return None


def _which(container: InstallContainer, command: str) -> str | None:
    asked = container.run(["sh", "-c", _WHICH, "sh", command], timeout_s=_QUERY_TIMEOUT_S, env=_ENV)
    path = asked.last_lines[-1] if asked.ok and asked.last_lines else ""
    return path if path.startswith("/") else None


def _start(container: InstallContainer, tool: ToolSpec, program: str) -> None:
    """A program that takes neither option may complain: it has started."""
    evidence = []
    for option in ("--version", "--help"):
        tried = _run_briefly(container, [program, option])
        if _started(tried):
            return
        evidence.append(f"{program} {option} ended with {tried.code}: {tried.text}")
    raise InstallError(
        f"verifying {tool.name}: it is installed and does not start:\n  " + "\n  ".join(evidence),
        hint="say how it is started: command: NAME",
    )


def _started(tried: Executed) -> bool:
    if tried.code is None or _LOADER_ERROR.search(tried.text):
        return False
    return tried.code not in _NOT_FOUND and tried.code < _SIGNALLED


def _check(container: InstallContainer, tool: ToolSpec, wanted: Verify) -> None:
    tried = _run_briefly(container, ["sh", "-c", wanted.run])
    if tried.code != 0:
        raise InstallError(f"verifying {tool.name} with {wanted.run!r}: it ended with {tried.code}: {tried.text}")
    if wanted.matches is not None and not re.search(wanted.matches, tried.text):
        raise InstallError(f"verifying {tool.name} with {wanted.run!r}: {wanted.matches!r} does not match: {tried.text}")


def _run_briefly(container: InstallContainer, argv: list[str]) -> Executed:
    """Ends a program that goes on (124: it has started), long before the deadline that would cost the container."""
    limited = ["timeout", "-k", "2", str(_START_TIMEOUT_S), *argv]
    return container.run(limited, timeout_s=_QUERY_TIMEOUT_S, env=_ENV)
