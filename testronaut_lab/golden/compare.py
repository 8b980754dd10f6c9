"""Compares a step's golden with what the step did now, file by file, for people to read.

`judge/judge.py` decides whether a difference is a failure, and when a golden is replaced.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from testronaut_lab.golden.render import GoldenTree
from testronaut_lab.golden.textdiff import common_prefix, diff, excerpt
from testronaut_lab.model.result import Mismatch


@dataclass(frozen=True, slots=True)
class GoldenChange:
    """One file that differs. `expected` or `actual` is None where the file does not exist on that side.

    `file` is None if the golden does not exist yet; `tree` then holds the files of the new golden.
    """

    file: str | None
    expected: bytes | None
    actual: bytes | None
    tree: GoldenTree = field(default_factory=dict)

    @property
    def diff(self) -> str | None:
        """A readable diff. A file that is missing on one side counts as empty. For a new golden: every line of its files."""
        if self.file is None:
            return "".join(f"@@ {name} @@\n{_new(data)}" for name, data in self.tree.items())
        return diff(self.expected or b"", self.actual or b"")

    def mismatch(self, where: str, advice: str) -> Mismatch:
        """Return the change as a mismatch. `where` is the golden's folder for messages; `advice` says how to accept it."""
        if self.file is None:
            actual = f"none yet for {', '.join(self.tree)}"
            return Mismatch("golden", f"a golden in {where} ({advice})", actual, diff=self.diff)
        expected = f"no {where}/{self.file}" if self.expected is None else f"as in {where}/{self.file}"
        at = common_prefix(self.expected or b"", self.actual or b"")
        actual = "no such file" if self.actual is None else excerpt(self.actual, at)
        return Mismatch("golden", f"{expected} ({advice})", actual, self.file, self.diff)


def _new(data: bytes) -> str:
    """The diff against an empty file, without its `@@` line."""
    told = diff(b"", data) or ""
    return told.partition("\n")[2] if told.startswith("@@") else told


def compare(expected: GoldenTree | None, actual: GoldenTree) -> tuple[GoldenChange, ...]:
    """Return one change for each file that differs, sorted by name; one change in all if the golden does not exist yet."""
    if expected is None:
        return (GoldenChange(None, None, None, actual),)
    return tuple(
        GoldenChange(name, expected.get(name), actual.get(name))
        for name in sorted(expected.keys() | actual.keys())
        if expected.get(name) != actual.get(name)
    )
