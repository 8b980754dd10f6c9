"""The watch of a step, on a directory of the host. It may miss an event, but it never reports a false one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testronaut_lab.capture import live_watch, watcher
from testronaut_lab.capture.file_capture import EMPTY, Scanner, Snapshot
from testronaut_lab.capture.live_watch import LiveWatch
from testronaut_lab.capture.transient import TransientPaths
from testronaut_lab.capture.watcher import Watcher, WatchFailed
from testronaut_lab.model.events import FileTouched


class Watched:
    """A directory with a watch over it; `step` runs a function as if it were a step."""

    def __init__(self, root: Path) -> None:
        self.root = root / "workspace"
        self.hints: list[FileTouched] = []
        self.heard = threading.Condition()
        for directory in (self.root, root / "cookies"):
            directory.mkdir()
        self.scanner = Scanner(self.root)
        self.watch = LiveWatch(self.root, root / "cookies", self._hear)
        self.seen: Snapshot = EMPTY
        self._scan()
        self.watch.start()

    def _hear(self, hint: FileTouched) -> None:
        with self.heard:
            self.hints.append(hint)
            self.heard.notify_all()

    def _scan(self) -> None:
        before, self.seen = self.seen, self.scanner.scan(self.seen)
        self.watch.mark(before, self.seen)

    def step(self, act: Callable[[], object]) -> TransientPaths:
        self.watch.begin("step")
        act()
        self._scan()
        return self.watch.collect()

    def until_heard(self, path: str) -> None:
        with self.heard:
            assert self.heard.wait_for(lambda: any(hint.path == path for hint in self.hints), 20)

    def come_and_go(self, path: str) -> None:
        (self.root / path).write_text("x")
        (self.root / path).unlink()

    def watched_inodes(self) -> list[str]:
        """Of every inotify instance of this process that listens to our workspace, what it listens to."""
        own = f" ino:{self.root.stat().st_ino:x} "
        infos = []
        for name in os.listdir("/proc/self/fdinfo"):
            try:
                infos.append(Path(f"/proc/self/fdinfo/{name}").read_text())
            except FileNotFoundError:
                continue
        return [line for info in infos if own in info for line in info.splitlines() if line.startswith("inotify")]


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(live_watch, "BOUND_S", 10.0)  # this machine may be busy
    made = Watched(tmp_path)
    yield made
    made.watch.close()
    made.scanner.close()


def until(holds: Callable[[], object]) -> None:
    """Poll for the effect of another thread, which sends no signal."""
    pause = threading.Event()
    for _ in range(2000):
        if holds():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come about")


def test_what_comes_and_goes_in_a_step_is_transient(watched: Watched) -> None:
    assert watched.step(lambda: watched.come_and_go("t")).transient == ("t",)


def test_each_step_has_its_own(watched: Watched) -> None:
    for i in range(50):
        assert watched.step(lambda i=i: watched.come_and_go(f"t{i}")).transient == (f"t{i}",)


def test_what_stays_goes_or_changes_is_not_transient(watched: Watched) -> None:
    def act() -> None:
        (watched.root / "new").write_text("x")
        (watched.root / "old").unlink()
        (watched.root / "changed").write_text("y")
        (watched.root / "replaced").unlink()
        (watched.root / "replaced").write_text("y")

    watched.step(lambda: [(watched.root / name).write_text("x") for name in ("old", "changed", "replaced")])
    assert watched.step(act) == TransientPaths()


def test_a_new_directory_is_listened_to_in_the_next_step(watched: Watched) -> None:
    watched.step((watched.root / "d").mkdir)
    assert watched.step(lambda: watched.come_and_go("d/t")).transient == ("d/t",)


def test_a_new_directory_is_listened_to_in_the_same_step_once_it_was_heard_of(watched: Watched) -> None:
    def act() -> None:
        (watched.root / "d").mkdir()
        until(lambda: "d" in watched.watch._watched())
        watched.come_and_go("d/t")

    assert watched.step(act).transient == ("d/t",)


def test_a_tree_that_comes_and_goes_at_once_is_told_at_least_by_its_top(watched: Watched) -> None:
    def act() -> None:
        (watched.root / "a/b/c").mkdir(parents=True)
        watched.come_and_go("a/b/c/x")
        for path in ("a/b/c", "a/b", "a"):
            (watched.root / path).rmdir()

    assert watched.step(act).transient[0] == "a"


def test_what_a_directory_that_is_gone_held_before_it_was_listened_to_is_said_to_be_unknown(watched: Watched) -> None:
    def act() -> None:
        (watched.root / "d").mkdir()
        until(lambda: "d" in watched.watch._watched())
        (watched.root / "d").rmdir()

    assert any("perhaps with more in it" in note and note.endswith(": d") for note in watched.step(act).notes)


def test_a_file_that_was_met_alive_is_said_to_be_all_there_was(watched: Watched) -> None:
    def act() -> None:
        (watched.root / "t").write_text("x")
        watched.until_heard("t")
        until(lambda: "t" in watched.watch._met)
        (watched.root / "t").unlink()

    assert watched.step(act) == TransientPaths(("t",))


def test_what_is_in_a_renamed_directory_keeps_to_its_names(watched: Watched) -> None:
    def act() -> None:
        (watched.root / "d/old").unlink()
        (watched.root / "d").rename(watched.root / "e")
        watched.come_and_go("e/t")

    watched.step((watched.root / "d").mkdir)
    watched.step(lambda: (watched.root / "d/old").write_text("x"))
    assert watched.step(act).transient == ("e/t",)


def test_the_same_content_written_again_is_a_note(watched: Watched) -> None:
    watched.step(lambda: (watched.root / "a").write_text("x"))
    found = watched.step(lambda: (watched.root / "a").write_text("x"))
    assert found == TransientPaths(notes=("written again or touched, with the same content: a",))


def test_a_name_that_is_not_utf8_costs_a_step_its_completeness_and_nothing_else(watched: Watched) -> None:
    found = watched.step(lambda: Path(os.fsdecode(os.fsencode(watched.root) + b"/\xff")).write_text("x"))
    assert "the watcher failed and is replaced" in found.notes[0]
    until(lambda: watched.watch._watched())
    assert watched.step(lambda: watched.come_and_go("t")).transient == ("t",)


def test_a_watcher_that_is_killed_is_replaced_with_a_note(watched: Watched) -> None:
    for each in watched.watch._exact:
        each.close()
    found = watched.step(lambda: watched.come_and_go("t"))
    assert "the watcher failed and is replaced" in found.notes[0]
    assert "not watched for transient paths: ." in found.notes
    until(lambda: watched.watch._watched())
    assert watched.step(lambda: watched.come_and_go("t")).transient == ("t",)


def test_a_watcher_that_answers_nothing_holds_a_step_up_no_longer_than_the_bound(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_watch, "BOUND_S", 0.001)
    monkeypatch.setattr(watched.watch, "_put_cookie", lambda: None)
    found = watched.step(lambda: watched.come_and_go("t"))
    assert "the watcher did not answer in 1 ms: transient paths may be missing" in found.notes


def test_a_link_to_the_root_is_not_walked(watched: Watched) -> None:
    def act() -> None:
        (watched.root / "link").symlink_to("/")
        (watched.root / "d").mkdir()
        (watched.root / "d/link").symlink_to("/usr")
        watched.until_heard("d")
        until(lambda: "d" in watched.watch._exact[0].places)

    watched.step(act)
    watched.step(lambda: watched.come_and_go("t"))
    # two watchers, each over the workspace, d and its cookies
    assert 6 == len(watched.watched_inodes())


def test_nothing_is_missed_and_nothing_noted_when_thousands_of_files_come_and_stay(watched: Watched) -> None:
    found = watched.step(lambda: [(watched.root / f"f{i}").write_text("") for i in range(3000)])
    assert found == TransientPaths()


def test_events_that_were_dropped_are_noticed_by_what_the_scans_show(watched: Watched) -> None:
    def act() -> None:
        (watched.root / "a").write_text("x")
        until(lambda: any(touch.name == "a" for touch in watched.watch._exact[0].drain()))  # as if the kernel had dropped it
        watched.come_and_go("t")

    found = watched.step(act)
    assert found.transient == ("t",)
    assert "events of the file system were dropped: transient paths may be missing" in found.notes


def test_more_touched_paths_than_can_be_kept_are_dropped_with_a_note(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_watch, "MAX_TOUCHES", 100)

    def act() -> None:
        for i in range(200):
            watched.come_and_go(f"t{i}")
        until(lambda: watched.watch._trouble)

    found = watched.step(act)
    assert "more than 100 paths were touched: transient paths are not complete" in found.notes


def test_a_directory_that_could_not_be_watched_is_named_when_something_happens_in_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "MAX_DIRECTORIES", 1)
    watched.step((watched.root / "d").mkdir)
    watched.watch._exact = [each for each in watched.watch._exact if "" in each.places]
    assert watched.step(lambda: None) == TransientPaths()
    found = watched.step(lambda: watched.come_and_go("d/t"))
    assert found == TransientPaths(notes=("not watched for transient paths: d",))


def test_hints_say_live_what_is_touched_and_by_which_step(watched: Watched) -> None:
    def act() -> None:
        (watched.root / "a").write_text("x")
        watched.until_heard("a")

    watched.step(act)
    assert FileTouched("step", "a") in watched.hints


def test_no_inotify_left_is_a_note_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise WatchFailed("watching 1 directories: Too many open files")

    monkeypatch.setattr(live_watch, "Watcher", refuse)
    watched = Watched(tmp_path)
    found = watched.step(lambda: watched.come_and_go("t"))
    watched.watch.close()
    assert found.transient == ()
    assert "not watched for transient paths: ." in found.notes


def test_watchfiles_itself_says_when_there_are_no_descriptors_left(tmp_path: Path) -> None:
    """In a process of its own, with a limit of its own."""
    code = f"""if True:
        import os, resource
        from testronaut_lab.capture.watcher import Watcher, WatchFailed
        from watchfiles._rust_notify import RustNotify
        root, cookies = (os.open({str(tmp_path)!r}, os.O_RDONLY) for _ in range(2))
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        held = []
        try:
            for _ in range(60):
                held.append(Watcher(root, [""], cookies))
        except WatchFailed as error:
            print("failed", len(held) > 0, os.path.exists("/proc/self/fd"))
    """
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert said.stdout == "failed True True\n", said.stderr


def test_two_threads_that_watch_at_once_each_find_their_own_queue(tmp_path: Path) -> None:
    made: list[Watcher] = []

    def make(name: str) -> None:
        for directory in (tmp_path / name, tmp_path / f"{name}-cookies"):
            directory.mkdir()
        fds = [os.open(directory, os.O_RDONLY) for directory in (tmp_path / name, tmp_path / f"{name}-cookies")]
        made.append(Watcher(fds[0], [""], fds[1], patience_s=30))
        for fd in fds:
            os.close(fd)

    threads = [threading.Thread(target=make, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 4 == len({each._queue_fd for each in made} - {None})
    for each in made:
        each.close()


def test_when_nothing_can_be_replaced_what_is_left_is_given_up_and_taken_up_again_later(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise WatchFailed("OS file watch limit reached")

    monkeypatch.setattr(live_watch, "RETRY_S", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(live_watch, "Watcher", refuse)
        assert watched.watch._live is not None
        watched.watch._live.close()
        until(lambda: not watched.watch._watched())
        found = watched.step(lambda: watched.come_and_go("t"))
    assert (found.transient, found.notes[-1]) == ((), "not watched for transient paths: .")
    until(lambda: watched.watch._watched())
    assert watched.step(lambda: watched.come_and_go("t")).transient == ("t",)
