"""A run that is stopped from outside: what is removed, what is stored, what it ends with."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import HELLO, Project, environment, stopped_by

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.owner import container_name, folder_id
from testronaut_lab.errors import ExitStatus
from testronaut_lab.execution.reap import reap

SLOW = """\
version: 1
image: debian:bookworm-slim
cases:
  - id: one
    steps: [{id: quick, run: echo quick}, {id: slow, run: "echo on; sleep 100"}, {id: after, run: echo never}]
    tags: [first]
  - {id: two, steps: [{id: other, run: echo never}]}
teardown: [{id: tidy, run: echo tidy}]
"""

pytestmark = pytest.mark.usefixtures("base_image", "heard")


class Stopped(Project):
    """A project whose sessions have a place of their own."""

    def __init__(self, root: Path, engine: Engine) -> None:
        super().__init__(root)
        self.sessions = root / "sessions"
        self.env = {"TESTRONAUT_LAB_SESSIONS": str(self.sessions)}
        self._engine = engine

    @property
    def containers(self) -> list[str]:
        prefix = container_name("", folder_id(self.sessions))
        listed = self._engine.client.containers.list(all=True, filters={"name": prefix})
        return [str(container.name) for container in listed]

    def stored(self) -> tuple[str, dict[str, str]]:
        """The state of the only run, and its steps with their statuses."""
        (run,) = self.here("runs", "--json").json  # type: ignore[misc]
        (plan,) = self.here("show", "--json").json["plans"]  # type: ignore[index,call-overload]
        return run["status"], {step["id"]: step["status"] for case in plan["cases"] for step in case["steps"]}  # type: ignore[index,call-overload]


@pytest.fixture
def heard() -> Iterator[None]:
    """Nothing is ignored by what a test starts, as it would be where the tests themselves run under `nohup` or behind `&`."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def project(tmp_path: Path, engine: Engine) -> Iterator[Stopped]:
    made = Stopped(tmp_path, engine)
    made.write(SLOW)
    yield made
    reap(engine, made.sessions, kept=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_ends_the_run_in_good_order(number: signal.Signals, status: int, project: Stopped) -> None:
    with project.started("run", until="one::quick", env=project.env) as process:
        said = stopped_by(process, number)
    assert (said.status, said.err) == (status, "")
    assert "the run was interrupted" in said.out
    assert (project.containers, list(project.sessions.glob("[!.]*"))) == ([], [])
    assert project.stored() == ("error", {"quick": "passed", "slow": "error", "after": "skipped", "tidy": "passed"})


def test_signals_that_come_often_change_nothing(project: Stopped) -> None:
    with project.started("run", until="one::quick", env=project.env) as process:
        for _ in range(50):
            process.send_signal(signal.SIGINT)
        said = stopped_by(process, signal.SIGINT)
    assert (said.status, said.err) == (ExitStatus.INTERRUPTED, "")
    assert (project.containers, list(project.sessions.glob("[!.]*"))) == ([], [])


def test_a_hangup_that_whoever_started_us_had_ignored_ends_nothing(project: Stopped) -> None:
    project.write(SLOW.replace("sleep 100", "sleep 1"))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does it: what we start has it so
    try:
        with project.started("run", until="one::quick", env=project.env) as process:
            said = stopped_by(process, signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert said.status == ExitStatus.OK


def test_an_installation_can_be_interrupted(project: Stopped) -> None:
    project.write(HELLO.replace("cases:", "tools: [apt:no-such-package-of-ours]\ncases:"))
    with project.started("run", until="install  no-such-package-of-ours", env=project.env) as process:
        said = stopped_by(process, signal.SIGINT)
    assert said.status == ExitStatus.INTERRUPTED
    assert "the run was interrupted while image and tools were made ready" in said.out
    assert (project.containers, list(project.sessions.glob("[!.]*"))) == ([], [])


@pytest.mark.parametrize("verb", ["run", "clean"])
def test_what_a_killed_run_leaves_is_removed_by_the_next_command(verb: str, project: Stopped) -> None:
    with project.started("run", until="one::quick", env=project.env) as process:
        assert stopped_by(process, signal.SIGKILL).status == -signal.SIGKILL
    (left,) = project.containers
    status, steps = project.stored()
    assert status == "interrupted"
    assert steps["quick"] == "passed"
    said = project(verb, *(["-k", "two"] if verb == "run" else []), env=project.env)
    assert (said.status, project.containers) == (ExitStatus.OK, [])
    assert f"removed {left}" in said.out
    assert list(project.sessions.glob("[!.]*")) == []


def test_a_run_that_goes_on_is_left_alone_and_shown_as_running(project: Stopped) -> None:
    with project.started("run", until="one::quick", env=project.env) as process:
        said = project("clean", env=project.env)
        (mine,) = project.containers
        assert (said.status, mine in said.out) == (ExitStatus.OK, False)
        assert project.stored()[0] == "running"
        assert stopped_by(process, signal.SIGTERM).status == ExitStatus.TERMINATED


# The command line, in whose imports, of this module or of that, a signal comes.
STRUCK = """
import os, sys
module, number = sys.argv[1:3]
del sys.argv[1:3]
class Finder:
    def find_spec(self, name, *_more):
        if name == module:
            os.kill(os.getpid(), int(number))
sys.meta_path.insert(0, Finder())
from testronaut_lab.cli import main
main()
"""


@pytest.mark.parametrize("module", ["testronaut_lab.cli.dispatch", "typer", "testronaut_lab.cli.tui"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_that_comes_while_we_start_ends_us_without_a_word(
    module: str, number: signal.Signals, status: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", STRUCK, module, str(int(number)), "runs"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, b"", b"")


def test_ctrl_c_while_the_interpreter_ends_changes_nothing_of_what_was_said(tmp_path: Path) -> None:
    late = "import atexit, os\natexit.register(os.kill, os.getpid(), 2)\nfrom testronaut_lab.cli import main\nmain()"
    ended = subprocess.run(
        [sys.executable, "-c", late, "schema", "plan"], cwd=tmp_path, env=environment(), capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
