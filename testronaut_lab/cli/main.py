"""The entry point. It handles signals before and after the real work, and ends with an exit status of the table.

`dispatch.py` runs the command line; importing it takes a tenth of a second or more.
"""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper

from testronaut_lab.errors import ExitStatus

TYPE_CHECKING = False  # type checkers take it for true; see the package's `__init__`
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
    """Run the command line of this process. Always ends with an exit status of the table."""
    _open_what_is_closed()
    dispatch = _imported()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without `…` must not end the program
    try:
        status = dispatch(sys.argv[1:])
    except KeyboardInterrupt:  # during the printing of another error
        status = ExitStatus.INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done; during interpreter shutdown it would print a traceback
    sys.exit(status)


def _open_what_is_closed() -> None:
    """Open /dev/null for each standard stream that the caller has closed. Otherwise the next opened file would take its place."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdin, sys.stdout, sys.stderr = sys.stdin or open(0), sys.stdout or open(1, "w"), sys.stderr or open(2, "w")


def _imported() -> Callable[[list[str]], int]:
    """Import and return `dispatch`. A signal during the import ends the process at once: an exception in the middle of an
    import can come out as anything.
    """
    before = {number: signal.signal(number, _end) for number in _STATUSES if signal.getsignal(number) != signal.SIG_IGN}
    from testronaut_lab.cli.dispatch import dispatch

    for number, handler in before.items():
        signal.signal(number, handler)
    return dispatch


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(_STATUSES[signal.Signals(number)])
