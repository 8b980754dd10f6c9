"""`install`, and the log of any installation: what is told on the way, what is kept, and the exit statuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from support import made_packages
from support.command_line import ARGV, HELLO, Project, environment

from testronaut_lab.api import Session
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image.cache import list_images, remove_images
from testronaut_lab.errors import ErrorKind, ExitStatus, UsageError
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import Event, ImageReady, InstallLogged, PlanFinished, PlanStarted, ToolReady
from testronaut_lab.model.lastwords import without_said
from testronaut_lab.model.plan import InstallSpec, ToolSpec, Verify
from testronaut_lab.model.result import ErrorInfo, ImageInfo, Package, Status, ToolInfo
from testronaut_lab.planfile import parse_tool
from testronaut_lab.report.files.schema import result_schema
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.installing import InstallNarrator, log_lines

VERSION = f"1.{os.getpid():08}"  # of this worker's tool, so that workers do not remove each other's images
SCRIPT = (
    f"echo 'unpacking [it]'; printf '#!/bin/sh\\necho installed {VERSION}\\n' >/usr/local/bin/mine; "
    "chmod 755 /usr/local/bin/mine\n"
)


@pytest.fixture
def project(engine: Engine, tmp_path: Path) -> Iterator[Project]:
    """With a script of its own that installs `mine`, so that no image is there before."""
    project = Project(tmp_path)
    (tmp_path / "mine.sh").write_text(f"# {tmp_path}\n{SCRIPT}")
    (tmp_path / "fails.sh").write_text("echo 'what went wrong'; exit 3\n")
    yield project
    remove_images(engine, [image for image in list_images(engine) if f"script:mine={VERSION}" in image.spec])


@pytest.mark.engine
def test_install_tells_what_is_written_and_what_was_proved_and_the_next_time_what_is_cached(project: Project) -> None:
    first, second = project.here("install", "script:mine.sh"), project.here("install", "script:mine.sh")
    assert (first.status, second.status) == (0, 0)
    assert "install  mine …\n       │  unpacking [it]\n" in first.out
    assert f"    tool  mine {VERSION}  script:mine.sh\n          starts  /usr/local/bin/mine\n" in first.out
    assert f"tool  mine {VERSION}  script:mine.sh, from the cache" in second.out
    assert re.search(r"^1 tool ready in \d.*s$", first.out, re.MULTILINE)
    assert re.search(r"^1 tool ready in \d.*s, from the cache$", second.out, re.MULTILINE)


@pytest.mark.engine
def test_the_log_is_stored_with_the_run_and_that_of_a_cached_image_is_found_again(project: Project) -> None:
    for words in (["install", "script:mine.sh"], ["install", "script:mine.sh"]):
        assert project.here(*words).status == 0
    stored = [line for line in project.here("runs").out.splitlines() if "install mine" in line]
    cached, made = (project.here("show", line.split()[0], "--install-log").out for line in stored)
    assert "│  unpacking [it]" in made
    assert "what was written at that time" not in made
    assert f"mine {VERSION}  script:mine.sh, from the cache" in cached
    assert cached.partition("what was written at that time")[2].count("│  unpacking [it]") == 1
    assert "1 tool ready" in project.here("show", "last").out


@pytest.mark.engine
def test_the_log_of_an_installation_that_failed_is_stored_too(project: Project) -> None:
    project.write(HELLO.replace("cases:", "tools: ['script:fails.sh']\ncases:"))
    assert project.here("run").status == ExitStatus.INSTALL
    said = project.here("show", "last", "--install-log").out
    assert "│  what went wrong" in said
    assert "installing script:fails.sh: it failed; it ended with status 3" in said
    assert project.here("show", "last", "--install-log", "--json").status == ExitStatus.USAGE


@pytest.mark.engine
def test_the_last_words_of_a_manager_are_on_the_screen_once(project: Project) -> None:
    project.write(HELLO.replace("cases:", "tools: ['script:fails.sh']\ncases:"))
    installed, ran, shown = project.here("install", "script:fails.sh"), project.here("run"), project.here("show", "--install-log")
    for said in (installed.out, ran.out, shown.out):
        assert said.count("what went wrong") == 1
        assert "error: installing script:fails.sh: it failed; it ended with status 3\n" in said
    (plan,) = project.here("show", "--json").json["plans"]  # type: ignore[index,call-overload]
    assert plan["error"]["message"].endswith("; its last words:\n  what went wrong")  # type: ignore[index,call-overload]


@pytest.mark.engine
def test_what_went_wrong_with_the_first_way_is_not_said_again_before_the_next(project: Project) -> None:
    said = project.here("install", "{name: mine, install: [script:fails.sh, script:mine.sh]}")
    assert said.status == 0
    assert "│  what went wrong\n" in said.out
    assert "│  installing script:fails.sh: it failed; it ended with status 3\n       │  trying the next way" in said.out


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (["a", "b"], "1. x: it failed\n  why\n2. y: it failed; its last words:\n    c"),
        (["b"], "1. x: it failed; its last words:\n    a\n  why\n2. y: it failed; its last words:\n    c"),
        ([], "1. x: it failed; its last words:\n    a\n    b\n  why\n2. y: it failed; its last words:\n    c"),
        (["why", "c"], "1. x: it failed; its last words:\n    a\n    b\n2. y: it failed"),
    ],
)
def test_a_message_is_shown_without_the_last_words_that_stand_above_it(said: list[str], shown: str) -> None:
    message = "1. x: it failed; its last words:\n    a\n    b\n  why\n2. y: it failed; its last words:\n    c"
    assert without_said(message, said) == shown


@pytest.mark.engine
def test_install_gives_its_result_as_json_and_its_lines_elsewhere(project: Project) -> None:
    said = project.here("install", "script:mine.sh", "--json", "-")
    jsonschema.validate(said.json, result_schema())
    (plan,) = said.json["plans"]  # type: ignore[index,call-overload]
    assert (plan["status"], plan["cases"]) == ("passed", [])
    assert [(tool["name"], tool["version"], tool["program"]) for tool in plan["tools"]] == [
        ("mine", VERSION, "/usr/local/bin/mine")
    ]
    assert "unpacking [it]" in said.err


@pytest.mark.engine
def test_the_exit_status_tells_what_kind_of_thing_went_wrong(project: Project) -> None:
    assert project.here("install", "script:fails.sh").status == ExitStatus.INSTALL
    assert project.here("install", "script:mine.sh", "--image", "no-such-image:ever").status == ExitStatus.ENGINE
    assert project.here("install", "apt:-x").status == ExitStatus.USAGE
    assert project.here("install").status == ExitStatus.USAGE
    gone = {"DOCKER_HOST": f"unix://{project.root}/gone.sock"}
    assert project.here("install", "script:mine.sh", env=gone).status == ExitStatus.ENGINE


@pytest.mark.engine
def test_a_tool_that_installs_and_does_not_run_ends_with_4_and_the_evidence(project: Project) -> None:
    (project.root / "bad.sh").write_text("printf '#!/no/such\\n' >/usr/local/bin/bad; chmod 755 /usr/local/bin/bad\n")
    said = project.here("install", "script:bad.sh")
    assert said.status == ExitStatus.INSTALL
    assert "it is installed and does not start" in said.out
    assert "/usr/local/bin/bad --version ended with 12" in said.out
    assert "not installed in" in said.out


@pytest.mark.engine
def test_on_a_terminal_the_lines_come_live_and_nothing_of_the_waiting_is_left(project: Project) -> None:
    (project.root / "slow.sh").write_text(f"{SCRIPT}echo early; while [ ! -e /dev/shm/go ]; do sleep 0.1; done; echo late\n")
    name = f"tlabtest-{os.getpid()}"
    tmux = ["tmux", "-L", name, "-f", "/dev/null"]
    command = " ".join([*ARGV, "install", "script:slow.sh"])
    started = [*tmux, "new-session", "-d", "-x", "100", "-y", "40", f"{command}; echo ended $?; cat"]
    subprocess.run(started, cwd=project.root, env=environment(), check=True)
    try:
        assert "ended" not in until(tmux, "│  early", "slow › install")
        container = subprocess.run(
            ["docker", "ps", "-q", "--filter", "name=-install"], capture_output=True, text=True, check=True
        )
        for each in container.stdout.split():
            subprocess.run(["docker", "exec", each, "touch", "/dev/shm/go"], check=True)
        screen = until(tmux, "ended 4")
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    assert "│  late" in screen
    assert "brought no program called slow" in screen.replace("\n", "")
    assert "› install" not in screen


def until(tmux: list[str], *words: str) -> str:
    """The screen, once all these words are on it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        shown = subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout
        if all(word in shown for word in words):
            return shown
        time.sleep(0.05)
    raise AssertionError(shown)


