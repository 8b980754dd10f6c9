"""The command line: verbs, their options, what they print, and the exit status.

Parsing and wiring only. A run is `headless.py`, what it looks like is `report/`; every error becomes a message, a hint and
a status here. Heavy parts are imported by the verb that needs them.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from testronaut_lab.console import Printer, check_writable, complain, leave, print_json, print_table, say, write_bytes, write_line
from testronaut_lab.errors import EXIT_STATUS_MEANING, ExitStatus, LabError, UsageError

if TYPE_CHECKING:
    from testronaut_lab.headless import PlanRun
    from testronaut_lab.model.result import RunResult
    from testronaut_lab.store.database import Store

_EPILOG = "\b\nExit status:\n" + "\n".join(f"  {status.value:<4} {meaning}" for status, meaning in EXIT_STATUS_MEANING.items())

# Of the contract and not there yet: refused by name, never ignored.
_VERBS_TO_COME = frozenset("accept demo diff doctor import install pending prune record reject replay review shell".split())
_RUN_OPTIONS_TO_COME = frozenset(
    "-j --jobs --junit --html --markdown --github --matrix --retries --allow-flaky --last-failed --shard".split()
)

app = typer.Typer(
    name="testronaut-lab",
    help="Run command-line tools in throw-away containers and keep what they did as tests.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
engine_app = typer.Typer(help="Find the container engine, bring one up, stop it.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(engine_app, name="engine")

_JSON = typer.Option(metavar="FILE", help="Write the result as JSON; - is standard output.")
_EVENTS = typer.Option(metavar="FILE", help="Write the stored facts as JSON lines; - is standard output.")
_KEYWORD = typer.Option("-k", metavar="EXPR", help="Only cases with these words in ids or tags: 'smoke and not slow'.")
_FAIL_FAST = typer.Option("--fail-fast", "-x", help="Stop after the first case that fails.")
_IMAGE = typer.Option(metavar="REF", help="Use this image in every plan.")
_INSTALL = typer.Option(metavar="SPEC", help="Install this, in place of the plan's tool of that name: apt:jq=1.6*.")
_UPDATE = typer.Option("--update-golden", "-u", help="Write goldens that are missing or differ.")
_KEEP = typer.Option("--keep", help="Leave the containers for a look.")
_STORE = typer.Option(metavar="URL", help="Results database, in place of .testronaut/results.db.")
_OLDER_THAN = typer.Option(metavar="AGE", help="With --artifacts: also runs that began earlier: 30d, 12h.")
_CI = typer.Option("--ci", help="Write no goldens; on by itself where CI is set.")
_TARGETS = typer.Argument(metavar="[PATH|NODEID]...", help="Plan files, folders, or PATH::CASE[::STEP].")


@app.command()
def run(
    targets: Annotated[list[str] | None, _TARGETS] = None,
    json: Annotated[Path | None, _JSON] = None,
    events: Annotated[Path | None, _EVENTS] = None,
    keyword: Annotated[str | None, _KEYWORD] = None,
    fail_fast: Annotated[bool, _FAIL_FAST] = False,
    image: Annotated[str | None, _IMAGE] = None,
    install: Annotated[list[str] | None, _INSTALL] = None,
    update_golden: Annotated[bool, _UPDATE] = False,
    keep: Annotated[bool, _KEEP] = False,
    store: Annotated[str | None, _STORE] = None,
    ci: Annotated[bool, _CI] = False,
) -> None:
    """Run plans headless: live progress on a terminal, plain lines elsewhere."""
    from testronaut_lab.config import load_config
    from testronaut_lab.headless import PlanRun, RunOptions
    from testronaut_lab.housekeeping import keep_to_policy
    from testronaut_lab.targets import chosen_plans

    plans, only = chosen_plans(targets or ["."], keyword, image, install or [])
    check_writable(json, events)
    in_ci = ci or os.environ.get("CI", "") not in ("", "0", "false")
    location = store or load_config(plans[0].root).store_location
    plan_run = PlanRun(plans, RunOptions(update_golden, in_ci, fail_fast, keep, location, only))
    with _signals(plan_run):
        again = _again(store, plans[0].root)
        result = _reported(plan_run, _shown(location), again, to_stderr="-" in (str(json), str(events)))
    _write_files(plan_run, result, json, events)
    if (removed := keep_to_policy(plans[0].root, location)) is not None:
        say(removed, sys.stderr)
    raise typer.Exit(result.exit_status)


@app.command()
def tui(
    plans: Annotated[list[str] | None, typer.Argument(metavar="[PLAN]...", help="Watching plans is not supported yet.")] = None,
    image: Annotated[str, typer.Option(metavar="REF", help="The image to work in.")] = "debian:bookworm-slim",
    install: Annotated[list[str] | None, typer.Option(metavar="SPEC", help="Tools to install first, like apt:jq.")] = None,
) -> None:
    """Drive a session by hand, in a dashboard."""
    if plans:
        raise UsageError("watching plans in the dashboard is not supported yet", hint="testronaut-lab run " + " ".join(plans))
    try:
        from testronaut_lab.ui.tui.app import run_tui
    except ModuleNotFoundError as error:
        raise UsageError(f"the dashboard needs textual: {error}", hint="pip install 'testronaut-lab[tui]'") from error
    run_tui(image, tuple(install or ()))


@app.command()
def runs(
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    store: Annotated[str | None, _STORE] = None,
) -> None:
    """List stored runs, the newest first."""
    from testronaut_lab.report.tables import runs_table

    found = _store(store).runs()
    if json:
        print_json([asdict(run) for run in found])
    else:
        print_table(runs_table(found, plain=not sys.stdout.isatty()))


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the start of one, or `last`.")] = "last",
    json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
    events: Annotated[bool, typer.Option("--events", help="The stored facts as JSON lines.")] = False,
    store: Annotated[str | None, _STORE] = None,
) -> None:
    """Print a stored run."""
    from testronaut_lab.config import load_config, project_root
    from testronaut_lab.report.json import dumps, events_to_jsonl
    from testronaut_lab.report.text import TextReporter
    from testronaut_lab.report.view import RunView
    from testronaut_lab.store.blobs import BlobStore, with_paths

    results = _store(store)
    found = results.find(run_id)
    blobs = BlobStore(load_config(project_root(Path.cwd())).results / "blobs")
    stored = (with_paths(event, blobs) for event in results.events(found))
    if events:
        sys.stdout.buffer.writelines(events_to_jsonl(stored))
        return
    view = RunView()
    write = (lambda _line: None) if json else write_line
    again = "" if store is None else f" --store {shlex.quote(store)}"
    reporter = TextReporter(write, color=sys.stdout.isatty(), results=str(results.file), show=again)
    for event in stored:
        view.apply(event)
        reporter.event(view, event)
    reporter.end(view)
    if json:
        sys.stdout.buffer.write(dumps(view.result()))


@app.command()
def export(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the start of one, or `last`.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="A folder that is not there yet, or empty.")],
    store: Annotated[str | None, _STORE] = None,
) -> None:
    """Write a stored run as an evidence bundle, to be verified without this program."""
    from testronaut_lab.housekeeping import export_run

    say(export_run(run_id, output, store))


@app.command()
def images() -> None:
    """List the images that were made here: bases and bases with tools."""
    from testronaut_lab.container.engine import connect
    from testronaut_lab.container.image import list_images
    from testronaut_lab.report.tables import images_table

    print_table(images_table(list_images(connect()), plain=not sys.stdout.isatty()))


@app.command()
def clean(
    kept: Annotated[bool, typer.Option("--kept", help="Also containers that were kept with `run --keep`.")] = False,
    images: Annotated[bool, typer.Option("--images", help="Also the cached images.")] = False,
    artifacts: Annotated[bool, typer.Option("--artifacts", help="Stored runs and files instead; no engine is asked.")] = False,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="With --artifacts: runs that began before 30d, 12h …")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --artifacts: say what would be removed.")] = False,
    store: Annotated[str | None, _STORE] = None,
) -> None:
    """Remove what runs that were killed have left behind, or what is stored of old runs."""
    if artifacts and (kept or images):
        raise UsageError("`clean --artifacts` is about what is stored, --kept and --images about the engine: one at a time")
    if artifacts:
        from testronaut_lab.housekeeping import clean_artifacts

        say(clean_artifacts(older_than, store, dry_run=dry_run))
        return
    if older_than is not None or dry_run or store is not None:
        raise UsageError("--older-than, --dry-run and --store need --artifacts", hint="testronaut-lab clean --artifacts")
    from testronaut_lab.container.engine import connect
    from testronaut_lab.container.image import list_images, remove_images
    from testronaut_lab.container.manager import reap

    engine = connect()
    for name in reap(engine, kept=kept):
        say(f"removed {name}")
    if images:
        cached = list_images(engine)
        stays = remove_images(engine, cached)
        say(f"removed {len(cached) - len(stays)} images")
        for image, reason in stays:
            say(f"kept {image.tag}: {reason}")


@app.command()
def schema(what: Annotated[str, typer.Argument(metavar="plan|result|events")]) -> None:
    """Print the JSON Schema of a plan file, a result or an event."""
    from testronaut_lab.planfile import plan_schema
    from testronaut_lab.report.schema import events_schema, result_schema

    schemas = {"plan": plan_schema, "result": result_schema, "events": events_schema}
    if what not in schemas:
        raise UsageError(f"there is no schema of {what!r}", hint="testronaut-lab schema plan, or result, or events")
    print_json(schemas[what]())


@engine_app.command("status")
def engine_status() -> None:
    """Say which engine is found, where, and what is missing."""
    from testronaut_lab.container.setup import status

    report = status()
    if report.problem is not None:
        raise report.problem
    assert report.engine is not None
    whose = ", started by `testronaut-lab engine up`" if report.started_by_us else ""
    say(f"{report.engine.name} {report.engine.version}, API {report.engine.api}, at {report.engine.endpoint}{whose}")
    for program in report.missing:
        say(f"missing: {program}; `testronaut-lab engine up` installs it")


@engine_app.command("up")
def engine_up() -> None:
    """Make an engine answer: install and start one where that is possible."""
    from testronaut_lab.container.setup import up

    up(say)


@engine_app.command("down")
def engine_down() -> None:
    """Stop the engine that `engine up` started, and no other."""
    from testronaut_lab.container.setup import down

    down(say)


def main() -> NoReturn:
    """The entry point: whatever happens ends with a status of the table."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that has no `…` is no reason to end
    sys.exit(_main(sys.argv[1:]))


