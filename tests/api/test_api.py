"""The front door for Python: a session worked in by hand, and plans run from Python."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import HELLO, Project, environment

from testronaut_lab import InstallError, Session, StepFailed, UsageError, run_plan
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.owner import container_name, folder_id
from testronaut_lab.execution.directory import sessions_root
from testronaut_lab.execution.factory import SessionSettings
from testronaut_lab.model.events import OutputChunk
from testronaut_lab.model.result import ExitKind, Status

pytestmark = pytest.mark.usefixtures("base_image")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, base_image: str) -> Iterator[Session]:
    """A session that the tests of this file share: leave it as you found it."""
    with Session(root=tmp_path_factory.mktemp("lab")) as session:
        yield session


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session(root=tmp_path) as session:
        yield session


def containers(engine: Engine) -> set[str]:
    listed = engine.client.containers.list(all=True, filters={"name": container_name("", folder_id(sessions_root()))})
    return {str(container.name) for container in listed}


def test_a_session_that_is_never_used_makes_nothing(engine: Engine, tmp_path: Path) -> None:
    before = containers(engine)
    with Session("nowhere:1", "apt:nothing", root=tmp_path) as session:
        assert (session.image, session.tools) == ("nowhere:1", ("nothing",))
        assert containers(engine) == before
    assert list(tmp_path.iterdir()) == []


def test_state_carries_on_from_step_to_step(session: Session) -> None:
    session.run("cd /tmp; greet() { echo hi $1; }; X=1")
    assert session.run("greet $X; pwd").out == "hi 1\n/tmp\n"


def test_a_result_has_everything_there_is_to_know(shared: Session) -> None:
    result = shared.run("echo out; echo err >&2; echo 1 >made; exit 3")
    assert (result.ok, result.exit.code, result.stdout, result.err) == (False, 3, b"out\n", "err\n")
    assert [(change.change, change.path) for change in result.changes] == [("added", "made")]
    assert shared.results[-1] is result


@pytest.mark.parametrize("content", ["é\n", b"\0\xff"], ids=["text", "bytes"])
def test_what_is_put_can_be_got_and_is_nobodys_change(content: str | bytes, shared: Session) -> None:
    shared.put("deep/file", content, mode=0o600)
    result = shared.run("stat -c '%a %U' deep/file")
    assert (result.out, result.changes) == ("600 lab\n", ())
    assert shared.get("deep/file") == (content.encode() if isinstance(content, str) else content)


def test_a_folder_is_put_with_its_modes_and_links(shared: Session, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "link").symlink_to("tool")
    shared.put("folder", tmp_path)
    assert shared.run("./folder/link; readlink folder/link").out == "ran\ntool\n"


def test_a_folder_with_a_link_that_leads_out_is_refused(shared: Session, tmp_path: Path) -> None:
    (tmp_path / "evil").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="which leads out of"):
        shared.put("evil", tmp_path)


@pytest.mark.parametrize("path", ["none", "../lease", "/etc/passwd", ".", "link", "a\0b"])
def test_only_regular_files_of_the_workspace_can_be_got(path: str, shared: Session) -> None:
    shared.run("ln -sf /etc/passwd link")
    with pytest.raises(FileNotFoundError):
        shared.get(path)


def test_stdin_environment_and_directory_are_the_steps_own(shared: Session) -> None:
    shared.run("mkdir -p sub")
    result = shared.run("cat; echo $X; pwd", stdin="in\n", env={"X": "it's $1"}, cwd="sub")
    assert result.out == "in\nit's $1\n/workspace/sub\n"
    assert shared.run("cat; echo ${X-none}; pwd").out == "none\n/workspace\n"


def test_merged_streams_are_one_in_order(shared: Session) -> None:
    result = shared.run("echo a; echo b >&2; echo c", merge=True)
    assert (result.merged, result.out, result.err) == (True, "a\nb\nc\n", "")


def test_a_terminal_is_not_merged(shared: Session) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        shared.run("true", merge=True, tty=True)


def test_a_list_is_exact_arguments(shared: Session) -> None:
    result = shared.run(["printf", "%s|", "$HOME", "a b", "", "*", "\udcff"])
    assert result.stdout == b"$HOME|a b||*|\xff|"
    assert result.argv is not None and result.run is None


def test_a_timeout_is_a_result_and_keeps_what_came_before(shared: Session) -> None:
    result = shared.run("echo before; sleep 100", timeout=0.3)
    assert (result.exit.kind, result.out) == (ExitKind.TIMEOUT, "before\n")


def test_check_demands_success(shared: Session) -> None:
    assert shared.run("true", check=True).ok
    with pytest.raises(StepFailed, match=r"\$ echo oh >&2; exit 3\nended with exit status 3\noh"):
        shared.run("echo oh >&2; exit 3", check=True)
    assert shared.results[-1].exit.code == 3


NO_TEXT = "half a surrogate pair"
REFUSED: dict[str, tuple[str | list[str], dict[str, object], str]] = {
    "script": ("a\0b", {}, "`run` holds a NUL byte"),
    "argument": (["echo", "\0"], {}, "`argv` holds a NUL byte"),
    "value": ("env", {"env": {"A": "\0"}}, "`env` holds a NUL byte"),
    "name": ("env", {"env": {"A B": ""}}, "'A B' is no variable's name"),
    "empty name": ("env", {"env": {"": ""}}, "'' is no variable's name"),
    "directory": ("pwd", {"cwd": "\0"}, "`cwd` holds a NUL byte"),
    "id": ("true", {"id": "a\0"}, "`id` holds a NUL byte"),
    "surrogate in a script": ("echo \ud800", {}, f"`run` holds {NO_TEXT}"),
    "surrogate in a value": ("env", {"env": {"A": "\ud800"}}, f"`env` holds {NO_TEXT}"),
    "surrogate in stdin": ("cat", {"stdin": "\ud800"}, f"`stdin`: {NO_TEXT}"),
    "no program": ([], {}, "`argv` needs a program"),
    "empty program": (["", "a"], {}, "`argv` needs a program"),
    "no time": ("true", {"timeout": 0}, "`timeout` must be above 0"),
    "negative time": ("true", {"timeout": -1.0}, "`timeout` must be above 0"),
    "no number": ("true", {"timeout": float("nan")}, "`timeout` must be above 0"),
    "endless time": ("true", {"timeout": float("inf")}, "at most 86400 seconds"),
}


@pytest.mark.parametrize(("command", "keywords", "says"), REFUSED.values(), ids=REFUSED)
def test_what_no_shell_can_be_given_is_refused_naming_the_field(
    command: str | list[str], keywords: dict[str, object], says: str, shared: Session
) -> None:
    before = len(shared.results)
    with pytest.raises(UsageError) as refused:
        shared.run(command, **keywords)  # type: ignore[arg-type]
    assert says in refused.value.message
    assert len(shared.results) == before


@pytest.mark.parametrize("env", [{"A B": "x"}, {"A": "\0"}, {"A": "\ud800"}], ids=["name", "NUL", "surrogate"])
def test_a_session_refuses_an_environment_that_no_shell_can_be_given(env: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"^env"):
        Session(env=env)


@pytest.mark.parametrize("tool", ["jq", "brew:jq", "apt:", "apt:-y", "apt:jq; id"])
def test_a_tool_that_cannot_be_meant_is_refused_at_once(tool: str) -> None:
    with pytest.raises(UsageError):
        Session("debian:bookworm-slim", tool)


def test_the_sessions_environment_holds_for_every_step(tmp_path: Path) -> None:
    with Session(root=tmp_path, env={"A": "x\ny", "TZ": "Asia/Tokyo"}) as session:
        session.run("unset A")
        assert session.run('echo "${A-gone}"; echo $TZ').out == "gone\nAsia/Tokyo\n"


def test_installing_in_a_live_session_keeps_files_and_says_that_state_is_gone(session: Session) -> None:
    session.run("echo kept >file; ln -s file link; mkdir -p ~/d; echo home >~/d/f; echo tmp >/tmp/f; X=gone; cd /tmp")
    session.install("apt:jq")
    assert session.tools == ("jq",)
    result = session.run("cat link ~/d/f /tmp/f; echo ${X-no state}; pwd; jq -n 1")
    assert result.out == "kept\nhome\ntmp\nno state\n/workspace\n1\n"
    assert result.changes == ()
    said = [event.body.message for event in session.log.subscribe().drain() if event.body.kind == "problem"]
    assert said == ["the session was restarted to install tools: files are kept, shell state and jobs are gone"]


def test_a_session_goes_on_when_a_tool_cannot_be_installed(session: Session) -> None:
    session.run("X=still")
    with pytest.raises(InstallError, match="Unable to locate package no-such-package-of-ours"):
        session.install("apt:no-such-package-of-ours")
    assert (session.run("echo $X").out, session.tools) == ("still\n", ())


def test_a_step_can_be_interrupted_from_another_thread_and_the_session_lives(shared: Session) -> None:
    shared.run("mark=kept")
    events = shared.log.subscribe()

    def interrupt_when_it_runs() -> None:
        for event in events:
            if isinstance(event.body, OutputChunk) and event.body.data == b"on\n":
                return shared.interrupt()

    other = threading.Thread(target=interrupt_when_it_runs)
    other.start()
    result = shared.run("echo on; sleep 100")
    other.join()
    events.close()
    assert (result.exit.kind, result.out) == (ExitKind.CANCELLED, "on\n")
    assert shared.run("echo $mark").out == "kept\n"


def test_an_interrupt_between_steps_does_nothing(shared: Session) -> None:
    shared.run("true")
    shared.interrupt()
    assert shared.run("sleep 0.1; echo whole").out == "whole\n"


def test_a_closed_session_is_gone_and_says_so(engine: Engine, tmp_path: Path) -> None:
    before = containers(engine)
    session = Session(root=tmp_path)
    session.run("true")
    assert len(containers(engine) - before) == 1
    session.close()
    session.close()
    session.interrupt()
    assert containers(engine) == before
    for use in (lambda: session.run("true"), lambda: session.put("a", "b"), lambda: session.get("a"), session.start):
        with pytest.raises(UsageError, match="this session is closed"):
            use()


def test_a_process_left_behind_ends_with_the_session(tmp_path: Path) -> None:
    started = time.monotonic()
    with Session(root=tmp_path) as session:
        assert session.run("setsid sleep 1000 & trap '' TERM").left_behind
    assert time.monotonic() - started < 20


def test_two_sessions_know_nothing_of_each_other(session: Session, shared: Session) -> None:
    session.run("X=mine; echo mine >secret; echo mine >/tmp/secret")
    assert shared.run("echo ${X-}; ls secret /tmp/secret 2>&1 | wc -l").out == "\n2\n"
    assert session.run("echo $X; cat secret").out == "mine\nmine\n"


AT_EXIT = """
from pathlib import Path
from testronaut_lab import Session

