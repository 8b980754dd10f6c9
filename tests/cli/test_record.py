"""`record`: commands at a prompt, or from a pipe, become a plan with goldens that a fresh process finds green."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.command_line import ARGV, Project, Said, environment
from support.terminal import Terminal, lab
from support.terminal import terminal as terminal

pytestmark = pytest.mark.engine

IMAGE = ("--image", "debian:bookworm-slim")
TEN = """\
echo '{"x": 1}' >a.json
cat a.json
mkdir out; cd out; pwd
rm ../a.json
:undo
cat ../a.json | tr x y >b.json
:expect changes added out/*.json
cat b.json
:expect stdout contains "y"
date
false
:expect exit 1
greet() {
  echo "hi $1"
}
greet 'a  b' >&2
:expect stderr equals hi a  b
cat <<'END'
%s ${{x}} 'yes'
END
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def record(project: Project, commands: str | bytes, *words: str, plan: str = "a.lab.yaml") -> Said:
    data = commands.encode() if isinstance(commands, str) else commands
    ended = subprocess.run(
        [*ARGV, "record", *IMAGE, "-o", plan, *words], input=data, cwd=project.root, env=environment(), capture_output=True,
        timeout=120, check=False,
    )  # fmt: skip
    return Said(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def plan(project: Project) -> str:
    return (project.root / "a.lab.yaml").read_text()


def test_ten_commands_with_an_undo_replay_green_in_a_fresh_process(project: Project) -> None:
    said = record(project, TEN)
    assert (0, "") == (said.status, said.err), said.out
    assert "undone: rm-a-json (shell restored)" in said.out
    assert re.search(r"a\.lab\.yaml: 10 steps, 10 goldens; replayed in [0-9.]+ s, all passed\n", said.out)
    assert said.out.endswith("run it: testronaut-lab run a.lab.yaml\n")
    again = project("run", "--ci", "a.lab.yaml")
    assert (0, 10) == (again.status, again.out.count("PASS ")), again.out
    assert "rm ../a.json" not in plan(project) and "normalize: [timestamp]" in plan(project)


def test_numbers_of_processes_and_the_kernel_are_normalised_and_said(project: Project) -> None:
    said = record(project, "echo $$\nsleep 0 & echo $!; wait\nuname -r\nsh -c 'echo $$'\ndate +%F\nuname -sv\n")
    assert (0, "") == (said.status, said.err), said.out
    for step, rule in (("echo", "pid"), ("sleep-0-echo-wait", "pid"), ("uname-r", "kernel"), ("date-f", "date")):
        assert re.search(rf"^note: {step}: normalised, as it would differ elsewhere or later: {rule} \('.+'\)$", said.out, re.M)
    unknown = re.search(r"^note: sh-c-echo: .*not kept: stdout was '(\d+)', then '(\d+)'", said.out, re.M)
    assert unknown is not None and unknown[1] != unknown[2]
    assert project("run", "--ci", "a.lab.yaml").status == 0


def test_what_is_expected_and_does_not_hold_is_refused_with_what_is_there(project: Project) -> None:
    said = record(project, "echo one\n:expect stdout contains two\n:expect exit 3\n:expect stdout lines 1\n:expect nonsense\n")
    assert 1 == said.status
    assert "error: this does not hold, so it is not added: stdout.contains: expected 'two'" in said.err or "one" in said.err
    assert "exit: expected exit 3, there is exit 0" in said.err
    assert "error: expecting 'nonsense': nothing of that name can be expected\nhint: :expect exit 3" in said.err
    assert plan(project).endswith("steps:\n  - run: echo one\n    expect: {stdout: {lines: 1}}\n")


def test_files_changes_and_limits_can_be_expected(project: Project) -> None:
    said = record(
        project,
        "echo '{\"a\": [1]}' >out.json\n:expect file out.json\n:expect file out.json json_path .a [1]\n:expect file gone absent\n"
        ":expect changes added out.json\n:expect stderr empty\n:expect max duration 5s\n:expect stdout\n",
    )
    assert (0, "") == (said.status, said.err)
    assert plan(project).endswith(
        "steps:\n  - run: |-\n      echo '{\"a\": [1]}' >out.json\n    expect:\n      files:\n        out.json:\n"
        "          equals: |\n            {\"a\": [1]}\n          json_path: {.a: [1]}\n"
        "        gone: absent\n      changes: {added: [out.json]}\n      stderr: {empty: true}\n      max: {duration: 5s}\n"
        "      stdout: ''\n"
    )  # fmt: skip


def test_what_is_said_of_the_next_step_is_written(project: Project) -> None:
    (project.root / "in.txt").write_text("from outside\n")
    said = record(
        project,
        ":stdin in.txt\n:env A=1 B='x y'\n:cwd /tmp\n:timeout 5s\n:merge\ncat; echo $A$B >&2; pwd\n:id first\n:golden off\n"
        ":argv printf %s, 'a b'\n:tty echo seen\n:put in.txt d/in.txt\ncat d/in.txt\n",
    )
    assert (0, "") == (said.status, said.err)
    assert "[stdin] [env] [cwd] [timeout] [merge] $ cat;" in said.out
    assert plan(project).endswith(
        "files:\n  d/in.txt: {source: in.txt}\ngolden: true\nsteps:\n  - id: first\n    run: cat; echo $A$B >&2; pwd\n"
        '    stdin: "from outside\\n"\n'
        "    env: {A: '1', B: x y}\n    cwd: /tmp\n    timeout: 5s\n    merge: true\n    golden: false\n"
        "  - argv: [printf, '%s,', a b]\n  - run: echo seen\n    tty: true\n  - cat d/in.txt\n"
    )


def test_background_programs_are_started_and_stopped(project: Project) -> None:
    said = record(project, ":background web log up -- echo up; sleep 60\necho beside\n:stop web\n:steps\n")
    assert (0, "") == (said.status, said.err)
    assert "  - background: web\n    run: echo up; sleep 60\n    ready: {log: up}\n  - echo beside\n  - stop: web\n" in plan(
        project
    )


def test_what_cannot_be_done_is_refused_by_name_and_the_rest_goes_on(project: Project) -> None:
    said = record(
        project, b":undo\n:nope\n:id X\n:put /no/such\n:stdin /no/such\n:env =x\n:expect exit 0\n:stop web\necho \xff\necho ok\n"
    )
    assert 1 == said.status
    for text in ("there is no step to undo", "there is no `:nope`", "there is no step yet", "no such file or folder",
                 "reading /no/such", "'' is no NAME=VALUE", "is not UTF-8"):  # fmt: skip
        assert text in said.err
    assert "- echo ok\n" in plan(project)


def test_leaving_and_an_empty_recording_write_nothing(project: Project) -> None:
    left = record(project, "echo hi\n:quit!\n")
    assert (0, "nothing was written") == (left.status, left.out.splitlines()[-1])
    empty = record(project, "")
    assert (2, "error: recording a.lab.yaml: no step was run, so nothing was written\nhint: at its prompt: :help\n") == (
        empty.status,
        empty.err,
    )
    assert [] == [path.name for path in project.root.iterdir() if path.name not in (".git", ".testronaut")]


def test_what_is_there_and_what_is_no_plan_is_refused_before_anything_starts(project: Project) -> None:
    project.write()
    there = record(project, "echo hi\n")
    assert (2, "") == (there.status, there.out)
    assert "hint: to replace it: --force" in there.err
    assert 2 == record(project, "echo hi\n", plan="a.yaml").status
    assert 2 == record(project, "echo hi\n", "--user", "me").status
    replaced = record(project, "echo hi\n", "--force")
    assert (0, True) == (replaced.status, plan(project).endswith("  - echo hi\n"))


def test_output_reaches_a_terminal_as_text_only(project: Project) -> None:
    said = record(project, "printf '\\033]0;title\\007\\033[2J[red]x[/red]\\n'; touch \"$(printf 'a\\nb\\033')\"\n")
    assert 0 == said.status
    assert "\x1b" not in said.out and "\\x1b]0;title" in said.out and "[red]x[/red]" in said.out and "A a\\nb\\x1b" in said.out


def test_a_recorder_that_is_terminated_removes_its_session_and_writes_nothing(project: Project, tmp_path: Path) -> None:
    sessions = tmp_path / "sessions"
    with subprocess.Popen(
        [*ARGV, "record", *IMAGE, "-o", "a.lab.yaml"], cwd=project.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment({"TESTRONAUT_LAB_SESSIONS": str(sessions)}),
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("touch began; echo began\n")
        process.stdin.flush()
        while process.stdout.readline() != "began\n":
            assert process.poll() is None
        assert list(sessions.glob("*/workspace/began"))
        process.terminate()
        assert 143 == process.wait(timeout=120)
    assert not (project.root / "a.lab.yaml").exists()
    assert [] == list(sessions.glob("*/workspace"))


needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed: apt-get install tmux")


@needs_tmux
def test_ten_commands_in_a_terminal(terminal: Terminal, tmp_path: Path) -> None:
    os.mkdir(tmp_path / ".git")
    terminal.start(*lab("record", *IMAGE, "-o", "a.lab.yaml"))
    terminal.wait_for(":help says more\n$")
    for number in range(1, 10):
        terminal.type(f"echo step-$(({number} + 40)) >f{number}")
        terminal.wait_for(f"A f{number}\n$")
    terminal.type("rm f*")
    terminal.wait_for("D f1, D f2")
    terminal.type(":undo")
    terminal.wait_for("undone: rm-f")
    terminal.type("cat <<END")
    terminal.wait(lambda screen: screen.rstrip().endswith(">"))
    terminal.type("typed")
    terminal.type("END")
    terminal.wait_for("typed\nexit status 0")
    terminal.tmux("send-keys", "C-d")
    screen = terminal.wait(lambda screen: "exit-status=" in screen)
    assert "a.lab.yaml: 10 steps, 10 goldens; replayed in" in screen and "exit-status=0" in screen
    again = subprocess.run(
        [*ARGV, "run", "--ci", "a.lab.yaml"], cwd=tmp_path, env=environment(), capture_output=True, check=False
    )
    assert 0 == again.returncode, again.stdout.decode()


