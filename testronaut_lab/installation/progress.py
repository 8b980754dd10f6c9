"""Reads the progress of a package manager from its output: `setting up libjq1 (2 of 3)`. The row has the pattern."""

from __future__ import annotations

from testronaut_lab.installation.strategies import Strategy


class ProgressReader:
    """The progress of one command. Give it each line of output."""

    def __init__(self, strategy: Strategy) -> None:
        self._pattern = strategy.progress
        self._total = ""
        self._done: dict[str, set[str]] = {}

    def heard(self, line: str) -> str | None:
        """Return the progress in words; None if the line does not tell it."""
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
