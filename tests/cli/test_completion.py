"""Completion and help: what a shell completes is what the verbs take, and help speaks of nothing else."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from support.command_line import ARGV, Project
from support.terminal import Terminal

import testronaut_lab.cli.dispatch  # noqa: F401 - hangs the verbs on the app
from testronaut_lab.cli.app import app
from testronaut_lab.errors import ExitStatus
from testronaut_lab.golden.pending import PendingStore
from testronaut_lab.golden.places import GoldenKey
from testronaut_lab.golden.store import GoldenStore

PLAN = """\
version: 1
image: debian:bookworm-slim
matrix: {n: [1, 2]}
cases:
  - {id: first, steps: [{id: one, run: 'echo "$MATRIX_N"', golden: true}]}
  - {id: second, steps: [{id: two, run: ':'}, {id: three, run: ':'}]}
"""
CASES = ["a.lab.yaml::first[n=1]", "a.lab.yaml::first[n=2]", "a.lab.yaml::second[n=1]", "a.lab.yaml::second[n=2]"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write(PLAN)
    return made


def complete(project: Project, *words: str) -> list[str]:
    """What bash is given for the last of these words, which it has parted at colons and equals signs."""
    parted = [part for word in ("testronaut-lab", *words) for part in (re.findall(r"[:=]+|[^:=]+", word) or [""])]
    asked = {"_TESTRONAUT_LAB_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(parted), "COMP_CWORD": str(len(parted) - 1)}
    said = project.here(env=asked)
    assert (said.status, said.err) == (ExitStatus.OK, "")
    return said.out.split()


# --- help


def verbs() -> Iterator[tuple[str, ...]]:
    """Every verb by its words, those of groups too."""

    def below(command: object, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        for name, each in getattr(command, "commands", {}).items():
            yield from below(each, (*words, name))

    return below(typer.main.get_command(app), ())


@pytest.mark.parametrize("words", list(verbs()), ids=" ".join)
def test_help_names_what_is_typed_and_no_type_of_typer(words: tuple[str, ...], tmp_path: Path) -> None:
    said = Project(tmp_path).here(*words, "--help")
    assert said.status == ExitStatus.OK
    assert not re.search(r"<\w|list\[|\bTEXT\b", said.out), said.out
    assert not re.search(r"[{}]|\]\]|\.{4}", said.out.splitlines()[0]), said.out
    assert "not supported" not in said.out, "help offers what is refused"


def test_usage_says_what_may_be_left_out_and_what_may_be_repeated(tmp_path: Path) -> None:
    project = Project(tmp_path)
    usage = [project.here(*words, "--help").out.splitlines()[0] for words in (["run"], ["accept"], ["show"], ["export"], ["tui"])]
    assert usage == [
        "Usage: testronaut-lab run [OPTIONS] [PATH|NODEID]...",
        "Usage: testronaut-lab accept [OPTIONS] GLOB...",
        "Usage: testronaut-lab show [OPTIONS] [RUN] [NODEID]",
        "Usage: testronaut-lab export [OPTIONS] RUN",
        "Usage: testronaut-lab tui [OPTIONS]",
    ]


# --- what is completed


def test_every_verb_that_is_completed_is_there(project: Project) -> None:
    offered = complete(project, "")
    assert "run" in offered and "schema" in offered
    assert [verb for verb in offered if project.here(verb, "--help").status != ExitStatus.OK] == []


def test_schemas_are_completed_and_printed(project: Project) -> None:
    offered = complete(project, "schema", "")
    assert offered == ["plan", "result", "events"]
    assert [project.here("schema", each).status for each in offered] == [ExitStatus.OK] * 3
    assert complete(project, "schema", "r") == ["result"]


@pytest.mark.parametrize(("option", "words"), [("--user", ["lab", "root"]), ("--network", ["none", "internet"])])
def test_the_words_of_an_option_are_completed(project: Project, option: str, words: list[str]) -> None:
    assert complete(project, "record", option, "") == words
    assert complete(project, "record", f"{option}={words[1][:2]}") == [words[1]]


def test_plans_cases_and_steps_are_completed(project: Project) -> None:
    project.write(PLAN, "more/b.lab.yaml")
    assert complete(project, "run", "") == ["a.lab.yaml", "more/b.lab.yaml"]
    assert complete(project, "run", "mo") == ["more/b.lab.yaml"]
    assert sorted(complete(project, "run", "a.lab.yaml::")) == [name.removeprefix("a.lab.yaml::") for name in CASES]
    assert complete(project, "run", "a.lab.yaml::second[n=2]::") == ["two", "three"]
    assert complete(project, "run", "-x", "more/b.lab.yaml::first[n=2") == ["2]"]


def test_a_word_in_quotes_is_completed_whole(project: Project) -> None:
    asked = {"_TESTRONAUT_LAB_COMPLETE": "complete_bash", "COMP_WORDS": "testronaut-lab\nrun\n'a.lab.yaml::f", "COMP_CWORD": "2"}
    assert project.here(env=asked).out.split() == CASES[:2]


def test_zsh_is_given_whole_node_ids(project: Project) -> None:
    asked = {"_TESTRONAUT_LAB_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "testronaut-lab run a.lab.yaml::second[n=1]::t"}
    said = project.here(env=asked).out.replace("\\", "")
    assert '"a.lab.yaml::second[n=1]::two"' in said and '"a.lab.yaml::second[n=1]::three"' in said


@pytest.mark.engine
def test_what_is_completed_of_runs_can_be_shown_and_run_again(project: Project) -> None:
    assert complete(project, "show", "") == []
    ran = project.here("run", "--ci", "a.lab.yaml::second")
    last, *ids = complete(project, "show", "")
    assert (last, ids) == ("last", [ran.run_id])
    steps = [f"a.lab.yaml::{name}" for name in complete(project, "show", "last", "a.lab.yaml::")]
    assert steps == [f"{case}::{step}" for case in CASES[2:] for step in ("two", "three")]
    assert [project.here("show", ran.run_id, step).status for step in steps] == [ExitStatus.OK] * 4
    assert project.here("run", "--ci", *steps[:1]).status == ExitStatus.OK


def test_only_what_can_be_accepted_is_completed_for_accept(project: Project) -> None:
    goldens = GoldenStore(project.root / "snapshots")
    waiting = PendingStore(goldens)
    for step in ("one", "moved"):
        key = GoldenKey("a", "first", step)
        waiting.propose(key, {"cmd.txt": b"$ x      (exit 0)\n"}, nodeid=f"a.lab.yaml::first::{step}", run="r")
    goldens.write(GoldenKey("a", "first", "moved"), {"cmd.txt": b"$ y      (exit 0)\n"})
    assert complete(project, "accept", "a.lab.yaml::first::") == ["one"]
    for verb in ("diff", "reject"):
        assert complete(project, verb, "a.lab.yaml::first::") == ["moved", "one"]
    assert project.here("accept", "a.lab.yaml::first::one").status == ExitStatus.OK


@pytest.mark.parametrize("plan", ["version: 1\nstpes: []\n", "\0"])
def test_what_cannot_be_read_has_no_completions_and_says_nothing(project: Project, plan: str) -> None:
    project.write(plan)
    (project.root / ".testronaut").mkdir()
    (project.root / ".testronaut/results.db").write_text("no database")
    assert complete(project, "run", "a.lab.yaml::") == []
    assert complete(project, "run", "nowhere/") == []
    assert complete(project, "show", "") == []


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed: apt-get install tmux")
def test_bash_completes_a_node_id_in_a_terminal(project: Project) -> None:
    terminal = Terminal(project.root)
    program = project.root / "bin/testronaut-lab"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(ARGV)} "$@"\n')
    program.chmod(0o755)
    try:
        terminal.start("env", "-u", "CI", f"PATH={program.parent}:/usr/bin:/bin", "bash", "--norc", "--noprofile")
        terminal.type("PS1='ready '; eval \"$(_TESTRONAUT_LAB_COMPLETE=source_bash testronaut-lab)\"; clear")
        terminal.wait(lambda screen: screen.strip() == "ready")
        terminal.tmux("send-keys", "-l", "testronaut-lab run a.lab.yaml::sec")
        terminal.tmux("send-keys", "Tab")
        terminal.wait_for("a.lab.yaml::second[n=")
        terminal.tmux("send-keys", "-l", "2]::th")
        terminal.tmux("send-keys", "Tab")
        terminal.wait_for("a.lab.yaml::second[n=2]::three")
    finally:
        terminal.tmux("kill-server")
