"""The files and annotations that `run` and `show` write about a run. A live and a stored run take the same path."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import typer

from testronaut_lab.cli.console import append_text, check_writable, write_bytes
from testronaut_lab.errors import UsageError

if TYPE_CHECKING:
    from testronaut_lab.model.events import Event
    from testronaut_lab.model.result import RunResult

JSON = typer.Option(metavar="FILE", help="Write the result as JSON; - is standard output.")
EVENTS = typer.Option(metavar="FILE", help="Write the stored facts as JSON lines; - is standard output.")
JUNIT = typer.Option(metavar="FILE", help="Write the result as JUnit XML; - is standard output.")
HTML = typer.Option(metavar="FILE", help="Write the result as a page of its own; - is standard output.")
MARKDOWN = typer.Option(metavar="FILE", help="Write a summary as Markdown; - is standard output.")
GITHUB = typer.Option("--github", help="Annotate what went wrong in GitHub's log, and append to its job summary.")

_SUMMARY = "GITHUB_STEP_SUMMARY"
_WORKSPACE = "GITHUB_WORKSPACE"


@dataclass(frozen=True, slots=True)
class Reports:
    """Where each form of a run is written. `-` is standard output; only one form can have it, and then no lines are printed."""

    json: Path | None = None
    events: Path | None = None
    junit: Path | None = None
    html: Path | None = None
    markdown: Path | None = None
    github: bool = False

    @property
    def any(self) -> bool:
        return self.github or bool(self._files())

    @property
    def options(self) -> list[str]:
        """Return the names of the given options."""
        return [f"--{name}" for name, _ in self._files()] + ["--github"] * self.github

    @property
    def take_stdout(self) -> bool:
        return any(str(path) == "-" for _, path in self._files())

    def check(self) -> None:
        """Check, before a run, that everything can be written: a misspelt folder must not lose an hour's result. Raises
        UsageError.
        """
        on_stdout = [f"--{name} -" for name, path in self._files() if str(path) == "-"]
        on_stdout += ["--github"] if self.github else []
        if len(on_stdout) > 1:
            raise UsageError(
                f"{' and '.join(on_stdout)} would mix on standard output", hint="name a file for all of them but one"
            )
        check_writable(*(path for _, path in self._files()))
        if self.github and (summary := os.environ.get(_SUMMARY)):
            check_writable(Path(summary))

    def write(self, result: RunResult, facts: Iterable[Event], root: Path) -> None:
        """Write all forms. `root` is the project's folder. Raises UsageError for a file that cannot be written."""
        if self.json is not None:
            from testronaut_lab.report.files.json import dumps

            write_bytes(self.json, dumps(result))
        if self.events is not None:
            from testronaut_lab.report.files.json import events_to_jsonl

            write_bytes(self.events, b"".join(events_to_jsonl(facts)))
        if self.junit is not None:
            from testronaut_lab.report.files.junit import junit_xml

            write_bytes(self.junit, junit_xml(result))
        if self.html is not None:
            from testronaut_lab.report.html.page import run_page

            write_bytes(self.html, run_page(result).encode())
        if self.markdown is not None:
            from testronaut_lab.report.files.markdown import markdown

            write_bytes(self.markdown, markdown(result).encode())
        if self.github:
            _annotate(result, root)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """With `--github`, keep GitHub from reading anything printed in the block as a command."""
        if not self.github:
            yield
            return
        from testronaut_lab.report.files.github import resume_commands, stop_commands

        token = secrets.token_hex(16)
        _print(stop_commands(token))
        try:
            yield
        finally:
            _print(resume_commands(token))

    def _files(self) -> list[tuple[str, Path]]:
        names = ("json", "events", "junit", "html", "markdown")
        return [(name, path) for name in names if (path := getattr(self, name)) is not None]


def _annotate(result: RunResult, root: Path) -> None:
    from testronaut_lab.report.files.github import annotation_lines
    from testronaut_lab.report.files.markdown import LIMIT_BYTES, markdown

    for line in annotation_lines(result, _in_checkout(root)):
        _print(f"{line}\n")
    if summary := os.environ.get(_SUMMARY):
        path = Path(summary)
        taken = path.stat().st_size if path.exists() else 0
        append_text(path, markdown(result, max(LIMIT_BYTES - taken, 0)))


def _in_checkout(root: Path) -> PurePath:
    """Return the project's folder relative to GitHub's checkout. Outside a checkout, paths stay as in node ids."""
    checkout = os.environ.get(_WORKSPACE)
    if not checkout or not root.is_relative_to(Path(checkout).resolve()):
        return PurePath()
    return root.relative_to(Path(checkout).resolve())


def _print(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()
