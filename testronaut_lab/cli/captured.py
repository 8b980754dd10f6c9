"""`show RUN NODEID`: prints what was captured of one step of a stored run, raw or normalised."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testronaut_lab.cli.console import write_line
from testronaut_lab.config import load_config, project_root
from testronaut_lab.errors import CaptureError, UsageError

if TYPE_CHECKING:
    from testronaut_lab.golden.normalize import Normalizing
    from testronaut_lab.model.result import Captured, RunResult, StepResult

_SHOWN = 10
ONE_STEP = (
    "`--stdout`, `--stderr`, `--changes`, `--files` and `--normalized` print one step and cannot be combined with a form of a run"
)


def step_of(run: RunResult, nodeid: str, again: str) -> StepResult:
    """Return the step with this node id. The id of a case with one step also means that step.

    Raises UsageError that lists the existing ids. `again` is the option with which `show` finds the run.
    """
    cases = [case for plan in run.plans for case in plan.cases]
    found = [step for case in cases for step in case.steps if nodeid in (step.nodeid, case.nodeid)]
    if len(found) == 1:
        return found[0]
    there = [step.nodeid for step in found] or [step.nodeid for case in cases for step in case.steps]
    listed = "".join(f"\n  {each}" for each in there[:_SHOWN])
    more = f"\n  and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
    what = f"{nodeid} has {len(found)} steps" if found else f"the run {run.run} has no step {nodeid}"
    example = f" {shlex.quote(there[0])}" if there else ""
    raise UsageError(f"{what}; there is:{listed or ' none'}{more}", hint=f"testronaut-lab show {run.run}{example}{again}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to print of a step. `file` is a path that it changed. If nothing is set, everything is printed for people."""

    stdout: bool = False
    stderr: bool = False
    changes: bool = False
    file: str | None = None
    normalized: bool = False

    @property
    def any(self) -> bool:
        return self != Wanted()

    @property
    def streams(self) -> list[str]:
        both = self == Wanted(normalized=True)
        return [name for name, given in (("stdout", self.stdout or both), ("stderr", self.stderr or both)) if given]


def show_step(step: StepResult, wanted: Wanted, show: str) -> None:
    """Write what is wanted of the step to stdout: exact bytes, or for changes, lines as in a golden.

    `show` is the command that shows the whole step.
    """
    from testronaut_lab.golden.normalize import Normalizing
    from testronaut_lab.golden.render import sorted_changes
    from testronaut_lab.model.normalizing import Facts

    if not wanted.any:
        _show_whole(step)
        return
    rules = step.normalized if wanted.normalized else None
    normalizer = Normalizing((), Facts()) if rules is None else Normalizing(rules.rules, rules.facts)
    normalizer.normalize_text(step.command)  # a golden begins with the command, and values are numbered from there
    for name in ("stdout", "stderr"):
        data = _content(step, name, normalizer, keep=name not in wanted.streams)
        if name in wanted.streams:
            _write(data)
    if wanted.changes:
        for line in sorted_changes(step.changes, normalizer.normalize_text):
            write_line(f"{line}\n")
    if wanted.file is not None:
        _write(normalizer.content(_file(step, wanted.file, show)))


def _show_whole(step: StepResult) -> None:
    """Print the step for people: command, exit, mismatches, output and changes."""
    from testronaut_lab.golden.render import sorted_changes
    from testronaut_lab.report.state.findings import command_lines, details
    from testronaut_lab.safetext import safe_text

    for line in [*command_lines(step), f"{step.status.value}: {_how_it_ended(step)}", *details(step)]:
        write_line(safe_text(line) + "\n")
    for name in ("stdout", "stderr"):
        text = _stream(step, name).text.rstrip("\n")
        if text:
            write_line(f"--- {name}\n")
            write_line(safe_text(text) + "\n")
    if step.changes:
        write_line("--- changes\n")
        for line in sorted_changes(step.changes):
            write_line(safe_text(line) + "\n")


def _how_it_ended(step: StepResult) -> str:
    from testronaut_lab.model.result import Status

    return step.exit.describe() if step.status is not Status.SKIPPED else "; ".join(step.notes) or "it was not run"


def _content(step: StepResult, name: str, normalizer: Normalizing, *, keep: bool) -> bytes:
    """Return the normalised content of a stream. `keep` reads it only to number its values; if that fails, they have no
    numbers.
    """
    try:
        return normalizer.content(_stream(step, name).read())
    except CaptureError:
        if not keep:
            raise
        return b""
    except FileNotFoundError as error:
        if keep:
            return b""
        raise CaptureError(f"reading {name} of {step.nodeid}: it is no longer stored") from error


def _stream(step: StepResult, name: str) -> Captured:
    return step.stdout_stream if name == "stdout" else step.stderr_stream


def _file(step: StepResult, path: str, show: str) -> bytes:
    from testronaut_lab.store.blobs import BlobStore

    change = next((change for change in step.changes if change.path == path), None)
    if change is None or change.sha256 is None:
        there = [each.path for each in step.changes if each.sha256 is not None]
        why = "it did not change that file" if change is None else change.note or "its content was not captured"
        hint = f"--files {shlex.quote(there[0])}" if there else "--changes"
        raise UsageError(f"showing {path} of {step.nodeid}: {why}", hint=f"{show} {hint}")
    return BlobStore(load_config(project_root(Path.cwd())).results / "blobs").read(change.sha256)


def _write(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
