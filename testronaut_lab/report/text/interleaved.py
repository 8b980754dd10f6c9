"""A step's two streams as one text, in the order in which their chunks came. The order is approximate, for reading only.

Nobody knows the exact order of writes to two streams. A step with `merge` has one stream, whose order is exact.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from testronaut_lab.model.result import Captured, StepResult

_UTF_8 = codecs.getincrementaldecoder("utf-8")


def interleaved(step: StepResult) -> list[tuple[str, str]]:
    """Return (stream, text) pairs in the order of the chunks' times. Raw text, not safe to show. No character is split.

    Raises FileNotFoundError if the file of a large stream was removed.
    """
    pieces = [*_pieces("stdout", step.stdout_stream), *_pieces("stderr", step.stderr_stream)]
    in_order = groupby(sorted(pieces, key=itemgetter(0)), key=itemgetter(1))
    joined = [(stream, "".join(text for _, _, text in group)) for stream, group in in_order]
    return [(stream, text) for stream, text in joined if text]


def _pieces(name: str, stream: Captured) -> Iterator[tuple[float, str, str]]:
    data = stream.read()
    decoder = _UTF_8("backslashreplace")
    chunks = stream.chunks or ((0.0, 0),)
    for i, (elapsed_s, offset) in enumerate(chunks):
        is_last = i + 1 == len(chunks)
        end = len(data) if is_last else chunks[i + 1][1]
        yield elapsed_s, name, decoder.decode(data[offset:end], final=is_last)
