"""Checks which of a session's limits hold, by reading them back from the container's own control group.

An engine that cannot set a limit says so in a warning that no API client sees, or not at all. If the group cannot be reached from
here (the engine runs in another machine or namespace), a command in the container reads it. A limit holds if the group has the
value that we asked for: a lower value belongs to a group that is shared with others.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from testronaut_lab.container.cgroup import CgroupMeter
from testronaut_lab.container.cgroup_lookup import HOST, OwnGroups
from testronaut_lab.container.engine.connect import CALL_TIMEOUT_S, Engine
from testronaut_lab.container.engine.faults import translated
from testronaut_lab.container.protocol import Attached, Container, StepContainerSpec
from testronaut_lab.container.security import PIDS_RESERVE
from testronaut_lab.errors import EngineError
from testronaut_lab.model.events import Problem

_PAGE_BYTES = 64 * 1024  # the largest page of Linux; a memory limit is rounded down to whole pages
_CPUS_ROUNDED_UP = 0.01  # systemd rounds a quota up to whole hundredths of a CPU


@dataclass(frozen=True, slots=True)
class _File:
    """The file of one limit, in both versions of control groups."""

    controller: str
    v1: str
    v2: str


_QUOTA = _File("cpu", "cpu.cfs_quota_us", "cpu.max")
_PERIOD = _File("cpu", "cpu.cfs_period_us", "cpu.max")
_MEMORY = _File("memory", "memory.limit_in_bytes", "memory.max")
_SWAP = _File("memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
_PIDS = _File("pids", "pids.max", "pids.max")
_ENGINES_WORDS = {"limits.memory": "MemoryLimit", "limits.cpus": "CpuCfsQuota", "limits.pids": "PidsLimit"}
_FILES = (_QUOTA, _PERIOD, _MEMORY, _SWAP, _PIDS)

# Prints the limits that the container sees: version 1 has a folder for each controller, version 2 its group at the top or at the
# group's path.
_SHOW = """
while IFS=: read -r n c p; do case $n$c in 0) own=$p ;; esac; done </proc/self/cgroup
show() { [ -r "$1" ] && while read -r line; do echo "$2 $line"; done <"$1"; }
for f in {v1}; do show "/sys/fs/cgroup/$f" "${f##*/}"; done
for f in {v2}; do show "/sys/fs/cgroup/$f" "$f" || show "/sys/fs/cgroup$own/$f" "$f"; done
show /proc/swaps swaps
:
"""


@dataclass(frozen=True, slots=True)
class Sight:
    """A view of a container's limits. `read` returns a file's text, None if the file is missing."""

    read: Callable[[_File], str | None]
    has_swap: bool


@dataclass(frozen=True, slots=True)
class Enforcement:
    """`unenforced` are the limits that do not hold, by their keys in a plan; `unmeasured` are the counters that are missing."""

    unenforced: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()
    has_group: bool = True

    def __str__(self) -> str:
        said = [f"{_listed(self.unenforced)} not enforced"] if self.unenforced else []
        said += [f"{_listed(self.unmeasured)} not measured"] if self.unmeasured else []
        why = "its control group lacks what is needed" if self.has_group else "no control group of its own can be found for it"
        return f"in the session's container {', and '.join(said)}: {why}"


class LimitCheck:
    """Checks the containers of one run. Reports once what does not hold, or refuses the container if limits are `required`."""

    def __init__(self, tell: Callable[[Problem], object], *, required: bool) -> None:
        self._tell = tell
        self.required = required
        self._found = Enforcement()

    def container(
        self, engine: Engine, container: Container, spec: StepContainerSpec, groups: OwnGroups, meter: CgroupMeter
    ) -> None:
        """Check a container that was just started. Raises EngineError if limits are required and do not hold."""
        found = Enforcement(_unenforced_anyhow(container, spec, groups), meter.unmeasured, bool(groups))
        if not found.unenforced and not found.unmeasured:
            return
        hint = f"{engine.info.name} info"
        if self.required:
            raise EngineError(f"limits are required, and {found}; docs/limits.md says what an engine needs", hint=hint)
        if found != self._found:
            self._found = found
            self._tell(Problem(str(found), hint=hint))


def lacking_limits(engine: Engine) -> tuple[str, ...]:
    """The limits that the engine says it cannot set. Raises EngineError.

    It proves nothing about a started container: a rootless Podman 5.4 on cgroup v2 says so of CPUs, and enforces them.
    """
    with translated("asking the engine for its limits"):
        said = engine.client.info()
    return tuple(limit for limit, word in _ENGINES_WORDS.items() if said.get(word) is False)


def unenforced(spec: StepContainerSpec, seen: Sight) -> tuple[str, ...]:
    """The limits of `spec` that the control group does not have."""
    held = {
        "limits.memory": _holds_memory(seen, spec.memory_bytes),
        "limits.cpus": _holds_cpus(seen, spec.cpus),
        "limits.pids": _number(seen.read(_PIDS)) == spec.pids + PIDS_RESERVE,
    }
    return tuple(name for name, holds in held.items() if not holds)


def _unenforced_anyhow(container: Container, spec: StepContainerSpec, groups: OwnGroups) -> tuple[str, ...]:
    """The limits that neither we nor the container can see."""
    lacking = unenforced(spec, from_outside(groups))
    return () if not lacking else unenforced(spec, from_inside(container))


def from_outside(groups: OwnGroups, host: Path = HOST) -> Sight:
    """Read the files of the container's own groups from the host."""

    def read(file: _File) -> str | None:
        group = groups.of(file.controller)
        return None if group is None else _text(group.whole / (file.v1 if group.version == 1 else file.v2))

    swaps = _text(host / "proc/swaps")
    return Sight(read, has_swap=swaps is None or len(swaps.splitlines()) > 1)


