"""The list on the left: the session, then its steps, the newest last. A new step is selected as it comes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.widgets import OptionList


class StepList(OptionList):
    """Row 0 is the session, row n the nth step. OptionList's own messages tell the app what was chosen."""

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._rows: list[Text] = []

    @property
    def chosen(self) -> int:
        return self.highlighted or 0

    def show(self, rows: Sequence[Text]) -> None:
        """Change, append or remove rows at the end. After an append or a removal, the last row is selected."""
        for number, row in enumerate(rows[: len(self._rows)]):
            if row != self._rows[number]:
                self.replace_option_prompt_at_index(number, row)
        for number in reversed(range(len(rows), len(self._rows))):
            self.remove_option_at_index(number)
            self.highlighted = len(rows) - 1
        added = rows[len(self._rows) :]
        self._rows = list(rows)
        if added:
            self.add_options(added)
            self.highlighted = len(rows) - 1
