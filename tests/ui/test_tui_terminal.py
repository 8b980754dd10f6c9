"""The dashboard as a program in a real terminal: tmux types, and reads what stands on the screen."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from support.terminal import Terminal, lab
from support.terminal import terminal as terminal

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed: apt-get install tmux"),
]

IMAGE = "debian:bookworm-slim"


def test_a_command_is_typed_its_output_read_and_the_dashboard_left(terminal: Terminal) -> None:
    terminal.start(*lab("tui", "--image", IMAGE))
    terminal.wait_for("● ready")
    terminal.type("echo one-$((40 + 2)); echo two >&2; touch three.txt")
    terminal.wait_for("exit status 0", "one-42", "stderr", "two\n", "A three.txt", "● ready")
    assert terminal.leave() == "exit-status=0"


def test_ctrl_c_interrupts_the_step_and_not_the_dashboard(terminal: Terminal) -> None:
    terminal.start(*lab("tui", "--image", IMAGE))
    terminal.wait_for("● ready")
    terminal.type("echo began-$((40 + 2)); sleep 100")
    terminal.wait_for("began-42", "◌ running")
    terminal.tmux("send-keys", "C-c")
    terminal.wait_for("cancelled", "● ready")
    assert terminal.leave() == "exit-status=0"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_the_session_and_leaves_the_terminal_as_it_was(
    number: signal.Signals, terminal: Terminal, tmp_path: Path
) -> None:
    sessions = tmp_path / "sessions"
    terminal.start("env", f"TESTRONAUT_LAB_SESSIONS={sessions}", *lab("tui", "--image", IMAGE))
    terminal.wait_for("● ready")
    assert len(list(sessions.glob("[!.]*"))) == 1
    terminal.kill(number)
    assert terminal.wait(lambda screen: "exit-status=" in screen).strip() == "exit-status=143"
    assert terminal.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}") == "0 1\n"
    assert list(sessions.glob("[!.]*")) == []


def test_no_engine_is_explained_on_the_screen(terminal: Terminal, tmp_path: Path) -> None:
    terminal.start("env", f"DOCKER_HOST=unix://{tmp_path}/nobody.sock", *lab("tui", "--image", IMAGE))
    screen = terminal.wait_for("the session did not start", "hint")
    assert "Traceback" not in screen
    assert terminal.leave() == "exit-status=0"
