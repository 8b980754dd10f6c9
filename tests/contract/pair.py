"""Sessions and a plain shell of one kind, side by side: in what they disagree about a sequence of steps.

One session has many sequences. Each begins with an empty workspace and a new shell: a copy of the first one, from before any
step, goes on in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack

from agreement import Performed, Truth, differences, perform, rightly_differs
from plain_shell import PlainShell, clear
from sequences import LIBRARY, Sequence
from support.live_session import Lab

from testronaut_lab.execution.driver.fast.driver import FastDriver
from testronaut_lab.execution.driver.fast.rewind import Checkpoint, CopyGone

Disagreement = Mapping[str, object]
# so many sequences one session is used for: what each leaves behind must not add up to the limits of one session
_USES = 50


class Pair:
    """`open_session(stack)` starts a session that ends with the stack. With `copies` its shell is copied behind each step, as
    always; without, only before the first, and a step that ends the shell loses the state.
    """

    def __init__(self, plain: PlainShell, open_session: Callable[[ExitStack], Lab], *, copies: bool) -> None:
        self.plain = plain
        self._open = open_session
        self._copies = copies
        self._stack = ExitStack()
        self._lab: Lab | None = None
        self._start: Checkpoint | None = None
        self._uses = 0
        self._agreed: set[Sequence] = set()

    def close(self) -> None:
        self._lab = None
        self._stack.close()

    def first_disagreement(self, sequences: Iterable[Sequence]) -> tuple[tuple[str, ...], Disagreement] | None:
        """The steps of the first sequence that differs, and what does. One that has agreed before is not run again."""
        for sequence in sequences:
            if sequence not in self._agreed:
                if wrong := self.disagreement(sequence):
                    return sequence.steps, wrong
                self._agreed.add(sequence)
        return None

    def disagreement(self, sequence: Sequence) -> Disagreement:
        """What differs about one sequence, by what; empty if nothing does, or if it rightly may."""
        if rightly_differs(sequence, self.plain.shell):
            return {}
        performed = self._performed(sequence)
        first, second = (Truth(self.plain, performed, dotted=dotted) for dotted in self._ways())
        return differences(performed, [first]) and differences(performed, [first, second])

    def _ways(self) -> tuple[bool, bool]:
        """The likelier one first."""
        return (False, True) if self.plain.shell == "bash" else (True, False)

    def _performed(self, sequence: Sequence) -> Performed:
        lab = self._session()
        self._uses += 1
        performed = perform(lab, sequence, self.plain.shell)
        if not self._copies and performed.ended:
            performed = performed.without_state()
        if self._uses >= _USES or not self._back(lab):
            self.close()
        return performed

    def _session(self) -> Lab:
        """A session in whose shell nothing has happened."""
        if self._lab is None:
            self._lab = self._open(self._stack)
            self._uses = 0
            self._start = driver_of(self._lab).rewinder.checkpoint()
            if not self._copies:
                _never_copy(driver_of(self._lab))
            _lay_out(self._lab)
        return self._lab

    def _back(self, lab: Lab) -> bool:
        """To before the first step."""
        assert self._start is not None
        try:
            driver_of(lab).rewinder.rewind(self._start, lambda: _lay_out(lab))
        except CopyGone:
            return False
        return True


def driver_of(lab: Lab) -> FastDriver:
    driver = lab.session._driver
    assert isinstance(driver, FastDriver)
    return driver


def _never_copy(driver: FastDriver) -> None:
    """From now on the copy that there is stays the only one."""
    supervisor = driver.supervisor
    park = supervisor.park
    supervisor.park = lambda known: None if supervisor.newest is not None else park(known)  # type: ignore[method-assign]


def _lay_out(lab: Lab) -> None:
    place = lab.session._place
    clear([place.workspace, place.tmp, place.home])
    for name, text in LIBRARY.items():
        lab.session.put(name, text.encode())
