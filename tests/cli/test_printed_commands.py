"""Every command that we print works as printed. `support/printed_commands.py` tries those that the tests of the suite print.
Here are the texts in the source, of which not every one is printed by a test, and proof that a wrong one is found."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from itertools import dropwhile, product
from pathlib import Path

import pytest
from support import printed_commands
from support.command_line import Project, environment

import testronaut_lab
from testronaut_lab.cli.console import say

SOURCE = Path(testronaut_lab.__file__).parent
VALUE = "x"
ADDED = ("again", "example", "form", "show")  # names of what is put behind a command, and may be nothing


def texts(node: ast.expr) -> Iterator[str]:
    """The texts that an expression may have, with VALUE for what is only known when it runs."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            yield from map("".join, product(*(list(texts(part)) or [VALUE] for part in values)))
        case ast.FormattedValue(value=ast.Name(id=name)) if name in ADDED:
            yield ""
        case ast.FormattedValue(value=ast.Call(func=ast.Name(id="of_store"))):
            yield ""
        case ast.FormattedValue(value=value):
            yield from texts(value)
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*texts(body), *texts(orelse))
        case ast.BoolOp(values=values):
            yield from (text for value in values for text in texts(value))
        case ast.Call(func=ast.Name(id="as_root"), args=[command]):
            yield from (f"sudo {text}" for text in texts(command))
        case ast.Dict(values=values):
            yield from (text for value in values for text in texts(value))
        case _:
            return


def parsed() -> dict[str, list[ast.AST]]:
    """Every node of every file of the source, by the file's path in the package."""
    files = sorted(SOURCE.rglob("*.py"))
    return {file.relative_to(SOURCE).as_posix(): list(ast.walk(ast.parse(file.read_text()))) for file in files}


NODES = parsed()


def hints() -> list[tuple[str, str]]:
    """Each text in the source that is a hint, with where it stands: `hint=…`, and what is kept in a name with `hint` in it."""
    found = []
    for file, nodes in NODES.items():
        for node in nodes:
            match node:
                case ast.keyword(arg=str(name), value=value) if "hint" in name.lower():
                    pass
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if "hint" in name.lower():
                    pass
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if "hint" in name.lower():
                    pass
                case _:
                    continue
            found += [(f"{file}:{value.lineno}", text) for text in texts(value)]
    return sorted(set(found))


HINTS = hints()
COMMANDS = [(where, text) for where, text in HINTS if printed_commands.is_command(text)]
WORDS = [(where, text) for where, text in HINTS if not printed_commands.is_command(text)]


def quoted_commands() -> list[tuple[str, str]]:
    """What stands between backticks in texts of the source, which are printed, and not in docstrings and comments."""
    found = []
    for file, nodes in NODES.items():
        docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in docs:
                commands = (each for text in texts(node) for each in re.findall(r"`(testronaut-lab [^`]*)`", text))
                found += [(f"{file}:{node.lineno}", command) for command in commands]
    return sorted(set(found))


QUOTED = quoted_commands()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def place(project: Project, *words: str) -> printed_commands.Place:
    return printed_commands.Place(project.root, project.root, environment(), words)


# --- in the source


def test_hints_of_the_source_are_found() -> None:
    assert len(COMMANDS) > 60 and len(WORDS) > 40
    assert ("container/engine/faults.py:19", "testronaut-lab engine status") in COMMANDS


@pytest.mark.parametrize(("where", "hint"), COMMANDS, ids=[where for where, _ in COMMANDS])
def test_a_hint_that_begins_with_a_program_is_a_whole_command_line(where: str, hint: str) -> None:
    assert printed_commands.unreadable(hint) is None
    for simple in printed_commands.simple_commands(hint):
        words = [*dropwhile(lambda word: re.match(r"[A-Z_]+=", word), simple)]
        assert words and words[0] != VALUE
        if words[0] == "testronaut-lab":
            assert printed_commands.parsed(words[1:]) is None, hint
        else:
            assert not set(words) & {"or", "later", "then", "there"}, f"words among a command: {hint}"
            assert printed_commands.is_command(words[0]), hint


@pytest.mark.parametrize(("where", "hint"), WORDS, ids=[where for where, _ in WORDS])
def test_a_hint_in_words_has_commands_of_ours_between_backticks_only(where: str, hint: str) -> None:
    assert "testronaut-lab " not in re.sub(r"`[^`]*`", "", hint), hint