def _main(arguments: list[str]) -> int:
    try:
        _refuse_what_is_to_come(arguments)
        try:
            app(arguments, prog_name="testronaut-lab")
        finally:
            sys.stdout.flush()  # here, where a reader that has gone is understood
    except SystemExit as ended:  # a wrong command line has been told of by then
        return ended.code if isinstance(ended.code, int) else ExitStatus.OK
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except LabError as error:
        complain(error)
        return error.exit_status
    except BrokenPipeError:
        leave(sys.stdout)  # whoever read our output has gone; nothing more can be said to it
        return ExitStatus.FAILED
    except Exception:  # noqa: BLE001 - the last line of defence: a bug of ours has a status and a text of its own
        say(traceback.format_exc(), sys.stderr)
        say("error: this is a bug in testronaut-lab; please report the lines above and the command", sys.stderr)
        return ExitStatus.BUG
    return ExitStatus.OK


def _refuse_what_is_to_come(arguments: list[str]) -> None:
    verb, *rest = arguments or [""]
    if verb in _VERBS_TO_COME:
        raise UsageError(f"`{verb}` is not supported yet", hint="testronaut-lab --help")
    for argument in rest if verb == "run" else ():
        name = argument.partition("=")[0]
        if name in _RUN_OPTIONS_TO_COME or argument.startswith("-j"):
            raise UsageError(f"`run {name}` is not supported yet", hint="testronaut-lab run --help")


