"""`runs`, `show` and `export`: read stored runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testronaut_lab.cli import completion, reports
from testronaut_lab.cli.app import STORE, Verb, app, of_store, open_store
from testronaut_lab.cli.captured import ONE_STEP, Wanted, show_step, step_of
from testronaut_lab.cli.console import print_json, print_table, say, write_line
from testronaut_lab.config import load_config, project_root
from testronaut_lab.errors import UsageError

if TYPE_CHECKING:
    from testronaut_lab.model.events import Event
    from testronaut_lab.model.result import RunResult
    from testronaut_lab.store.database import Store

_RUN = typer.Argument(metavar="RUN", help="A run's id, the start of one, or `last`.", autocompletion=completion.runs)
_NODEID = typer.Argument(metavar="NODEID", help="One of its steps.", autocompletion=completion.steps_of_run)


@app.command(cls=Verb)
def runs(
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    store: Annotated[str | None, STORE] = None,
) -> None:
    """List stored runs, the newest first."""
    from testronaut_lab.report.text.tables import runs_table

    found = open_store(store).runs()
    if json:
        print_json([asdict(run) for run in found])
    else:
        print_table(runs_table(found, plain=not sys.stdout.isatty()))


@app.command(cls=Verb)
def show(
    run_id: Annotated[str, _RUN] = "last",
    nodeid: Annotated[str | None, _NODEID] = None,
    stdout: Annotated[bool, typer.Option("--stdout", help="What the step wrote to stdout, to the byte.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="What the step wrote to stderr, to the byte.")] = False,
    changes: Annotated[bool, typer.Option("--changes", help="What the step changed in the workspace, a line each.")] = False,
    files: Annotated[str | None, typer.Option("--files", metavar="PATH", help="A file it changed, to the byte.")] = None,
    normalized: Annotated[bool, typer.Option("--normalized", help="As goldens are compared.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
    events: Annotated[bool, typer.Option("--events", help="The stored facts as JSON lines.")] = False,
    install_log: Annotated[bool, typer.Option("--install-log", help="What package managers wrote, in full.")] = False,
    junit: Annotated[Path | None, reports.JUNIT] = None,
    html: Annotated[Path | None, reports.HTML] = None,
    markdown: Annotated[Path | None, reports.MARKDOWN] = None,
    github: Annotated[bool, reports.GITHUB] = False,
    store: Annotated[str | None, STORE] = None,
) -> None:
    """Print or write a stored run, or one of its steps."""
    from testronaut_lab.report.files.json import dumps, events_to_jsonl

    results = open_store(store)
    found = results.find(run_id, of_store(store))
    wanted = reports.Reports(junit=junit, html=html, markdown=markdown, github=github)
    alone = [f"--{name}" for name, given in (("json", json), ("events", events), ("install-log", install_log)) if given]
    if len(alone) + wanted.any > 1:
        form, *others = [*alone, *wanted.options]
        raise UsageError(
            f"`show {form}` cannot be combined with {' and '.join(others)}",
            hint=f"testronaut-lab show {shlex.quote(run_id)} {form}{of_store(store)}",
        )
    wanted.check()
    of_step = Wanted(stdout=stdout, stderr=stderr, changes=changes, file=files, normalized=normalized)
    if nodeid is not None or of_step.any:
        if nodeid is None or alone or wanted.any:
            raise UsageError(ONE_STEP, hint=f"testronaut-lab show {shlex.quote(run_id)}{of_store(store)}")
        again = of_store(store)
        step = step_of(_told(results, found, lambda _line: None, store), nodeid, again)
        show_step(step, of_step, f"testronaut-lab show {found} {shlex.quote(step.nodeid)}{again}")
        return
    if install_log:
        _show_install_log(results, found)
    elif events:
        sys.stdout.buffer.writelines(events_to_jsonl(_events(results, found)))
    elif json:
        sys.stdout.buffer.write(dumps(_told(results, found, lambda _line: None, store)))
    else:
        with wanted.guarded():
            result = _told(results, found, (lambda _line: None) if wanted.take_stdout else write_line, store)
        wanted.write(result, (), project_root(Path.cwd()))


def _told(results: Store, run_id: str, write: Callable[[str], None], store: str | None) -> RunResult:
    """Give the lines of a stored run to `write`, and return its result."""
    from testronaut_lab.report.state.view import RunView
    from testronaut_lab.report.text.formatter import Formatter
    from testronaut_lab.report.text.installing import InstallNarrator, is_installation
    from testronaut_lab.report.text.plain import TextReporter

    view = RunView()
    events = list(_events(results, run_id))
    tells = InstallNarrator if is_installation(events) else Formatter
    reporter = TextReporter(write, color=sys.stdout.isatty(), results=str(results.file), show=of_store(store), tells=tells)
    for event in events:
        view.apply(event)
        reporter.event(view, event)
    reporter.end(view)
    return view.result()


def _events(results: Store, run_id: str) -> Iterator[Event]:
    from testronaut_lab.store.blobs import BlobStore, with_paths

    blobs = BlobStore(load_config(project_root(Path.cwd())).results / "blobs")
    return (with_paths(event, blobs) for event in results.events(run_id))


def _show_install_log(results: Store, run_id: str) -> None:
    from testronaut_lab.installation.keptlog import kept
    from testronaut_lab.report.text.installing import log_lines
    from testronaut_lab.report.text.plain import write_lines

    write_lines(write_line, log_lines(results.events(run_id), kept), color=sys.stdout.isatty())


@app.command(cls=Verb)
def export(
    run_id: Annotated[str, _RUN],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="A folder that is not there yet, or empty.")],
    store: Annotated[str | None, STORE] = None,
) -> None:
    """Write a stored run as an evidence bundle. It can be verified without this program."""
    from testronaut_lab.maintenance.runs import export_run

    say(export_run(run_id, output, store, of_store(store)))
