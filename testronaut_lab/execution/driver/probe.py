"""Which driver a session gets: found out by trying, never by what kind of engine it seems to be.

The fast driver's own start is the proof, end to end: it reads its script through the mount and talks over FIFOs, so where it
works nothing is spent on a probe. Where it does not start, a word is read through the mount and another one sent through a
pair of FIFOs. TESTRONAUT_LAB_DRIVER (`fast` or `plain`) forces one.
"""

from __future__ import annotations

import os
import secrets
import select
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from enum import Enum

from testronaut_lab.container.protocol import Attached, Container
from testronaut_lab.errors import EngineError, FilesUnseen, LabError, SessionLost, UsageError
from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.processes.watchdog import Watchdog, WatchdogLost
from testronaut_lab.execution.driver.protocol import Driver, ProcessesUnseen
from testronaut_lab.execution.driver.script import RUN_DIR

PATIENCE_S = 2.0
_WORD_S = 60.0
_FIFO_S = 2.0
_SLACK = 10
_SAY = (
    f'IFS= read -r a <{RUN_DIR}/nonce || exit; printf "%s\\n" "$a"; '
    f'IFS= read -r b <{RUN_DIR}/probe.i && printf "%s\\n" "$b" >{RUN_DIR}/probe.o'
)


class Sharing(Enum):
    """What the engine's containers share with this machine, as far as the session's directory goes."""

    FIFOS = "files and FIFOs"
    FILES = "files, but no FIFOs"
    NOTHING = "nothing"


def forced(environ: Mapping[str, str]) -> str | None:
    """The driver that TESTRONAUT_LAB_DRIVER names. Raises UsageError for a word that is none."""
    named = environ.get("TESTRONAUT_LAB_DRIVER") or None
    if named not in (None, "fast", "plain"):
        raise UsageError(f"TESTRONAUT_LAB_DRIVER={named} names no driver", hint="fast, plain, or unset to find out")
    return named


def start_fast_or_plain(fast: Driver, plain: Callable[[], Driver], look: Callable[[], Sharing], container: Container) -> Driver:
    """Start the fast driver, or, where the engine shares no FIFOs with us or nobody sees the processes, the plain one.

    Raises FilesUnseen where it shares nothing, and what the fast driver's start raised where it should have worked. No driver
    is left open then.
    """
    doubt = _Doubt(look, container)
    try:
        with ExitStack() as undo:
            undo.callback(fast.close)  # not while the doubt still looks through its channel
            with doubt:
                fast.start()
            undo.pop_all()
    except ProcessesUnseen:
        return started(plain())
    except SessionLost:
        if doubt.found() is not Sharing.FILES:
            raise
        return started(plain())
    return fast


def started(driver: Driver) -> Driver:
    """Start it. Raises what its start raises; it is closed then."""
    with ExitStack() as undo:
        undo.callback(driver.close)
        driver.start()
        undo.pop_all()
    return driver


def look_through(container: Container, channel: Channel, user: str) -> Sharing:
    """Read a word through the mount, send one through two FIFOs.

    That files are not shared is proved by the end of the command that could not read one, or by a minute without a word. That
    FIFOs are not can only be told by waiting: for 2 s, or ten times as long as the word through the file has taken. What hangs
    in a FIFO is left for the watchdog. Raises EngineError, CaptureError.
    """
    word, other = secrets.token_hex(8), secrets.token_hex(8)
    channel.put("nonce", f"{word}\n".encode())
    question, answer = channel.fifo("probe.i", 0o444, os.O_RDWR), channel.fifo("probe.o", 0o222, os.O_RDONLY)
    attached = container.attach(["/bin/sh", "-c", _SAY], user=user, env={}, cwd="/")
    try:
        os.write(question, f"{other}\n".encode())
        return _listen(attached, answer, word.encode(), other.encode(), container.patience_s)
    finally:
        attached.close()
        os.close(question)
        os.close(answer)
        for name in ("probe.i", "probe.o", "nonce"):
            channel.remove(name)


def _listen(attached: Attached, fifo: int, word: bytes, other: bytes, patience_s: Callable[[float], float]) -> Sharing:
    """`word` is awaited on the exec's stdout, and after it `other` from the FIFO, which alone says enough."""
    started = time.monotonic()
    deadline = started + patience_s(_WORD_S)
    said, came, ended = b"", b"", False
    poll = select.poll()
    for fd in (attached.fileno(), fifo):
        poll.register(fd, select.POLLIN)
    while not ended and (left := deadline - time.monotonic()) > 0:
        knew = word in said
        try:
            said += b"".join(data for _, data in attached.read())
        except (EOFError, EngineError):
            ended = True
        try:
            came += os.read(fifo, 4096)
        except BlockingIOError:
            pass
        if other in came:
            return Sharing.FIFOS
        if word in said and not knew:
            now = time.monotonic()
            deadline = now + max(patience_s(_FIFO_S), _SLACK * (now - started))
        poll.poll(min(20, int(left * 1000) + 1))
    return Sharing.FILES if word in said else Sharing.NOTHING


class _Doubt:
    """While the fast driver starts: if that takes long, look whether it can; if it cannot, end it."""

    def __init__(self, look: Callable[[], Sharing], container: Container) -> None:
        self._look = look
        self._container = container
        self._found: Sharing | None = None
        self._started = False
        self._timer = threading.Timer(PATIENCE_S, self._wonder)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._started = True
        self._timer.cancel()
        self._timer.join()

    def found(self) -> Sharing | None:
        """None where that could not be found out. Raises FilesUnseen where nothing is shared."""
        if self._found is None:
            try:
                self._found = self._look()
            except LabError:
                return None
        if self._found is Sharing.NOTHING:
            raise FilesUnseen(f"starting a shell in container {self._container.name}", "what was put into its run directory")
        return self._found

    def _wonder(self) -> None:
        try:
            self._found = self._look()
            if self._found is not Sharing.FIFOS and not self._started:
                watchdog = Watchdog(self._container)
                try:
                    watchdog.sweep(())
                finally:
                    watchdog.close()
        except (LabError, WatchdogLost):
            return  # the start itself will tell