def forget():
    session = Session(root=Path.cwd())
    session.run("echo started")
    return session.run("hostname").exit.code

print(forget())
kept = Session(root=Path.cwd())
print(kept.run("exit 4").exit.code)
"""


def test_sessions_are_closed_at_exit_also_those_that_nobody_remembers(engine: Engine, tmp_path: Path) -> None:
    sessions = tmp_path / "sessions"
    env = environment({"TESTRONAUT_LAB_SESSIONS": str(sessions)})
    ended = subprocess.run([sys.executable, "-c", AT_EXIT], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.split()[1:]) == (0, ["4"]), ended.stderr
    assert list(sessions.glob("[!.]*")) == []
    assert engine.client.containers.list(all=True, filters={"name": container_name("", folder_id(sessions))}) == []


def test_steps_have_no_network_but_loopback_unless_asked_for(shared: Session, tmp_path: Path) -> None:
    interfaces = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | sort | xargs"
    assert shared.run(interfaces).out == "lo\n"
    with Session(root=tmp_path, settings=SessionSettings(network="internet")) as session:
        assert session.run(interfaces).out == "eth0 lo\n"


@pytest.mark.usefixtures("root_allowed")
def test_the_root_user_and_a_writable_root_are_had_when_asked_for(shared: Session, tmp_path: Path) -> None:
    assert shared.run("id -un; touch /etc/x").out == "lab\n"
    with Session(root=tmp_path, settings=SessionSettings(user="root", rootfs="writable")) as session:
        result = session.run("id -un; echo ~; touch /etc/x && echo wrote; touch mine; stat -c %U mine")
        assert result.out == "root\n/root\nwrote\nroot\n"
    assert list(sessions_root().glob("*/workspace/mine")) == []


def test_a_plan_file_is_run_and_stored(tmp_path: Path) -> None:
    file = Project(tmp_path).write()
    result = run_plan(file)
    assert (result.status, result.totals["passed"], result.plans[0].file) == (Status.PASSED, 1, "a.lab.yaml")
    assert (tmp_path / ".testronaut" / "results.db").exists()


def test_a_plan_made_in_python_is_run_and_need_not_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Project(tmp_path).root)
    plan = {"version": 1, "image": "nowhere:1", "steps": [{"id": "bad", "run": "exit 3"}]}
    result = run_plan(plan, store=False, image="debian:bookworm-slim")
    assert result.status is Status.FAILED
    assert result.plans[0].cases[0].steps[0].exit.code == 3
    assert not (tmp_path / ".testronaut" / "results.db").exists()


def test_goldens_of_a_plan_are_written_when_asked_for(tmp_path: Path) -> None:
    project = Project(tmp_path)
    file = project.write(HELLO.replace("expect: {", "golden: true, expect: {"))
    assert run_plan(str(file), store=False).status is Status.FAILED
    assert run_plan(file, store=False, update=True).status is Status.PASSED
    assert project.goldens == ["a/hello/greet"]


@pytest.mark.parametrize("plan", [Path("missing.lab.yaml"), {"version": 1}, {"version": 1, "image": "x", "steps": [], "y": 1}])
def test_a_plan_that_is_wrong_is_refused(plan: Path | dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        run_plan(plan)
