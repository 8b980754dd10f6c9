"""Runs from the command line on a real engine: what is run, what it ends with, what is written, stored and shown."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
from support.command_line import ARGV, HELLO, Project, Said, environment

import testronaut_lab
from testronaut_lab.errors import ExitStatus
from testronaut_lab.report.files.schema import events_schema, result_schema

REPOSITORY = Path(testronaut_lab.__file__).parent.parent

TWO_CASES = """\
version: 1
image: debian:bookworm-slim
cases:
  - id: one
    tags: [smoke]
    steps:
      - {id: first, run: echo 1, golden: true}
      - {id: second, run: echo 2, golden: true}
      - {id: third, run: echo 3, golden: true}
  - id: two
    steps: [{id: last, run: echo 4}]
"""
FAILING = """\
version: 1
image: debian:bookworm-slim
cases:
  - id: bad
    steps:
      - {id: lines, run: "printf 'a\\nx\\nc\\n'", expect: {stdout: "a\\nb\\nc\\n"}}
      - {id: after, run: echo never}
  - {id: good, steps: [echo]}
"""
HOSTILE = r"printf 'o\033]52;c;aGFja2Vk\007\033[2J\342\200\256\302\233x\n' >&2; false"


pytestmark = pytest.mark.usefixtures("base_image")  # made ready before the first run


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Said]:
    """The example and its goldens in a project of its own, run once."""
    project = Project(tmp_path_factory.mktemp("example"))
    for folder in ("examples", "snapshots"):
        shutil.copytree(REPOSITORY / folder, project.root / folder)
    return project, project("run", "examples/jq.lab.yaml", "--json", "out.json", "--events", "events.jsonl")


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Said]:
    project = Project(tmp_path_factory.mktemp("failed"))
    project.write(FAILING)
    return project, project("run")


def test_the_example_is_green(example: tuple[Project, Said]) -> None:
    said = example[1]
    assert said.status == ExitStatus.OK, said.out
    assert "3 passed, 0 failed, 0 skipped" in said.out
    assert said.err == ""


def test_the_json_of_a_run_holds_to_its_schema(example: tuple[Project, Said]) -> None:
    result = json.loads((example[0].root / "out.json").read_bytes())
    jsonschema.validate(result, result_schema())
    (plan,) = result["plans"]
    steps = {step["id"]: step for case in plan["cases"] for step in case["steps"]}
    assert len(steps) >= 12
    assert steps["bad-filter"]["exit"] == {"kind": "exited", "code": 5, "signal": None}
    assert steps["endless"]["exit"]["kind"] == "timeout"
    assert steps["call"]["stdout"]["text"] == "10\n20\n/workspace/data\n"
    assert [change["path"] for change in steps["write"]["changes"]] == ["data/out", "data/out/y.json"]
    assert result["totals"]["passed"] == len(plan["cases"])


def test_each_line_of_the_events_holds_to_its_schema(example: tuple[Project, Said]) -> None:
    lines = (example[0].root / "events.jsonl").read_bytes().splitlines()
    validator = jsonschema.Draft202012Validator(events_schema())
    events = [json.loads(line) for line in lines]
    for event in events:
        validator.validate(event)
    assert [events[0]["kind"], events[-1]["kind"]] == ["run_started", "run_finished"]
    assert "output_chunk" not in {event["kind"] for event in events}


def test_show_says_what_the_run_said(example: tuple[Project, Said]) -> None:
    project, said = example
    shown = project.here("show", said.run_id)
    lines = [line for line in said.out.splitlines() if "results in" not in line]
    assert [line for line in shown.out.splitlines() if "results in" not in line] == lines


def test_show_as_json_gives_what_the_run_wrote(example: tuple[Project, Said]) -> None:
    project = example[0]
    assert project.here("show", "last", "--json", cwd=project.root / "examples").json == json.loads(
        (project.root / "out.json").read_bytes()
    )


def test_a_broken_expectation_of_the_example_ends_with_1_and_a_readable_diff(example: tuple[Project, Said]) -> None:
    project = example[0]
    text = (project.root / "examples" / "jq.lab.yaml").read_text()
    assert '"10\\n20\\n/workspace/data\\n"' in text
    project.write(text.replace('"10\\n20\\n/workspace/data\\n"', '"10\\n21\\n/workspace/data\\n"'), "broken.lab.yaml")
    said = project("run", "broken.lab.yaml::state::call")
    assert said.status == ExitStatus.FAILED
    lines = [line.strip() for line in said.out.splitlines()]
    assert lines[lines.index("-21") :][:2] == ["-21", "+20"]
    assert "state::call" in said.out


def test_a_failed_step_skips_the_rest_of_its_case_only(failed: tuple[Project, Said]) -> None:
    project, said = failed
    assert said.status == ExitStatus.FAILED
    assert "1 passed, 1 failed, 0 skipped" in said.out
    (plan,) = project.here("show", "--json").json["plans"]  # type: ignore[index,call-overload]
    assert [[step["status"] for step in case["steps"]] for case in plan["cases"]] == [["failed", "skipped"], ["passed"]]


def test_fail_fast_stops_after_the_first_case_that_fails(failed: tuple[Project, Said]) -> None:
    said = failed[0].here("run", "-x")
    assert said.status == ExitStatus.FAILED
    assert "0 passed, 1 failed" in said.out


def test_runs_lists_the_newest_first(failed: tuple[Project, Said]) -> None:
    project, said = failed
    project.here("run", "-k", "good")
    listed = project.here("runs", "--json").json
    assert isinstance(listed, list)
    assert [run["id"] for run in listed][-1] == said.run_id  # type: ignore[index,call-overload]
    table = project.here("runs").out.splitlines()
    assert [line.split()[0] for line in table[1:]] == [run["id"] for run in listed]  # type: ignore[index,call-overload]


def test_an_image_that_does_not_exist_ends_with_3_and_a_hint(project: Project) -> None:
    project.write()
    said = project.here("run", "--image", "no-such-image-of-ours:1")
    assert said.status == ExitStatus.ENGINE
    assert "getting image no-such-image-of-ours:1: the engine has no image of that name; pulling: " in said.out
    assert "hint: check the name 'no-such-image-of-ours:1'" in said.out


def test_a_package_that_does_not_exist_ends_with_4_and_the_package_managers_words(project: Project) -> None:
    project.write(HELLO.replace("cases:", "tools: [apt:no-such-package-of-ours]\ncases:"))
    said = project.here("run")
    assert said.status == ExitStatus.INSTALL
    assert "E: Unable to locate package no-such-package-of-ours" in said.out
    assert "hint: " in said.out


def test_install_replaces_the_tool_of_that_name_and_image_the_image(project: Project) -> None:
    project.write(HELLO.replace("image: debian:bookworm-slim", "image: nowhere:1\ntools: [apt:jq=0-nothing]"))
    said = project.here("run", "--image", "debian:bookworm-slim", "--install", "apt:jq", "--json", "-")
    assert said.status == ExitStatus.OK, said.err
    (plan,) = said.json["plans"]  # type: ignore[index,call-overload]
    assert [tool["name"] for tool in plan["tools"]] == ["jq"]
    assert plan["image"]["ref"] == "debian:bookworm-slim"


def test_json_on_standard_output_leaves_it_to_the_json(project: Project) -> None:
    project.write()
    said = project.here("run", "--json", "-")
    jsonschema.validate(said.json, result_schema())
    assert "1 passed" in said.err


def test_a_file_that_cannot_be_written_ends_with_2_before_anything_is_run(project: Project) -> None:
    project.write()
    said = project.here("run", "--json", "missing/out.json")
    assert said.status == ExitStatus.USAGE
    assert said.err == "error: writing missing/out.json: No such file or directory\nhint: mkdir -p missing\n"
    assert said.out == ""


def test_a_keyword_chooses_cases_by_tag(project: Project) -> None:
    project.write(TWO_CASES)
    said = project.here("run", "-k", "smoke or last and not two", "-u")
    assert said.status == ExitStatus.OK
    assert "one::third" in said.out and "two::last" not in said.out


def test_a_step_runs_those_before_it_and_updates_its_own_golden_only(project: Project) -> None:
    project.write(TWO_CASES.replace("echo 1, golden: true", "echo 1"), "sub/a.lab.yaml")
    said = project.here("run", "-u", "a.lab.yaml::one::second", cwd=project.root / "sub")
    assert said.status == ExitStatus.OK, said.out
    assert "one::first" in said.out and "one::third" not in said.out
    assert project.goldens == ["sub/a/one/second"]


def test_a_case_beside_a_step_is_updated_whole(project: Project) -> None:
    project.write(TWO_CASES)
    project.write(TWO_CASES, "b.lab.yaml")
    said = project.here("run", "-u", "a.lab.yaml::one", "b.lab.yaml::one::first")
    assert said.status == ExitStatus.OK, said.out
    assert project.goldens == ["a/one/first", "a/one/second", "a/one/third", "b/one/first"]


def test_a_plan_beside_a_node_id_is_run_whole(project: Project) -> None:
    project.write()
    project.write(TWO_CASES, "b.lab.yaml")
    said = project.here("run", "a.lab.yaml", "b.lab.yaml::two")
    assert "hello::greet" in said.out and "two::last" in said.out
    assert "one::first" not in said.out


def test_a_plan_is_run_once_however_often_it_is_named(project: Project) -> None:
    file = project.write()
    said = project.here("run", ".", "a.lab.yaml", str(file), f"../{project.root.name}/a.lab.yaml")
    assert "1 passed, 0 failed, 0 skipped" in said.out


def test_goldens_are_missing_then_written_then_green_then_different(project: Project) -> None:
    project.write(TWO_CASES.partition("  - id: two")[0])
    assert project.here("run").status == ExitStatus.FAILED
    assert project.here("run", "-u").status == ExitStatus.OK
    assert project.here("run").status == ExitStatus.OK
    golden = project.root / "snapshots" / "a" / "one" / "second" / "stdout.txt"
    golden.write_text("by hand\n")
    said = project.here("run")
    assert said.status == ExitStatus.FAILED
    assert [line.strip() for line in said.out.splitlines() if line.strip() in ("-by hand", "+2")] == ["-by hand", "+2"]
    assert golden.read_text() == "by hand\n"


@pytest.mark.parametrize(("words", "env"), [((), {"CI": "true"}), (("--ci",), {})], ids=["variable", "option"])
def test_in_ci_no_golden_is_written(words: tuple[str, ...], env: dict[str, str], project: Project) -> None:
    project.write(TWO_CASES)
    said = project.here("run", "-u", "-k", "one", *words, env=env)
    assert said.status == ExitStatus.FAILED
    assert "nothing is written under CI" in said.out
    assert not (project.root / "snapshots").exists()


def test_a_kept_container_stays_until_clean_kept(project: Project, tmp_path: Path) -> None:
    project.write()
    env = {"TESTRONAUT_LAB_SESSIONS": str(tmp_path / "sessions")}
    said = project("run", "--keep", env=env)
    (name,) = re.findall(r"kept container (\S+),", said.out)
    assert "testronaut-lab clean --kept" in said.out
    assert f"removed {name}" not in project("clean", env=env).out
    assert f"removed {name}" in project("clean", "--kept", env=env).out.splitlines()
    assert list((tmp_path / "sessions").glob("[!.]*")) == []


def test_another_store_is_written_and_read(project: Project) -> None:
    project.write(HELLO.replace('echo hello, expect: {stdout: "hello\\n"}', "seq 20000"))  # more than stands in a row
    said = project.here("run", "--store", "sqlite:///other.db")
    assert said.status == ExitStatus.OK
    assert not (project.root / ".testronaut" / "results.db").exists()
    again = shlex.split(said.out.rpartition("(testronaut-lab ")[2].partition(")")[0])
    assert again == ["show", said.run_id, "--store", "sqlite:///other.db"]
    shown = project.here(*again, "--json").json
    (step,) = shown["plans"][0]["cases"][0]["steps"]  # type: ignore[index,call-overload]
    assert step["stdout"]["text"].endswith("20000\n")


def test_the_results_are_kept_out_of_version_control(failed: tuple[Project, Said]) -> None:
    assert (failed[0].root / ".testronaut" / ".gitignore").read_text().strip() == "*"


def test_hostile_output_reaches_no_terminal_and_no_pipe_raw(project: Project) -> None:
    project.write(f"version: 1\nimage: debian:bookworm-slim\nsteps:\n  - {{id: evil, run: {json.dumps(HOSTILE)}}}\n")
    said = project("run")
    shown = project.here("show")
    for text in (said.out, said.err, shown.out):
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(text)
    assert r"o\x1b]52;c;aGFja2Vk\x07\x1b[2J\u202e\x9bx" in said.out
    screen = _on_a_terminal(project, "run")
    assert b"]52;c;aGFja2Vk" in screen  # it is there, as text
    assert not any(raw in screen for raw in (b"\x1b]52", b"\x1b[2J", b"\xe2\x80\xae", b"\xc2\x9b"))


def test_a_run_whose_reader_has_gone_goes_on_and_is_stored(failed: tuple[Project, Said]) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as gone:
        ended = subprocess.run(
            [*ARGV, "run"], cwd=failed[0].root, env=environment(), stdout=gone, stderr=subprocess.PIPE, check=False
        )
    assert (ended.returncode, ended.stderr) == (ExitStatus.FAILED, b"")
    newest = failed[0].here("runs", "--json").json[0]  # type: ignore[index,call-overload]
    assert newest["status"] == "failed"  # type: ignore[index,call-overload]


def test_a_run_that_cannot_be_reported_ends_with_5_and_is_no_success(project: Project) -> None:
    project.write()
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*ARGV, "run"], cwd=project.root, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert ended.returncode == ExitStatus.CAPTURE
    assert ended.stderr == b"error: writing to <stdout>: No space left on device\n"


def test_output_that_knows_ascii_only_is_no_obstacle(failed: tuple[Project, Said]) -> None:
    said = failed[0]("show", env={"PYTHONIOENCODING": "ascii"})
    assert said.status == ExitStatus.OK, said.err


def test_a_wrong_default_of_the_project_names_its_key(project: Project) -> None:
    (project.root / "testronaut-lab.toml").write_text("[defaults]\nlimts = {timeout = '1s'}\n")
    project.write()
    said = project.here("run")
    assert said.status == ExitStatus.USAGE
    assert "limts" in said.err and "did you mean 'limits'?" in said.err


def _on_a_terminal(project: Project, *words: str) -> bytes:
    """What a terminal is sent."""
    ours, theirs = pty.openpty()
    env = environment({"TERM": "xterm-256color", "COLUMNS": "120"})
    with subprocess.Popen([*ARGV, *words], cwd=project.root, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        try:
            while data := os.read(ours, 65536):
                seen += data
        except OSError:  # EIO: nobody holds the other end any more
            pass
        finally:
            os.close(ours)
        process.wait(30)
    return seen
