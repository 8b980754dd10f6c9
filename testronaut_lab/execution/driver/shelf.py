"""Which parked copies of a session's shell are kept beside the newest one, for a session that can be undone.

Numbers and what belongs to them, nothing else; the processes are `lineage.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterable


class Shelf:
    """`kept` are the copies that stand though newer ones do, `exported` what each of those that may be asked for had exported."""

    def __init__(self) -> None:
        self.kept: set[int] = set()
        self.exported: dict[int, bytes] = {}
        self._wanted: set[int] = set()
        self._heirs: dict[int, int] = {}

    def want(self, number: int) -> None:
        """Want this one too."""
        self._wanted.add(number)

    def want_only(self, numbers: Iterable[int], newest: int | None) -> list[int]:
        """Want these and no others; those that were kept and are not wanted any more, which must go."""
        self._wanted = set(numbers)
        if not self._heirs and self.exported.keys() <= self._wanted | {newest} and self.kept <= self._wanted:
            return []
        heirs = {number: self.heir(number) for number in self._heirs}
        self._heirs = {number: heir for number, heir in heirs.items() if heir is not None and heir in self._wanted}
        known = self._wanted | {newest}
        self.exported = {number: text for number, text in self.exported.items() if number in known}
        unwanted = sorted(self.kept - self._wanted)
        self.kept -= set(unwanted)
        return unwanted

    def take(self, number: int) -> bool:
        """A newer copy stands: keep this one if it is wanted, and say whether."""
        if number not in self._wanted:
            return False
        self.kept.add(number)
        return True

    def pass_on(self, number: int, heir: int) -> None:
        """This copy is used up; the one with the number `heir` will be as it was."""
        if number in self._wanted:
            self._wanted = self._wanted - {number} | {heir}
            self._heirs[number] = heir
            if number in self.exported:
                self.exported[heir] = self.exported[number]

    def heir(self, number: int | None) -> int | None:
        """A copy that is promoted leaves its place to the one that is parked next, which is as it was."""
        while number in self._heirs:
            number = self._heirs[number]
        return number

    def clear(self) -> set[int]:
        """All are dead: those that were kept. What they had exported is still known."""
        dead, self.kept = self.kept, set()
        return dead
