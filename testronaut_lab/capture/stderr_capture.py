"""What is particular to a step's stderr: its name. All else is a stream's (`stream.py`), its limit too.

Of a step with `merge`, and of one with a terminal, nothing comes here: what it writes is on stdout.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from testronaut_lab.capture.stream import StreamCapture


class StderrCapture(StreamCapture):
    name: ClassVar[Literal["stderr"]] = "stderr"