HOSTILE_SPECS = [
    "apt:bash; touch /pwned", "apt:-oAPT::Update::Pre-Invoke::=touch /pwned", "apt:bash-", "apt:../x.deb", "apt:jq\n",
    "apt:\x1b[2Jx", "apt:jq=$(id)", "apt:jq/unstable", "apt:jq:amd64", "apt:?installed", "apt:~i", "apt:task^", "pip:git+ssh://git@h/x",
    "pip:--index-url=x", "pip:x; python_version > '3'", "pip:-rx", "pip:.", "pipx:x @ file:///etc", "npm:x@npm:y", "npm:../x",
    "npm:x@file:..", "npm:github/x", "deb:../nope.deb", "wheel:--find-links=x-1-py3-none-any.whl", "copy:/dev/zero",
    '{install: "apt:$(touch /pwned)"}', "{install: {deb: /etc/passwd}}", '{name: "../../x", install: apt:jq}',
    '{command: "-x", install: apt:jq}', '{command: "a;b", install: apt:jq}', "{install: [apt:jq, apt:-x]}",
]  # fmt: skip


@pytest.mark.parametrize("spec", HOSTILE_SPECS)
def test_what_could_be_meant_as_something_else_ends_with_2_before_anything_is_asked(project: Project, spec: str) -> None:
    said = project.here("install", spec, env={"DOCKER_HOST": f"unix://{project.root}/gone.sock"})
    assert said.status == ExitStatus.USAGE
    assert "\x1b" not in said.err
    assert not Path("/pwned").exists()


