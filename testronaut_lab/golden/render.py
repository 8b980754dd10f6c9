"""Renders what a step did as the files of a golden. A step that does the same again gives the same bytes.

All text is normalised, names in `changes.txt` included. Times, sizes and owners are left out. `golden/store.py` keeps the
files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from testronaut_lab.errors import CaptureError
from testronaut_lab.golden.names import clash, escaped, name_problem
from testronaut_lab.golden.normalize import Normalizing
from testronaut_lab.model.files import ChangeKind, FileChange, FileType
from testronaut_lab.model.globs import matches_any
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.plan import GoldenSpec, Step
from testronaut_lab.model.result import Captured, ExitKind, StepResult

MAX_TEXT_BYTES = 64 * 1024
_STATUS_GAP = " " * 6

# Relative POSIX name -> content.
GoldenTree = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Rendered:
    """`fired` counts the replacements of each normalising rule in this step, 0 included."""

    tree: GoldenTree
    fired: Mapping[str, int]


def render(step: Step, result: StepResult, read: Callable[[str], bytes], facts: Facts) -> Rendered:
    """Return the golden of a captured step. `read` returns the bytes of a workspace file. `step.golden` must be set.

    Values are numbered in this order: command, stdout, stderr, changes, files by name. Raises CaptureError if a stream or file
    is cut or gone, and for a name that no golden can hold.
    """
    if step.golden is None:
        raise CaptureError(f"rendering {step.nodeid}: it asks for no golden")
    normalizer = Normalizing(step.golden.normalize, facts)
    normalizer.expect_words([result.command, *(name for change in result.changes for name in (change.path, change.target or ""))])
    tree = {"cmd.txt": _command(result, normalizer)}
    tree |= _streams(step.golden, result, normalizer)
    if result.changes:
        tree["changes.txt"] = "".join(f"{line}\n" for line in sorted_changes(result.changes, normalizer.normalize_text)).encode()
    tree |= _files(step.golden, result.changes, read, normalizer)
    check_names(tree)
    return Rendered(MappingProxyType(tree), normalizer.fired)


def check_names(tree: GoldenTree) -> None:
    """Raise CaptureError for a name that leads out of the golden, cannot be written, or clashes with another name."""
    for name in tree:
        if problem := name_problem(name):
            raise CaptureError(f"keeping {name!r} in a golden: {problem}")
    if two := clash(tree):
        raise CaptureError(
            f"keeping {two[0]!r} and {two[1]!r} in one golden: some file systems take them for one name",
            hint="leave one out with `golden: {files: [...]}`",
        )


def sorted_changes(changes: Iterable[FileChange], text: Callable[[str], str] = str) -> list[str]:
    """One line a change, sorted by path: `A 644 out.json`, `A 755 dir/`, `A link -> target`, `D gone.txt`."""
    lines = []
    for change in changes:
        path = text(change.path)
        lines.append((path, change.change.letter, _change_line(change, path, text)))
    return [line for _, _, line in sorted(lines)]


def _command(result: StepResult, normalizer: Normalizing) -> bytes:
    """`$ COMMAND      (exit 0)`; further lines of the command begin with `> `, as in a shell."""
    first, *more = normalizer.normalize_text(result.command).split("\n")
    lines = [f"$ {first}{_STATUS_GAP}({_status(result)})", *(f"> {line}" for line in more)]
    return ("\n".join(lines) + "\n").encode(errors="surrogateescape")


def _status(result: StepResult) -> str:
    end = result.exit
    status = f"exit {end.code}" if end.kind is ExitKind.EXITED else end.kind.value
    return f"{status}, stderr merged" if result.merged else status


def _streams(spec: GoldenSpec, result: StepResult, normalizer: Normalizing) -> dict[str, bytes]:
    streams: dict[str, Captured] = {"stdout": result.stdout_stream, "stderr": result.stderr_stream}
    contents = {f"{name}.txt": normalizer.content(_whole(name, streams[name])) for name in spec.streams}
    return {name: data for name, data in contents.items() if data}


def _whole(name: str, stream: Captured) -> bytes:
    if stream.truncated:
        raise CaptureError(f"keeping {name} in a golden: {stream.dropped_bytes} bytes of it were dropped at the output limit")
    try:
        return stream.read()
    except OSError as error:
        raise CaptureError(f"reading the captured {name}: {error}") from error


def _change_line(change: FileChange, path: str, text: Callable[[str], str]) -> str:
    letter, path = change.change.letter, escaped(path)
    if change.change is ChangeKind.DELETED:
        return f"{letter} {path}"
    mode = f"{change.mode:03o} " if change.mode is not None else ""
    match change.type:
        case FileType.LINK:
            # The first arrow of a line separates name and target, so an arrow in the link's own name is escaped.
            name = path.replace(" -> ", " \\x2d> ")
            return f"{letter} {name} -> {escaped(text(change.target or ''))}"
        case FileType.DIR:
            return f"{letter} {mode}{path}/"
        case FileType.FILE:
            return f"{letter} {mode}{path}"
        case FileType.OTHER:
            return f"{letter} {mode}{path} (not a file)"


def _files(
    spec: GoldenSpec, changes: Iterable[FileChange], read: Callable[[str], bytes], normalizer: Normalizing
) -> dict[str, bytes]:
    """The files that the step made or changed and that `golden: {files: ...}` asks for."""
    tree: dict[str, bytes] = {}
    for change in changes:
        if change.change is ChangeKind.DELETED or change.type is not FileType.FILE or not matches_any(spec.files, change.path):
            continue
        name, data = _file(change, read, normalizer)
        if name in tree:
            raise CaptureError(
                f"keeping {change.path!r} in a golden: another file is kept as {name!r} already",
                hint="leave one out with `golden: {files: [...]}`, or write a rule that tells their names apart",
            )
        tree[name] = data
    return tree


def _file(change: FileChange, read: Callable[[str], bytes], normalizer: Normalizing) -> tuple[str, bytes]:
    """Text of up to 64 KiB is kept normalised; any other file becomes one line with its digest and size."""
    name = f"files/{escaped(normalizer.normalize_text(change.path))}"
    if problem := name_problem(name):
        raise CaptureError(f"keeping {change.path!r} in a golden: {problem}")
    if change.size_bytes is not None and change.size_bytes > MAX_TEXT_BYTES:
        return f"{name}.sha256", _fingerprint(change, "large")
    try:
        data = read(change.path)
    except FileNotFoundError as error:
        raise CaptureError(f"keeping {change.path!r} in a golden: it vanished after the step") from error
    if change.sha256 is not None and hashlib.sha256(data).hexdigest() != change.sha256:
        raise CaptureError(f"keeping {change.path!r} in a golden: it changed again after the step")
    try:
        data.decode()
    except UnicodeDecodeError:
        return f"{name}.sha256", _fingerprint(change, "binary")
    return name, normalizer.content(data)


def _fingerprint(change: FileChange, why: str) -> bytes:
    if change.sha256 is None:
        raise CaptureError(
            f"keeping {change.path!r} in a golden: its content was not read ({change.note or 'no reason is known'})"
        )
    return f"{change.sha256}  {change.size_bytes}  {why}\n".encode()
