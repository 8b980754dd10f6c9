"""`review` in a real terminal: tmux presses the keys, and reads what stands on the screen."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.terminal import Terminal, lab

from testronaut_lab.golden.pending import PendingStore
from testronaut_lab.golden.places import GoldenKey
from testronaut_lab.golden.store import GoldenStore

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed: apt-get install tmux")

OLD = {"cmd.txt": b"$ x      (exit 0)\n", "stdout.txt": b"the old line\n"}
NEW = {"cmd.txt": b"$ x      (exit 0)\n", "stdout.txt": b"the new line\n"}
STEPS = ("one", "two", "three")


class Reviewed:
    """A project with three goldens that differ, and `review` on the screen."""

    def __init__(self, root: Path, terminal: Terminal) -> None:
        self.terminal = terminal
        self._goldens = GoldenStore(root / "snapshots")
        self.pending = PendingStore(self._goldens)
        (root / ".git").mkdir()
        for step in STEPS:
            self._goldens.write(self._key(step), OLD)
            self.pending.propose(self._key(step), NEW, nodeid=f"a.lab.yaml::main::{step}", run="r")

    def start(self, *environment: str) -> None:
        self.terminal.start("env", "-u", "CI", *environment, *lab("review"))

    def press(self, *keys: str) -> None:
        self.terminal.tmux("send-keys", *keys)

    def end(self, *texts: str) -> str:
        """What stands there when it has ended."""
        return self.terminal.wait(lambda screen: "exit-status=" in screen and all(text in screen for text in texts))

    @property
    def accepted(self) -> list[str]:
        return [step for step in STEPS if self._goldens.read(self._key(step)) == NEW]

    @property
    def waiting(self) -> list[str]:
        return [entry.place.rpartition("/")[2] for entry in self.pending.pending()]

    def folder(self, step: str) -> Path:
        return self._goldens.directory(self._key(step))

    def _key(self, step: str) -> GoldenKey:
        return GoldenKey("a", "main", step)


@pytest.fixture
def reviewed(tmp_path: Path) -> Iterator[Reviewed]:
    terminal = Terminal(tmp_path)
    yield Reviewed(tmp_path, terminal)
    terminal.tmux("kill-server")


def test_each_is_shown_with_its_command_and_decided_by_a_key(reviewed: Reviewed) -> None:
    reviewed.start()
    reviewed.terminal.wait_for("1 of 3", "::one", "$ x", "-the old line", "+the new line", "a accept")
    reviewed.press("a")
    reviewed.terminal.wait_for("2 of 3", "::three")
    assert (reviewed.accepted, reviewed.waiting) == (["one"], ["three", "two"])
    reviewed.press("r")
    reviewed.terminal.wait_for("3 of 3", "::two")
    assert (reviewed.accepted, reviewed.waiting) == (["one"], ["two"])
    reviewed.press("s")
    screen = reviewed.end("1 accepted, 1 rejected, 1 skipped; 1 pending: testronaut-lab review")
    assert "exit-status=0" in screen and "a accept" not in screen
    assert reviewed.waiting == ["two"]


@pytest.mark.parametrize("key", ["Escape", "q"])
def test_leaving_decides_nothing(reviewed: Reviewed, key: str) -> None:
    reviewed.start()
    reviewed.terminal.wait_for("1 of 3")
    reviewed.press("s")
    reviewed.terminal.wait_for("2 of 3")
    reviewed.press(key)
    assert "exit-status=0" in reviewed.end("1 skipped; 3 pending: testronaut-lab review")
    assert (reviewed.accepted, len(reviewed.waiting)) == ([], 3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_decides_nothing_and_leaves_the_terminal_as_it_was(number: signal.Signals, reviewed: Reviewed) -> None:
    reviewed.start()
    reviewed.terminal.wait_for("1 of 3")
    reviewed.terminal.kill(number)
    screen = reviewed.end("exit-status=143")
    assert "Traceback" not in screen and "a accept" not in screen
    assert reviewed.terminal.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}") == "0 1\n"
    assert (reviewed.accepted, len(reviewed.waiting)) == ([], 3)


def test_ctrl_c_decides_nothing_and_leaves_the_terminal_as_it_was(reviewed: Reviewed) -> None:
    reviewed.start()
    reviewed.terminal.wait_for("1 of 3")
    reviewed.press("C-c")
    screen = reviewed.end("exit-status=130")
    assert "Traceback" not in screen and "a accept" not in screen
    assert (reviewed.accepted, len(reviewed.waiting)) == ([], 3)


@pytest.mark.parametrize(
    ("key", "said", "accepted", "waiting"),
    [
        ("A", "1 skipped", ["three", "two"], ["one"]),
        ("R", "2 rejected, 1 skipped", [], ["one"]),
        ("S", "3 skipped", [], ["one", "three", "two"]),
    ],
)
def test_capital_decides_about_all_the_rest(
    reviewed: Reviewed, key: str, said: str, accepted: list[str], waiting: list[str]
) -> None:
    reviewed.start()
    reviewed.terminal.wait_for("1 of 3")
    reviewed.press("s")
    reviewed.terminal.wait_for("2 of 3")
    reviewed.press(key)
    reviewed.end(said)
    assert (sorted(reviewed.accepted), reviewed.waiting) == (accepted, waiting)


def test_d_shows_both_sides_beside_each_other_and_back(reviewed: Reviewed) -> None:
    reviewed.start()
    reviewed.terminal.wait_for("1 of 3", "d side by side")
    reviewed.press("d")
    reviewed.terminal.wait(lambda screen: re.search(r"-the old line +│ \+the new line", screen) is not None)
    reviewed.press("d")
    reviewed.terminal.wait(lambda screen: "│" not in screen and "d side by side" in screen)


def test_i_shows_where_it_comes_from(reviewed: Reviewed) -> None:
    reviewed.start()
    reviewed.terminal.wait_for("1 of 3")
    assert "compared with" not in reviewed.terminal.screen()
    reviewed.press("i")
    reviewed.terminal.wait_for("snapshots/a/main/one", "compared with", "13 B, now 13 B")


def test_arrow_keys_scroll_and_decide_nothing(reviewed: Reviewed) -> None:
    many = b"".join(b"line %d\n" % number for number in range(60))
    key = GoldenKey("a", "main", "one")
    reviewed.pending.propose(key, {**NEW, "stdout.txt": many}, nodeid="a.lab.yaml::main::one", run="r2")
    reviewed.start()
    reviewed.terminal.wait_for("1 of 3", "+line 0\n", "more lines")
    reviewed.press("Down", "Down", "Down", "Down", "Down")
    reviewed.terminal.wait(lambda screen: "+line 0\n" not in screen and "+line 5\n" in screen)
    reviewed.press("End")
    reviewed.terminal.wait_for("+line 59\n", "the end")
    reviewed.press("Home", "F5", "M-r")
    reviewed.terminal.wait_for("1 of 3", "+line 0\n")
    assert len(reviewed.waiting) == 3


def test_golden_that_moved_meanwhile_is_told_and_stays(reviewed: Reviewed) -> None:
    reviewed.start()
    reviewed.terminal.wait_for("1 of 3")
    (reviewed.folder("one") / "stdout.txt").write_bytes(b"by hand\n")
    reviewed.press("a")
    reviewed.terminal.wait_for("1 of 3", "the golden has changed since then", "testronaut-lab run a.lab.yaml")
    assert (reviewed.folder("one") / "stdout.txt").read_bytes() == b"by hand\n"
    reviewed.press("A")
    reviewed.end("not accepted: accepting a.lab.yaml::main::one", "2 accepted; 1 pending: testronaut-lab review")


def test_entry_that_was_tampered_with_can_only_be_rejected(reviewed: Reviewed, tmp_path: Path) -> None:
    (tmp_path / ".testronaut/pending/a/main/one/stdout.txt").write_bytes(b"\x1b[2Jevil")
    reviewed.start()
    reviewed.terminal.wait_for("1 of 3", "cannot be used: its files are not those that the run wrote")
    reviewed.press("a")
    reviewed.terminal.wait_for("1 of 3", "reject it with r")
    reviewed.press("r")
    reviewed.terminal.wait_for("2 of 3")
    assert (reviewed.accepted, reviewed.waiting) == ([], ["three", "two"])


@pytest.mark.parametrize("environment", [(), ("COLUMNS=80", "LINES=24")])
def test_smaller_window_is_drawn_anew(reviewed: Reviewed, environment: tuple[str, ...]) -> None:
    reviewed.start(*environment)
    reviewed.terminal.wait_for("1 of 3", "q leave")
    reviewed.terminal.tmux("resize-window", "-x", "40", "-y", "12")
    reviewed.terminal.wait(lambda screen: "1 of 3" in screen and "q leave" in screen and len(screen.splitlines()) <= 12)
    reviewed.press("q")
    reviewed.end("3 pending")


def test_terminal_that_can_do_nothing_gets_the_list(reviewed: Reviewed) -> None:
    reviewed.start("TERM=dumb")
    reviewed.end("there is no terminal to review them in", "testronaut-lab accept a.lab.yaml::main::one")
