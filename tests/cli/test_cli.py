"""The command line without a run: what is refused, what is listed, and how output may fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
from support.command_line import ARGV, HELLO, Project, Said, entered, environment

from testronaut_lab.errors import EXIT_STATUS_MEANING, ExitStatus

VERBS_TO_COME = "demo doctor import replay shell".split()
OPTIONS_TO_COME = [["-j", "2"], ["-j2"], ["--jobs=2"], ["--shard", "1/2"]]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The entry point in this process, for what ends before anything is run."""
    monkeypatch.setattr(sys, "argv", ["testronaut-lab", *words])
    return entered()


@pytest.mark.parametrize("verb", VERBS_TO_COME)
def test_a_verb_that_is_not_there_yet_is_refused_by_name(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, verb, "x", "--y") == ExitStatus.USAGE
    assert f"`{verb}` is not supported yet" in capsys.readouterr().err


@pytest.mark.parametrize("words", OPTIONS_TO_COME, ids=" ".join)
def test_an_option_of_run_that_is_not_there_yet_is_refused_by_name(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "run", "a.lab.yaml", *words) == ExitStatus.USAGE
    assert f"`run {words[0].partition('=')[0]}` is not supported yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["frobnicate"], ["run", "--frobnicate"], ["run", "--json"], ["show", "a", "b"], ["engine", "restart"], ["schema"], ["-z"]],
    ids=" ".join,
)
def test_a_command_line_that_makes_no_sense_ends_with_2(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert called(monkeypatch, *words) == ExitStatus.USAGE


def test_watching_plans_in_the_dashboard_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "tui", "a b.lab.yaml") == ExitStatus.USAGE
    said = capsys.readouterr().err
    assert "watching plans in the dashboard is not supported yet" in said
    assert "hint: testronaut-lab run 'a b.lab.yaml'" in said


def test_help_shows_the_whole_table_of_exit_statuses(project: Project) -> None:
    said = project("--help")
    rows = [" ".join(line.split()) for line in said.out.splitlines()]
    assert [row for row in rows if row in {f"{s.value} {m}" for s, m in EXIT_STATUS_MEANING.items()}] == [
        f"{status.value} {meaning}" for status, meaning in EXIT_STATUS_MEANING.items()
    ]
    assert said.status == 0


