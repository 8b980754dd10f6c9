"""A copy that the shell forked goes on when it has opened the FIFO that it waits in, however late that is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.fast.forked import Forked, _Waiting
from testronaut_lab.execution.driver.fast.reports import Reports
from testronaut_lab.execution.driver.fast.shell import Shell
from testronaut_lab.execution.driver.fast.table import Table


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A run directory whose owner is here."""
    folder = tmp_path / "run"
    folder.mkdir()
    os.mkfifo(folder / "keeper")
    owner = os.open(folder / "keeper", os.O_RDWR)
    yield folder
    os.close(owner)


class Processes:
    """This machine's table, of which only this is asked."""

    def shell(self, pid: int, program: int, *, is_bash: bool, called: int | None = None) -> Shell:
        return Shell(pid, program, is_bash=is_bash, called=called)


def test_a_copy_that_is_late_to_open_its_fifo_reads_what_it_is_told(run_dir: Path, tmp_path: Path) -> None:
    channel = Channel(run_dir)
    forked = Forked(channel, cast(Reports, None), cast(Table, Processes()), lambda _: True, lambda: None)
    channel.gate("c.late")
    with subprocess.Popen(["sh", "-c", f"sleep 0.3; . {run_dir}/c.late"], stderr=subprocess.PIPE) as late:
        copy = Shell(late.pid, -1, is_bash=False)
        forked._waiting[late.pid] = _Waiting("c.late", f"echo it goes on >{tmp_path}/told\nexit 7\n".encode())
        shell, _ = forked.go_on(copy)
        shell.close()
        copy.close()
        channel.close()
    assert (late.returncode, (tmp_path / "told").read_text()) == (7, "it goes on\n")