def from_inside(container: Container) -> Sight:
    """Read the files with one command in the container. Raises EngineError."""
    names_v1 = " ".join(f"{file.controller}/{file.v1}" for file in _FILES)
    names_v2 = " ".join(dict.fromkeys(file.v2 for file in _FILES))
    script = _SHOW.replace("{v1}", names_v1).replace("{v2}", names_v2)
    attached = container.attach(("/bin/sh", "-c", script), user="0:0", env={}, cwd="/")
    try:
        lines = [line.partition(" ") for line in _said(attached, container.name).splitlines()]
    finally:
        attached.close()
    texts = {name: text for name, _, text in lines}
    swaps = [text for name, _, text in lines if name == "swaps"]
    return Sight(lambda file: texts.get(file.v2, texts.get(file.v1)), has_swap=len(swaps) != 1)


def _said(attached: Attached, name: str) -> str:
    """Everything that the command writes to stdout. Blocks for at most the timeout of an engine call."""
    said = b""
    poll = select.poll()
    poll.register(attached.fileno(), select.POLLIN)
    deadline = time.monotonic() + CALL_TIMEOUT_S
    try:
        while (left_s := deadline - time.monotonic()) > 0:
            said += b"".join(data for stream, data in attached.read() if stream == 1)
            poll.poll(left_s * 1000)
    except EOFError:
        return said.decode(errors="replace")
    raise EngineError(f"asking container {name} for its limits: it did not answer within {CALL_TIMEOUT_S} s")


def _holds_memory(seen: Sight, asked: int) -> bool:
    """Check memory and swap. The swap file limits memory and swap together in version 1, swap alone in version 2."""
    memory, swap = _number(seen.read(_MEMORY)), _number(seen.read(_SWAP))
    if memory is None or not asked - _PAGE_BYTES < memory <= asked:
        return False
    return not seen.has_swap if swap is None else swap <= asked


def _holds_cpus(seen: Sight, asked: float) -> bool:
    """Check the CPU quota. Version 2 has quota and period in one file."""
    words = f"{seen.read(_QUOTA)} {seen.read(_PERIOD)}".split()[:2]
    if not all(word.isdecimal() for word in words):
        return False
    cpus = int(words[0]) / int(words[1])
    return asked * 0.99 < cpus < asked * 1.01 + _CPUS_ROUNDED_UP


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last} are" if most else f"{last} is"


def _number(text: str | None) -> int | None:
    """The number in a file; None for a missing file, and for `max`, which means no limit."""
    word = "" if text is None else text.strip()
    return int(word) if word.isdecimal() else None


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None
