"""A shell that sleeps reading its program is made to clone itself: real shells of this machine, traced by this process."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from testronaut_lab.execution.driver.fast import procfile, ptrace
from testronaut_lab.execution.driver.fast.checkpoints import Cloned, NoCopy
from testronaut_lab.execution.driver.fast.clone import Cloning
from testronaut_lab.execution.driver.fast.shell import Shell, children

SHELLS = [["dash"], ["bash"], ["busybox", "sh"]]

pytestmark = pytest.mark.skipif(not ptrace.is_supported() or os.geteuid() != 0, reason="this process may not trace a shell")


def asleep(shell: Shell, work: Callable[[int], None]) -> None:
    while not shell.has_ended:
        try:
            if (fd := shell.program_fd()) is not None:
                return work(fd)
        except ptrace.NotAsleep:
            continue
    raise NoCopy("the shell has ended")


@dataclass
class Room:
    """A shell that reads a FIFO, and FIFOs for its clones, whose write ends are held."""

    folder: Path
    shell: Shell
    clones: list[int] = field(default_factory=list)

    def fifo(self, name: str) -> int:
        os.mkfifo(self.folder / name)
        return os.open(self.folder / name, os.O_RDWR | os.O_NONBLOCK)

    def clone(self, path: str | None = None) -> Shell:
        """A clone that reads the FIFO `parked`, or `path`."""
        cloned = self.begin(path)
        cloned.launch()
        return self.kept(cloned.collect())

    def begin(self, path: str | None = None) -> Cloned:
        cloning = Cloning(
            self.shell.pid, self.shell.stub, "parked", path, lambda: children(os.getpid()), (), own_group=True
        )  # fmt: skip
        return Cloned(cloning, self.shell, -1, asleep)

    def kept(self, clone: Shell) -> Shell:
        self.clones.append(clone.pid)
        return clone


@pytest.fixture(params=SHELLS, ids=lambda words: words[0])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    if shutil.which(request.param[0]) is None:
        pytest.skip(f"{request.param[0]} is not here")
    os.mkfifo(tmp_path / "program")
    program = os.open(tmp_path / "program", os.O_RDWR | os.O_NONBLOCK)
    with subprocess.Popen([*request.param, "program"], cwd=tmp_path, stdin=subprocess.DEVNULL) as process:
        room = Room(tmp_path, Shell(process.pid, program, is_bash=request.param == ["bash"]))
        parked = room.fifo("parked")
        yield room
        room.shell.close()
        os.close(parked)
        for pid in room.clones:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def said(room: Room, name: str) -> str:
    until(lambda: (room.folder / name).exists() and (room.folder / name).read_text().endswith("\n"))
    return (room.folder / name).read_text()


def test_the_clone_has_the_shell_s_state_and_reads_its_own_program(room: Room) -> None:
    program = room.fifo("other")
    room.shell.send(b"x=1\n")
    room.clone("other")
    room.shell.send(b"x=2; echo shell $x >shell\n")
    assert said(room, "shell") == "shell 2\n"
    os.write(program, b"echo clone $x >clone\n")
    assert said(room, "clone") == "clone 1\n"
    os.close(program)


def test_each_clone_reads_what_it_was_made_for(room: Room) -> None:
    programs = {name: room.fifo(name) for name in ("a", "b")}
    room.clone()
    for name in programs:
        room.clone(name)
    room.clone()
    for name, program in programs.items():
        os.write(program, f"echo {name} >said-{name}\n".encode())
        assert said(room, f"said-{name}") == f"{name}\n"
        os.close(program)


def test_a_clone_without_a_program_is_ended_and_its_error_told(room: Room) -> None:
    before = children(os.getpid())
    with pytest.raises(NoCopy, match="No such file"):
        room.clone("missing")
    until(lambda: any(os.waitpid(pid, os.WNOHANG) != (0, 0) for pid in children(os.getpid()) if pid not in before))
    room.shell.send(b"echo well >shell\n")
    assert said(room, "shell") == "well\n"


def test_of_a_shell_that_was_killed_there_is_no_clone(room: Room) -> None:
    cloned = room.begin()
    room.shell.kill()
    with pytest.raises(NoCopy, match="killed"):
        cloned.launch()
    with pytest.raises(NoCopy, match=r"ended|killed"):
        room.clone()


def test_a_clone_that_is_begun_while_the_shell_works_leaves_its_files_as_they_were(room: Room) -> None:
    """A system call that was over when the shell was stopped must not be made again: an open would leave a file open."""
    room.clone()
    before = sorted(os.listdir(f"/proc/{room.shell.pid}/fd"))
    for number in range(8):
        room.shell.send(b"i=0; while [ $i -lt 500 ]; do : 3>|f; i=$((i + 1)); done\n")
        until(lambda: room.shell.has_read_all)
        time.sleep(number * 0.0001)
        room.clone()
    assert sorted(os.listdir(f"/proc/{room.shell.pid}/fd")) == before


def test_a_clone_that_is_launched_late_is_one_of_the_shell_as_it_slept(room: Room) -> None:
    cloned = room.begin()
    room.shell.send(b"echo later >later\n")
    cloned.launch()
    room.kept(cloned.collect())
    assert said(room, "later") == "later\n"


def test_a_process_that_has_ended_and_that_nobody_waited_for_is_gone_and_not_forbidden() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            ptrace.Tracee(process.pid)
        assert not procfile.has_memory(process.pid)
    assert procfile.stat(process.pid) == []
