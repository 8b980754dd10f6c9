"""Starts a dockerd on this machine, detached and without an init system, and stops it if we started it.

A marker file has the pid and start time of the dockerd that we started: a pid alone may be reused. `setup.py` installs dockerd.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_state_path

from testronaut_lab.container.engine.connect import DEFAULT_SOCKET, Endpoint, open_engine
from testronaut_lab.container.engine.process import as_root, privilege
from testronaut_lab.errors import EngineError

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 25.0
_POLL_S = 0.1
_COMMAND_TIMEOUT_S = 20.0
_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Daemon:
    """The paths and the command line of one dockerd. `exec_root` has its containerd.

    Two dockerds on one machine share the network interfaces. Run a second one in a network namespace of its own (`program`), or
    it changes or deletes the bridge of the first.
    """

    socket: Path
    pid_file: Path
    exec_root: Path
    log: Path
    marker: Path
    program: tuple[str, ...] = ("dockerd",)
    options: tuple[str, ...] = ()

    @property
    def containerd_pid_file(self) -> Path:
        return self.exec_root / "containerd/containerd.pid"

    def start(self, report: Callable[[str], None]) -> None:
        """Start dockerd and wait for its answer. Raises EngineError with the last lines of its log after 60 s."""
        root = _root(f"starting dockerd on {self.socket}", "sudo dockerd")
        if (pid := running(self.pid_file, "dockerd")) is not None:
            raise EngineError(
                f"starting dockerd: one runs already (process {pid}) and does not answer at {self.socket}",
                hint=f"{as_root(f'kill {pid}')}; testronaut-lab engine up",
            )
        for pid_file, program in ((self.pid_file, "dockerd"), (self.containerd_pid_file, "containerd")):
            clear_stale(pid_file, program, report)
        report(f"starting dockerd on {self.socket}; its log is {self.log}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # setsid forks, so that the daemon is not our child and does not end with the terminal.
        with self.log.open("ab") as log:
            start_of_log = log.tell()
            _run([*root, "setsid", "--fork", *self._command()], log=log.fileno())
        if not self._wait_until_it_answers():
            raise EngineError(
                f"starting dockerd: it does not answer at {self.socket} after {START_TIMEOUT_S:.0f} s; its last words:\n  "
                + "\n  ".join(_tail(self.log, start_of_log)),
                hint=f"tail -n 100 {shlex.quote(str(self.log))}",
            )
        self.adopt()

    def adopt(self) -> None:
        """Record in the marker file that we started the running daemon."""
        pid = running(self.pid_file, "dockerd")
        if pid is not None:
            self.marker.parent.mkdir(parents=True, exist_ok=True)
            self.marker.write_text(json.dumps({"version": 1, "pid": pid, "start_ticks": _start_ticks(pid)}) + "\n")

    def our_pid(self) -> int | None:
        """The pid of the daemon that we started; None if it does not run."""
        try:
            noted = json.loads(self.marker.read_text())
        except (FileNotFoundError, ValueError):
            return None
        pid = running(self.pid_file, "dockerd")
        return pid if pid is not None and (pid, _start_ticks(pid)) == (noted.get("pid"), noted.get("start_ticks")) else None

    def stop(self, report: Callable[[str], None]) -> None:
        """End the daemon that we started: TERM, then KILL after 25 s. No-op if it does not run."""
        pid = self.our_pid()
        if pid is None:
            return
        root = _root(f"stopping dockerd (process {pid})", f"sudo kill {pid}")
        report(f"stopping dockerd (process {pid})")
        if _is_a_service(pid):  # the init system would start it again
            _run([*root, "systemctl", "stop", "docker.socket", "docker.service"])
        else:
            _signal(root, pid, signal.SIGTERM)
        if not _wait(lambda: not _alive(pid, "dockerd"), STOP_TIMEOUT_S):
            report(f"dockerd does not end within {STOP_TIMEOUT_S:.0f} s; killing it")
            _signal(root, pid, signal.SIGKILL)
            containerd = running(self.containerd_pid_file, "containerd")
            if containerd is not None:
                _signal(root, containerd, signal.SIGTERM)
            if not _wait(lambda: not _alive(pid, "dockerd"), STOP_TIMEOUT_S):
                raise EngineError(
                    f"stopping dockerd: process {pid} does not end, not even by KILL", hint=as_root(f"kill -9 {pid}")
                )
        self.marker.unlink(missing_ok=True)
        report("dockerd has stopped")

    def _command(self) -> list[str]:
        # The socket gets the caller's group, so that a caller who got root by sudo can use the engine afterwards.
        places = ["--host", f"unix://{self.socket}", "--pidfile", str(self.pid_file), "--exec-root", str(self.exec_root)]
        group = [] if os.getegid() == 0 else ["--group", str(os.getegid())]
        return [*self.program, *places, *group, *self.options]

    def _wait_until_it_answers(self) -> bool:
        endpoint = Endpoint(f"unix://{self.socket}", "the engine just started")

        def answers() -> bool:
            if not self.socket.exists():
                return False
            try:
                open_engine(endpoint).close()
            except OSError:
                return False
            return True

        return _wait(answers, START_TIMEOUT_S)


def default_daemon() -> Daemon:
    """The machine's own dockerd, with Debian's paths. Its log is in /var/log for root, else in the state directory."""
    state = user_state_path("testronaut-lab")
    log = Path("/var/log") if os.geteuid() == 0 else state
    return Daemon(
        socket=DEFAULT_SOCKET,
        pid_file=Path("/var/run/docker.pid"),
        exec_root=Path("/var/run/docker"),
        log=log / "testronaut-lab-dockerd.log",
        marker=state / "engine.json",
    )


def running(pid_file: Path, program: str) -> int | None:
    """The pid in a pid file; None if no live process of that program has it."""
    try:
        pid = int(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid if _alive(pid, program) else None


def clear_stale(pid_file: Path, program: str, report: Callable[[str], None]) -> None:
    """Remove a pid file that names a zombie, another program or no process: because of it the daemon would not start."""
    if pid_file.exists() and running(pid_file, program) is None:
        report(f"removing {pid_file}: no running {program} has its pid")
        try:
            pid_file.unlink(missing_ok=True)
        except PermissionError:
            _run([*_root(f"removing {pid_file}", f"sudo rm {pid_file}"), "rm", "-f", "--", str(pid_file)])


def _alive(pid: int, program: str) -> bool:
    try:
        # PID (COMM) STATE …: COMM may contain blanks and parentheses
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return name == program and rest.split()[0] not in ("Z", "X")


def _start_ticks(pid: int) -> int:
    """The start of a process in clock ticks since boot: field 22 of proc(5)'s stat. 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _is_a_service(pid: int) -> bool:
    try:
        return "docker.service" in Path(f"/proc/{pid}/cgroup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait(holds: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _root(what: str, typed: str) -> tuple[str, ...]:
    prefix = privilege()
    if prefix is None:
        raise EngineError(f"{what}: it needs root, and sudo is missing or asks for a password", hint=typed)
    return prefix


def _signal(root: Sequence[str], pid: int, signum: signal.Signals) -> None:
    _run([*root, "kill", f"-{signum.value}", str(pid)], may_fail=True)


def _run(argv: Sequence[str], *, log: int | None = None, may_fail: bool = False) -> None:
    """Run a short command on the host. Raises EngineError if it is missing, fails, or does not end in 20 s."""
    out = subprocess.PIPE if log is None else log
    try:
        ended = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"running {' '.join(argv)}: {error}") from error
    if ended.returncode != 0 and not may_fail:
        raise EngineError(
            f"running {' '.join(argv)}: it exited with status {ended.returncode}: {ended.stdout or ''}".rstrip(": ")
        )


def _tail(log: Path, offset: int) -> list[str]:
    with log.open("rb") as file:
        file.seek(offset)
        return file.read().decode(errors="backslashreplace").splitlines()[-_LOG_LINES:]