@contextmanager
def _signals(plan_run: PlanRun) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end the run in good order, however often they come."""

    told = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal told
        again, told = told, True
        plan_run.stop(ExitStatus.INTERRUPTED if number == signal.SIGINT else ExitStatus.TERMINATED)
        if plan_run.preparing and not again:  # only once: the second one must not cut the cleaning up short
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _reported(plan_run: PlanRun, results: str, show: str, *, to_stderr: bool) -> RunResult:
    from rich.console import Console

    from testronaut_lab.report.text import TextReporter

    stream = sys.stderr if to_stderr else sys.stdout
    if stream.isatty():
        from testronaut_lab.report.live import LiveReporter

        with LiveReporter(Console(file=stream), results=results, show=show) as live:
            return plan_run.run([live])

    return plan_run.run([TextReporter(Printer(stream).write, results=results, show=show)])


def _write_files(plan_run: PlanRun, result: RunResult, json: Path | None, events: Path | None) -> None:
    from testronaut_lab.report.json import dumps, events_to_jsonl

    if json is not None:
        write_bytes(json, dumps(result))
    if events is not None:
        write_bytes(events, b"".join(events_to_jsonl(plan_run.log.subscribe(hints=False))))


def _shown(location: str | Path) -> str:
    """A path as one would type it here."""
    path = Path(location)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(location)


def _again(store: str | None, root: Path) -> str:
    """What `show` must be told, from here, to look where a run of the project at `root` was stored."""
    from testronaut_lab.config import load_config, project_root

    if store is None and root != project_root(Path.cwd()):
        store = _shown(load_config(root).store_location)
    return "" if store is None else f" --store {shlex.quote(store)}"


def _store(location: str | None) -> Store:
    from testronaut_lab.config import load_config, project_root
    from testronaut_lab.store.database import Store

    return Store.open(location or load_config(project_root(Path.cwd())).store_location)


if __name__ == "__main__":
    main()
