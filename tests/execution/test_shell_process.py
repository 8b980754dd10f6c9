"""A shell of the session's as a process: what the host may see of one that is ending."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from testronaut_lab.execution.driver.fast import ptrace
from testronaut_lab.execution.driver.fast.shell import Shell


def refuse(*_: object) -> None:
    raise PermissionError("as the kernel does of what is root's")


@pytest.fixture
def program() -> Iterator[int]:
    """The write end of a pipe that is empty."""
    read, write = os.pipe()
    yield write
    os.close(read)


@pytest.mark.parametrize("words", [["true"], ["sleep", "60"]])
def test_only_of_a_shell_that_has_not_ended_it_is_an_error_that_an_ordinary_user_sees_nothing(
    words: list[str], program: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ptrace, "read_of", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    with subprocess.Popen(words) as process:
        shell = Shell(process.pid, program, is_bash=False)
        if words == ["true"]:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert (shell.program_fd(), shell.held()) == (None, [])
        else:
            with pytest.raises(PermissionError):
                shell.program_fd()
            with pytest.raises(PermissionError):
                shell.held()
        process.kill()
        shell.close()
