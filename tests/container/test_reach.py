"""The hint for a user who may not open the engine's socket. The sockets here are plain files."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from testronaut_lab.container.engine import reach
from testronaut_lab.container.engine.reach import denied_hint


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A socket of the group `engineers`. This user is `me`, and not in the group."""
    path = tmp_path / "docker.sock"
    path.touch()
    path.chmod(0o660)
    gid = path.stat().st_gid
    members = grp.struct_group(("engineers", "x", gid, []))
    monkeypatch.setattr(reach.grp, "getgrgid", lambda _: members)
    monkeypatch.setattr(reach.os, "getegid", lambda: gid + 1)
    monkeypatch.setattr(reach.os, "getgroups", list)
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **how: _of_group(real(self, **how), gid or 777))
    return path


def _of_group(info: os.stat_result, gid: int) -> os.stat_result:
    fields = list(info)
    fields[5] = gid
    return os.stat_result(fields)


def test_a_user_is_put_into_the_socket_s_group(socket: Path) -> None:
    assert denied_hint(socket) == "sudo usermod -aG engineers $USER && newgrp engineers"


def test_a_user_who_was_put_there_logs_in_again(socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    monkeypatch.setattr(reach.grp, "getgrgid", lambda gid: grp.struct_group(("engineers", "x", gid, [me])))
    assert denied_hint(socket) == "newgrp engineers"


def test_a_group_that_may_not_open_it_is_let(socket: Path) -> None:
    socket.chmod(0o600)
    assert denied_hint(socket) == f"sudo chmod g+rw {socket}"


def test_a_socket_that_is_root_s_alone_gets_a_group(socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **how: _of_group(real(self, **how), 0))
    assert denied_hint(socket) == f"sudo chgrp docker {socket} && sudo usermod -aG docker $USER && newgrp docker"


def test_a_socket_in_another_user_s_folder_is_looked_at(socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", denied)
    assert denied_hint(socket) == f"ls -ld {socket.parent}"
