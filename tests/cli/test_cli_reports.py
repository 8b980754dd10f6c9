"""`run` and `show` write reports, and `run --last-failed`: the same files from a live and a stored run, on a real engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema
from support.command_line import Project, Said

from testronaut_lab.errors import ErrorKind, ExitStatus
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import CaseFinished, CaseStarted, PlanFinished, PlanStarted, RunFinished, RunStarted
from testronaut_lab.model.result import ErrorInfo, Status
from testronaut_lab.store.database import Store

SCHEMA = xmlschema.XMLSchema(Path(__file__).parents[1] / "schemas" / "junit.xsd")
PLAN = r"""
version: 1
image: debian:bookworm-slim
cases:
  - {id: good, steps: ["true"]}
  - id: bad
    steps:
      - id: inject
        run: |
          printf '::error::forged\n   ::warning file=x::forged\n##[error]forged\n%%0A\n' >&2
          printf '\0\033[2J```\n'
          exit 3
  - {id: worse, steps: [exit 4]}
"""
FILES = {"--junit": "r.xml", "--markdown": "r.md", "--html": "r.html"}
WORDS = [word for pair in FILES.items() for word in pair]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Said]:
    """A failed run with all reports, on GitHub as far as that can be told; its project is a folder in the checkout."""
    root = tmp_path_factory.mktemp("checkout") / "tools"
    root.mkdir()
    project = Project(root)
    project.write(PLAN, "plans/a.lab.yaml")
    (root.parent / "summary.md").write_text("# before\n")
    said = project.here("run", *WORDS, "--github", env=github(root))
    assert said.status == ExitStatus.FAILED, said.err
    return project, said


def github(root: Path) -> dict[str, str]:
    return {"GITHUB_STEP_SUMMARY": str(root.parent / "summary.md"), "GITHUB_WORKSPACE": str(root.parent)}


pytestmark = pytest.mark.engine


def test_the_files_are_there_and_junit_is_valid(ran: tuple[Project, Said]) -> None:
    root = ran[0].root
    SCHEMA.validate(root / "r.xml")
    assert ElementTree.parse(root / "r.xml").getroot().get("failures") == "2"
    assert (root / "r.md").read_text().startswith("## ❌ 2 of 3 cases failed\n")
    assert (root / "r.html").read_text().startswith("<!doctype html>\n")


def test_a_stored_run_gives_the_same_files(ran: tuple[Project, Said], tmp_path: Path) -> None:
    project = ran[0]
    words = [word for option, name in FILES.items() for word in (option, str(tmp_path / name))]
    assert project.here("show", "last", *words).status == ExitStatus.OK
    assert [(tmp_path / name).read_text() for name in FILES.values()] == [
        (project.root / name).read_text() for name in FILES.values()
    ]


def commands(text: str) -> list[str]:
    """The lines that GitHub's runner takes for commands: none between `stop-commands` and its token, all others that look so."""
    found: list[str] = []
    token = None
    for line in text.splitlines():
        if token is None and (stopped := re.fullmatch(r"::stop-commands::(\S+)", line)):
            token = stopped[1]
        elif token is None and line.lstrip().startswith(("::", "##[")):
            found.append(line)
        elif token is not None and line.strip() == f"::{token}::":
            token = None
    assert token is None
    return found


@pytest.mark.parametrize("again", [False, True], ids=["run", "show"])
def test_no_tool_can_give_commands_to_github(ran: tuple[Project, Said], again: bool) -> None:
    project, said = ran
    said = project.here("show", "--github", env=github(project.root)) if again else said
    assert "   ::warning file=x::forged" in said.out
    assert [line.partition("::$")[0] for line in commands(said.out)] == [
        "::error file=tools/plans/a.lab.yaml,line=8,title=bad%3A%3Ainject%3A failed",
        "::error file=tools/plans/a.lab.yaml,line=13,title=worse%3A%3Aexit-4%3A failed",
    ]
    assert commands(said.err) == []


def test_the_token_is_another_one_each_time(ran: tuple[Project, Said]) -> None:
    project, said = ran
    again = project.here("show", "--github")
    tokens = {re.findall(r"::stop-commands::(\S{32})\n", each.out)[0] for each in (said, again)}
    assert len(tokens) == 2


def test_the_summary_is_appended_to_what_others_wrote(ran: tuple[Project, Said]) -> None:
    root = ran[0].root
    summary = (root.parent / "summary.md").read_text()
    assert summary.startswith("# before\n" + (root / "r.md").read_text())


def test_one_report_can_go_to_standard_output(ran: tuple[Project, Said]) -> None:
    project = ran[0]
    assert project.here("show", "--markdown", "-").out == (project.root / "r.md").read_text()
    assert project.here("show", "--junit", "-").out == (project.root / "r.xml").read_text()


