"""How a step's golden and what the step did now differ, file by file, for people to read and decide.

Whether that is a failure, and when the golden is replaced, is decided in `judge/judge.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from testronaut_lab.golden.render import GoldenTree
from testronaut_lab.golden.textdiff import common_prefix, diff, excerpt
from testronaut_lab.model.result import Mismatch


@dataclass(frozen=True, slots=True)
class GoldenChange:
    """One file that differs; None where there is none. `file` is None if there is no golden at all."""

    file: str | None
    expected: bytes | None
    actual: bytes | None
    tree: GoldenTree = field(default_factory=dict)

    @property
    def diff(self) -> str | None:
        """A readable diff; a file that is missing on one side counts as empty there. Of a new golden all that it would hold."""
        if self.file is None:
            return "".join(f"@@ {name} @@\n{_new(data)}" for name, data in self.tree.items())
        return diff(self.expected or b"", self.actual or b"")

    def mismatch(self, where: str, advice: str) -> Mismatch:
        """As a mismatch; `where` is the golden's folder as people know it, `advice` how what is new can be accepted."""
        if self.file is None:
            actual = f"none yet for {', '.join(self.tree)}"
            return Mismatch("golden", f"a golden in {where} ({advice})", actual, diff=self.diff)
        expected = f"no {where}/{self.file}" if self.expected is None else f"as in {where}/{self.file}"
        at = common_prefix(self.expected or b"", self.actual or b"")
        actual = "no such file" if self.actual is None else excerpt(self.actual, at)
        return Mismatch("golden", f"{expected} ({advice})", actual, self.file, self.diff)


def _new(data: bytes) -> str:
    """The difference to nothing, without the line that says where it begins."""
    told = diff(b"", data) or ""
    return told.partition("\n")[2] if told.startswith("@@") else told


def compare(expected: GoldenTree | None, actual: GoldenTree) -> tuple[GoldenChange, ...]:
    """What differs, by name of the file; a golden that does not exist yet is one change. Empty if all is the same."""
    if expected is None:
        return (GoldenChange(None, None, None, actual),)
    return tuple(
        GoldenChange(name, expected.get(name), actual.get(name))
        for name in sorted(expected.keys() | actual.keys())
        if expected.get(name) != actual.get(name)
    )
