"""What is said to the session's shell, and what the host knows of it from its answers.

Steps are sent here as `steps.py` writes them, and so are words of our own, whose output belongs to no step. How a step that did
not come to its end is ended, and how the session goes on, is `driver.py`'s business.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from testronaut_lab.errors import ErrorKind
from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.fast import entering, text
from testronaut_lab.execution.driver.fast.checkpoints import NOWHERE, Known, NoCopy, Traced
from testronaut_lab.execution.driver.fast.exchange import End, Exchange, Gone, Outlet, Told
from testronaut_lab.execution.driver.fast.shell import Looping, Shell
from testronaut_lab.execution.driver.fast.steps import NODEID, Reader, Writer, Written, has_few_files
from testronaut_lab.execution.driver.fast.streams import Fifo, Pair, Sink
from testronaut_lab.execution.driver.fast.supervisor import Supervisor
from testronaut_lab.execution.driver.fast.text import Feed, Status
from testronaut_lab.execution.driver.fast.witness import Witness
from testronaut_lab.execution.driver.outcome import REFUSED
from testronaut_lab.execution.driver.script import RUN_DIR, Bounds, Command, one_line
from testronaut_lab.model.result import ErrorInfo

_OUR_FILE = re.compile(rf"^.*?(?:{RUN_DIR}/\S+: )?(?:line )?\d+: ")
FOREVER = Bounds(float("inf"), output_limit=False)

Sinks = tuple[Sink, Sink]


@dataclass(slots=True)
class Step:
    """One command on its way. What the shell said before the text that set them: `environment`, `directory`; None if none did.

    `by_signal` is as in a `ShellEnd`.
    """

    command: Command
    bounds: Bounds
    started: float
    sinks: Sinks
    notes: list[str] = field(default_factory=list)
    error: ErrorInfo | None = None
    environment: str | None = None
    directory: str | None = None
    by_signal: bool | None = True

    @property
    def was_entered(self) -> bool:
        return bool(self.environment is not None and self.command.env) or self.directory is not None


class Conversation:
    """With one session's shell, whichever process that is. From the session's thread."""

    def __init__(self, supervisor: Supervisor, channel: Channel, name: str, cwd: str, wake: int) -> None:
        self.known = Known(Status(), "", cwd)
        self._supervisor = supervisor
        self._channel = channel
        self._writer = Writer(channel)
        self._name = name
        self._wake = wake
        self._nodeid = ""
        self._gate = ""  # made for the first program that is named by exact arguments
        self._was_forked = False
        self.saw_foreign_files = False
        self._known_reader: Reader | None = None

    def begin_anew(self, known: Known) -> None:
        """Another process is the shell now, of which this is known."""
        self.known = known
        self._known_reader = None
        self._nodeid = ""
        self._was_forked = True

    def settle_in(self, cwd: str) -> End:
        """Let a new shell go to its directory, as if it had begun there."""
        end, _, _ = self.say(text.first_text(cwd, is_bash=self._supervisor.shell.is_bash), FOREVER, time.monotonic())
        if isinstance(end, Told):
            self.known = Known(Status(), end.report.options, self._supervisor.shell.cwd() or cwd)
        return end

    def perform(self, step: Step) -> End:
        """Send the step itself, and wait for its end."""
        supervisor = self._supervisor
        shell, reach = supervisor.shell, supervisor.reach
        if step.command.argv is None:
            return self._send(step, None)
        if not self._gate:
            self._gate = f"g.{secrets.token_hex(8)}"
            self._channel.gate(self._gate)
        witness = Witness(self._channel, supervisor.table, shell, self._gate, may_hold=isinstance(reach, Traced))
        try:
            end = self._send(step, witness)
            step.by_signal = witness.was_killed() if isinstance(end, Told) else None
            return end
        finally:
            witness.close()

    def _send(self, step: Step, witness: Witness | None) -> End:
        supervisor = self._supervisor
        shell, reach = supervisor.shell, supervisor.reach
        written = self._writer.step(step.command, self._reader(), [] if witness is None else shell.held(), witness)
        for sink in step.sinks:
            sink.cut, sink.cut_line, sink.renamed = written.cut, written.cut_line, written.renamed or _renamed(shell, self._name)
            sink.refused = f"/end/{written.nonce}".encode()
        lent = None
        if isinstance(reach, Traced) and (written.stdin is not None or written.merge):
            lent = reach.lend(shell, written.stdin, merge=written.merge)
        end = self._exchange(written, self._outlets(step.sinks), step.bounds, step.started, witness=witness)
        if lent is not None and isinstance(reach, Traced) and isinstance(end, Told):
            reach.take_back(shell, lent)
        if isinstance(end, Told):
            self._learn(step.command, end)
        return end

    def enter(self, step: Step) -> End | None:
        """Set what is the step's own. None if it can be run now, else how this ended; the step's error says what could not be."""
        command, is_bash = step.command, self._supervisor.shell.is_bash
        if command.nodeid != self._nodeid and self._needs_nodeid(command):
            line = text.naming(NODEID, one_line(command.nodeid))
            end, _, said = self._tell(self._writer.bare(line, self._reader()), step.bounds, step.started)
            if not _went_well(end):
                return self._refused(step, end, _unset(said))
            self._nodeid = command.nodeid
        if command.env or command.exports:
            words = entering.environment_text(command.exports, command.env, is_bash=is_bash)
            end, step.environment, said = self.say(words, step.bounds, step.started)
            if not _went_well(end):
                return self._refused(step, end, _unset(said))
        if command.cwd is not None:
            words = entering.directory_text(command.cwd, is_bash=is_bash)
            end, step.directory, _ = self.say(words, step.bounds, step.started)
            if not _went_well(end):
                return self._refused(step, end, REFUSED["cwd"])
        return None

    def leave(self, step: Step) -> End:
        """Take back what ended with the step."""
        is_bash = self._supervisor.shell.is_bash
        words = ""
        if step.directory is not None:
            words += entering.leaving_directory_text(step.directory, is_bash=is_bash)
        if step.environment is not None:
            words += entering.leaving_environment_text(step.environment, tuple(step.command.env), is_bash=is_bash)
        end, _, _ = self.say(words, FOREVER, time.monotonic())
        self.known = replace(self.known, cwd=self._supervisor.shell.cwd() or self.known.cwd)
        return end

    def exported(self, shell: Shell) -> bytes | None:
        """What this shell has exported, as shell text; None if it cannot say. It may be a copy. Mostly it is not asked itself,
        since the question would show in its traces and traps.
        """
        try:
            stand_in = self._supervisor.stand_in(shell)
        except NoCopy:
            return None
        if stand_in is not None:
            said = self._say_exported(stand_in)
            self._supervisor.drop(stand_in)
            return said
        said = self._say_exported(shell)
        for fifo in self._supervisor.pair.both:
            fifo.drain(Sink())
        self._was_forked = True
        return said

    def _say_exported(self, shell: Shell) -> bytes | None:
        name = f"x.{secrets.token_hex(8)}"
        fifo = Fifo(name, self._channel.fifo(name, 0o222, os.O_RDONLY))
        sink = Sink()
        try:
            export = r"\builtin export" if shell.is_bash else r"\export"
            written = self._writer.plain(f"( {export} -p ) >|{RUN_DIR}/{name}\n", self._reader(), is_silent=True)
            end = self._exchange(written, [Outlet(fifo, sink)], FOREVER, time.monotonic(), shell)
            fifo.drain(sink)
        finally:
            self._channel.remove(name)
            os.close(fifo.fd)
        return bytes(sink.words) if isinstance(end, Told) else None

    def go_to(self, cwd: str) -> None:
        """Into a directory anew, if the one that the shell is in has that name no more. `$OLDPWD` stays what it was."""
        shell = self._supervisor.shell
        if shell.is_in(cwd):
            return
        words = entering.directory_text(cwd, is_bash=shell.is_bash)
        _, said, _ = self.say(words, FOREVER, time.monotonic())
        self.say(entering.leaving_environment_text(said, ("OLDPWD",), is_bash=shell.is_bash), FOREVER, time.monotonic())

    def say(self, words: str, bounds: Bounds, started: float) -> tuple[End, str, str]:
        """Let the shell run words of ours; how that ended, and what was said on stdout and stderr."""
        return self._tell(self._writer.plain(words, self._reader()), bounds, started)

    def _tell(self, written: Written, bounds: Bounds, started: float) -> tuple[End, str, str]:
        out, err = Sink(), Sink()
        with ExitStack() as stack:
            pair, give_back = self._streams_of_our_own(stack)
            outlets = [Outlet(fifo, sink) for fifo, sink in zip(pair.both, (out, err), strict=True)]
            end = self._exchange(written, outlets, bounds, started)
            for outlet in outlets:
                outlet.fifo.drain(outlet.sink)
            if isinstance(end, Told):
                give_back()
        self._was_forked = True
        said, complained = (bytes(sink.words).decode(errors="surrogateescape") for sink in (out, err))
        return end, said, complained

    def _streams_of_our_own(self, stack: ExitStack) -> tuple[Pair, Callable[[], None]]:
        """The pair that words of ours are written to, and what has to be done behind them.

        Where the shell holds other files too, or has sent its streams elsewhere, what our words say and what traces of them say
        must not go there: it is lent other files meanwhile, where that can be done.
        """
        supervisor = self._supervisor
        shell, reach, pair = supervisor.shell, supervisor.reach, supervisor.pair
        held = {each.fd: each.identity for each in shell.held() if each.fd}
        if not isinstance(reach, Traced) or held == {1: pair.out.identity, 2: pair.err.identity}:
            return pair, lambda: None
        own = supervisor.new_pair()
        stack.callback(own.close)
        paths = dict.fromkeys(held, NOWHERE) | {1: f"{RUN_DIR}/{own.out.name}", 2: f"{RUN_DIR}/{own.err.name}"}
        try:
            lent = reach.lend_files(shell, paths)
        except NoCopy:
            return pair, lambda: None  # it may open too few files
        finally:
            supervisor.hide(own)
        return own, lambda: reach.take_back(shell, lent)

    def _outlets(self, sinks: Sinks) -> list[Outlet]:
        return [Outlet(fifo, sink) for fifo, sink in zip(self._supervisor.pair.both, sinks, strict=True)]

    def _exchange(
        self, written: Written, outlets: Sequence[Outlet], bounds: Bounds, started: float, shell: Shell | None = None,
        *, witness: Witness | None = None,
    ) -> End:  # fmt: skip
        supervisor = self._supervisor
        exchange = Exchange(
            shell or supervisor.shell, supervisor.reports, outlets, self._wake, bounds, started,
            sees_sleep=supervisor.reach.sees_sleep, tend=supervisor.tend, witness=witness,
        )  # fmt: skip
        self._known_reader = None
        end = exchange.run(written.data, written.nonce)
        self.saw_foreign_files = self.saw_foreign_files or exchange.foreign > 0
        self._writer.forget(written)
        return end

    def _reader(self) -> Reader:
        """What is known of the shell, looked up once before each text."""
        if self._known_reader is None:
            self._known_reader = self._look_at_reader()
        return self._known_reader

    def _look_at_reader(self) -> Reader:
        shell, reach = self._supervisor.shell, self._supervisor.reach
        traces_elsewhere = "x" in self.known.options and Supervisor.STDERR in self._supervisor.strayed()
        return Reader(
            self._name, shell.is_bash, self.known.options, self.known.status, self._was_forked,
            traces_elsewhere or has_few_files(shell.most_files()),
            reach.sees_sleep, isinstance(reach, Traced), self._traced_to(shell),
        )  # fmt: skip

    def _traced_to(self, shell: Shell) -> tuple[int, ...]:
        traces = shell.is_bash and "x" in self.known.options
        return tuple(held.fd for held in shell.held() if held.fd > 2) if traces else ()

    def _needs_nodeid(self, command: Command) -> bool:
        """Whether it is not told its node id by the line that sources it."""
        feed = self._writer.feed(command, self._reader())
        return feed is Feed.LINES or (feed is Feed.FILE and self._supervisor.shell.is_bash)

    def _learn(self, command: Command, end: Told) -> None:
        report = end.report
        if command.run is not None and not command.isolated:
            self._nodeid = command.nodeid
        status = self.known.status if command.isolated else Status(report.status, report.pipeline)
        self._was_forked = command.isolated
        self.known = Known(status, report.options, self._supervisor.shell.cwd() or self.known.cwd)

    def _refused(self, step: Step, end: End, why: ErrorInfo) -> End:
        if isinstance(end, Told | Gone):
            step.error = why
        return end


def _renamed(shell: Shell, name: str) -> tuple[bytes, bytes] | None:
    """What a bash calls itself in messages that sources a FIFO for each text, and what it is called."""
    return (f"{RUN_DIR}/{Path(shell.path).name}: ".encode(), f"{name}: ".encode()) if isinstance(shell, Looping) else None


def _went_well(end: End) -> bool:
    return isinstance(end, Told) and end.report.status == 0


def _unset(said: str) -> ErrorInfo:
    words = said.strip().splitlines()
    why = f": {_OUR_FILE.sub('', words[-1])}" if words else ""
    return ErrorInfo(ErrorKind.USAGE, f"the step's `env` could not be set in the session's shell{why}", "leave out that variable")
