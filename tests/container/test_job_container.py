"""In a job container with the engine's socket: what works, the errors of what cannot work, and sessions that are left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support.command_line import ARGV
from support.job_container import Job
from support.other_owners import SESSION, Owner, containers

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.errors import ExitStatus
from testronaut_lab.execution.reap import reap

pytestmark = pytest.mark.engine

PLAN = """\
version: 1
image: debian:bookworm-slim
steps:
  - {run: "export x=carried; y=too; echo on >out", expect: {changes: {added: [out]}}}
  - {run: "echo $x; cat out", expect: {stdout: "carried\\non\\n"}}
"""
# State that only a lasting shell keeps.
SHELL = """\
  - {run: "greet() { echo $y; }; sleep 300 &", expect: {stdout: ""}}
  - {run: "greet; kill $!", expect: {stdout: "too\\n"}}
  - {run: "sleep 300", timeout: 500ms, expect: {exit: timeout}}
  - {run: "greet; exit 3", expect: {stdout: "too\\n", exit: 3}}
  - {run: "greet", expect: {stdout: "too\\n"}}
"""
# How a program ended that a job does not see: as a step, in a terminal, in the background.
ENDS = """\
version: 1
image: debian:bookworm-slim
steps:
  - {argv: [sh, -c, exit 137], expect: {signal: KILL}, continue: true}
  - {argv: [sh, -c, exit 137], tty: true, expect: {signal: KILL}, continue: true}
  - {argv: [sh, -c, "trap 'exit 143' TERM; echo up; while :; do sleep 0.1; done"], background: web, ready: {log: up}}
  - {stop: web, expect: {signal: TERM}, continue: true}
  - {argv: [sh, -c, exit 137], expect: {exit: 137}}
