"""Asks the install container why a package manager or a script failed: the versions in the image, the first bytes of a file.

`causes.py` and `startable.py` turn these facts and the output of the command into a cause.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from testronaut_lab.container.image.builder import Executed, InstallContainer
from testronaut_lab.installation import scripts
from testronaut_lab.installation.causes import Asked, Cause, Runtime, of_package, of_wheel
from testronaut_lab.installation.startable import Came, Head, crlf, unstarted
from testronaut_lab.installation.strategies import Strategy, Words, fill
from testronaut_lab.model.plan import InstallSpec

_TIMEOUT_S = 60.0
_NOT_FOUND = (126, 127)


def diagnosed(container: InstallContainer, strategy: Strategy, spec: InstallSpec, words: Words, ended: Executed) -> Cause | None:
    """Say why this command failed; None if that is unknown, as after a deadline, which kills the container."""
    if ended.code is None:
        return None
    if strategy.name == "script":
        return _of_script(container, spec, words, ended)
    runtime = _runtime(container, strategy, words) if strategy.ecosystem == "pip" else None
    if runtime is not None and "is not a supported wheel" in ended.text:
        return of_wheel(PurePosixPath(words.file).name, runtime)
    python = "" if runtime is None else ".".join(map(str, runtime.python))
    return of_package(ended.text, Asked(f"{spec.strategy}:{spec.spec}", python))


def way_of(spec: InstallSpec) -> Came:
    """How the tool came. The path of a program or script of this machine is relative to the working directory if possible."""
    tool, source = f"{spec.strategy}:{spec.spec}", spec.source
    if source is None or spec.strategy not in ("copy", "script") or not source.is_file():
        return Came(tool)
    return Came(tool, os.path.relpath(source) if source.is_relative_to(Path.cwd()) else str(source))


def read_head(container: InstallContainer, path: str) -> Head:
    """Read the first bytes of a file; none if the image has no program to read them."""
    lines: list[str] = []
    container.run(["sh", "-c", scripts.HEAD, "sh", path], timeout_s=_TIMEOUT_S, on_line=lines.append)
    try:
        return Head(bytes.fromhex(" ".join(lines[1:])), lines[0].strip() if lines else "")
    except ValueError:
        return Head(b"", "")


def has(container: InstallContainer, program: str) -> bool:
    """Whether the image has the program, by its path or on the PATH."""
    return container.run(["sh", "-c", scripts.WHICH, "sh", program], timeout_s=_TIMEOUT_S).ok


def _of_script(container: InstallContainer, spec: InstallSpec, words: Words, ended: Executed) -> Cause | None:
    head = read_head(container, words.file)
    if b"\r\n" in head.data:
        return crlf(way_of(spec).source)
    return unstarted(head, ended.text, way_of(spec), lambda name: has(container, name)) if ended.code in _NOT_FOUND else None


def _runtime(container: InstallContainer, strategy: Strategy, words: Words) -> Runtime | None:
    """Ask the image's python for its version, processor and glibc; None if it does not answer."""
    asked = container.run(fill(strategy.runtime, words), timeout_s=_TIMEOUT_S)
    found = re.search(r"^runtime ([0-9.]+)\S* (\S+) ?([0-9.]*)$", asked.text, re.MULTILINE)
    return None if found is None else Runtime(_numbers(found[1]), found[2], _numbers(found[3]))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)
