"""The command line as the tests use it: a project in an empty folder, and real processes run in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from unittest.mock import patch

import pytest
from pydantic import JsonValue

import testronaut_lab
from support import printed_commands
from testronaut_lab import cli
from testronaut_lab.errors import ExitStatus
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import RunFinished, RunStarted
from testronaut_lab.model.result import Status
from testronaut_lab.store.database import Store

ARGV = (sys.executable, "-m", "testronaut_lab.cli")
HELLO = """\
version: 1
image: debian:bookworm-slim
cases:
  - id: hello
    tags: [smoke]
    steps:
      - {id: greet, run: echo hello, expect: {stdout: "hello\\n"}}
"""


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> JsonValue:
        value: JsonValue = json.loads(self.out)
        return value

    @property
    def run_id(self) -> str:
        """The run that this is about, from the line that says how to show it."""
        return self.out.rpartition("testronaut-lab show ")[2].partition(")")[0].partition(" ")[0]


class Project:
    """A project's folder, with `.git` as its mark; `run` is a command in it that has ended."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / ".git").mkdir()

    def write(self, plan: str = HELLO, name: str = "a.lab.yaml") -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(plan)
        return file

    def __call__(self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Said:
        ended = subprocess.run(
            [*ARGV, *words], cwd=cwd or self.root, env=environment(env), capture_output=True, timeout=120, check=False
        )
        return self._checked(Said(ended.returncode, ended.stdout.decode(), ended.stderr.decode()), words, env, cwd)

    def keep_a_run(self) -> str:
        """The id of a run without plans, stored here as if it had ended."""
        run, log = "20261122-184512-3f9a", EventLog()
        writer = Store.open(self.root / ".testronaut/results.db").writer(run, log)
        log.emit(RunStarted(run, "2026-11-22T18:45:12Z"))
        log.emit(RunFinished("2026-11-22T18:45:13Z", Status.PASSED, ExitStatus.OK))
        log.close()
        writer.close()
        return run

    def shell(self, command: str) -> int:
        """The status of a command line, as a shell runs it here."""
        return subprocess.run(["sh", "-c", command], cwd=self.root, check=False).returncode

    def raw(self, *words: str) -> bytes:
        """What a command writes to stdout, which is no text."""
        return subprocess.run([*ARGV, *words], cwd=self.root, env=environment(), capture_output=True, check=True).stdout

    def read_only(self, *words: str) -> Said:
        """A command in this project on a read-only file system, which only that command sees."""
        inside = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && cd "$1" && shift && exec "$@"'
        apart = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--mount", "--map-root-user"]
        ended = subprocess.run(
            [*apart, "sh", "-c", inside, "sh", str(self.root), *ARGV, *words], env=environment(), capture_output=True, check=False
        )
        return Said(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def here(self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Said:
        """The same within this process, where nothing depends on its being another one: starting that takes a second."""
        out, err = TextIOWrapper(BytesIO(), "utf-8"), TextIOWrapper(BytesIO(), "utf-8")
        with chdir(cwd or self.root), redirect_stdout(out), redirect_stderr(err), patch("sys.argv", ["testronaut-lab", *words]):
            with patch.dict("os.environ", environment(env), clear=True):
                status = entered()
        return self._checked(Said(status, _text(out), _text(err)), words, env, cwd)

    def _checked(self, said: Said, words: tuple[str, ...], env: Mapping[str, str] | None, cwd: Path | None) -> Said:
        """What was said, once every command in it was tried."""
        printed_commands.check(said.out + said.err, printed_commands.Place(self.root, cwd or self.root, environment(env), words))
        return said

    @contextmanager
    def started(self, *words: str, until: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
        """A command that runs and has just said `until`; killed at the end if it still runs."""
        with subprocess.Popen(
            [*ARGV, *words], cwd=self.root, env=environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                said = ""
                while until not in said:
                    line = process.stdout.readline()
                    assert line, f"{said}\n{process.communicate()[1]}"
                    said += line
                yield process
            finally:
                process.kill()

    @property
    def goldens(self) -> list[str]:
        """The steps that have one, as `PLAN/CASE/STEP`."""
        folder = self.root / "snapshots"
        return sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob("cmd.txt"))


def entered() -> int:
    """The entry point, with the arguments that this process has, up to its status; this process goes on."""
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        signal.signal(signal.SIGINT, before)
    return int(ended.value.code or 0)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without what the machine or a CI says about runs."""
    ours = {name: value for name, value in os.environ.items() if name not in ("CI", "TESTRONAUT_LAB_STORE")}
    return {**ours, "PYTHONPATH": str(Path(testronaut_lab.__file__).parent.parent), **(more or {})}


def _text(stream: TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, BytesIO)
    return stream.buffer.getvalue().decode()


def stopped_by(process: subprocess.Popen[str], number: signal.Signals) -> Said:
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    return Said(process.returncode, out, err)
