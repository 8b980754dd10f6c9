"""The entry point: what signals do before there is anything to tidy up and after there is, and a status of the table.

What a command line means is `dispatch.py`, which takes a tenth of a second and more to import.
"""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper

from testronaut_lab.errors import ExitStatus

TYPE_CHECKING = False  # as in the package's `__init__`
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

_STATUSES = {
    signal.SIGINT: ExitStatus.INTERRUPTED,
    signal.SIGTERM: ExitStatus.TERMINATED,
    signal.SIGHUP: ExitStatus.TERMINATED,
}


def main() -> NoReturn:
    """Run the command line of this process; whatever happens ends with a status of the table."""
    _open_what_is_closed()
    dispatch = _imported()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that has no `…` is no reason to end
    try:
        status = dispatch(sys.argv[1:])
    except KeyboardInterrupt:  # while something else was being told
        status = ExitStatus.INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done: at the interpreter's own end it would come out as a traceback
    sys.exit(status)


def _open_what_is_closed() -> None:
    """A standard stream that whoever started us has closed leads nowhere; else the next file that is opened would be it."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdin, sys.stdout, sys.stderr = sys.stdin or open(0), sys.stdout or open(1, "w"), sys.stderr or open(2, "w")


def _imported() -> Callable[[list[str]], int]:
    """`dispatch`. A signal meanwhile ends us at once: an exception in the middle of imports can come out as anything."""
    before = {number: signal.signal(number, _end) for number in _STATUSES if signal.getsignal(number) != signal.SIG_IGN}
    from testronaut_lab.cli.dispatch import dispatch

    for number, handler in before.items():
        signal.signal(number, handler)
    return dispatch


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(_STATUSES[signal.Signals(number)])
