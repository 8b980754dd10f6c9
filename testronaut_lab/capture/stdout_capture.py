"""The stdout of a step. It differs from any other stream (`stream.py`) only by its name.

For a step with `merge` or a terminal it also holds the stderr, in the order of writing.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from testronaut_lab.capture.stream import StreamCapture


class StdoutCapture(StreamCapture):
    name: ClassVar[Literal["stdout"]] = "stdout"
