"""Recording by hand: typed text runs in a session as a step; a line that begins with a colon is a command about recording.

This module says what the lines mean. `cli/record.py` reads them and shows what happens.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from testronaut_lab.errors import ExitStatus, LabError, UsageError
from testronaut_lab.model.expect import ExitExpect, Expect
from testronaut_lab.model.interaction import Ready
from testronaut_lab.model.result import ExitKind, Mismatch, StepResult
from testronaut_lab.model.undo import UndoResult
from testronaut_lab.model.units import parse_duration
from testronaut_lab.planfile import slug
from testronaut_lab.recording.draft import end_of
from testronaut_lab.recording.expecting import FORMS, added, expectations, expected
from testronaut_lab.recording.journal import Journal

_ID: Final = re.compile(r"[a-z0-9_-]{1,100}")
_LOST: Final = frozenset({ExitKind.SESSION_LOST, ExitKind.ENGINE_LOST})

HELP: Final = (
    ("COMMAND", "runs it: a step of the plan, with its output as golden"),
    (":undo [N]", "drops the last step, or N, and takes the session back to before it"),
    (":expect WHAT", f"expects it of the last step: {FORMS}"),
    (":golden off|on", "whether the output of the last step is kept"),
    (":id NAME", "names the last step"),
    (":put FILE [AS]", "puts a file or folder of this machine into the workspace"),
    (":stdin FILE", "for the next step: its input"),
    (":env K=V …", "for the next step: its environment; `export K=V` is a step of its own and stays"),
    (":cwd DIR, :timeout 5s, :merge", "for the next step: where it runs, how long it may take, both streams as one"),
    (":tty COMMAND", "runs it in a terminal of its own"),
    (":argv WORD …", "runs exact arguments, without a shell"),
    (":background NAME [log REGEX|port N] -- COMMAND", "starts a program that goes on, and waits until it is ready"),
    (":stop NAME, :signal NAME SIGNAL", "ends it, or sends it a signal"),
    (":steps", "lists the steps"),
    (":save, :quit, ctrl-d", "ends, writes the plan and replays it"),
    (":quit!", "ends and writes nothing"),
)


class Recorded(Protocol):
    """The part of a session that the recorder uses."""

    @property
    def journal(self) -> Journal: ...
    @property
    def run(self) -> Callable[..., StepResult]: ...
    def undo(self, steps: int = 1) -> UndoResult: ...
    def put(self, path: str, content: Path) -> None: ...
    def get(self, path: str) -> bytes: ...
    def mismatches(self, expect: Expect, result: StepResult) -> tuple[Mismatch, ...]: ...


class Screen(Protocol):
    """What the recorder shows. A text may hold foreign bytes; the screen must make it safe."""

    def say(self, line: str) -> None: ...
    def show(self, result: StepResult) -> None: ...
    def complain(self, error: LabError) -> None: ...


class Ended(Exception):
    """Recording is over. `save` says whether the plan is written."""

    def __init__(self, save: bool) -> None:
        super().__init__()
        self.save = save


class Recorder:
    def __init__(self, session: Recorded, screen: Screen) -> None:
        self._session = session
        self._screen = screen
        self._next: dict[str, object] = {}
        self._environment: dict[str, str] = {}
        self.refused = 0

    @property
    def next_keys(self) -> tuple[str, ...]:
        """The keys that are set for the next step, for the prompt."""
        return tuple(self._next)

    def take(self, text: str) -> None:
        """Do one command as it was typed. An error is shown and counted. Raises Ended."""
        try:
            _check_text(text)
            if text.startswith(":") and not re.match(r":(?:\s|$|[;&|])", text):
                self._colon(text)
            elif text.strip():
                self._run(text)
        except LabError as error:
            self.refused += 1
            self._screen.complain(error)
            if error.exit_status is ExitStatus.ENGINE:  # the session is gone, but the recording is not
                raise Ended(save=True) from error

    def _colon(self, text: str) -> None:
        word, _, rest = text[1:].partition(" ")
        verbs: Mapping[str, Callable[[str], None]] = {
            "undo": self._undo, "expect": self._expect, "golden": self._golden, "id": self._id, "put": self._put,
            "stdin": self._stdin, "env": self._env, "cwd": self._cwd, "timeout": self._timeout, "merge": self._merge,
            "tty": self._tty, "argv": self._argv, "background": self._background, "stop": self._stop, "signal": self._signal,
            "steps": self._steps, "help": self._help, "save": self._end, "quit": self._end, "q": self._end, "quit!": self._leave,
        }  # fmt: skip
        verb = verbs.get(word.strip())
        if verb is None:
            raise UsageError(f"there is no `:{word}` here", hint=":help")
        verb(rest.strip())

    def _run(self, command: str | list[str] | None, **keys: object) -> None:
        result = self._session.run(command, **{**self._next, **keys})
        self._forget()
        self._screen.show(result)
        if result.exit.kind in _LOST:
            raise Ended(save=True)
        if result.exit.kind is ExitKind.CANCELLED:
            self._say_undone(self._session.undo())

    def _forget(self) -> None:
        """Drop the keys that were set for the next step."""
        self._next, self._environment = {}, {}

    def _undo(self, rest: str) -> None:
        if rest and not rest.isdecimal():
            raise UsageError(f":undo takes a number of steps, not {rest!r}", hint=":undo 2")
        steps = len(self._session.journal.steps)
        if not steps:
            raise UsageError("there is no step to undo")
        self._say_undone(self._session.undo(int(rest or 1)))

    def _say_undone(self, undone: UndoResult) -> None:
        self._forget()
        self._screen.say(undone.describe())
        for note in undone.notes:
            self._screen.say(f"note: {note}")

    def _expect(self, rest: str) -> None:
        result = self._last_result()
        more = expectations(rest, result, self._session.get)
        ran = self._session.journal.steps[-1]
        end = end_of(result.exit) or ExitExpect()
        missed = self._session.mismatches(expected(more, end), result)
        if missed:
            said = "; ".join(f"{each.aspect}: expected {each.expected}, there is {each.actual}" for each in missed)
            raise UsageError(f"this does not hold, so it is not added: {said}")
        self._session.journal.amend(expect=added(ran.expect, more))
        self._screen.say(f"expected: {rest}")

    def _golden(self, rest: str) -> None:
        if rest not in ("on", "off"):
            raise UsageError(f":golden is on or off, not {rest!r}", hint=":golden off")
        self._last_result()
        self._session.journal.amend(golden=rest == "on")
        self._screen.say(f"the output of the last step is {'kept' if rest == 'on' else 'not kept'}")

    def _id(self, rest: str) -> None:
        self._last_result()
        if not _ID.fullmatch(rest):
            raise UsageError(f"{rest!r} is no id of a-z, 0-9, - and _", hint=f":id {slug(rest)}")
        if rest in [ran.id for ran in self._session.journal.steps[:-1]]:
            raise UsageError(f"the id {rest!r} is taken by an earlier step")
        self._session.journal.amend(id=rest)
        self._screen.say(f"the last step is {rest}")

    def _put(self, rest: str) -> None:
        words = _words(rest, ":put FILE [AS]", at_least=1, at_most=2)
        source = Path(words[0]).expanduser()
        if not source.exists():
            raise UsageError(f"putting {source}: there is no such file or folder")
        name = words[1] if len(words) > 1 else source.resolve().name
        self._session.put(name, source)
        self._screen.say(f"put {name}")

    def _stdin(self, rest: str) -> None:
        [name] = _words(rest, ":stdin FILE", at_least=1, at_most=1)
        try:
            self._next["stdin"] = Path(name).expanduser().read_bytes()
        except OSError as error:
            raise UsageError(f"reading {name}: {error.strerror}") from error

    def _env(self, rest: str) -> None:
        words = _words(rest, ":env K=V …", at_least=1)
        pairs = [word.partition("=") for word in words]
        if wrong := [name for name, equals, _ in pairs if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)]:
            raise UsageError(f"{wrong[0]!r} is no NAME=VALUE", hint=":env NAME=VALUE")
        self._next["env"] = self._environment = {**self._environment, **{name: value for name, _, value in pairs}}

    def _cwd(self, rest: str) -> None:
        [self._next["cwd"]] = _words(rest, ":cwd DIR", at_least=1, at_most=1)

    def _timeout(self, rest: str) -> None:
        try:
            self._next["timeout"] = parse_duration(rest)
        except ValueError as error:
            raise UsageError(f":timeout {rest}: {error}", hint=":timeout 5s") from error

    def _merge(self, rest: str) -> None:
        if rest:
            raise UsageError(":merge stands alone, before the command", hint=":merge")
        self._next["merge"] = True

    def _tty(self, rest: str) -> None:
        self._run(rest, tty=True)

    def _argv(self, rest: str) -> None:
        self._run(_words(rest, ":argv PROGRAM [WORD …]", at_least=1))

    def _background(self, rest: str) -> None:
        match = re.fullmatch(r"(\S+)(?:\s+(log|port|file|run)\s+(.+?))?\s+--\s+(.+)", rest, re.DOTALL)
        if match is None:
            raise UsageError(
                ":background needs a name and, after --, a command",
                hint=":background web port 8000 -- python3 -m http.server 8000",
            )
        name, aspect, value, command = match.groups()
        if aspect == "port" and not value.isdecimal():
            raise UsageError(f"{value!r} is no port", hint=":background web port 8000 -- python3 -m http.server 8000")
        self._run(command, background=name, ready=_ready(aspect, value))

    def _stop(self, rest: str) -> None:
        self._run(None, stop=rest)

    def _signal(self, rest: str) -> None:
        name, signal = _words(rest, ":signal NAME SIGNAL", at_least=2, at_most=2)
        self._run(None, signal={name: signal.removeprefix("SIG")})

    def _steps(self, _rest: str) -> None:
        for number, ran in enumerate(self._session.journal.steps, 1):
            ended = ran.result.exit.describe()
            more = [f"expect {', '.join(ran.expect)}"] if ran.expect else []
            more += [] if ran.golden else ["no golden"]
            first, *others = ran.request.command.split("\n")
            command = f"{first} …" if others else first
            self._screen.say(f"{number:3}  {ran.id or ran.request.id}  $ {command}  ({'; '.join([ended, *more])})")

    def _help(self, _rest: str) -> None:
        for usage, meaning in HELP:
            self._screen.say(f"{usage}\n      {meaning}" if len(usage) > 18 else f"{usage:<18}{meaning}")

    def _end(self, _rest: str) -> None:
        raise Ended(save=True)

    def _leave(self, _rest: str) -> None:
        raise Ended(save=False)

    def _last_result(self) -> StepResult:
        if not self._session.journal.steps:
            raise UsageError("there is no step yet")
        return self._session.journal.steps[-1].result


def _ready(aspect: str | None, value: str) -> Ready | None:
    match aspect:
        case None:
            return None
        case "port":
            return Ready(port=int(value))
        case "log":
            return Ready(log=value)
        case "file":
            return Ready(file=value)
        case _:
            return Ready(run=value)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("this command is not UTF-8, and a plan is", hint="printf '\\377' makes such bytes") from error


def _words(text: str, usage: str, *, at_least: int, at_most: int | None = None) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"reading {text!r}: {error}", hint=usage) from error
    if len(words) < at_least or (at_most is not None and len(words) > at_most):
        raise UsageError(f"wrong number of words: {len(words)}", hint=usage)
    return words
