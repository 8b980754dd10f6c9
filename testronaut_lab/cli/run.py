"""`run`: runs plans without a screen. `run/plan_run.py` is the run; `report/` formats it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn, TextIO

import typer

from testronaut_lab.cli import completion, reports
from testronaut_lab.cli.app import STORE, Verb, again, app, shown
from testronaut_lab.cli.console import Printer, say
from testronaut_lab.cli.goldens import tell_pending
from testronaut_lab.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from testronaut_lab.model.plan import Plan
    from testronaut_lab.model.result import RunResult
    from testronaut_lab.report.text.formatter import Formatter
    from testronaut_lab.run.plan_run import Run

_KEYWORD = typer.Option("-k", metavar="EXPR", help="Only cases with these words in ids or tags: 'smoke and not slow'.")
_FAIL_FAST = typer.Option("--fail-fast", "-x", help="Stop after the first case that fails.")
_MATRIX = typer.Option(metavar="KEY=VALUE", help="Only cells of a matrix with this value; several of one key: any of them.")
_IMAGE = typer.Option(metavar="REF", help="Use this image in every plan.")
_INSTALL = typer.Option(metavar="SPEC", help="Install this, in place of the plan's tool of that name: apt:jq=1.6*.")
_UPDATE = typer.Option("--update-golden", "-u", help="Write goldens that are missing or differ.")
_KEEP = typer.Option("--keep", help="Leave the containers for a look.")
_CI = typer.Option("--ci", help="Write no goldens; on by itself where CI is set.")
_RETRIES = typer.Option(min=0, metavar="N", help="Run a case that fails up to N more times, each in a fresh session.")
_ALLOW_FLAKY = typer.Option("--allow-flaky", help="A case that passes in a later attempt does not fail the run.")
_REQUIRE_LIMITS = typer.Option("--require-limits", help="Start no session whose limits are not enforced or measured.")
_LAST_FAILED = typer.Option("--last-failed", help="Only cases that did not end well in the newest stored run.")
_QUIET = typer.Option("--quiet", "-q", help="Print only what went wrong, and the sum.")
_VERBOSE = typer.Option("--verbose", "-v", help="Print also what steps wrote and changed, and all of package managers.")
_TARGETS = typer.Argument(
    metavar="PATH|NODEID",
    help="Plan files, folders, or PATH::CASE[::STEP], in a matrix PATH::CASE[KEY=VALUE]…",
    autocompletion=completion.targets,
)


@app.command(cls=Verb)
def run(
    targets: Annotated[list[str] | None, _TARGETS] = None,
    json: Annotated[Path | None, reports.JSON] = None,
    events: Annotated[Path | None, reports.EVENTS] = None,
    junit: Annotated[Path | None, reports.JUNIT] = None,
    html: Annotated[Path | None, reports.HTML] = None,
    markdown: Annotated[Path | None, reports.MARKDOWN] = None,
    github: Annotated[bool, reports.GITHUB] = False,
    keyword: Annotated[str | None, _KEYWORD] = None,
    fail_fast: Annotated[bool, _FAIL_FAST] = False,
    matrix: Annotated[list[str] | None, _MATRIX] = None,
    image: Annotated[str | None, _IMAGE] = None,
    install: Annotated[list[str] | None, _INSTALL] = None,
    update_golden: Annotated[bool, _UPDATE] = False,
    keep: Annotated[bool, _KEEP] = False,
    store: Annotated[str | None, STORE] = None,
    ci: Annotated[bool, _CI] = False,
    retries: Annotated[int, _RETRIES] = 0,
    allow_flaky: Annotated[bool, _ALLOW_FLAKY] = False,
    last_failed: Annotated[bool, _LAST_FAILED] = False,
    require_limits: Annotated[bool, _REQUIRE_LIMITS] = False,
    quiet: Annotated[bool, _QUIET] = False,
    verbose: Annotated[bool, _VERBOSE] = False,
) -> None:
    """Run plans: live progress on a terminal, plain lines elsewhere."""
    from testronaut_lab import config
    from testronaut_lab.maintenance.runs import keep_to_policy
    from testronaut_lab.run.last_failed import has_failed, narrowed_to_failed
    from testronaut_lab.run.plan_run import Run, RunOptions
    from testronaut_lab.run.targets import chosen_plans

    wanted = reports.Reports(json, events, junit, html, markdown, github)
    tells = _narrator(quiet=quiet, verbose=verbose)

    def dispensable(file: Path) -> bool:
        return last_failed and not has_failed(file, store or config.load_config(config.plan_root(file)).store_location)

    plans, only = chosen_plans(targets or ["."], keyword, image, install or [], matrix or [], dispensable)
    location = store or config.load_config(plans[0].root).store_location
    wanted.check()
    out = sys.stderr if wanted.take_stdout else sys.stdout
    tell_root(plans, out, quiet=quiet)
    if last_failed:
        instead = shlex.join(["testronaut-lab", *(word for word in sys.argv[1:] if word != "--last-failed")])
        plans, told = narrowed_to_failed(plans, location, instead, again(store, plans[0].root))
        say(told, out)
    in_ci = ci or config.in_ci(os.environ)
    options = RunOptions(update_golden, in_ci, fail_fast, keep, location, only, retries, allow_flaky, require_limits)
    plan_run = Run(plans, options)
    with stopped_by_signals(plan_run), wanted.guarded():
        result = reported(plan_run, shown(location), again(store, plans[0].root), out, tells)
    wanted.write(result, plan_run.log.subscribe(hints=False), plans[0].root)
    if not in_ci:
        tell_pending(plans[0].root, plan_run.id, Printer(out))
    if (removed := keep_to_policy(plans[0].root, location)) is not None:
        say(removed, sys.stderr)
    raise typer.Exit(result.exit_status)


def _narrator(*, quiet: bool, verbose: bool) -> type[Formatter]:
    from testronaut_lab.report.text.detail import QuietNarrator, VerboseNarrator
    from testronaut_lab.report.text.formatter import Formatter

    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other", hint="testronaut-lab run --help")
    return QuietNarrator if quiet else VerboseNarrator if verbose else Formatter


def tell_root(plans: Sequence[Plan], out: TextIO, *, quiet: bool) -> None:
    """Print the project's folder if it is not the current directory, and which goldens lie where nobody looks."""
    from testronaut_lab.golden.elsewhere import elsewhere

    root = plans[0].root
    if root != Path.cwd().resolve() and not quiet:
        say(f"project {shown(root)}", out)
    for there, wanted in elsewhere(root, [plan.file for plan in plans if plan.file is not None]):
        if wanted.exists():
            continue  # accepted again since then; `prune` lists the old ones
        moved = f"mkdir -p {shlex.quote(shown(wanted.parent))} && mv {shlex.quote(shown(there))} {shlex.quote(shown(wanted))}"
        say(f"goldens in {shown(there)} are not looked at: the project's folder is {shown(root)}\nhint: {moved}", out)


