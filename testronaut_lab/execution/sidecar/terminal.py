"""A step in a terminal of its own: typed into, watched, and ended when it is time.

How its process is started is in `exec.py`, what its terminal shows in `screen.py`. The raw bytes that it wrote are its
stdout; it has no stderr.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from testronaut_lab.capture.stream import StreamCapture
from testronaut_lab.container.protocol import AttachedTerminal, Container
from testronaut_lab.errors import ErrorKind
from testronaut_lab.execution.driver.fast.driver import FastDriver
from testronaut_lab.execution.driver.processes.counters import Meter, ResourceCounters
from testronaut_lab.execution.driver.script import CHECK_EVERY_S, Bounds, Command
from testronaut_lab.execution.sidecar.exec import ApartEnd, Launcher, NotStarted, Running, ShellEnvironment
from testronaut_lab.model.interaction import (
    AwaitOutput,
    AwaitScreen,
    AwaitSettled,
    Interaction,
    PressKey,
    Resize,
    SendText,
    Tty,
    describe_screen,
    key_bytes,
)
from testronaut_lab.model.result import Captured, ErrorInfo, ExitKind, Mismatch
from testronaut_lab.model.screentext import shows

if TYPE_CHECKING:
    from testronaut_lab.execution.sidecar.screen import Screen

_DRAIN_S = 2.0
_SETTLE_S = 0.03  # whatever the terminal's end hangs up on
_SEARCHED_BYTES = 256 * 1024
_NAMES = {
    AwaitScreen: "screen",
    AwaitSettled: "settled",
    AwaitOutput: "expect",
    SendText: "send",
    PressKey: "key",
    Resize: "resize",
}


class Terminals:
    """Runs a session's steps that have terminals, one at a time. From the session's thread, but for `interrupt`."""

    def __init__(self, container: Container, driver: FastDriver, launcher: Launcher, meter: Meter) -> None:
        self._container = container
        self._driver = driver
        self._launcher = launcher
        self._meter = meter
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def close(self) -> None:
        os.close(self._wake)

    def interrupt(self) -> None:
        os.eventfd_write(self._wake, 1)

    def run(self, command: Command, tty: Tty, interact: tuple[Interaction, ...], out: StreamCapture, bounds: Bounds) -> ApartEnd:
        """Run one command in a terminal and wait for it to end, for at most its timeout plus the time to kill it.

        `interact` is done meanwhile, in order. An interaction whose deadline passes ends the command and is a mismatch of the
        result. Raises SessionLost, EngineError.
        """
        from testronaut_lab.execution.sidecar.screen import Screen  # pyte takes longer to import than most steps to run

        self._forget_interrupt()
        found = self._launcher.shell_environment(command)
        if found.problem is not None or found.end.kind is not ExitKind.EXITED:
            return _not_run(found, found.problem, out)
        try:
            running, terminal = self._launcher.start_in_terminal(command, found, tty)
        except NotStarted as error:
            return _not_run(found, ErrorInfo(ErrorKind.USAGE, f"the step's terminal could not be started: {error}"), out)
        try:
            talk = _Talk(self._container, terminal, Screen(tty.cols, tty.rows), interact, out)
            end = self._finish(found, running, talk, bounds)
            return end if command.argv is None else replace(end, by_signal=self._launcher.was_killed(running))
        finally:
            self._launcher.clear(running)

    def _forget_interrupt(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return

    def _finish(self, found: ShellEnvironment, running: Running, talk: _Talk, bounds: Bounds) -> ApartEnd:
        started = time.monotonic()
        toll = ResourceCounters(self._meter)
        toll.count_from_here()
        for _, data in running.early:
            talk.take(data)
        why = _Watch(talk, self._wake, bounds, started).until_over()
        if why is not None:
            self._driver.end_strangers()
            talk.drain()
        code = self._launcher.exit_code(running.attached)
        error = None
        if why is None and code is None:
            error = ErrorInfo(ErrorKind.CAPTURE, "the terminal's stream ended while its program went on")
            self._driver.end_strangers()
        if why is None:
            talk.ended()
        kind = why or toll.kind_of_end(went_well=code == 0)
        return ApartEnd(
            kind,
            None if why is not None else code,
            talk.capture.finish(open_=False),
            Captured(),
            time.monotonic() - started,
            found.end.cwd,
            found.end.state,
            (*found.end.left_behind, *self._driver.left_behind(_SETTLE_S)),
            error,
            (*found.end.notes, *toll.notes(kind)),
            screen=talk.screen.text(),
            mismatches=talk.mismatches,
        )


class _Talk:
    """What is still to be typed and waited for, in order; the first thing that does not come is the end of it."""

    def __init__(
        self,
        container: Container,
        terminal: AttachedTerminal,
        screen: Screen,
        interact: tuple[Interaction, ...],
        capture: StreamCapture,
    ) -> None:
        self.terminal = terminal
        self.capture = capture
        self.screen = screen
        self.mismatches: tuple[Mismatch, ...] = ()
        self._container = container
        self._items = deque(enumerate(interact))
        self._deadline: float | None = None
        self._began = 0.0
        self._unmatched = b""
        self._outbox = bytearray()
        self._typed = False
        self._shown = ""
        self._changed = 0.0
        self._is_over = False

    def take(self, data: bytes) -> None:
        """What the program wrote."""
        self.capture.feed(data)
        self.screen.feed(data)
        self._outbox += self.screen.answers
        self.screen.answers.clear()
        if self._items:
            self._unmatched = (self._unmatched + data)[-_SEARCHED_BYTES:]
            self._note_what_is_new()

    def go_on(self) -> float | None:
        """Do what can be done now; the deadline of what has to be waited for then, None if there is nothing."""
        while self._items:
            if self._deadline is None:
                self._began = time.monotonic()
                self._deadline = self._began + self._items[0][1].timeout_s
                self._shown, self._changed = self.screen.text(), self._began
            if not self._is_done(self._items[0][1]):
                break
            self._items.popleft()
            self._deadline, self._typed = None, False
        self._flush()
        return self._deadline

    @property
    def settles_at(self) -> float | None:
        """When the screen will have been the same for long enough, if that is waited for."""
        item = self._items[0][1] if self._items else None
        return self._changed + item.quiet_s if isinstance(item, AwaitSettled) else None

    def missed(self) -> None:
        """The deadline has passed."""
        self._complain(f"after {time.monotonic() - self._began:.3g} s")

    def cut_short(self, timeout_s: float) -> None:
        """The step's own time is up."""
        if self._items:
            self._complain(f"the step's time ({timeout_s:g} s) was up after {time.monotonic() - self._began:.3g} s of waiting")

    def ended(self) -> None:
        """The program has ended; what it wrote last may still have been what was waited for."""
        self._is_over = True
        self.go_on()
        if self._items:
            self._complain("the program had ended")

    def drain(self) -> None:
        """Read to the end of the stream, of a program that was killed."""
        deadline = time.monotonic() + self._container.patience_s(_DRAIN_S)
        poll = select.poll()
        poll.register(self.terminal.fileno(), select.POLLIN)
        try:
            while poll.poll(max(int((deadline - time.monotonic()) * 1000), 0)):
                for _, data in self.terminal.read():
                    self.take(data)
        except EOFError:
            return

    @property
    def wants_to_write(self) -> bool:
        return bool(self._outbox)

    def _flush(self) -> None:
        while self._outbox and (count := self.terminal.write_some(bytes(self._outbox))):
            del self._outbox[:count]

    def _is_done(self, item: Interaction) -> bool:
        match item:
            case AwaitScreen(expect=expect):
                return shows(expect, self.screen.text())
            case AwaitSettled(quiet_s=quiet_s):
                return self._is_over or time.monotonic() - self._changed >= quiet_s
            case AwaitOutput(pattern=pattern):
                match = re.search(pattern.encode(), self._unmatched)
                self._unmatched = self._unmatched if match is None else self._unmatched[match.end() :]
                return match is not None
            case SendText(text=text):
                return self._is_typed(text.encode(errors="surrogateescape"))
            case PressKey(key=key):
                return self._is_typed(key_bytes(key, application=self.screen.wants_application_keys))
            case Resize(cols=cols, rows=rows):
                self._container.resize(self.terminal, cols, rows)
                self.screen.resize(cols, rows)
                return True
            case _:
                assert_never(item)

    def _note_what_is_new(self) -> None:
        if isinstance(self._items[0][1], AwaitSettled) and (shown := self.screen.text()) != self._shown:
            self._shown, self._changed = shown, time.monotonic()

    def _is_typed(self, data: bytes) -> bool:
        if not self._typed:
            self._outbox += data
            self._typed = True
        self._flush()
        return not self._outbox

    def _complain(self, when: str) -> None:
        index, item = self._items[0]
        shown = self.screen.text()
        actual = f"{when}, the screen showed:\n{shown}" if shown else f"{when}, the screen was empty"
        self.mismatches = (Mismatch(f"interact[{index}].{_NAMES[type(item)]}", _wanted(item), actual),)