@needs_tmux
def test_ctrl_c_ends_the_step_and_not_the_recorder(terminal: Terminal, tmp_path: Path) -> None:
    os.mkdir(tmp_path / ".git")
    terminal.start(*lab("record", *IMAGE, "-o", "a.lab.yaml"))
    terminal.wait_for(":help says more\n$")
    terminal.type("touch began; sleep 100")
    sessions = Path(os.environ["TESTRONAUT_LAB_SESSIONS"])
    terminal.wait(lambda _screen: any(sessions.glob("*/workspace/began")))
    terminal.tmux("send-keys", "C-c")
    terminal.wait_for("cancelled", "undone: touch-began-sleep-100")
    terminal.type("half a line \\")
    terminal.wait(lambda screen: screen.rstrip().endswith(">"))
    terminal.tmux("send-keys", "C-c")
    terminal.wait(lambda screen: screen.rstrip().endswith("$"))
    terminal.type("ls")
    terminal.wait_for("exit status 0")
    terminal.type(":save")
    screen = terminal.wait(lambda screen: "exit-status=" in screen)
    assert "a.lab.yaml: 1 step, 1 golden; replayed in" in screen and "exit-status=0" in screen


@needs_tmux
def test_ctrl_c_while_it_is_replayed_loses_nothing(terminal: Terminal, tmp_path: Path) -> None:
    os.mkdir(tmp_path / ".git")
    terminal.start(*lab("record", *IMAGE, "-o", "a.lab.yaml"))
    terminal.wait_for(":help says more\n$")
    terminal.type("sleep 4")
    terminal.wait_for("exit status 0")
    terminal.type(":save")
    terminal.wait_for("replaying it in a fresh session")
    terminal.tmux("send-keys", "C-c")
    screen = terminal.wait(lambda screen: "exit-status=" in screen)
    assert "a.lab.yaml: 1 step, 1 golden; not replayed" in screen and "exit-status=1" in screen
    assert (tmp_path / "a.lab.yaml").read_text().endswith("steps:\n  - sleep 4\n")
