"""What the rest of the package sees of a container: no name of docker's, no dictionary of its API.

`manager.py` implements these on a real engine. Mounts are bind mounts of host directories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BindMount:
    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class StepContainerSpec:
    """A container for steps. `name` is unique on the engine; `user` is UID:GID, `memory_bytes` counts swap too.

    `capabilities` are those of root in it; `user_namespace` is the engine's word for the container's, "" for what it does anyway.
    """

    name: str
    image: str
    keeper: tuple[str, ...]
    user: str
    network: str
    read_only: bool
    memory_bytes: int
    cpus: float
    pids: int
    capabilities: tuple[str, ...] = ()
    user_namespace: str = ""
    hostname: str = "lab"
    mounts: tuple[BindMount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerState:
    """`exit_code` and `oom_killed` mean something only when it does not run; `pid` is the keeper's on the engine's host."""

    exists: bool
    running: bool
    paused: bool = False
    exit_code: int | None = None
    oom_killed: bool = False
    pid: int = 0

    @property
    def is_at_work(self) -> bool:
        """Whether processes run in it."""
        return self.running and not self.paused

    def describe(self) -> str:
        """In words, for an error message."""
        if not self.exists:
            return "the container was removed"
        if self.paused:
            return "the container is paused"
        if self.running:
            return "the container is running"
        return f"the container stopped with exit status {self.exit_code}" + (" after an OOM kill" if self.oom_killed else "")


class Attached(Protocol):
    """A running command with its streams; not thread safe. Closing it ends the command's stdin and nothing else."""

    @property
    def id(self) -> str:
        """The engine's name for it."""
        ...

    def fileno(self) -> int:
        """For poll: readable when `read` has something or the command's streams ended."""
        ...

    def read(self) -> list[tuple[int, bytes]]:
        """What has arrived, as (1 stdout | 2 stderr, bytes), without blocking; [] for nothing yet.

        Raises EOFError at the end of the streams, EngineError for a cut in the middle of a frame.
        """
        ...

    def write(self, data: bytes) -> None:
        """To the command's stdin, blocking."""
        ...

    def close(self) -> None: ...


class AttachedTerminal(Attached, Protocol):
    """A running command in a terminal. What it shows arrives as stream 1; what is written is typed."""

    def write_some(self, data: bytes) -> int:
        """Like `write`, without blocking: how many bytes were taken, 0 while nobody reads what was typed before."""
        ...


class Container(Protocol):
    """One started container. Every method blocks for one engine call and raises EngineError when that fails."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    def attach(self, argv: Sequence[str], *, user: str, env: Mapping[str, str], cwd: str) -> Attached:
        """Start a command in the container with stdin, stdout and stderr attached."""
        ...

    def attach_terminal(self, argv: Sequence[str], *, user: str, env: Mapping[str, str], cwd: str) -> AttachedTerminal:
        """Start a command in the container with a terminal of its own, which has no size before `resize`."""
        ...

    def resize(self, attached: AttachedTerminal, cols: int, rows: int) -> None:
        """Give a running command's terminal another size."""
        ...

    def exit_code(self, attached: Attached) -> int | None:
        """How an attached command ended (128 and the signal's number for one that was killed); None while it runs."""
        ...

    def favour(self, attached: Attached) -> None:
        """Let the processor serve an attached command before all others of the container, where this machine lets us ask it."""
        ...

    def state(self) -> ContainerState:
        """Ask the engine; a container that is gone is a state, not an error."""
        ...

    def hurry(self) -> None:
        """From now on a step waits for each call but `remove`: raise EngineError after seconds, not after a minute."""
        ...

    def patience_s(self, usual_s: float) -> float:
        """How many seconds to wait for what must be there after `usual_s` on an engine of the usual speed; asks nobody."""
        ...

    def kill(self) -> None:
        """Kill it and everything in it; one that does not run is left as it is."""
        ...

    def remove(self) -> None:
        """Remove it, running or not; one that is gone is fine."""
        ...
