"""Checks what a plan expects of one step against the captured step. Every expectation that does not hold is a mismatch.

This module only reads: the captured workspace, and files that the plan names. `judge/judge.py` has goldens and the verdict,
`judge/text.py` the matchers of one text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from signal import Signals
from typing import Protocol

from testronaut_lab.errors import CaptureError, ErrorKind
from testronaut_lab.judge.text import Subject, check_text
from testronaut_lab.model.files import ChangeKind, FileChange, FileState, FileType
from testronaut_lab.model.globs import matches_any, matches_glob
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.plan import ChangesExpect, ExitExpect, Expect, FileExpect, TextExpect
from testronaut_lab.model.result import Captured, ErrorInfo, Exit, ExitKind, Mismatch, StepResult
from testronaut_lab.model.screentext import unmet

_MAX_LISTED = 20

_KIND_IN_WORDS = {
    ExitKind.EXITED: "exited",
    ExitKind.TIMEOUT: "timed out",
    ExitKind.OOM: "killed: out of memory",
    ExitKind.OUTPUT_LIMIT: "killed: wrote more output than the limit",
    ExitKind.DISK_LIMIT: "killed: the workspace grew beyond its limit",
    ExitKind.PIDS_LIMIT: "ended by the limit of processes",
    ExitKind.CANCELLED: "cancelled",
    ExitKind.SESSION_LOST: "the session was lost",
    ExitKind.ENGINE_LOST: "the engine was lost",
    ExitKind.RUNNING: "goes on",
}


class Workspace(Protocol):
    """The workspace as captured right after the step. Paths are in the text form of `model.files.path_text`."""

    @property
    def facts(self) -> Facts:
        """The facts of the session that normalising needs."""
        ...

    def find(self, pattern: str) -> Mapping[str, FileState]:
        """The paths that a key of `files` matches, sorted. An absolute key matches paths outside the workspace.

        Raises CaptureError for a place that is not captured.
        """
        ...

    def read(self, path: str) -> bytes:
        """The captured bytes of a regular file. Raises FileNotFoundError, CaptureError for a file that cannot be read."""
        ...


def check(expect: Expect, result: StepResult, workspace: Workspace) -> tuple[Mismatch, ...]:
    """Return every expectation that does not hold. Raises CaptureError if a captured stream or file cannot be read."""
    return (
        *_check_exit(expect.exit, result),
        *_check_stream("stdout", expect.stdout, result.stdout_stream),
        *_check_stream("stderr", expect.stderr, result.stderr_stream),
        *_check_screen(expect.screen, result.screen),
        *_check_files(expect.files, workspace),
        *_check_changes(expect.changes, result),
    )


def stream_bytes(name: str, stream: Captured) -> bytes:
    """All kept bytes of a stream. Raises CaptureError if they are gone."""
    try:
        return stream.read()
    except OSError as error:
        raise CaptureError(f"reading the captured {name}: {error}") from error


def truncated(name: str, stream: Captured) -> Mismatch | None:
    """Return a mismatch if only the beginning of the stream was kept: it cannot be judged."""
    if not stream.truncated:
        return None
    actual = f"truncated: {stream.size_bytes} bytes were kept, {stream.dropped_bytes} dropped"
    return Mismatch(name, "the whole stream", actual)


def unjudged_end(expect: ExitExpect, result: StepResult) -> ErrorInfo | None:
    """Say why it is unknown whether the step ended as expected; None if it is known.

    On a host that does not count OOM kills, any SIGKILL may have been one.
    """
    unseen, end = result.usage.unseen, result.exit
    if end.kind is expect.ended_by:
        return None
    if end.kind is ExitKind.EXITED and end.in_doubt and expect.signal is not None and end.code == _code_of(expect.signal):
        name = expect.signal.removeprefix("SIG")
        why = f"whether SIG{name} ended the program, or it ended with {end.code} itself, cannot be told on this host"
        return ErrorInfo(ErrorKind.CAPTURE, f"`signal` cannot be judged: {why}", f"write `expect: {{exit: {end.code}}}`")
    killed = end.signal == "KILL" or (end.in_doubt and end.code == _code_of("KILL"))
    may_be_memory = ExitKind.OOM in unseen and end.kind is ExitKind.EXITED and killed and _exit_holds(expect, end)
    if not may_be_memory and expect.ended_by not in unseen:
        return None
    why = "whether the step met a limit of memory or processes cannot be seen on this host"
    return ErrorInfo(ErrorKind.CAPTURE, f"`exit` cannot be judged: {why}", "testronaut-lab run --require-limits")


def _code_of(name: str) -> int:
    """The exit status that a shell gives for a signal."""
    return 128 + Signals[f"SIG{name.removeprefix('SIG')}"]


def _check_exit(expect: ExitExpect, result: StepResult) -> Iterator[Mismatch]:
    if unjudged_end(expect, result) is None and not _exit_holds(expect, result.exit):
        yield Mismatch("exit", _exit_expected(expect), _exit_actual(result))


def _exit_holds(expect: ExitExpect, actual: Exit) -> bool:
    if actual.kind is ExitKind.RUNNING:
        return True  # a background step is not expected to end
    if expect.ended_by is not None:
        return actual.kind is expect.ended_by
    if actual.kind is not ExitKind.EXITED or actual.code is None:
        return False
    if expect.signal is not None:
        return actual.signal == expect.signal.removeprefix("SIG")
    return actual.code != 0 if expect.nonzero else actual.code in expect.codes


def _exit_expected(expect: ExitExpect) -> str:
    if expect.ended_by is not None:
        return f"exit {expect.ended_by}"
    if expect.signal is not None:
        return f"signal {expect.signal.removeprefix('SIG')}"
    return "exit nonzero" if expect.nonzero else "exit " + " or ".join(map(str, expect.codes))


def _exit_actual(result: StepResult) -> str:
    match result.exit:
        case Exit(ExitKind.EXITED, int(code), str(signal)):
            return f"exit {code} (signal {signal})"
        case Exit(ExitKind.EXITED, int(code), None):
            return f"exit {code}"
        case Exit(kind):
            return f"{_KIND_IN_WORDS[kind]} after {result.duration_s:.3g} s"


def _check_stream(name: str, expect: TextExpect | None, stream: Captured) -> Iterator[Mismatch]:
    if expect is None:
        return
    if cut := truncated(name, stream):
        yield cut
        return
    yield from check_text(expect, Subject(name, stream_bytes(name, stream)))


def _check_screen(expect: TextExpect | None, screen: str | None) -> Iterator[Mismatch]:
    if expect is None:
        return
    if screen is None:
        yield Mismatch("screen", "a screen", "the step had no terminal")
        return
    actual = f"the screen showed:\n{screen}" if screen else "the screen was empty"
    missed = unmet(expect, screen)
    for mismatch in check_text(replace(missed, contains=(), not_contains=(), matches=None), Subject("screen", screen.encode())):
        yield replace(mismatch, actual=actual)
    yield from (Mismatch("screen.contains", text, actual) for text in missed.contains)
    yield from (Mismatch("screen.not_contains", f"not {text}", actual) for text in missed.not_contains)
    if missed.matches is not None:
        yield Mismatch("screen.matches", f"a match of {missed.matches}", actual)


def _check_files(expect: Mapping[str, FileExpect], workspace: Workspace) -> Iterator[Mismatch]:
    for pattern, wanted in expect.items():
        found = workspace.find(pattern)
        if wanted.absent and found:
            yield Mismatch(f"files.{pattern}", "absent", _listed([f"{path} ({state.type})" for path, state in found.items()]))
        if wanted.absent:
            continue
        if not found:
            yield Mismatch(f"files.{pattern}", "a path of that name", "no such path")
            continue
        for path, state in found.items():
            yield from _check_state(path, wanted, state)
        if wanted.text is not None:
            yield from _check_contents(pattern, wanted.text, found, workspace)


def _check_state(path: str, expect: FileExpect, state: FileState) -> Iterator[Mismatch]:
    """Check everything about a path except its content. Raises CaptureError if the engine does not tell the owner."""
    if expect.type is not None and state.type is not expect.type:
        yield Mismatch(f"files.{path}.type", expect.type.value, state.type.value, path)
    if expect.mode is not None and state.mode != expect.mode:
        yield Mismatch(f"files.{path}.mode", f"{expect.mode:04o}", f"{state.mode:04o}", path)
    if expect.target is not None and state.target != expect.target:
        yield Mismatch(f"files.{path}.target", expect.target, state.target or _kind_in_words(state.type), path)
    if expect.owner is not None and state.owner is None:
        raise CaptureError(f"judging the owner of {path}: this engine does not tell it")
    if expect.owner is not None and state.owner != expect.owner:
        yield Mismatch(f"files.{path}.owner", expect.owner, str(state.owner), path)


def _check_contents(pattern: str, expect: TextExpect, found: Mapping[str, FileState], workspace: Workspace) -> Iterator[Mismatch]:
    """Check that there is a regular file among the paths, and that every regular file satisfies the matchers."""
    files = [path for path, state in found.items() if state.type is FileType.FILE]
    if not files:
        kinds = _listed([f"{path} is {_kind_in_words(state.type)}" for path, state in found.items()])
        yield Mismatch(f"files.{pattern}", "a regular file", kinds)
    for path in files:
        yield from check_text(expect, Subject(f"files.{path}", workspace.read(path), path))


def _kind_in_words(kind: FileType) -> str:
    return {
        FileType.DIR: "a directory",
        FileType.LINK: "a link, which is not followed",
        FileType.FILE: "a file",
        FileType.OTHER: "no file, directory or link",
    }[kind]


def _check_changes(expect: ChangesExpect | None, result: StepResult) -> Iterator[Mismatch]:
    """Check that every change matches a pattern of its kind, and that every pattern matches a change."""
    if expect is None:
        return
    wanted = {
        ChangeKind.ADDED: expect.added,
        ChangeKind.MODIFIED: expect.modified,
        ChangeKind.DELETED: expect.deleted,
        ChangeKind.RETYPED: expect.retyped,
    }
    yield from _check_outside(expect.outside, result)
    for kind, patterns in wanted.items():
        paths = [change.path for change in result.changes if change.change is kind]
        surplus = [path for path in paths if not matches_any(patterns, path)]
        missing = [pattern for pattern in patterns if not any(matches_glob(pattern, path) for path in paths)]
        if surplus or missing:
            yield Mismatch(f"changes.{kind}", _listed(patterns), _listed(paths), diff=_changes_diff(surplus, missing))


def _check_outside(expect: ChangesExpect | None, result: StepResult) -> Iterator[Mismatch]:
    """Do the same as `_check_changes` for changes outside the workspace."""
    if expect is None:
        return
    changes = tuple(FileChange(ChangeKind(each.change), each.path, FileType.OTHER) for each in result.outside)
    for mismatch in _check_changes(expect, replace(result, changes=changes)):
        yield replace(mismatch, aspect=mismatch.aspect.replace("changes.", "changes.outside.", 1))


def _changes_diff(surplus: list[str], missing: list[str]) -> str:
    lines = [f"-{_on_one_line(pattern)}" for pattern in missing] + [f"+{_on_one_line(path)}" for path in surplus]
    if len(lines) > _MAX_LISTED:
        lines[_MAX_LISTED:] = [f"… {len(lines) - _MAX_LISTED} more"]
    return "\n".join(lines) + "\n"


def _listed(items: Sequence[str]) -> str:
    rest = f" and {len(items) - _MAX_LISTED} more" if len(items) > _MAX_LISTED else ""
    return (", ".join(map(_on_one_line, items[:_MAX_LISTED])) + rest) or "none"


def _on_one_line(path: str) -> str:
    """Escape newlines as goldens do: otherwise the rest of the name looks like another difference."""
    return path.replace("\n", "\\x0a")
