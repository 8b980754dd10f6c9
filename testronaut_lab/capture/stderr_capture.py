"""The stderr of a step. It differs from any other stream (`stream.py`) only by its name.

It stays empty for a step with `merge` or a terminal: such a step's stderr goes to its stdout.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from testronaut_lab.capture.stream import StreamCapture


class StderrCapture(StreamCapture):
    name: ClassVar[Literal["stderr"]] = "stderr"
