"""Writes what the command line prints: lines, tables and JSON to its streams, bytes to files.

`report/` decides how a run looks. This module handles streams without a reader and files that cannot be written.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from testronaut_lab.errors import CaptureError, LabError, UsageError

# The errors of a full or failing disk.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class Printer:
    """Writes to a stream while somebody reads it. Without a reader, the run goes on and is stored."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Write a line. Raises CaptureError if writing fails, except when the reader has gone."""
        try:
            self._stream.write(line)
            self._stream.flush()
        except BrokenPipeError:
            leave(self._stream)
        except OSError as error:
            leave(self._stream)  # the buffer would fail again at exit
            raise CaptureError(f"writing to {self._stream.name}: {error.strerror}") from error


def leave(stream: TextIO) -> None:
    """Send everything that is still buffered or written later to /dev/null."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def check_writable(*paths: Path | None) -> None:
    """Check, before a run, that the paths can be written: a misspelt folder must not lose an hour's result."""
    for path in paths:
        if path is not None and str(path) != "-":
            with _writing(path), path.open("ab"):
                pass


def write_bytes(path: Path, data: bytes) -> None:
    if str(path) == "-":
        sys.stdout.buffer.write(data)
        return
    with _writing(path):
        path.write_bytes(data)


def append_text(path: Path, text: str) -> None:
    with _writing(path), path.open("a", encoding="utf-8") as file:
        file.write(text)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        folder = shlex.quote(str(path.parent))
        if error.errno in NO_ROOM:
            raise CaptureError(f"writing {path}: {error.strerror}", hint=f"df -h {folder}") from error
        hint = f"mkdir -p {folder}" if isinstance(error, FileNotFoundError) else f"ls -ld {shlex.quote(str(path))}"
        raise UsageError(f"writing {path}: {error.strerror}", hint=hint) from error


def print_table(table: object) -> None:
    from rich.console import Console

    if isinstance(table, str):
        print(table)
    else:
        Console().print(table)


def print_json(value: object) -> None:
    import orjson

    from testronaut_lab.safetext import safe_json

    sys.stdout.buffer.write(safe_json(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)))


def say(line: str, stream: TextIO | None = None) -> None:
    """Print our own text, which may quote foreign text. All such text goes through here."""
    from testronaut_lab.safetext import safe_text

    print(safe_text(line), file=stream, flush=True)


def write_line(line: str) -> None:
    sys.stdout.write(line)


def complain(error: LabError) -> None:
    try:
        say(f"error: {error.message}", sys.stderr)
        if error.hint:
            say(f"hint: {error.hint}", sys.stderr)
    except OSError:
        leave(sys.stderr)  # the exit status still says it
