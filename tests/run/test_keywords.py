"""What `Session` and `run` take by name, as a plan would say it."""

from __future__ import annotations

from pathlib import Path

import pytest

import testronaut_lab
from testronaut_lab import AwaitScreen, Limits, PressKey, Ready, SendText, Session, SessionSettings, Tty, UsageError
from testronaut_lab.model.expect import TextExpect
from testronaut_lab.run.keywords import interactions_of, ready_of, settings_of, tty_of


def test_all_that_a_session_takes_is_exported() -> None:
    names = {"SessionSettings", "Limits", "Tty", "Ready", "Interaction", "AwaitScreen", "AwaitSettled", "AwaitOutput", "SendText"}
    assert names | {"PressKey", "Resize"} <= set(testronaut_lab.__all__)
    assert all(getattr(testronaut_lab, name) for name in names)


def test_names_stand_over_settings() -> None:
    settings = SessionSettings(shell="bash", network="internet")
    made = settings_of(settings, {"network": "none", "user": None, "rootfs": "writable"}, {"memory": "1GiB"}, 5)
    assert made == SessionSettings("none", "lab", "writable", "bash", Limits(timeout_s=5.0, memory_bytes=2**30))


def test_parts_are_as_in_a_plan_or_of_their_types() -> None:
    assert (tty_of(True), tty_of(False), tty_of({"cols": 100}), tty_of(Tty(1, 2))) == (Tty(), None, Tty(100), Tty(1, 2))
    assert (ready_of({"port": 80}), ready_of(Ready(port=80)), ready_of(None)) == (Ready(port=80), Ready(port=80), None)
    talk = interactions_of([{"screen": "name? "}, SendText("x"), {"key": "enter"}])
    assert talk == (AwaitScreen(TextExpect(contains=("name? ",))), SendText("x"), PressKey("enter"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Session(network="lan"), "Session(network='lan'): it is 'none' or 'internet'"),
        (lambda: Session(limits={"memry": "1GiB"}), "limits: memry: unknown key 'memry'; did you mean 'memory'?"),
        (lambda: tty_of({"cols": 0}), "tty: cols: expected columns from 1 to 1000, found 0"),
        (lambda: interactions_of([{"key": "entr"}]), "interaction: key: unknown key 'entr'; did you mean 'enter'?"),
    ],
)
def test_what_is_wrong_is_told_as_in_a_plan(wrong, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        wrong()
    assert said in caught.value.message


@pytest.mark.engine
@pytest.mark.usefixtures("base_image")
def test_a_session_is_as_it_was_asked_for_by_name(tmp_path: Path) -> None:
    with Session(shell="bash", rootfs="read-only", timeout=1, limits={"pids": 50}, root=tmp_path) as session:
        assert session.run("echo $BASH_VERSION").out[:1].isdigit()
        assert session.run("sleep 20").exit.kind == "timeout"
        result = session.run("read -r x; echo got $x", tty={"cols": 40, "rows": 5}, interact=[{"send": "it"}, {"key": "enter"}])
        assert "got it" in (result.screen or "")
