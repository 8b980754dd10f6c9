"""Bringing an engine up and down: the daemon, its pid files, the packages, the programs that are run for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from testronaut_lab.container.engine import connect as engine_module
from testronaut_lab.container.engine import daemon as daemon_module
from testronaut_lab.container.engine import process, setup
from testronaut_lab.container.engine.daemon import DEFAULT_SOCKET, Daemon, clear_stale, default_daemon, running
from testronaut_lab.container.engine.process import LineSplitter, as_root, run_logged
from testronaut_lab.errors import EngineError

# dockerd without a bridge deletes the machine's docker0, which belongs to the other daemon: a network
# namespace of its own keeps it away from there. (A unix socket is a file, and in reach all the same.) With a mount namespace
# of its own what it mounts is gone with it, even if it is killed.
NAMESPACES = ("unshare", "--net", "--mount", "dockerd")
NO_BRIDGE = ("--bridge=none", "--iptables=false")
root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root starts an engine")


def fake_program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def private_daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A dockerd of its own beside the machine's, found as if it were the default one; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="tlab-") as name:  # short: a socket's path has 108 bytes
        folder = Path(name)
        daemon = Daemon(
            socket=folder / "sock",
            pid_file=folder / "pid",
            exec_root=folder / "exec",
            log=folder / "log",
            marker=folder / "state/marker",
            program=NAMESPACES,
            options=("--data-root", str(folder / "data"), *NO_BRIDGE),
        )
        monkeypatch.setattr(engine_module, "DEFAULT_SOCKET", daemon.socket)
        for variable in ("DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("HOME", name)
        yield daemon
        daemon.stop(lambda line: None)


@pytest.fixture
def zombie() -> Iterator[int]:
    """A zombie: a process that has ended and that was not waited for."""
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        yield child.pid


@root_only
@pytest.mark.engine
def test_up_starts_an_engine_and_down_stops_it(private_daemon: Daemon) -> None:
    lines: list[str] = []
    setup.up(lines.append, private_daemon)
    report = setup.status(private_daemon)
    assert report.engine is not None
    assert (report.started_by_us, report.problem) == (True, None)
    assert str(private_daemon.socket) in report.engine.endpoint
    setup.down(lines.append, private_daemon)
    assert lines[-1] == "dockerd has stopped"
    after = setup.status(private_daemon)
    assert (after.engine, after.started_by_us) == (None, False)
    assert after.problem is not None


@root_only
@pytest.mark.engine
def test_an_engine_that_was_named_is_not_taken_for_the_one_that_was_started(
    private_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = f"unix://{DEFAULT_SOCKET}"
    setup.up(lambda line: None, private_daemon)
    monkeypatch.setenv("DOCKER_HOST", named)
    report = setup.status(private_daemon)
    assert report.engine is not None
    assert (named in report.engine.endpoint, report.started_by_us) == (True, False)
    assert report.other == f"unix://{private_daemon.socket} (process {private_daemon.our_pid()})"


@pytest.mark.engine
def test_the_daemon_of_these_tests_leaves_the_machines_network_alone(private_daemon: Daemon) -> None:
    before = {name for _, name in socket.if_nameindex()}
    private_daemon.start(lambda line: None)
    assert Path(f"/proc/{private_daemon.our_pid()}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    private_daemon.stop(lambda line: None)
    assert {"docker0"} & before <= {name for _, name in socket.if_nameindex()}


@root_only
@pytest.mark.engine
def test_up_changes_nothing_where_an_engine_answers(private_daemon: Daemon) -> None:
    setup.up(lambda line: None, private_daemon)
    pid = private_daemon.our_pid()
    lines: list[str] = []
    setup.up(lines.append, private_daemon)
    assert private_daemon.our_pid() == pid
    assert len(lines) == 1
    assert "answers at unix://" in lines[0]


@root_only
@pytest.mark.engine
def test_a_daemon_that_ignores_term_is_killed_with_its_containerd(
    private_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    private_daemon.start(lambda line: None)
    pid = private_daemon.our_pid()
    containerd = running(private_daemon.containerd_pid_file, "containerd")
    assert pid is not None
    assert containerd is not None
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(daemon_module, "STOP_TIMEOUT_S", 1.0)
    lines: list[str] = []
    private_daemon.stop(lines.append)
    assert "killing it" in lines[-2]
    assert running(private_daemon.pid_file, "dockerd") is None
    # the files that it leaves, above all its pid file, do not keep the next daemon from starting
    private_daemon.start(lines.append)
    assert private_daemon.our_pid() not in (None, pid)


@root_only
@pytest.mark.engine
def test_a_daemon_we_did_not_start_is_not_stopped(private_daemon: Daemon) -> None:
    private_daemon.start(lambda line: None)
    noted = private_daemon.marker.read_text()
    private_daemon.marker.write_text('{"version": 1, "pid": 1, "start_ticks": 1}')
    lines: list[str] = []
    setup.down(lines.append, private_daemon)
    assert "not stopping anything" in lines[0]
    assert running(private_daemon.pid_file, "dockerd") is not None
    private_daemon.marker.write_text(noted)


@root_only
@pytest.mark.engine
def test_a_daemon_that_runs_and_does_not_answer_is_named(private_daemon: Daemon) -> None:
    private_daemon.start(lambda line: None)
    with pytest.raises(EngineError, match=r"one runs already \(process \d+\)"):
        private_daemon.start(lambda line: None)


@root_only
@pytest.mark.engine
def test_a_daemon_that_cannot_start_is_quoted(private_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "START_TIMEOUT_S", 2.0)
    broken = replace(private_daemon, options=("--no-such-option",))
    with pytest.raises(EngineError, match="unknown flag: --no-such-option"):
        broken.start(lambda line: None)
    assert broken.our_pid() is None


def test_a_pid_file_that_names_a_zombie_is_removed(tmp_path: Path, zombie: int) -> None:
    pid_file = tmp_path / "pid"
    pid_file.write_text(str(zombie))
    assert running(pid_file, "true") is None
    clear_stale(pid_file, "true", lambda line: None)
    assert not pid_file.exists()


def test_a_pid_file_that_names_another_program_is_removed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    pid_file.write_text(str(os.getpid()))
    clear_stale(pid_file, "dockerd", lambda line: None)
    assert not pid_file.exists()


def test_a_pid_file_that_names_the_living_program_stays(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    pid_file.write_text(f"{os.getpid()}\n")
    name = Path("/proc/self/comm").read_text().strip()
    clear_stale(pid_file, name, lambda line: None)
    assert running(pid_file, name) == os.getpid()


@pytest.mark.parametrize("text", ["", "many", "999999999"])
def test_a_pid_file_that_names_nobody_is_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert running(tmp_path / "pid", "dockerd") is None


def test_the_machines_own_daemon_is_where_debian_has_it() -> None:
    daemon = default_daemon()
    assert (str(daemon.socket), str(daemon.pid_file)) == ("/var/run/docker.sock", "/var/run/docker.pid")
    assert str(daemon.containerd_pid_file) == "/var/run/docker/containerd/containerd.pid"


def test_up_does_not_start_another_engine_than_the_one_that_is_named(
    private_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{private_daemon.socket}")
    with pytest.raises(EngineError, match="DOCKER_HOST"):
        setup.up(lambda line: None, private_daemon)


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that holds all the programs this machine seems to have besides the basic ones; nothing is installed."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(setup, "_missing", lambda: ("dockerd", "mmdebstrap"))
    monkeypatch.setattr(setup, "_is_debian_like", lambda: True)
    monkeypatch.setattr(setup, "privilege", lambda: ())
    fake_program(tmp_path, "apt-get", f'echo "$@" >>{tmp_path}/calls; echo "$DEBIAN_FRONTEND"')
    return tmp_path


@root_only
def test_up_installs_what_is_missing_and_shows_the_lines(private_daemon: Daemon, bare_machine: Path) -> None:
    fake_program(bare_machine, "setsid", "echo no daemon here; exit 7")
    lines: list[str] = []
    with pytest.raises(EngineError, match="exited with status 7"):
        setup.up(lines.append, private_daemon)
    assert (bare_machine / "calls").read_text().splitlines() == [
        "update",
        "install -y --no-install-recommends docker.io iptables mmdebstrap uidmap",
    ]
    assert "noninteractive" in lines


def test_an_installation_that_fails_is_quoted_with_the_command_to_type(private_daemon: Daemon, bare_machine: Path) -> None:
    fake_program(bare_machine, "apt-get", "echo E: no network; exit 100")
    with pytest.raises(EngineError, match=r"(?s)status 100.*E: no network") as caught:
        setup.up(lambda line: None, private_daemon)
    assert as_root("apt-get install -y --no-install-recommends docker.io") in (caught.value.hint or "")


def test_up_without_root_names_the_command_to_type(
    private_daemon: Daemon, bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "privilege", lambda: None)
    monkeypatch.setattr(setup, "as_root", lambda command: f"sudo {command}")  # as for a user who is not root
    with pytest.raises(EngineError, match="needs root") as caught:
        setup.up(lambda line: None, private_daemon)
    assert (caught.value.hint or "").startswith("sudo apt-get update && sudo apt-get install")


def test_up_on_another_kind_of_machine_is_refused(
    private_daemon: Daemon, bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "_is_debian_like", lambda: False)
    with pytest.raises(EngineError, match="not Debian or Ubuntu"):
        setup.up(lambda line: None, private_daemon)


@root_only
@pytest.mark.engine
def test_with_an_engine_a_missing_mmdebstrap_is_told_and_no_error(
    private_daemon: Daemon, bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{bare_machine}:/usr/sbin:/usr/bin:/sbin:/bin")
    private_daemon.start(lambda line: None)
    monkeypatch.setattr(setup, "privilege", lambda: None)
    lines: list[str] = []
    setup.up(lines.append, private_daemon)
    assert "installing mmdebstrap, uidmap: it needs root" in lines[-1]


def test_this_machine_is_told_debian_like_by_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.shutil, "which", lambda name: "/usr/bin/apt-get")
    monkeypatch.setattr(setup.platform, "freedesktop_os_release", lambda: {"ID": "linuxmint", "ID_LIKE": "ubuntu debian"})
    assert setup._is_debian_like()
    monkeypatch.setattr(setup.platform, "freedesktop_os_release", lambda: {"ID": "fedora"})
    assert not setup._is_debian_like()


def test_lines_are_whole_however_the_bytes_arrive() -> None:
    lines: list[str] = []
    splitter = LineSplitter(lines.append)
    for byte in b"one\ntw\xc3\xb6\r\n50%\r\xff rest":
        splitter.feed(bytes([byte]))
    splitter.end()
    assert lines == ["one", "twö", "50%", "\\xff rest"]


def test_a_program_that_takes_too_long_is_ended_with_its_children() -> None:
    script = "import subprocess, sys; print('on my way', flush=True); subprocess.run(['sleep', '600'])"
    ended = run_logged([sys.executable, "-c", script], lambda line: None, timeout_s=1.0)
    assert ended.timed_out
    assert "took longer than 1 s" in ended.describe(1.0)
    assert ended.last_lines == ("on my way",)


def test_a_program_that_ignores_term_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_TERM_GRACE_S", 0.2)
    ended = run_logged(["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 600; done"], lambda line: None, timeout_s=0.5)
    assert ended.code == -signal.SIGKILL


def test_output_can_go_to_a_file_while_errors_are_lines(tmp_path: Path) -> None:
    lines: list[str] = []
    with (tmp_path / "out").open("w+b") as out:
        ended = run_logged(["sh", "-c", "echo data; echo progress >&2"], lines.append, timeout_s=10.0, stdout=out)
    assert ended.ok
    assert (lines, (tmp_path / "out").read_text()) == (["progress"], "data\n")


def test_sudo_is_used_only_where_it_asks_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert process.privilege() is None
    fake_program(tmp_path, "sudo", "exit 0")
    assert process.privilege() == ("sudo", "-n")
    fake_program(tmp_path, "sudo", "exit 1")
    assert process.privilege() is None


@pytest.mark.parametrize(("euid", "typed"), [(0, "apt-get update"), (1000, "sudo apt-get update")])
def test_root_is_not_told_to_use_sudo(monkeypatch: pytest.MonkeyPatch, euid: int, typed: str) -> None:
    monkeypatch.setattr("os.geteuid", lambda: euid)
    assert as_root("apt-get update") == typed
