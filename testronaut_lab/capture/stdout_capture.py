"""What is particular to a step's stdout: its name. All else is a stream's (`stream.py`).

Of a step with `merge`, and of one with a terminal, it holds all that was written, stderr in its place.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from testronaut_lab.capture.stream import StreamCapture


class StdoutCapture(StreamCapture):
    name: ClassVar[Literal["stdout"]] = "stdout"