class _Watch:
    """Waits for the end of a command in a terminal, and sees to it that the talk goes on meanwhile."""

    def __init__(self, talk: _Talk, wake: int, bounds: Bounds, started: float) -> None:
        self._talk = talk
        self._wake = wake
        self._bounds = bounds
        self._deadline = started + bounds.timeout_s
        self._next_check = started + CHECK_EVERY_S

    def until_over(self) -> ExitKind | None:
        """Why it has to be ended, None when it has ended by itself."""
        while True:
            awaited = self._talk.go_on()
            now = time.monotonic()
            if (reason := self._too_far(now)) is not None:
                if reason is ExitKind.TIMEOUT:
                    self._talk.cut_short(self._bounds.timeout_s)
                return reason
            if awaited is not None and now >= awaited:
                self._talk.missed()
                return ExitKind.TIMEOUT
            times = (self._deadline, self._next_check, awaited, self._talk.settles_at)
            if self._wait(min(each for each in times if each is not None) - now):
                return ExitKind.CANCELLED
            try:
                for _, data in self._talk.terminal.read():
                    self._talk.take(data)
            except EOFError:
                return None

    def _too_far(self, now: float) -> ExitKind | None:
        if now >= self._deadline:
            return ExitKind.TIMEOUT
        if self._bounds.output_limit and self._talk.capture.over_limit:
            return ExitKind.OUTPUT_LIMIT
        if now < self._next_check:
            return None
        self._next_check = now + CHECK_EVERY_S
        return self._bounds.check()

    def _wait(self, seconds: float) -> bool:
        """Until something happens; whether somebody wants the command to be ended."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(self._talk.terminal.fileno(), select.POLLIN | (select.POLLOUT if self._talk.wants_to_write else 0))
        ready = {fd for fd, _ in poll.poll(max(int(seconds * 1000) + 1, 0))}
        if self._wake not in ready:
            return False
        os.eventfd_read(self._wake)
        return True


def _wanted(item: Interaction) -> str:
    match item:
        case AwaitScreen(expect=expect):
            return f"{describe_screen(expect)} within {item.timeout_s:g} s"
        case AwaitSettled(quiet_s=quiet_s):
            return f"a screen that stays the same for {quiet_s:g} s within {item.timeout_s:g} s"
        case AwaitOutput(pattern=pattern):
            return f"output that matches {pattern} within {item.timeout_s:g} s"
        case SendText() | PressKey() | Resize():
            return f"a program that reads what is typed within {item.timeout_s:g} s"
        case _:
            assert_never(item)


def _not_run(found: ShellEnvironment, error: ErrorInfo | None, out: StreamCapture) -> ApartEnd:
    end = found.end
    kept = out.finish(open_=False)
    return ApartEnd(end.kind, None, kept, Captured(), end.duration_s, end.cwd, end.state, end.left_behind, error, end.notes)
