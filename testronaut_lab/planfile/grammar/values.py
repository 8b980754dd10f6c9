"""Checks of the single values of a plan: names, paths, patterns.

Every function takes the text as written, returns the value, and raises ValueError with the whole message.
"""

from __future__ import annotations

import base64
import binascii
import re
import signal
import warnings
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Final

from testronaut_lab.golden.patterns import NAMED
from testronaut_lab.model import jsonpath
from testronaut_lab.model.plan import Normalizer
from testronaut_lab.planfile.schema.problems import did_you_mean

_BLANK: Final = re.compile(r"\s*")


def matching(pattern: str, words: str) -> Callable[[str], str]:
    """Return a function that accepts text which matches as a whole."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"expected {words}, found {value!r}")
        return value

    return check


def without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("a NUL byte cannot stand here")
    return value


def plan_name(value: str) -> str:
    if not value.strip() or not value.isprintable() or "::" in value:
        raise ValueError(f"expected a name of one line without '::', found {value!r}")
    return value


def script(value: str) -> str:
    if _BLANK.fullmatch(value):
        raise ValueError("expected a command, found nothing to run")
    return without_nul(value)


def argv(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value[0]:
        raise ValueError("the first entry is the program; it is empty")
    return value


def regex(value: str) -> str:
    """Check that a regex compiles without a warning. A warning means that a later Python may read the regex differently."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(value)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise ValueError(f"cannot read the regex {_around(value, getattr(error, 'pos', None))}: {error}") from error
    return value


def _around(pattern: str, position: int | None) -> str:
    """Return the pattern for a message; for a long one, only the text around `position`."""
    start, end = max((position or 0) - 40, 0), (position or 0) + 40
    if len(pattern) <= 200:
        return repr(pattern)
    return f"{'…' if start else ''}{pattern[start:end]!r}{'…' if end < len(pattern) else ''}"


def normalizer(matches: str, replace: str) -> Normalizer:
    try:
        re.compile(matches).sub(replace, "")
    except (re.error, IndexError) as error:
        raise ValueError(f"cannot replace by {replace!r}: {error}") from error
    return Normalizer(matches, replace)


def json_path(value: str) -> str:
    jsonpath.parse(value)
    return value


def image_ref(value: str) -> str:
    """Check the form of an image reference. The engine says later whether the image exists."""
    return matching(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*", "an image such as debian:bookworm-slim")(value)


def file_mode(value: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3,4}", value):
        raise ValueError(f'expected a mode in octal, such as "0755", found {value!r}')
    return int(value, 8)


def from_base64(value: str) -> bytes:
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"expected base64: {error}") from error


def workspace_path(value: str) -> str:
    """Check a path relative to the workspace, without empty parts, `.` and `..`."""
    without_nul(value)
    if value.startswith("/"):
        raise ValueError(f"expected a path relative to the workspace, found {value!r}")
    if any(part in ("", ".", "..") for part in value.split("/")):
        raise ValueError(f"expected a path without empty parts, '.' and '..', found {value!r}")
    if any(len(part.encode()) > 255 for part in value.split("/")):
        raise ValueError("a part of the path is longer than 255 bytes")
    return value


def outside_path(value: str) -> str:
    """Check an absolute path without empty parts, `.` and `..`."""
    if not value.startswith("/"):
        raise ValueError(f"expected an absolute path, found {value!r}")
    workspace_path(value[1:])
    return value


def changed_path(value: str) -> str:
    """Check a path in the workspace, or `.` for the workspace itself."""
    return value if value == "." else workspace_path(value)


def ignore_pattern(value: str) -> str:
    """Check one line of a .gitignore."""
    if not value.strip() or "\n" in value or "\0" in value or value.startswith("#") or ".." in value.split("/"):
        raise ValueError(f"expected a pattern as in a .gitignore, found {value!r}")
    return value


def any_path(value: str) -> str:
    return outside_path(value) if value.startswith("/") else workspace_path(value)


def owner(value: str) -> str:
    if value not in ("lab", "root") and not re.fullmatch(r"0|[1-9][0-9]{0,9}", value):
        raise ValueError(f"expected lab, root or the number of a user, found {value!r}")
    return "root" if value == "0" else value


def working_directory(value: str) -> str:
    """Check a directory: relative to the workspace, or absolute."""
    without_nul(value)
    if not value or ".." in value.split("/"):
        raise ValueError(f"expected a folder of the workspace or an absolute path, without '..', found {value!r}")
    return value


def shell(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*|(?:/[A-Za-z0-9_.+-]+)+", value) or ".." in PurePosixPath(value).parts:
        raise ValueError(f"expected a shell such as sh, bash or /bin/dash, found {value!r}")
    return value


def signal_name(value: str) -> str:
    """Return the signal's name without SIG."""
    name = value.removeprefix("SIG")
    if f"SIG{name}" not in signal.Signals.__members__:
        raise ValueError(f"expected a signal such as KILL or TERM, found {value!r}")
    return name


def named_normalizer(value: str) -> str:
    if value not in NAMED:
        raise ValueError(f"there is no normaliser {value!r}{did_you_mean(value, NAMED)}")
    return value


def inner_clash(paths: Iterable[str], files: Iterable[str]) -> tuple[str, str] | None:
    """Return a file and a path below it, if there are such two; the file would have to be a folder."""
    known = set(files)
    for path in sorted(paths):
        for parent in PurePosixPath(path).parents:
            if str(parent) in known:
                return str(parent), path
    return None