# Without a run of its own


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json", "-", "--junit", "-"], "--json - and --junit - would mix on standard output"),
        (["--markdown", "-", "--github"], "--markdown - and --github would mix on standard output"),
        (["--junit", "no/such/r.xml"], "writing no/such/r.xml: No such file or directory"),
        (["--html", "."], "writing .: Is a directory"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_run(project: Project, words: list[str], message: str) -> None:
    project.write()
    said = project.here("run", *words)
    assert (said.status, said.out) == (ExitStatus.USAGE, "")
    assert said.err.startswith(f"error: {message}\n")


def test_a_summary_that_cannot_be_written_is_refused_before_the_run(project: Project) -> None:
    project.write()
    said = project.here("run", "--github", env={"GITHUB_STEP_SUMMARY": "/no/such/file"})
    assert (said.status, said.out) == (ExitStatus.USAGE, "")
    assert "error: writing /no/such/file: No such file or directory\n" in said.err


def test_show_gives_one_thing_at_a_time(project: Project) -> None:
    project.keep_a_run()
    said = project.here("show", "--json", "--junit", "r.xml")
    assert said.status == ExitStatus.USAGE
    assert not (project.root / "r.xml").exists()


# --last-failed


def test_only_what_failed_in_the_newest_run_is_run_again(ran: tuple[Project, Said]) -> None:
    project, said = ran
    again = project.here("run", "--last-failed", "--json", "again.json")
    assert again.out.startswith(f"last failed: the 2 cases that failed of run {said.run_id}\n")
    (plan,) = json.loads((project.root / "again.json").read_text())["plans"]
    assert [case["id"] for case in plan["cases"]] == ["bad", "worse"]
    one = project.here("run", "--last-failed", "-k", "worse", "--store", str(project.root / ".testronaut/results.db"))
    assert one.out.startswith("last failed: 1 of the 2 cases that failed of run ")
    assert "0 passed, 1 failed, 0 skipped" in one.out


def stored(
    project: Project, run: str, *ended: tuple[str, Status], plan_error: ErrorInfo | None = None, finish: bool = True
) -> None:
    """A run of `a.lab.yaml` as the store would have it, whose cases ended so; those not named were not run."""
    log = EventLog()
    store = Store.open(project.root / ".testronaut" / "results.db")
    writer = store.writer(run, log)
    log.emit(RunStarted(run, f"2026-11-22T18:45:{run[-2:]}Z"))
    cases = tuple((name, f"a.lab.yaml::{name}", (), 1) for name in ("hello", "other"))
    log.emit(PlanStarted(0, "a", "a.lab.yaml", "debian", "none", "lab", cases))
    for name, status in ended:
        log.emit(CaseStarted(0, f"a.lab.yaml::{name}"))
        log.emit(CaseFinished(0, f"a.lab.yaml::{name}", status, 0.1))
    if finish:
        log.emit(PlanFinished(0, Status.FAILED, plan_error))
        log.emit(RunFinished("2026-11-22T18:46:00Z", Status.FAILED, ExitStatus.FAILED))
    log.close()
    writer.close()


def test_without_an_earlier_run_nothing_is_selected(project: Project) -> None:
    project.write()
    said = project.here("run", "--last-failed")
    assert (said.status, said.out) == (ExitStatus.USAGE, "")
    assert re.fullmatch(r"error: --last-failed: there is no earlier run in \S+results\.db\nhint: testronaut-lab run\n", said.err)


def test_when_nothing_failed_nothing_is_selected(project: Project) -> None:
    project.write()
    stored(project, "r01", ("hello", Status.FAILED))
    stored(project, "r02", ("hello", Status.PASSED))
    said = project.here("run", "--last-failed")
    assert (said.status, said.err) == (
        ExitStatus.USAGE,
        "error: --last-failed: nothing failed in the newest run, r02\nhint: testronaut-lab run\n",
    )


def test_when_nothing_of_what_failed_is_selected_it_is_named(project: Project) -> None:
    project.write()
    stored(project, "r01", ("other", Status.ERROR))
    said = project.here("run", "--last-failed")
    assert said.status == ExitStatus.USAGE
    assert said.err == (
        "error: --last-failed: none of what failed in run r01 was selected: a.lab.yaml::other\nhint: testronaut-lab show r01\n"
    )


@pytest.mark.parametrize("status", [Status.FAILED, Status.ERROR, Status.XPASSED, Status.FLAKY])
def test_every_status_that_is_not_well_counts(project: Project, status: Status) -> None:
    project.write()
    stored(project, "r01", ("hello", status), ("other", Status.PASSED))
    said = project.here("run", "--last-failed")
    assert (said.status, said.out.splitlines()[0]) == (ExitStatus.OK, "last failed: the one case that failed of run r01")


def test_cases_of_a_plan_that_could_not_be_run_count(project: Project) -> None:
    project.write()
    stored(project, "r01", plan_error=ErrorInfo(ErrorKind.INSTALL, "no such package"))
    assert project.here("run", "--last-failed").out.startswith("last failed: 1 of the 2 cases that failed of run r01\n")


def test_of_a_run_that_was_interrupted_what_never_began_does_not_count(project: Project) -> None:
    project.write()
    stored(project, "r01", ("hello", Status.FAILED), finish=False)
    assert project.here("run", "--last-failed").out.startswith("last failed: the one case that failed of run r01\n")


def test_a_plan_that_cannot_be_read_and_did_not_fail_is_in_nobodys_way(project: Project) -> None:
    project.write()
    project.write("version: 1\nsteps: [\n", "below/broken.lab.yaml")
    stored(project, "r01", ("hello", Status.FAILED))
    said = project.here("run", "--last-failed")
    assert (said.status, said.out.splitlines()[0]) == (ExitStatus.OK, "last failed: the one case that failed of run r01")


@pytest.mark.parametrize("broken", ["a.lab.yaml", "below/broken.lab.yaml"])
def test_a_plan_that_cannot_be_read_stops_it_where_it_failed_or_was_named(broken: str, project: Project) -> None:
    project.write()
    project.write("version: 1\nsteps: [\n", broken)
    stored(project, "r01", ("hello", Status.FAILED))
    said = project.here("run", "--last-failed", *(["."] if broken == "a.lab.yaml" else ["a.lab.yaml", broken]))
    assert (said.status, said.out) == (ExitStatus.USAGE, "")
    assert said.err.startswith(f"error: {broken}:3: ")
