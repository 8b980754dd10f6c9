"""Measures how long an engine takes to answer, and scales deadlines by it: a fixed deadline takes a slow engine for a dead one.

`connect.py` notes the short calls of docker's client, `hijack.py` those of its own connections. Calls that are long by nature
(pull, build, import, wait) do not count. Every wait for the engine, or for a process in its containers, uses `deadline_s`.
"""

from __future__ import annotations

import re

# Example: if the slowest answer took 0.1 s, the next one may take 2 s.
SLACK = 20.0
_SHORT_CALL = re.compile(r"/(_ping|containers/[^/?]+/(json|exec)|exec/[^/?]+/(json|resize))(\?|$)")


class Pace:
    """The pace of one engine. Several threads may use it."""

    def __init__(self) -> None:
        self._slowest_s = 0.0

    def note(self, taken_s: float) -> None:
        """Note how long the answer to a short call took."""
        self._slowest_s = max(self._slowest_s, taken_s)

    def note_call(self, url: str, taken_s: float) -> None:
        """Note how long a call of docker's client took; a call that is long by nature is ignored."""
        if _SHORT_CALL.search(url):
            self.note(taken_s)

    def deadline_s(self, usual_s: float) -> float:
        """How long to wait for something that takes at most `usual_s` on an engine of usual speed; never less than `usual_s`."""
        return max(usual_s, SLACK * self._slowest_s)
