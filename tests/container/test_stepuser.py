"""The user of a step, by the caller and the kind of engine, and the calls that find it out."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from testronaut_lab.container import stepuser
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.stepuser import CallerInside, StepUser, caller_inside
from testronaut_lab.errors import EngineError, UsageError


def caller_is(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setattr(os, "getgid", lambda: uid)


@pytest.fixture
def socket_path(tmp_path: Path) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        yield str(tmp_path / "s")


def sees_all_processes(monkeypatch: pytest.MonkeyPatch, truth: bool) -> None:
    monkeypatch.setattr(stepuser, "_sees_all_processes", lambda: truth)


def engine_at(path: str, options: list[str], *, libpod: bool = False) -> Engine:
    api = SimpleNamespace(info=lambda: {"SecurityOptions": options})
    return SimpleNamespace(socket_path=path, speaks_libpod=libpod, client=SimpleNamespace(api=api))  # type: ignore[return-value]


@pytest.mark.parametrize(("uid", "expected"), [(0, (1000, 1000, (1000, 1000))), (501, (501, 501, None))])
def test_a_step_is_the_caller_but_never_root(monkeypatch: pytest.MonkeyPatch, uid: int, expected: object) -> None:
    caller_is(monkeypatch, uid)
    sees_all_processes(monkeypatch, True)
    user = StepUser.choose("lab")
    assert (user.uid, user.gid, user.owner) == expected
    assert (user.spec, user.user_namespace, user.capabilities) == (f"{user.uid}:{user.gid}", "", ("KILL",))


def test_root_beside_steps_may_look_at_them_only_where_we_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    caller_is(monkeypatch, 501)
    sees_all_processes(monkeypatch, False)
    assert StepUser.choose("lab").capabilities == ("KILL", "DAC_READ_SEARCH", "SYS_PTRACE")
    caller_is(monkeypatch, 0)
    assert StepUser.choose("root").capabilities == ("KILL",)  # which its steps have


def test_a_rootless_engine_that_can_is_told_to_keep_the_callers_id(monkeypatch: pytest.MonkeyPatch) -> None:
    caller_is(monkeypatch, 501)
    user = StepUser.choose("lab", CallerInside.ANY_ID)
    assert (user.spec, user.owner, user.user_namespace) == ("501:501", None, "keep-id:uid=501,gid=501")


def test_root_in_the_container_of_a_job_is_not_root_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    caller_is(monkeypatch, 0)
    user = StepUser.choose("lab", CallerInside.ANY_ID)
    assert (user.spec, user.owner, user.user_namespace) == ("1000:1000", None, "keep-id:uid=1000,gid=1000")


def test_where_only_uid_0_is_the_caller_it_has_no_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    caller_is(monkeypatch, 501)
    user = StepUser.choose("lab", CallerInside.ROOT)
    assert (user.spec, user.name, user.home, user.owner, user.capabilities) == ("0:0", "lab", "/home/lab", None, ())


def test_root_has_to_be_asked_for_and_to_be_able_to_remove_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    caller_is(monkeypatch, 501)
    with pytest.raises(UsageError, match="user: root"):
        StepUser.choose("root")
    for inside in (CallerInside.ANY_ID, CallerInside.ROOT):
        user = StepUser.choose("root", inside)
        assert (user.spec, user.home, user.user_namespace, user.owner) == ("0:0", "/root", "", None)


@pytest.mark.parametrize(
    ("options", "libpod", "expected"),
    [
        (["name=seccomp,profile=default"], False, CallerInside.ITSELF),
        (["name=seccomp,profile=builtin", "name=rootless"], False, CallerInside.ROOT),
        (["name=seccomp,profile=default", "name=rootless"], True, CallerInside.ANY_ID),
        (["name=seccomp,profile=default"], True, CallerInside.ITSELF),
    ],
)
def test_a_rootless_engine_says_so(
    socket_path: str, monkeypatch: pytest.MonkeyPatch, options: list[str], libpod: bool, expected: CallerInside
) -> None:
    monkeypatch.setattr(stepuser, "_in_initial_namespace", lambda: False)
    assert caller_inside(engine_at(socket_path, options, libpod=libpod)) is expected


def test_an_engine_whose_socket_is_roots_is_not_asked(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() != 0:
        socket_path = "/etc/passwd"  # anything of root's
    monkeypatch.setattr(stepuser, "_in_initial_namespace", lambda: True)
    assert caller_inside(SimpleNamespace(socket_path=socket_path)) is CallerInside.ITSELF  # type: ignore[arg-type]


def test_another_users_rootless_engine_is_refused(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.getuid()
    monkeypatch.setattr(stepuser, "_in_initial_namespace", lambda: False)
    caller_is(monkeypatch, mine + 1)
    with pytest.raises(EngineError, match=f"a rootless one of user {mine}, you are user {mine + 1}"):
        caller_inside(engine_at(socket_path, ["name=rootless"]))
