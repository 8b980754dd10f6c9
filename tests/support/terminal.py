"""A real terminal: tmux types, and reads what stands on the screen."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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

    def kill(self, number: signal.Signals) -> None:
        """Send the command that was started, and not the terminal's shell, a signal."""
        shell = self.tmux("display-message", "-p", "#{pane_pid}").strip()
        os.kill(int(Path(f"/proc/{shell}/task/{shell}/children").read_text()), number)

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def wait(self, condition: Callable[[str], bool]) -> str:
        """Look again and again until the screen is as wanted, all of it: it is painted in pieces, and a look falls between two.

        What it was is in the failure.
        """
        end = time.monotonic() + PATIENCE_S
        while not condition(screen := self.screen()):
            assert time.monotonic() < end and "exit-status=" not in screen, f"the screen stayed like this:\n{screen}"
            time.sleep(0.05)
        return screen

    def wait_for(self, *texts: str) -> str:
        return self.wait(lambda screen: all(text in screen for text in texts))

    def leave(self) -> str:
        """Quit the dashboard; what stands on the screen then."""
        self.tmux("send-keys", "C-q")
        return self.wait(lambda screen: re.search(r"exit-status=\d", screen) is not None).strip()

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "TEXTUAL_ANIMATIONS": "none"}


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    yield opened
    opened.tmux("kill-server")


def lab(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "testronaut_lab.cli", *arguments]