"""
TOOL = """\
version: 1
image: debian:bookworm-slim
tools: [{name: mine, install: 'script:mine.sh'}]
steps: [mine]
"""

MakeJob = Callable[..., Job]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project/.git").mkdir(parents=True)
    (tmp_path / "project/a.lab.yaml").write_text(PLAN)
    return tmp_path / "project"


@pytest.fixture
def make_job(engine: Engine, base_image: str, busybox_image: str, project: Path) -> Iterator[MakeJob]:
    """Makes job containers; with a folder, `make_job(folder)`, it is shared and sessions are in it."""
    jobs: list[Job] = []
    folders: set[Path] = set()

    def make(*shared: Path, pid_mode: str | None = None, cap_add: Sequence[str] = ()) -> Job:
        env = {}
        folders.update(shared)
        for folder in shared:
            folder.mkdir(exist_ok=True)
            env["TESTRONAUT_LAB_SESSIONS"] = str(folder)
        jobs.append(Job(engine, busybox_image, project, shared, env, pid_mode, cap_add))
        return jobs[-1]

    yield make
    for job in jobs:
        job.kill()
    for folder in folders:
        reap(engine, folder)


@pytest.fixture
def on_host(engine: Engine, base_image: str, tmp_path: Path) -> Iterator[Owner]:
    made = Owner(base_image, tmp_path / "blobs", env={"TESTRONAUT_LAB_SESSIONS": str(tmp_path / "host")})
    yield made
    made.kill()
    reap(engine, tmp_path / "host")


def session_in(job: Job, image_id: str) -> str:
    """The container of a session that lives as long as the job."""
    return job.start("-c", SESSION, image_id, "/tmp/blobs", "none", "3600")


def test_a_job_whose_files_the_engine_cannot_see_is_told_so_and_what_to_type(make_job: MakeJob) -> None:
    said = make_job().run(*ARGV[1:], "run")
    assert (said.status, "the engine cannot see our files" in said.out) == (ExitStatus.ENGINE, True)
    assert "TESTRONAUT_LAB_SESSIONS=/srv/lab" in said.out


def test_an_installation_in_such_a_job_says_the_same(make_job: MakeJob, project: Path) -> None:
    (project / "a.lab.yaml").write_text(TOOL)
    (project / "mine.sh").write_text("echo 'echo from mine' >/usr/local/bin/mine; chmod 755 /usr/local/bin/mine")
    said = make_job().run(*ARGV[1:], "run")
    assert (said.status, "the engine cannot see our files" in said.out) == (ExitStatus.ENGINE, True)


def test_a_job_that_shares_a_folder_runs_plans_with_the_fast_driver(make_job: MakeJob, project: Path, tmp_path: Path) -> None:
    with (project / "a.lab.yaml").open("a") as plan:
        plan.write(SHELL)
    said = make_job(tmp_path / "shared").run(*ARGV[1:], "run")
    assert (said.status, "driver fast" in said.out) == (ExitStatus.OK, True), said
    assert [path.name for path in (tmp_path / "shared").iterdir()] == [".folder"]


def test_an_end_that_a_job_cannot_see_is_an_error_where_it_matters(make_job: MakeJob, project: Path, tmp_path: Path) -> None:
    (project / "a.lab.yaml").write_text(ENDS)
    said = make_job(tmp_path / "shared").run(*ARGV[1:], "run")
    assert (said.status, said.out.count("`signal` cannot be judged")) == (ExitStatus.CAPTURE, 3), said


@pytest.mark.parametrize(("capabilities", "driver"), [(["SYS_PTRACE"], "fast"), ([], "plain")])
def test_a_job_with_the_hosts_process_table_has_the_fast_driver_if_it_may_look(
    capabilities: list[str], driver: str, make_job: MakeJob, tmp_path: Path
) -> None:
    said = make_job(tmp_path / "shared", pid_mode="host", cap_add=capabilities).run(*ARGV[1:], "run")
    assert (said.status, f"driver {driver}" in said.out) == (ExitStatus.OK, True), said


def test_neither_a_job_nor_its_host_removes_what_the_other_has(
    make_job: MakeJob, on_host: Owner, engine: Engine, base_image: str, tmp_path: Path
) -> None:
    job = make_job(tmp_path / "shared")
    in_job = session_in(job, base_image)
    assert in_job not in job.run(*ARGV[1:], "clean").out
    cleaned = make_job(tmp_path / "other").run(*ARGV[1:], "clean")
    for name in (in_job, on_host.container):
        assert f"left alone: container {name}, of another owner" in cleaned.out
    reap(engine, tmp_path / "host")
    assert {in_job, on_host.container} <= set(containers(engine))


def test_what_a_killed_job_left_is_removed_by_the_next_one_that_has_its_folder_and_by_no_other(
    make_job: MakeJob, on_host: Owner, engine: Engine, base_image: str, tmp_path: Path
) -> None:
    job = make_job(tmp_path / "shared")
    in_job = session_in(job, base_image)
    job.kill()
    assert in_job not in reap(engine, tmp_path / "host").removed
    assert f"removed {in_job}" not in make_job(tmp_path / "other").run(*ARGV[1:], "clean").out
    assert f"removed {in_job}" in make_job(tmp_path / "shared").run(*ARGV[1:], "clean").out
    assert in_job not in containers(engine)
    assert on_host.container in containers(engine)


def test_what_the_host_s_owner_left_is_not_removed_by_a_job_at_the_same_path(
    make_job: MakeJob, on_host: Owner, engine: Engine, tmp_path: Path
) -> None:
    """The job's folder is at the path of the host's, and another one."""
    on_host.kill()
    folder = str(tmp_path / "host")
    code = (
        f"import os, sys; os.makedirs({folder!r}); os.environ['TESTRONAUT_LAB_SESSIONS'] = {folder!r}; sys.argv = ['', 'clean']"
    )
    said = make_job().run("-c", f"{code}; from testronaut_lab.cli.main import main; main()")
    assert f"left alone: container {on_host.container}" in said.out
    assert on_host.container in reap(engine, tmp_path / "host").removed
