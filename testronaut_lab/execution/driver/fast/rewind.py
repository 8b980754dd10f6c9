"""The way back to an earlier moment of a session's shell: what runs is ended, the copy from that moment goes on.

Files are somebody else's business, and so is when this is done; the shells themselves are `supervisor.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testronaut_lab.execution.driver.fast.checkpoints import Copy, NoCopy
from testronaut_lab.execution.driver.script import RUN_DIR

if TYPE_CHECKING:
    from testronaut_lab.execution.driver.fast.driver import FastDriver
    from testronaut_lab.execution.driver.fast.shell import Shell

_REPORTS = f"{RUN_DIR}/end/"  # a shell that is seen at once behind its report still holds that file


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A shell at one moment: its copy's number, its directory, and the jobs beside it, by pid. `why_none` there is no copy."""

    copy: int | None
    cwd: str
    jobs: Mapping[int, str]
    why_none: str = ""


@dataclass(frozen=True, slots=True)
class Rewound:
    """Processes, each as `name (pid)`: `ended` were not there at that moment, `missed` were and are gone, `jobs` go on."""

    ended: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()


class CopyGone(Exception):
    """There is no copy that could go on; the text says why."""


class Rewinder:
    """Of one session. Costs nothing before `checkpoint` is called for the first time."""

    def __init__(self, driver: FastDriver) -> None:
        self._driver = driver

    def checkpoint(self) -> Checkpoint:
        """The shell as it is now; its copy is kept from now on."""
        supervisor, jobs = self._driver.supervisor, self._driver.others.bystanders.jobs
        cwd = self._driver.conversation.known.cwd
        if supervisor.newest is None:
            return Checkpoint(None, cwd, jobs, f"{supervisor.why_no_copy} then, so that no copy of it was made")
        supervisor.want(supervisor.newest.number)
        return Checkpoint(supervisor.newest.number, cwd, jobs)

    def keep_only(self, moments: Iterable[Checkpoint]) -> None:
        """Nobody will want to go back to any other."""
        self._driver.supervisor.want_only(moment.copy for moment in moments if moment.copy is not None)

    def loses_files(self, to: Checkpoint) -> bool:
        """Whether the shell holds files open that the copy of that moment does not."""
        copy = self._driver.supervisor.find(to.copy)
        return copy is not None and not _opened(self._driver.supervisor.shell) <= _opened(copy.shell)

    def exported(self, at: Checkpoint) -> bytes | None:
        """What the shell had exported then, as shell text; None where nobody can tell. The copy is used up."""
        if at.copy is None:
            return None
        said = self._driver.exported_by(at.copy)
        return said if said is not None or self._driver.supervisor.reach.sees_sleep else self._asked(at.copy)

    def _asked(self, number: int) -> bytes | None:
        """What a copy says that has to go on for that, in place of the shell."""
        copy = self._driver.supervisor.find(number)
        if copy is None:
            return None
        self._driver.end_step("undo")
        try:
            self._driver.resume(copy)
        except NoCopy:
            return None
        return self._driver.conversation.exported(self._driver.supervisor.shell)

    def rewind(self, to: Checkpoint, meanwhile: Callable[[], None]) -> Rewound:
        """End the shell and all that was not there at that moment, do something `meanwhile`, and let the copy go on.

        Raises CopyGone where it cannot, mostly before anything is done; SessionLost when something cannot be ended.
        """
        copy = self._driver.supervisor.find(to.copy)
        if copy is None:
            self._driver.others.bystanders.processes()  # raises SessionLost where the whole container is gone
            raise CopyGone(to.why_none or "the copy of the shell from then was killed")
        rewound = self._halt(to)
        try:
            meanwhile()
        finally:
            self._go_on(copy)
        return rewound

    def _halt(self, to: Checkpoint) -> Rewound:
        driver, bystanders = self._driver, self._driver.others.bystanders
        driver.others.left_behind(driver.supervisor)
        alive = {pid: f"{name} ({pid})" for pid, name in bystanders.jobs.items()}
        bystanders.keep_only(to.jobs)
        driver.end_step("undo")
        return Rewound(
            tuple(name for pid, name in alive.items() if pid not in to.jobs),
            tuple(f"{name} ({pid})" for pid, name in to.jobs.items() if pid not in alive),
            tuple(name for pid, name in alive.items() if pid in to.jobs),
        )

    def _go_on(self, copy: Copy) -> None:
        try:
            self._driver.resume(copy)
            self._driver.conversation.go_to(copy.known.cwd)
        except NoCopy:
            raise CopyGone("the copy of the shell from then did not go on") from None


def _opened(shell: Shell) -> set[int]:
    return {held.fd for held in shell.held() if not held.link.startswith(_REPORTS)}
