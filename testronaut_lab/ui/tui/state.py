"""The states of the dashboard's session, with their words, glyphs and colours.

Colours are hex values: parts of Textual show the names of the terminal's sixteen colours differently.
"""

from __future__ import annotations

from enum import StrEnum

GREEN, RED, YELLOW, CYAN, MAGENTA = "#7dba6f", "#e0697a", "#d9a860", "#5fb0cc", "#b48ad6"
BLUE, GREY = "#6f9be0", "#8a8f98"
DIM = "dim"


class SessionState(StrEnum):
    """What the session is doing. Only READY takes a command."""

    STARTING = "starting"
    READY = "ready"
    RUNNING = "running"
    UNDOING = "undoing"
    FAILED = "not started"
    LOST = "lost"
    CLOSING = "closing"

    @property
    def glyph(self) -> str:
        return {SessionState.FAILED: "✗", SessionState.LOST: "✗", SessionState.READY: "●"}.get(self, "◌")

    @property
    def style(self) -> str:
        if self in (SessionState.FAILED, SessionState.LOST):
            return f"bold {RED}"
        return {SessionState.READY: GREEN, SessionState.RUNNING: CYAN, SessionState.UNDOING: CYAN}.get(self, YELLOW)

    @property
    def refusal(self) -> str | None:
        """Return why no command can run now and what to do; None if one can."""
        return {
            SessionState.STARTING: "The session is still starting.",
            SessionState.RUNNING: "A step is running. ctrl+c interrupts it.",
            SessionState.UNDOING: "A step is being undone.",
            SessionState.FAILED: "The session did not start. ctrl+r tries again.",
            SessionState.LOST: "The session is lost. ctrl+q quits.",
            SessionState.CLOSING: "The session is being closed.",
        }.get(self)
