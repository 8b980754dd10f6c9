"""Who a step is and what it may do: an unprivileged user with a home, no network, nothing but its own places to write to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest
from conftest import MakeSession
from support.live_session import Lab

from testronaut_lab.container.manager import StepContainer
from testronaut_lab.container.protocol import Attached
from testronaut_lab.container.stepuser import StepUser
from testronaut_lab.model.result import Status

pytestmark = pytest.mark.engine


def status_of(lab: Lab) -> dict[str, str]:
    """The fields of /proc/self/status of a program in a step."""
    lines = lab.argv("cat", "/proc/self/status").out.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_a_step_is_the_user_that_fits_the_engine_and_the_caller(dash: Lab, step_user: StepUser) -> None:
    fields = status_of(dash)
    assert (set(fields["Uid"].split()), set(fields["Gid"].split())) == ({str(step_user.uid)}, {str(step_user.gid)})


@pytest.mark.parametrize("kind", ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
def test_a_step_has_no_capability(dash: Lab, step_user: StepUser, kind: str) -> None:
    held = int(status_of(dash)[kind], 16)
    # the bounding set is the container's: it has CAP_KILL for the keeper, which no_new_privs keeps from everybody else
    assert held == (1 << 5 if kind == "CapBnd" and step_user.capabilities else 0)


def test_a_step_can_gain_no_privileges(dash: Lab) -> None:
    assert status_of(dash)["NoNewPrivs"] == "1"


def test_root_in_a_step_has_no_capability_but_to_kill(make_session: MakeSession, root_allowed: None) -> None:
    fields = status_of(make_session(user="root"))
    assert fields["Uid"].split()[0] == "0"
    assert int(fields["CapEff"], 16) & ~(1 << 5) == 0


def test_the_user_has_a_name_and_a_home(shell: Lab) -> None:
    assert shell.out("id -un; id -gn; cd ~; pwd; echo x >mark; cd /workspace") == "lab\nlab\n/home/lab\n"


def test_the_workspace_home_and_tmp_belong_to_the_user(dash: Lab) -> None:
    assert dash.out("for d in /workspace /tmp ~; do stat -c %U $d; done") == "lab\nlab\nlab\n"


def test_the_root_file_system_is_read_only(dash: Lab) -> None:
    result = dash.run("mount -o remount,rw / ; for d in / /usr /etc /root; do touch $d/x && echo $d; done")
    assert result.out == ""
    root = next(line for line in dash.out("cat /proc/mounts").splitlines() if line.split()[1] == "/")
    assert root.split()[3].split(",")[0] == "ro"


def test_a_writable_root_file_system_is_one_if_asked_for(make_session: MakeSession, root_allowed: None) -> None:
    lab = make_session(user="root", rootfs="writable")
    assert lab.out("touch /usr/x && echo wrote") == "wrote\n"


def test_the_run_directory_cannot_be_written_to(dash: Lab) -> None:
    assert dash.run("touch /run/lab/x || rm /run/lab/cmd || mv /run/lab/driver /run/lab/d").status is Status.FAILED


def test_there_is_no_network_but_loopback(dash: Lab) -> None:
    assert dash.out("cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '").split() == ["lo"]


def test_loopback_works_in_bash(make_session: MakeSession) -> None:
    lab = make_session(shell="bash")
    result = lab.run("echo x >/dev/tcp/127.0.0.1/9")
    assert "Connection refused" in result.err


def test_changes_in_tmp_and_home_are_told_apart_from_the_workspace(fresh: Lab) -> None:
    result = fresh.run("echo 1 >in; echo 2 >/tmp/t; echo 3 >~/h")
    assert [change.path for change in result.changes] == ["in"]
    assert [(change.change, change.path) for change in result.outside] == [("added", "/tmp/t"), ("added", "/home/lab/h")]


def test_files_of_a_step_are_the_callers_or_of_its_step_user_on_the_host(fresh: Lab, step_user: StepUser) -> None:
    fresh.run("mkdir -p deep/er; echo x >deep/er/file; chmod 600 deep/er/file; chmod 700 deep").check()
    caller = os.getuid()
    for path in fresh.session._place.workspace.rglob("*"):
        assert path.lstat().st_uid == (caller or step_user.uid)
    assert fresh.session.read("deep/er/file") == b"x\n"


def test_nothing_that_a_step_does_ends_the_keeper(fresh: Lab) -> None:
    keeper = fresh.session._container.state().pid
    fresh.run("kill -9 1; kill -TERM 1; kill -9 -1")
    assert fresh.out("echo on") == "on\n"
    assert fresh.session._container.state().pid == keeper


def test_files_put_into_the_workspace_are_the_users_and_nobodys_change(fresh: Lab) -> None:
    fresh.session.put("dir/run.sh", b"echo hi\n", 0o755)
    result = fresh.run("stat -c '%U %a' dir dir/run.sh; ./dir/run.sh")
    assert (result.out, result.changes) == ("lab 755\nlab 755\nhi\n", ())


def test_no_device_can_be_made_and_nothing_mounted(dash: Lab) -> None:
    result = dash.run("mknod d b 8 0; mount -t tmpfs x /tmp; unshare -r true; ls d")
    assert (result.status, result.out) == (Status.FAILED, "")


def test_only_the_workspace_can_be_read_through_the_session(dash: Lab) -> None:
    dash.session.put("f", b"content")
    assert dash.session.read("f") == b"content"
    with pytest.raises(FileNotFoundError):
        dash.session.read("../etc/passwd")


def test_what_is_in_memory_has_nothing_of_the_image(fresh: Lab) -> None:
    found = set(fresh.out("ls -A /run /var/tmp /dev/shm | grep -v :").split())
    assert found <= {"lab", ".containerenv"}  # ours, and Podman's own


@pytest.mark.parametrize("driver", ["fast", "plain"])
def test_new_files_are_not_for_everybody_to_write(
    driver: str, make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTRONAUT_LAB_DRIVER", driver)
    attach = StepContainer.attach

    def without_umask(container: StepContainer, argv: Sequence[str], **how: Any) -> Attached:
        return attach(container, ["/bin/sh", "-c", 'umask 0; exec "$@"', "sh", *argv], **how)

    monkeypatch.setattr(StepContainer, "attach", without_umask)  # as Docker 29 does
    assert make_session().out("umask; >f; stat -c %a f") == "0022\n644\n"