@pytest.mark.parametrize(("where", "command"), QUOTED, ids=[where for where, _ in QUOTED])
def test_a_command_of_ours_between_backticks_is_understood(where: str, command: str) -> None:
    assert printed_commands.parsed(shlex.split(command)[1:]) is None, command


# --- what does not work is found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("hint: testronaut-lab engine up", ["testronaut-lab engine up"]),
        ("          hint: df -h .", ["df -h ."]),
        ("hint: --matrix jq=1.6", ["--matrix jq=1.6"]),
        ("hint: rename the case", []),
        ("hint: rename the case, or `testronaut-lab prune`", ["testronaut-lab prune"]),
        ("3 pending: testronaut-lab review", ["testronaut-lab review"]),
        (
            "results in x  (testronaut-lab show 20261122-184512-3f9a --store y)",
            ["testronaut-lab show 20261122-184512-3f9a --store y"],
        ),
        ("  expected  (no golden; to accept: testronaut-lab accept 'a::b')", ["testronaut-lab accept 'a::b'"]),
        ("  testronaut-lab reject a::b", ["testronaut-lab reject a::b"]),
        ("Usage: testronaut-lab show [OPTIONS] [RUN]", []),
        ("testronaut-lab 0.1.0", []),
        ("missing: x; `testronaut-lab engine up` installs it", ["testronaut-lab engine up"]),
        ("hint: CI= testronaut-lab accept x", ["CI= testronaut-lab accept x"]),
        ("::error title=a::no golden%0A  (to accept: testronaut-lab accept x)%0A", ["testronaut-lab accept x"]),
    ],
)
def test_what_is_a_command_in_a_line(line: str, found: list[str]) -> None:
    assert list(printed_commands.commands_in(line)) == found


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("testronaut-lab pendign", "there is no verb 'pendign'"),
        ("testronaut-lab pending --jsn", "No such option"),
        ("testronaut-lab replay last", "not supported yet"),
        ("testronaut-lab schema plan, or result", "unexpected extra argument"),
        ("testronaut-lab accept", "MissingParameter"),
        ("testronaut-lab show 20990101-000000-0000", "no stored run"),
        ("testronaut-lab accept 'a.lab.yaml::x'", "names nothing"),
        ("testronaut-lab run a.lab.yaml::nosuch", "a.lab.yaml::nosuch"),
        ("testronaut-lab run nowhere.lab.yaml", "no file or folder"),
        ("testronaut-lab runs; later: testronaut-lab show", "there is no program 'later:'"),
        ("testronaut-lab engine up   (or: apt-get install x)", "yntax error"),
        ("ls -l nosuch", "nosuch"),
        ("testronaut-lab review", "nothing is pending"),
        ("cd nosuch && testronaut-lab runs", "there is no folder"),
        ("--frobnicate", "run has no option --frobnicate"),
        ("unheard-of --x", "there is no program"),
    ],
)
def test_a_command_that_does_not_work_is_found(project: Project, command: str, why: str) -> None:
    project.write()
    assert why in str(printed_commands.tried(command, place(project, "run")))


def test_commands_that_work_are_not_found_and_decide_nothing_here(project: Project) -> None:
    project.write()
    run = project.keep_a_run()
    works = [
        "testronaut-lab run a.lab.yaml::hello", "testronaut-lab runs; testronaut-lab prune --help",
        f"testronaut-lab show {run} --json", "CI= testronaut-lab schema plan", "testronaut-lab --help",
        "testronaut-lab run --help", "df -h .", "ls -ld a.lab.yaml", "--fail-fast",
        "sudo usermod -aG docker $USER && newgrp docker", "testronaut-lab clean --artifacts",
    ]  # fmt: skip
    assert [printed_commands.tried(command, place(project, "run")) for command in works] == [None] * len(works)
    assert project.here("runs").out.count(run) == 1


def test_a_run_of_the_command_line_fails_the_test_that_made_it_where_it_prints_what_does_not_work(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testronaut_lab.cli.dispatch.complain", lambda _: say("hint: testronaut-lab nosuch", sys.stderr))
    with pytest.raises(AssertionError, match="does not work as printed: testronaut-lab nosuch"):
        project.here("show")


def test_a_run_of_pytest_fails_the_test_that_made_it_where_it_prints_what_does_not_work(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_x(): print('hint: testronaut-lab nosuch'); assert False")
    with pytest.raises(AssertionError, match="does not work as printed: testronaut-lab nosuch"):
        pytester.runpytest_inprocess("-p", "no:asyncio")
