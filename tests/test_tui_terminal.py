"""The dashboard as a program in a real terminal: tmux types, and reads what stands on the screen."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed: apt-get install tmux"),
]

IMAGE = "debian:bookworm-slim"
PATIENCE_S = 100.0


class Terminal:
    """A tmux server of its own with one window, 80 by 24."""

    def __init__(self, cwd: Path) -> None:
        self._socket = f"testronaut-lab-{uuid.uuid4().hex[:8]}"
        self._cwd = cwd

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=self._environment(), timeout=20).stdout

    def start(self, *command: str) -> None:
        script = f"{shlex.join(command)}; echo exit-status=$?; exec cat"
        self.tmux("new-session", "-d", "-x", "80", "-y", "24", "-c", str(self._cwd), script)

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-l", text)
        self.tmux("send-keys", "Enter")

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def wait(self, condition: Callable[[str], bool]) -> str:
        """Look again and again until the screen is as wanted; what it was is in the failure."""
        end = time.monotonic() + PATIENCE_S
        while not condition(screen := self.screen()):
            assert time.monotonic() < end and "exit-status=" not in screen, f"the screen stayed like this:\n{screen}"
            time.sleep(0.05)
        return screen

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "TEXTUAL_ANIMATIONS": "none"}


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    yield opened
    opened.tmux("kill-server")


def lab(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "testronaut_lab.cli", *arguments]


def test_a_command_is_typed_its_output_read_and_the_dashboard_left(terminal: Terminal) -> None:
    terminal.start(*lab("tui", "--image", IMAGE))
    terminal.wait(lambda screen: "● ready" in screen)
    terminal.type("echo one-$((40 + 2)); echo two >&2; touch three.txt")
    screen = terminal.wait(lambda screen: "A three.txt" in screen)
    assert "one-42" in screen and "stderr" in screen and "exit status 0" in screen
    terminal.tmux("send-keys", "C-q")
    assert terminal.wait(lambda screen: "exit-status=" in screen).strip() == "exit-status=0"


def test_ctrl_c_interrupts_the_step_and_not_the_dashboard(terminal: Terminal) -> None:
    terminal.start(*lab("tui", "--image", IMAGE))
    terminal.wait(lambda screen: "● ready" in screen)
    terminal.type("echo began-$((40 + 2)); sleep 100")
    terminal.wait(lambda screen: "began-42" in screen)
    terminal.tmux("send-keys", "C-c")
    terminal.wait(lambda screen: "cancelled" in screen and "● ready" in screen)
    terminal.tmux("send-keys", "C-q")
    assert terminal.wait(lambda screen: "exit-status=" in screen).strip() == "exit-status=0"


def test_no_engine_is_explained_on_the_screen(terminal: Terminal, tmp_path: Path) -> None:
    terminal.start("env", f"DOCKER_HOST=unix://{tmp_path}/nobody.sock", *lab("tui", "--image", IMAGE))
    screen = terminal.wait(lambda screen: "the session did not start" in screen)
    assert "hint" in screen and "Traceback" not in screen
    terminal.tmux("send-keys", "C-q")
    assert terminal.wait(lambda screen: "exit-status=" in screen).strip() == "exit-status=0"
