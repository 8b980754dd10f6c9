"""`review`: shows pending goldens one after the other; a key decides. Without a terminal, it prints the commands to type.

`Review` says what a key does and knows no terminal; `_Screen` draws it. `cli/goldentext.py` formats an entry.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from testronaut_lab.cli.app import Verb, app, open_pending
from testronaut_lab.cli.console import print_table, say
from testronaut_lab.cli.goldens import refuse_in_ci
from testronaut_lab.cli.run import ended_by_signals
from testronaut_lab.errors import LabError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from testronaut_lab.golden.pending import Broken, Pending, PendingStore

_KEYS = (
    ("a", "accept"), ("r", "reject"), ("s", "skip"), ("A R S", "all the rest"), ("d", "side by side"), ("i", "details"),
    ("↑ ↓", "scroll"), ("q", "leave"),
)  # fmt: skip
_DONE = {"a": "accepted", "r": "rejected", "s": "skipped"}
_LEAVES = ("q", "escape", "end")


@app.command(cls=Verb)
def review() -> None:
    """Review pending goldens one by one. A key accepts or rejects each."""
    store = open_pending()
    entries = store.pending()
    if not entries:
        say("nothing is pending")
    elif not _is_terminal():
        _tell(entries)
    else:
        refuse_in_ci("reviewing what is pending")
        walk = Review(store, entries)
        with ended_by_signals():
            _walk_through(walk)
        for problem in walk.refused:
            say(f"not accepted: {problem}", sys.stderr)
        say(walk.outcome())


class Review:
    """A walk through `entries`. A decision takes effect at once; leaving decides nothing."""

    def __init__(self, store: PendingStore, entries: Sequence[Pending | Broken]) -> None:
        self._store = store
        self.entries = entries
        self.at = 0
        self.over = False
        self.side_by_side = False
        self.details = False
        self.message = ""
        self.refused: list[str] = []
        self._counts: Counter[str] = Counter()

    @property
    def entry(self) -> Pending | Broken:
        return self.entries[self.at]

    def press(self, key: str) -> None:
        """Do what `key` means; other keys do nothing."""
        self.message = ""
        if key in _LEAVES:
            self.over = True
        elif key in _DONE:
            self._decide(key)
        elif key.lower() in _DONE:
            self._decide_all(key.lower())
        elif key == "d":
            self.side_by_side = not self.side_by_side
        elif key == "i":
            self.details = not self.details

    def outcome(self) -> str:
        """Return `2 accepted, 1 skipped; 1 pending: testronaut-lab review`."""
        done = [f"{self._counts[word]} {word}" for word in _DONE.values() if self._counts[word]]
        left = len(self._store.pending())
        waits = f"{left} pending: testronaut-lab review" if left else "nothing is pending any more"
        return "; ".join([", ".join(done), waits] if done else [waits])

    def _decide(self, key: str) -> None:
        try:
            self._do(key, self.entry)
        except LabError as error:
            self.message = error.message if error.hint is None else f"{error.message}\nhint: {error.hint}"
            return
        self._next()

    def _decide_all(self, key: str) -> None:
        """Decide about all the rest. Entries that cannot be accepted stay pending and are listed after the walk."""
        while not self.over:
            try:
                self._do(key, self.entry)
            except LabError as error:
                self.refused.append(error.message)
            self._next()

    def _do(self, key: str, entry: Pending | Broken) -> None:
        from testronaut_lab.golden.pending import Pending

        if key == "r":
            self._store.reject([entry])
        elif key == "a":
            if not isinstance(entry, Pending):
                raise UsageError(f"accepting {entry.place}: {entry.problem}", hint="reject it with r")
            self._store.accept([entry])
        self._counts[_DONE[key]] += 1

    def _next(self) -> None:
        self.at += 1
        self.over = self.at == len(self.entries)
        self.at = min(self.at, len(self.entries) - 1)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _tell(entries: Sequence[Pending | Broken]) -> None:
    """Print the list and the commands to type."""
    from testronaut_lab.cli.goldens import table_row
    from testronaut_lab.cli.goldentext import commands_for
    from testronaut_lab.report.text.tables import pending_table

    print_table(pending_table([table_row(entry) for entry in entries], plain=True))
    say(f"\n{len(entries)} pending; there is no terminal to review them in, so type:")
    for command in commands_for(entries):
        say(f"  {command}")


def _walk_through(review: Review) -> None:
    """Show the walk until the last entry is decided or the user leaves."""
    from rich.console import Console

    from testronaut_lab.cli.keys import RESIZED, Keyboard

    console = Console(highlight=False)
    with Keyboard() as keyboard, console.screen(hide_cursor=True):
        screen = _Screen(console, review)
        while not review.over:
            screen.draw()
            key = keyboard.read()
            if key != RESIZED and not screen.scroll(key):
                review.press(key)


class _Screen:
    """Draws the present state of a review, as far as the terminal has room, and scrolls."""

    def __init__(self, console: Console, review: Review) -> None:
        self._console = console
        self._review = review
        self._offset = 0
        self._room = 1
        self._rows = 0
        self._drawn: tuple[int, bool, bool, int] | None = None
        self._body: list[Text] = []

    def draw(self) -> None:
        from rich.text import Text

        from testronaut_lab.cli.goldentext import folded
        from testronaut_lab.report.text.plain import to_ansi

        size = os.get_terminal_size(self._console.file.fileno())  # not COLUMNS and LINES: they do not change with the window
        now = (self._review.at, self._review.side_by_side, self._review.details, size.columns)
        if now != self._drawn:
            self._offset, self._drawn = 0, now
            self._body = [row for line in self._lines(size.columns) for row in folded(line, size.columns)]
        head, foot, body = self._head(size.columns), self._foot(size.columns), self._body
        self._room = max(size.lines - len(head) - len(foot) - 2, 1)
        self._rows = len(body)
        self._offset = max(0, min(self._offset, self._rows - self._room))
        shown = body[self._offset : self._offset + self._room]
        shown += [Text("")] * (self._room - len(shown))
        rows = [*head, self._rule(size.columns, ""), *shown, self._rule(size.columns, self._position()), *foot][: size.lines]
        plain = self._console.no_color
        painted = "\x1b[K\r\n".join(
            _cropped(row, size.columns).plain if plain else to_ansi(_cropped(row, size.columns)) for row in rows
        )
        self._console.file.write(f"\x1b[H{painted}\x1b[K\x1b[J")
        self._console.file.flush()

    def scroll(self, key: str) -> bool:
        """Scroll if `key` is a key for scrolling. Returns whether it is."""
        page = max(self._room - 2, 1)
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -page, "page down": page, " ": page, "\n": 1}
        if key in ("home", "end of text"):
            self._offset = 0 if key == "home" else self._rows
        elif key in steps:
            self._offset += steps[key]
        else:
            return False
        return True

    def _head(self, width: int) -> list[Text]:
        from rich.text import Text

        from testronaut_lab.cli.goldentext import heading, summary_of
        from testronaut_lab.report.text.lines import cut_middle
        from testronaut_lab.safetext import safe_line

        name, *more = heading(self._review.entry)
        count = f" {self._review.at + 1} of {len(self._review.entries)} "
        summary = f"  {safe_line(summary_of(self._review.entry))}"
        shown = cut_middle(name.plain, max(width - len(count) - 1 - len(summary), width // 2))
        return [Text.assemble((count, "reverse"), " ", (shown, name.style), (summary, "dim")), *more[:6]]

    def _lines(self, width: int) -> list[Text]:
        from rich.text import Text

        from testronaut_lab.cli.goldentext import details, differences, side_by_side

        entry = self._review.entry
        lines = [*details(entry), Text("")] if self._review.details else []
        return lines + (side_by_side(entry, width) if self._review.side_by_side else differences(entry))

    def _foot(self, width: int) -> list[Text]:
        from rich.text import Text

        from testronaut_lab.cli.goldentext import folded
        from testronaut_lab.safetext import safe_line

        keys = Text("")
        lines = []
        for key, what in _KEYS:
            what = "unified" if key == "d" and self._review.side_by_side else what
            label = Text.assemble((key, "bold"), (f" {what}", "dim"))
            if keys.cell_len + label.cell_len + 2 > width and keys:
                lines.append(keys)
                keys = Text("")
            keys = Text("  ").join([keys, label]) if keys else label
        said = [Text(safe_line(line), "red") for line in self._review.message.splitlines()]
        message = [row for line in said for row in folded(line, width)]
        return [*message, *lines, keys]

    def _position(self) -> str:
        more = self._rows - self._offset - self._room
        return f" {more} more lines " if more > 0 else " the end " if self._offset else ""

    def _rule(self, width: int, label: str) -> Text:
        from rich.text import Text

        return Text(f"{'─' * max(width - len(label) - 2, 0)}{label}{'──' if width > len(label) + 2 else ''}", "dim")


def _cropped(row: Text, width: int) -> Text:
    row = row.copy()
    row.truncate(width, overflow="ellipsis")
    return row
