"""The owner of a session: differences between owners, and labels that describe an owner completely."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from testronaut_lab.container.owner import Label, Owner, container_name, folder_id, known_folder_id, session_in

SLEEPER = "import sys; print(flush=True); sys.stdin.read()"


def test_a_folder_has_one_id_however_often_it_is_asked(tmp_path: Path) -> None:
    assert known_folder_id(tmp_path / "sessions") is None
    made = folder_id(tmp_path / "sessions")
    assert (folder_id(tmp_path / "sessions"), known_folder_id(tmp_path / "sessions")) == (made, made)


def test_two_folders_have_two_ids_also_at_the_same_path(tmp_path: Path) -> None:
    first = folder_id(tmp_path / "sessions")
    (tmp_path / "sessions").rename(tmp_path / "away")
    assert folder_id(tmp_path / "sessions") != first


def test_a_copy_of_a_folder_is_another_folder_and_a_folder_that_was_moved_is_not(tmp_path: Path) -> None:
    made = folder_id(tmp_path / "sessions")
    shutil.copytree(tmp_path / "sessions", tmp_path / "copy")
    (tmp_path / "sessions").rename(tmp_path / "moved")
    assert (folder_id(tmp_path / "moved"), folder_id(tmp_path / "copy") == made) == (made, False)


def test_those_who_ask_at_once_get_the_same_id(tmp_path: Path) -> None:
    found: list[str] = []
    askers = [threading.Thread(target=lambda: found.append(folder_id(tmp_path / "sessions"))) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert (len(found), len(set(found))) == (8, 1)


def test_a_file_that_holds_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / ".folder").write_text("x" * 40)
    with pytest.raises(OSError, match=r"\.folder does not hold the id"):
        folder_id(tmp_path)


def test_this_process_is_running_and_a_dead_one_is_not(tmp_path: Path) -> None:
    here = Owner.here(tmp_path)
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        code = f"from testronaut_lab.container.owner import start_ticks; print(start_ticks({process.pid}))"
        start = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
        other = replace(here, process=f"{process.pid}:{start}")
        assert (here.is_running(), other.is_running(), here.shares_processes_with(other)) == (True, True, True)
        process.kill()
        process.wait()
        assert not other.is_running()


def test_a_process_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    here = Owner.here(tmp_path)
    assert not replace(here, process=f"{here.pid}:1").is_running()


@pytest.mark.parametrize("what", ["boot", "namespace"])
def test_a_process_number_means_nothing_on_another_machine_or_in_another_namespace(what: str, tmp_path: Path) -> None:
    here = Owner.here(tmp_path)
    assert not here.shares_processes_with(replace(here, **{what: "another"}))


def test_labels_say_all_that_is_known(tmp_path: Path) -> None:
    label = Label(Owner.here(tmp_path), "0a1b2c3d", 77)
    assert Label.read(label.as_mapping()) == label


@pytest.mark.parametrize("key", sorted(Label(Owner("f", "b", "n", "1:2"), "s", 1).as_mapping()))
def test_labels_that_do_not_say_all_say_nothing(key: str) -> None:
    labels = Label(Owner("f", "b", "n", "1:2"), "s", 1).as_mapping()
    assert Label.read({name: value for name, value in labels.items() if name != key}) is None


@pytest.mark.parametrize("labels", [None, {}, {"org.testronaut.session": "x"}])
def test_labels_of_others_say_nothing(labels: dict[str, str] | None) -> None:
    assert Label.read(labels) is None


def test_labels_with_a_word_for_a_number_say_nothing() -> None:
    labels = Label(Owner("f", "b", "n", "x:2"), "s", 1).as_mapping()
    assert Label.read(labels) is None


def test_names_tell_the_session_and_nothing_of_others(tmp_path: Path) -> None:
    name = container_name("0a1b2c3d", folder_id(tmp_path))
    assert [session_in(f"{name}{end}") for end in ("", "-net", "-install")] == ["0a1b2c3d"] * 3
    assert [session_in(other) for other in ("tlab-mine", f"x{name}", f"{name}-x", "web")] == [None] * 4
