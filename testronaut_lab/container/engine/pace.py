"""How long an engine takes to answer, as measured, and the deadlines that follow from it.

A fixed deadline would take a slow engine for a dead one. Each answer to a short call is noted here (`connect.py` listens to
docker's client, `hijack.py` to its own connections), and a wait for the engine or for a process in one of its containers asks
how long it may take. Calls that are long by nature (pull, build, import, wait) are no measure.
"""

from __future__ import annotations

import re

# An engine that once took 0.1 s for an answer may take two seconds for another one before it counts as silent.
SLACK = 20.0
_SHORT_CALL = re.compile(r"/(_ping|containers/[^/?]+/(json|exec)|exec/[^/?]+/(json|resize))(\?|$)")


class Pace:
    """Of one engine. May be used from several threads."""

    def __init__(self) -> None:
        self._slowest_s = 0.0

    def note(self, taken_s: float) -> None:
        """An answer to a short call took so long."""
        self._slowest_s = max(self._slowest_s, taken_s)

    def note_call(self, url: str, taken_s: float) -> None:
        """A call of docker's client was answered; one that is long by nature is ignored."""
        if _SHORT_CALL.search(url):
            self.note(taken_s)

    def deadline_s(self, usual_s: float) -> float:
        """How many seconds to wait for what must be there after `usual_s` on an engine of the usual speed; never less."""
        return max(usual_s, SLACK * self._slowest_s)
