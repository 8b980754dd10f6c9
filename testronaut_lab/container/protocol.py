"""The types by which the rest of the package uses containers, without docker's client or its dictionaries.

`manager.py` implements them on a real engine.
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
    """A container for steps. `name` is unique on the engine, `user` is UID:GID, `memory_bytes` includes swap.

    `capabilities` are those of the container's root. `user_namespace` is the engine's option, "" for the engine's default.
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
    """`exit_code` and `oom_killed` are valid only if it does not run. `pid` is the keeper's pid on the engine's host."""

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
    """A running command with its streams. Not thread safe. `close` only ends the command's stdin."""

    @property
    def id(self) -> str:
        """The engine's id of the command."""
        ...

    def fileno(self) -> int:
        """A descriptor for poll: readable when `read` has data or the command's streams have ended."""
        ...

    def read(self) -> list[tuple[int, bytes]]:
        """Return the data that has arrived, as (1 stdout | 2 stderr, bytes), without blocking; [] if there is none yet.

        Raises EOFError at the end of the streams, EngineError if the connection ends in the middle of a frame.
        """
        ...

    def write(self, data: bytes) -> None:
        """Write to the command's stdin. Blocks until all is written."""
        ...

    def close(self) -> None: ...


class AttachedTerminal(Attached, Protocol):
    """A running command in a terminal. Its output arrives as stream 1; written bytes are typed into the terminal."""

    def write_some(self, data: bytes) -> int:
        """Like `write`, but without blocking. Returns the number of bytes taken, 0 while the command does not read."""
        ...


class Container(Protocol):
    """One started container. Every method blocks for one engine call, and raises EngineError if the call fails."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    def attach(self, argv: Sequence[str], *, user: str, env: Mapping[str, str], cwd: str) -> Attached:
        """Start a command in the container with stdin, stdout and stderr attached."""
        ...

    def attach_terminal(self, argv: Sequence[str], *, user: str, env: Mapping[str, str], cwd: str) -> AttachedTerminal:
        """Start a command in the container with a terminal of its own. The terminal has no size before `resize`."""
        ...

    def resize(self, attached: AttachedTerminal, cols: int, rows: int) -> None:
        """Set the size of a running command's terminal."""
        ...

    def exit_code(self, attached: Attached) -> int | None:
        """The exit status of an attached command, 128 + N after signal N; None while it runs."""
        ...

    def raise_priority(self, attached: Attached) -> None:
        """Give an attached command priority over the container's other processes. No-op if this host does not allow it."""
        ...

    def state(self) -> ContainerState:
        """Ask the engine for the state. A container that is gone is a state, not an error."""
        ...

    def end_soon(self) -> None:
        """From now on, time out each call but `remove` after seconds, not after a minute: a step waits for it."""
        ...

    def patience_s(self, usual_s: float) -> float:
        """`usual_s`, scaled to the speed of this engine: how long to wait for something that usually takes so long."""
        ...

    def kill(self) -> None:
        """Kill the container with everything in it. No-op if it does not run."""
        ...

    def remove(self) -> None:
        """Remove it, running or not. No-op if it is gone."""
        ...