@pytest.mark.parametrize("verb", ["run", "tui", "runs", "show", "images", "clean", "schema", "engine"])
def test_every_verb_has_help(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(monkeypatch, verb, "-h") == ExitStatus.OK
    assert f"Usage: testronaut-lab {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["plan", "result", "events"])
def test_schemas_are_json_schemas(what: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert called(monkeypatch, "schema", what) == ExitStatus.OK
    jsonschema.Draft202012Validator.check_schema(json.loads(capfdbinary.readouterr().out))


def test_a_schema_of_something_else_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(monkeypatch, "schema", "plans") == ExitStatus.USAGE
    assert "hint: testronaut-lab schema plan" in capsys.readouterr().err


def test_a_bug_of_ours_ends_with_70_and_says_what_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(_root: Path) -> None:
        raise ZeroDivisionError("not today")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("testronaut_lab.config.load_config", broken)
    assert called(monkeypatch, "runs") == ExitStatus.BUG
    err = capsys.readouterr().err
    assert "ZeroDivisionError: not today" in err
    assert "please report" in err


@pytest.mark.parametrize(
    ("plan", "line", "key"),
    [
        ("version: 1\nimage: x\nsteps:\n  - {run: echo, timout: 3s}\n", 4, "timout"),
        ("version: 1\nimage: x\nsteps: [a, b]\nsteps: [c]\n", 4, "steps"),
        ("version: 1\nimage: x\nsteps:\n  - run: echo\n   bad: [\n", 5, ""),
        ("version: 1\nimage: x\nsteps:\n  - {run: echo, interact: []}\n", 4, "interact"),
        ("version: 2\nimage: x\nsteps: [a]\n", 1, "version"),
    ],
    ids=["unknown key", "key twice", "no yaml", "not supported yet", "newer version"],
)
def test_a_broken_plan_ends_with_2_and_names_file_line_and_key(
    plan: str, line: int, key: str, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project.write(plan)
    assert called(monkeypatch, "run", str(file)) == ExitStatus.USAGE
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith(f"error: {file}:{line}: ")
    assert key in first


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere.lab.yaml"], "there is no file or folder nowhere.lab.yaml\nhint: "),
        ([""], "'' names no plan and no folder\nhint: testronaut-lab run ."),
        (["n" * 300], "File name too long\nhint: find"),
        (["/dev/null"], "/dev/null is no plan: it is a device, a FIFO or a socket\nhint: find"),
        (["."], "found none: .\nhint: testronaut-lab record -o NAME.lab.yaml"),
        (["README"], "hint: mv README README.lab.yaml"),
        (["b/a.lab.yaml::nope"], "no case or step is called b/a.lab.yaml::nope; there are: b/a.lab.yaml::hello"),
        (["b/a.lab.yaml::hello::nope"], "no case or step is called b/a.lab.yaml::hello::nope; there are: b/a.lab.yaml::hello::"),
        (["b", "-k", "nope"], "nothing was selected by -k 'nope'"),
        (["b", "-k", "smoke and"], "cannot be read: a word is missing at the end"),
        (["b", "--install", "jq"], "expected STRATEGY:SPEC"),
        (["b", "--install", "apt:jq; rm -rf /"], "apt:jq; rm -rf /"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nothing_to_run_ends_with_2_and_says_why(
    words: list[str], says: str, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.root / "README").touch()
    monkeypatch.chdir(project.root)
    if words != ["."]:
        project.write(name="b/a.lab.yaml")
    assert called(monkeypatch, "run", *words) == ExitStatus.USAGE
    assert says in capsys.readouterr().err


def test_the_version_is_told(project: Project) -> None:
    said = project("--version")
    assert (said.status, said.out) == (0, f"testronaut-lab {version('testronaut-lab')}\n")


def test_an_escape_in_a_node_id_does_not_reach_the_terminal(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project.write()
    assert called(monkeypatch, "run", f"{file}::\x1b]52;c;aGk=\x07") == ExitStatus.USAGE
    assert "\x1b" not in capsys.readouterr().err


def test_plans_of_two_projects_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for name in "ab":
        (tmp_path / name).mkdir()
        files.append(str(Project(tmp_path / name).write()))
    assert called(monkeypatch, "run", *files) == ExitStatus.USAGE
    assert "one run takes plans of one project, not of 2" in capsys.readouterr().err


def test_without_an_engine_a_run_ends_with_3_and_a_hint(project: Project) -> None:
    project.write()
    said = project("run", env={"DOCKER_HOST": "unix:///nonexistent"})
    assert said.status == ExitStatus.ENGINE
    assert "unix:///nonexistent (DOCKER_HOST)" in said.out
    assert "hint: " in said.out


@pytest.mark.parametrize("words", [["images"], ["clean"], ["engine", "status"]], ids=" ".join)
def test_without_an_engine_its_verbs_end_with_3_and_a_hint(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    assert called(monkeypatch, *words) == ExitStatus.ENGINE
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "\nhint: " in err


@pytest.mark.engine
def test_engine_status_names_the_engine_and_where_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "engine", "status") == ExitStatus.OK
    assert capsys.readouterr().out.startswith(("docker ", "podman "))


def test_images_lists_the_base(base_image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(monkeypatch, "images") == ExitStatus.OK
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["image", "of", "size", "own", "made", "used"]
    assert rows


def test_runs_and_show_of_a_project_without_runs_say_so(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    assert called(monkeypatch, "runs") == ExitStatus.OK
    assert capsys.readouterr().out == "no runs yet\n"
    assert called(monkeypatch, "show", "last") == ExitStatus.USAGE
    assert "there are no runs yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "said"), [("runs", "no runs yet"), ("pending", "nothing is pending"), ("diff", "nothing is pending")]
)
def test_a_project_that_cannot_be_written_to_is_listed(verb: str, said: str, project: Project) -> None:
    assert project.read_only(verb) == Said(ExitStatus.OK, f"{said}\n", "")
    assert project.here(verb) == Said(ExitStatus.OK, f"{said}\n", "")
    assert [entry.name for entry in project.root.iterdir()] == [".git"]


def test_what_is_stored_can_be_read_where_nothing_can_be_written(base_image: str, project: Project) -> None:
    project.write(HELLO.replace("expect:", "golden: true, expect:"))
    assert project.here("run").status == ExitStatus.FAILED
    for words in (["runs", "--json"], ["show", "--json"], ["pending", "--json"], ["diff"]):
        assert project.read_only(*words) == project.here(*words)
    said = project.read_only("run", "--last-failed")
    assert (said.status, said.err.startswith("error: ")) == (ExitStatus.CAPTURE, True)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--json", "--markdown", "x"], "`show --json` cannot be combined with --markdown"),
        (["--events", "--html=-", "--github"], "`show --events` cannot be combined with --html and --github"),
        (["--install-log", "--json"], "`show --json` cannot be combined with --install-log"),
    ],
)
def test_forms_of_a_stored_run_that_do_not_go_together_are_named(words: list[str], named: str, project: Project) -> None:
    project.keep_a_run()
    said = project.here("show", *words)
    form = named.partition("show ")[2].partition("`")[0]
    assert (said.status, said.err) == (ExitStatus.USAGE, f"error: {named}\nhint: testronaut-lab show last {form}\n")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["-o", ""], "plan.lab.yaml"),
        (["-o", "."], "plan.lab.yaml"),
        (["-o", "/"], "/plan.lab.yaml"),
        (["-o", ".."], "../plan.lab.yaml"),
        (["-o", "x.yaml"], "x.lab.yaml"),
        (["-o", "a\nb.lab.yaml"], "plan.lab.yaml"),
        (["-o", "\udcff.lab.yaml"], "plan.lab.yaml"),
        (["-o", "x.lab.yaml", "--shell", "a b"], "--shell sh"),
        (["-o", "x.lab.yaml", "--env", "X"], "--env X=VALUE"),
    ],
    ids=str,
)
def test_a_recording_that_cannot_be_begun_says_what_to_type(words: list[str], hint: str, project: Project) -> None:
    said = project.here("record", *words)
    assert (said.status, said.err.splitlines()[1:]) == (ExitStatus.USAGE, [f"hint: {hint}"])


@pytest.mark.engine
@pytest.mark.parametrize("image", ["", "NO SUCH", "a::b"])
def test_what_cannot_be_the_name_of_an_image_is_a_wrong_command_line(image: str, project: Project) -> None:
    project.write()
    for words in (["run", "--image", image], ["install", "apt:jq", "--image", image]):
        said = project.here(*words)
        assert (said.status, "hint: a name such as debian:bookworm-slim" in said.out) == (ExitStatus.USAGE, True)


def test_a_list_whose_reader_has_gone_ends_without_a_traceback(project: Project) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as gone:
        ended = subprocess.run(
            [*ARGV, "schema", "plan"], cwd=project.root, env=environment(), stdout=gone, stderr=subprocess.PIPE, check=False
        )
    assert ended.returncode == ExitStatus.FAILED
    assert ended.stderr == b""


@pytest.mark.parametrize("words", [[], ["images"], ["engine"]], ids=str)
def test_the_help_lists_every_verb_with_a_whole_line(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert called(monkeypatch, *words, "--help") == ExitStatus.OK
    listed = capsys.readouterr().out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert listed
    assert [line for line in listed if "..." in line or not line.endswith(".")] == []


def test_the_help_lists_images_beside_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(monkeypatch, "--help") == ExitStatus.OK
    listed = capsys.readouterr().out.partition("Commands:\n")[2].partition("\n\n")[0]
    verbs = [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "]
    assert verbs[verbs.index("install") :] == ["install", "images", "clean", "engine", "schema"]


@pytest.mark.parametrize("words", [["runs"], ["schema", "plan"], ["--help"], ["--version"], ["pending"]], ids=" ".join)
def test_output_that_a_full_disk_does_not_take_is_told(words: list[str], project: Project) -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*ARGV, *words], cwd=project.root, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (ended.returncode, ended.stderr) == (
        ExitStatus.CAPTURE,
        b"error: writing to standard output: No space left on device\nhint: df -h\n",
    )


@pytest.mark.parametrize(
    "words", [["runs"], ["pending"], ["show"], ["install", "apt:jq"], ["record", "-o", "x.lab.yaml"]], ids=str
)
def test_a_folder_that_is_gone_is_told(words: list[str], tmp_path: Path) -> None:
    gone = ["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && "$@"', "sh", *ARGV, *words]
    ended = subprocess.run(gone, cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    said = b"error: the current folder no longer exists\nhint: cd\n"
    assert (ended.returncode, ended.stderr) == (ExitStatus.USAGE, said)


def test_an_error_that_cannot_be_told_has_its_status(project: Project) -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run([*ARGV, "run", "nosuch"], cwd=project.root, env=environment(), stderr=full, check=False)
    assert ended.returncode == ExitStatus.USAGE


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_leads_nowhere(closed: str, base_image: str, project: Project) -> None:
    project.write()
    for words, status in (["run"], 0), (["runs"], 0), (["run", "nosuch"], 2):
        command = ["sh", "-c", f'"$@" {closed}', "sh", *ARGV, *words]
        ended = subprocess.run(command, cwd=project.root, env=environment(), capture_output=True, check=False)
        assert ended.returncode == status, ended.stderr.decode()
    assert len(project.here("runs", "--json").json) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("file", "status", "hint"),
    [("no/where.json", 2, "mkdir -p no"), (".git", 2, "ls -ld .git"), ("/dev/full", 5, "df -h /dev")],
)
def test_a_report_that_cannot_be_written_says_what_to_type(
    file: str, status: int, hint: str, base_image: str, project: Project
) -> None:
    project.write()
    said = project.here("run", "--json", file)
    assert (said.status, said.err.splitlines()[-1]) == (status, f"hint: {hint}")


def test_the_dashboard_is_refused_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "tui") == ExitStatus.USAGE
    assert "the dashboard needs a terminal" in capsys.readouterr().err