@contextmanager
def stopped_by_signals(plan_run: Run) -> Iterator[None]:
    """Make SIGINT, SIGTERM and SIGHUP end the run in good order, however often they come. Under `nohup`, SIGHUP stays ignored."""

    told = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal told
        again, told = told, True
        plan_run.stop(ExitStatus.INTERRUPTED if number == signal.SIGINT else ExitStatus.TERMINATED)
        if plan_run.preparing and not again:  # only once: a second interruption must not cut the clean-up short
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in with_hangup(signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the process after its clean-up: the session, the state of the terminal."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(ExitStatus.TERMINATED)

    before = {number: signal.signal(number, end) for number in with_hangup(signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def with_hangup(*numbers: signal.Signals) -> tuple[signal.Signals, ...]:
    """Return these signals and SIGHUP, unless SIGHUP was ignored when the process started."""
    return numbers if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (*numbers, signal.SIGHUP)


def reported(plan_run: Run, results: str, show: str, out: TextIO, tells: type[Formatter]) -> RunResult:
    """Run it and print it to `out` with the formatter class `tells`: live on a terminal, as plain lines elsewhere."""
    from rich.console import Console

    from testronaut_lab.report.text.plain import TextReporter

    if out.isatty():
        from testronaut_lab.report.text.live import LiveReporter

        with LiveReporter(Console(file=out), results=results, show=show, tells=tells) as live:
            return plan_run.run([live])

    return plan_run.run([TextReporter(Printer(out).write, results=results, show=show, tells=tells)])
