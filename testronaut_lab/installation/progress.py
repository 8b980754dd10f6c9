"""How far a package manager is, from what it writes: `setting up libjq1 (2 of 3)`, where its row says how to read that."""

from __future__ import annotations

from testronaut_lab.installation.strategies import Strategy


class ProgressReader:
    """Of one command of a manager; give it each line."""

    def __init__(self, strategy: Strategy) -> None:
        self._pattern = strategy.progress
        self._total = ""
        self._done: dict[str, set[str]] = {}

    def heard(self, line: str) -> str | None:
        """What goes on now, in words; None for a line that says nothing of that."""
        match = self._pattern.match(line.strip())
        if match is None:
            return None
        groups = match.groupdict()
        if groups.get("total"):
            self._total = groups["total"]
            return None
        doing, package = groups["doing"].lower().rstrip(":"), groups["package"].replace("%2f", "/")
        done = self._done.setdefault(doing, set())
        done.add(package)
        of = f" ({len(done)} of {self._total})" if self._total else ""
        return f"{doing} {package}{of}"
