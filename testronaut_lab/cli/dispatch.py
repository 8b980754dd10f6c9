"""Runs a command line. Every error becomes a message, a hint and an exit status here.

Each verb imports its heavy modules itself, when it runs.
"""

from __future__ import annotations

import os
import sys
import traceback

from testronaut_lab.cli import (  # noqa: F401 - each hangs its verbs on the app
    engine,
    goldens,
    images,
    install,
    prune,
    record,
    results,
    review,
    run,
    schema,
    tui,
)
from testronaut_lab.cli.app import app
from testronaut_lab.cli.completion import whole_words
from testronaut_lab.cli.console import NO_ROOM, complain, leave, say
from testronaut_lab.errors import CaptureError, ExitStatus, LabError, UsageError

# Verbs and options that are planned but not written yet: refused by name, never ignored.
_VERBS_TO_COME = frozenset("demo doctor import replay shell".split())
_RUN_OPTIONS_TO_COME = frozenset("-j --jobs --shard".split())


def dispatch(arguments: list[str]) -> int:
    """Run a command line, print any error, and return the exit status."""
    try:
        refuse_what_is_to_come(arguments)
        try:
            with whole_words(os.environ):
                app(arguments, prog_name="testronaut-lab")
        finally:
            sys.stdout.flush()  # flush here, where a missing reader is handled
    except SystemExit as ended:  # typer has printed the error already
        return ended.code if isinstance(ended.code, int) else ExitStatus.OK
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except LabError as error:
        complain(error)
        return error.exit_status
    except BrokenPipeError:
        leave(sys.stdout)  # the reader of our output has gone; nothing more can be printed
        return ExitStatus.FAILED
    except OSError as error:
        if not _is_somewhere():
            complain(UsageError("the current folder no longer exists", hint="cd"))
            return ExitStatus.USAGE
        if error.filename is not None or error.errno not in NO_ROOM:
            return _bug()
        leave(sys.stdout)
        complain(CaptureError(f"writing to standard output: {error.strerror}", hint="df -h"))
        return ExitStatus.CAPTURE
    except Exception:  # noqa: BLE001 - the last line of defence: a bug of ours has a status and a text of its own
        return _bug()
    return ExitStatus.OK


def _is_somewhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _bug() -> ExitStatus:
    say(traceback.format_exc(), sys.stderr)
    say("error: this is a bug in testronaut-lab; please report the lines above and the command", sys.stderr)
    return ExitStatus.BUG


def refuse_what_is_to_come(arguments: list[str]) -> None:
    """Raise UsageError for a planned verb or option that is not written yet."""
    verb, *rest = arguments or [""]
    if verb in _VERBS_TO_COME:
        raise UsageError(f"`{verb}` is not supported yet", hint="testronaut-lab --help")
    for argument in rest if verb == "run" else ():
        name = argument.partition("=")[0]
        if name in _RUN_OPTIONS_TO_COME or argument.startswith("-j"):
            raise UsageError(f"`run {name}` is not supported yet", hint="testronaut-lab run --help")