# --- how it is written


def test_a_tool_may_be_written_in_full_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rg").write_text(made_packages.program("x"))
    text = f"{{name: rg, install: ['copy:{tmp_path}/rg', 'apt:ripgrep'], verify: {{run: rg --version, matches: '^r'}}}}"
    expected = ToolSpec(
        "rg",
        (InstallSpec("copy", f"{tmp_path}/rg", tmp_path / "rg"), InstallSpec("apt", "ripgrep")),
        verify=Verify("rg --version", "^r"),
    )
    assert parse_tool(text) == expected
    assert parse_tool({"name": "sl", "command": "/usr/games/sl", "install": "apt:sl"}).command == "/usr/games/sl"


@pytest.mark.parametrize(
    "written",
    [
        "{",
        "{}",
        "{name: x}",
        "{install: apt:jq, frob: 1}",
        "{install: apt:jq, command: 'a b'}",
        "{install: &a apt:jq}",
        "[apt:jq]",
    ],
)
def test_what_is_no_tool_is_refused_by_hand(written: str) -> None:
    with pytest.raises(UsageError):
        parse_tool(written)


def test_two_tools_of_one_name_are_refused(project: Project) -> None:
    said = project.here("install", "apt:jq", "pip:jq")
    assert said.status == ExitStatus.USAGE
    assert "installing jq twice" in said.err


@pytest.mark.engine
def test_a_session_that_has_not_started_goes_on_as_it_was_when_a_tool_cannot_be_installed(project: Project) -> None:
    with Session("debian:bookworm-slim", root=project.root) as session:
        with pytest.raises(UsageError, match="no-such-folder"):
            session.install("copy:/no-such-folder/tool")
        with pytest.raises(Exception, match="it ended with status 3"):
            session.install(f"script:{project.root}/fails.sh")
        assert session.tools == ()
        assert session.run("echo on").out == "on\n"


# --- how it is told, without an engine

HOSTILE = "\x1b[2J[bold]\u202e\nx"
INFO = ToolInfo(
    "x", "1", "npm", "x@1", "/usr/local/bin/x", tuple(Package("npm", f"p{n}", "1") for n in range(20)), "then", "k" * 64
)


def told(*bodies: object) -> str:
    log, view, formatter = EventLog(), RunView(), InstallNarrator()
    for body in bodies:
        log.emit(body)  # type: ignore[arg-type]
    log.close()
    lines = []
    for event in log.subscribe():
        view.apply(event)
        lines += formatter.lines(view, event)
    return "\n".join(line.plain for line in lines)


def stored(*bodies: object) -> list[Event]:
    log = EventLog()
    for body in bodies:
        log.emit(body)  # type: ignore[arg-type]
    log.close()
    return list(log.subscribe())


def test_of_many_packages_the_first_are_named_and_all_are_counted() -> None:
    assert "added   20 of npm: p0 1, p1 1," in told(ToolReady(0, INFO, False))
    assert "p11 1 and 8 more" in told(ToolReady(0, INFO, False))


def test_a_log_that_is_not_kept_any_more_is_told() -> None:
    lines = [line.plain for line in log_lines(stored(ToolReady(0, INFO, True), ToolReady(0, INFO, True)), lambda key: None)]
    assert sum("not kept any more" in line for line in lines) == 1


def test_nothing_that_is_written_acts_on_a_terminal() -> None:
    image = ImageInfo(HOSTILE, HOSTILE, HOSTILE)
    tool = ToolInfo(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, (Package(HOSTILE, HOSTILE, HOSTILE),), HOSTILE, HOSTILE)
    bodies = (
        PlanStarted(0, HOSTILE, HOSTILE, HOSTILE, "none", "lab", ()),
        ImageReady(0, image),
        InstallLogged(0, HOSTILE, HOSTILE),
        ToolReady(0, tool, True),
        PlanFinished(0, Status.ERROR, ErrorInfo(ErrorKind.INSTALL, HOSTILE, HOSTILE)),
    )
    kept = [(HOSTILE, HOSTILE)]
    text = told(*bodies) + "\n".join(line.plain for line in log_lines(stored(*bodies), lambda key: kept))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "[bold]" in text
    assert json.dumps(text)
