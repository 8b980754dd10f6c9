"""Sessions and a plain shell of one kind, side by side: which sequences of steps they disagree about.

A session that keeps copies of its shell is used for many sequences, each of which is undone behind itself; so the shells that
later ones run in are restored ones, several times over. Other sessions are used once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from agreement import Performed, differences, perform, runs_for
from harness import Lab
from plain_shell import PlainShell
from sequences import LIBRARY, Sequence

from testronaut_lab.errors import UsageError
from testronaut_lab.execution.undoing import FreshContainerNeeded

Disagreement = Mapping[str, object]
# so many sequences one session is used for: what each leaves behind must not add up to the limits of one session
_USES = 50


class Pair:
    """`open_session(stack)` starts a session that ends with the stack; `undoes` says how many steps it can take back."""

    def __init__(self, plain: PlainShell, open_session: Callable[[ExitStack], Lab], undoes: int) -> None:
        self.shell = plain.shell
        self._plain = plain
        self._open = open_session
        self.undoes = undoes
        self._stack = ExitStack()
        self._lab: Lab | None = None
        self._uses = 0
        self._env: dict[str, str] = {}
        self._agreed: set[Sequence] = set()

    def close(self) -> None:
        self._lab = None
        self._stack.close()

    def disagreements(self, sequences: list[Sequence]) -> dict[tuple[str, ...], Disagreement]:
        """What differs, by steps. A sequence that has agreed before is not run again."""
        fresh = [sequence for sequence in dict.fromkeys(sequences) if sequence not in self._agreed]
        found = self._compared(fresh)
        suspects = list(found) if self.undoes else []
        for sequence in suspects:
            self.close()
            if not (again := self._compared([sequence])):
                found[sequence] = {"only in a session that other sequences were undone in": found[sequence]}
            else:
                found.update(again)
        self._agreed.update(sequence for sequence in fresh if sequence not in found)
        return {sequence.steps: wrong for sequence, wrong in found.items()}

    def _compared(self, sequences: list[Sequence]) -> dict[Sequence, Disagreement]:
        performed = [self._performed(sequence) for sequence in sequences]
        runs = [runs_for(*pair, self._plain.shell) for pair in zip(sequences, performed, strict=True)]
        seen = iter(self._plain.run([run for each in runs for run in each], self._env))
        wrong = [differences(did, [next(seen) for _ in each]) for did, each in zip(performed, runs, strict=True)]
        return {sequence: each for sequence, each in zip(sequences, wrong, strict=True) if each}

    def _performed(self, sequence: Sequence) -> Performed:
        lab = self._session()
        performed = perform(lab, sequence, self._plain.shell)
        if not self._undone(lab, len(performed.steps) + 1):
            self.close()
        return performed

    def _session(self) -> Lab:
        """A session in which nothing has happened, or nothing that was not undone."""
        if self._lab is None:
            self._lab = self._open(self._stack)
            self._uses = 0
            for name, text in LIBRARY.items():
                self._lab.session.put(name, text.encode())
            if not self._env:
                lines = self._lab.out("env").splitlines()
                self._env = dict(line.split("=", 1) for line in lines if not line.startswith(("_=", "PWD=", "SHLVL=")))
                self.close()
                return self._session()
        return self._lab

    def _undone(self, lab: Lab, steps: int) -> bool:
        self._uses += 1
        if steps > self.undoes or self._uses >= _USES:
            return False
        try:
            lab.session.undo(steps)
        except (FreshContainerNeeded, UsageError):
            return False
        return True
