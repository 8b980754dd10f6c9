"""Lines from a pipe: whole, in any pieces, and with a signal that no read is interrupted by."""

from __future__ import annotations

import os
import subprocess
import sys

from testronaut_lab.cli.pipedlines import PipedLines

# The signal is handled by another thread than the one that reads, as if it had come just before the read began.
MISSED = """
import os, signal, threading
from testronaut_lab.cli.pipedlines import PipedLines
from testronaut_lab.cli.run import ended_by_signals
with ended_by_signals():
    threading.Timer(0.1, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
    PipedLines(0).read()
"""


def test_lines_come_whole_in_whatever_pieces_they_are_written() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "wb", buffering=0) as pipe:
        lines = PipedLines(reader)
        pipe.write(b"one\ntwo\n\nth")
        assert ["one", "two", ""] == [lines.read() for _ in range(3)]
        pipe.write(b"ree\n\xff")
        pipe.close()
        assert ["three", "\udcff", None, None] == [lines.read() for _ in range(4)]


def test_a_signal_that_no_read_is_interrupted_by_ends_it() -> None:
    with subprocess.Popen([sys.executable, "-c", MISSED], stdin=subprocess.PIPE) as process:
        assert 143 == process.wait(timeout=120)
