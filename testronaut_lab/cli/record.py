"""`record`: a session at a prompt, or fed from a pipe, that becomes a plan. `recording/` decides what the lines mean."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testronaut_lab.cli import completion
from testronaut_lab.cli.app import Verb, app, shown
from testronaut_lab.cli.console import complain, say
from testronaut_lab.cli.pipedlines import PipedLines
from testronaut_lab.cli.run import ended_by_signals
from testronaut_lab.errors import ExitStatus, LabError, UsageError

if TYPE_CHECKING:
    from rich.text import Text

    from testronaut_lab.api import Session
    from testronaut_lab.execution.factory import SessionSettings
    from testronaut_lab.model.result import StepResult
    from testronaut_lab.recording.recorder import Recorder
    from testronaut_lab.recording.save import SavedPlan

_SHOWN_LINES = 200
_USER = typer.Option(metavar="lab|root", help="Who steps are.", autocompletion=completion.words("lab", "root"))
_NETWORK = typer.Option(
    metavar="none|internet", help="What steps can reach.", autocompletion=completion.words("none", "internet")
)


@app.command(cls=Verb)
def record(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PLAN", help="The plan to write: NAME.lab.yaml.")],
    image: Annotated[str, typer.Option(metavar="REF", help="The image to work in.")] = "debian:bookworm-slim",
    install: Annotated[list[str] | None, typer.Option(metavar="SPEC", help="Tools to install first, like apt:jq.")] = None,
    env: Annotated[list[str] | None, typer.Option(metavar="K=V", help="Environment of all steps.")] = None,
    user: Annotated[str, _USER] = "lab",
    network: Annotated[str, _NETWORK] = "none",
    shell: Annotated[str, typer.Option(metavar="SHELL", help="What runs the commands.")] = "sh",
    force: Annotated[bool, typer.Option("--force", help="Replace a plan that is there, and its goldens.")] = False,
) -> None:
    """Work in a session by hand and get a plan out of it. Each command becomes a step, with a golden."""
    from testronaut_lab.api import Session
    from testronaut_lab.recording.destination import PlanDestination

    settings = _settings(user, network, shell)
    place = PlanDestination.at(output, overwrite=force)
    with ended_by_signals(), Session(image, *(install or ()), settings=settings, env=_env(env), root=place.root) as session:
        say(f"starting a session in {' with '.join([image, *session.tools])}")
        session.start()
        status = _recorded(session, output, force=force)
    raise typer.Exit(status)


def _recorded(session: Session, output: Path, *, force: bool) -> ExitStatus:
    from testronaut_lab.recording.recorder import Ended, Recorder

    at_hand = sys.stdin.isatty()
    recorder = Recorder(session, _Screen())
    if at_hand:
        say("each command becomes a step; ctrl-d writes the plan, :help says more")
    try:
        for text in _commands(recorder, at_hand=at_hand):
            with _interrupting(session.interrupt):
                recorder.take(text)
        save = True
    except Ended as ended:
        save = ended.save
    if not save:
        say("nothing was written")
        return ExitStatus.OK
    if not session.journal.steps:
        raise UsageError(f"recording {output}: no step was run, so nothing was written", hint="at its prompt: :help")
    saved = _saved(session, output, force=force)
    return ExitStatus.FAILED if saved.green is not True or (recorder.refused and not at_hand) else ExitStatus.OK


def _saved(session: Session, output: Path, *, force: bool) -> SavedPlan:
    try:
        saved = session.save(output, overwrite=force, tell=say)
    except KeyboardInterrupt:
        saved = session.save(output, overwrite=force, verify=False)  # an interruption must not lose the recording
    for name, note in saved.notes.items():
        say(f"note: {name}: {note}")
    say(saved.describe())
    say(f"run it: testronaut-lab run {shown(saved.path)}")
    return saved


def _commands(recorder: Recorder, *, at_hand: bool) -> Iterator[str]:
    """Yield whole commands, typed or from a pipe."""
    from testronaut_lab.recording.lines import unfinished

    read = _typed if at_hand else _echoed(PipedLines(sys.stdin.fileno()))
    lines: list[str] = []
    while True:
        prompt = "> " if lines else "".join(f"[{key}] " for key in recorder.next_keys) + "$ "
        try:
            line = read(prompt)
        except KeyboardInterrupt:
            if not at_hand:
                raise
            say("")
            lines.clear()
            continue
        if line is None:
            break
        lines.append(line)
        if lines[0].startswith(":") or not unfinished("\n".join(lines)):
            yield "\n".join(lines)
            lines.clear()
    if lines and not at_hand:
        yield "\n".join(lines)  # a shell runs such a rest too, and says what is missing


def _typed(prompt: str) -> str | None:
    try:
        import readline  # noqa: F401 - editing and a history, for the lines that `input` reads
    except ModuleNotFoundError:
        pass
    try:
        return input(prompt)
    except EOFError:
        say("")
        return None


def _echoed(lines: PipedLines) -> Callable[[str], str | None]:
    """Show lines from a pipe as if they were typed."""

    def read(prompt: str) -> str | None:
        line = lines.read()
        if line is not None:
            say(f"{prompt}{line}")
        return line

    return read


class _Screen:
    """Shows lines on standard output and errors on standard error."""

    def say(self, line: str) -> None:
        say(line)

    def complain(self, error: LabError) -> None:
        complain(error)

    def show(self, result: StepResult) -> None:
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=True)
        for line in result_lines(result):
            console.print(line, markup=False)


def result_lines(result: StepResult) -> list[Text]:
    """Return what the step wrote, then one line with its exit and changes."""
    from rich.text import Text

    from testronaut_lab.report.text.lines import duration_text
    from testronaut_lab.safetext import safe_text

    if result.screen is not None:
        lines = _stream_lines(result.screen, "")
    else:
        lines = [*_stream_lines(result.out, ""), *_stream_lines(result.err, "yellow")]
    end = Text(safe_text(result.exit.describe()), "dim" if result.ok else "red")
    end.append(f" · {duration_text(result.duration_s)}", "dim")
    changes = [f"{change.change.letter} {change.path}" for change in result.changes]
    if changes:
        more = f" … {len(changes) - 10} more" if len(changes) > 10 else ""
        end.append(safe_text(f" · {', '.join(changes[:10])}{more}").replace("\n", "\\n"), "cyan")
    lines.append(end)
    lines += [Text(safe_text(f"{mismatch.aspect}: {mismatch.actual}"), "red") for mismatch in result.mismatches]
    if result.error is not None:
        lines.append(Text(safe_text(f"error: {result.error.message}"), "bold red"))
    return lines + [Text(safe_text(f"note: {note}"), "dim") for note in result.notes]


def _stream_lines(text: str, style: str) -> list[Text]:
    from rich.text import Text

    from testronaut_lab.report.text.styled import styled_text
    from testronaut_lab.safetext import clipped

    lines = clipped(text).removesuffix("\n").split("\n") if text else []
    left_out = len(lines) - _SHOWN_LINES
    if left_out > 0:
        lines = lines[:_SHOWN_LINES]
    found = [styled_text(line) for line in lines]
    for line in found:
        line.stylize_before(style)
    return found if left_out <= 0 else [*found, Text(f"… {left_out} more lines", "dim")]


def _settings(user: str, network: str, shell: str) -> SessionSettings:
    """Make the settings as a plan does: for root, the root file system is writable."""
    from testronaut_lab.execution.factory import SessionSettings
    from testronaut_lab.planfile.grammar import values

    try:
        values.shell(shell)
    except ValueError as error:
        raise UsageError(f"--shell: {error}", hint="--shell sh") from error
    match user, network:
        case ("lab" | "root") as who, ("none" | "internet") as reach:
            return SessionSettings(reach, who, "writable" if who == "root" else "read-only", shell)
    wrong = (
        f"--user {user}: expected lab or root"
        if user not in ("lab", "root")
        else f"--network {network}: expected none or internet"
    )
    raise UsageError(wrong, hint="testronaut-lab record --help")


def _env(pairs: list[str] | None) -> dict[str, str]:
    found = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--env {pair}: expected NAME=VALUE", hint=f"--env {pair}=VALUE")
        found[name] = value
    return found


@contextmanager
def _interrupting(interrupt: Callable[[], None]) -> Iterator[None]:
    """While the block runs, ctrl-c interrupts the running step instead of the recorder."""
    before = signal.signal(signal.SIGINT, lambda _number, _frame: interrupt())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
