"""Brings up an engine on a machine that has none, reports its state, and stops it if we started it.

Only `up` installs packages, on Debian and Ubuntu, because the user asked for it; a run of a plan never does. `daemon.py` starts
and stops the daemon itself.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from testronaut_lab.container.engine.connect import Engine, NoEngine, connect
from testronaut_lab.container.engine.daemon import Daemon, default_daemon
from testronaut_lab.container.engine.process import as_root, privilege, run_logged
from testronaut_lab.errors import EngineError
from testronaut_lab.model.result import EngineInfo

Report = Callable[[str], None]

APT_TIMEOUT_S = 900.0
_ENGINE_PACKAGES = {"dockerd": ("docker.io", "iptables"), "mmdebstrap": ("mmdebstrap", "uidmap")}


@dataclass(frozen=True, slots=True)
class EngineReport:
    """The state of the engine. `problem` says why there is no `engine`; `missing` names programs that `up` would install.

    `started_by_us` is about `engine`. `other` is a running engine that we started and that is not `engine`.
    """

    engine: EngineInfo | None
    problem: EngineError | None
    started_by_us: bool
    missing: tuple[str, ...]
    other: str | None = None


def status(daemon: Daemon | None = None) -> EngineReport:
    """Look for an engine. A missing engine is a `problem` in the report, not an error."""
    daemon = daemon or default_daemon()
    pid = daemon.our_pid()
    running = None if pid is None else f"unix://{daemon.socket} (process {pid})"
    try:
        engine = connect()
    except EngineError as problem:
        return EngineReport(None, problem, False, _missing(), running)
    engine.close()
    ours = pid is not None and _is_same(Path(engine.socket_path), daemon.socket)
    missing = tuple(program for program in _missing() if program != "dockerd")  # an engine is there
    return EngineReport(engine.info, None, ours, missing, None if ours else running)


def _is_same(socket: Path, other: Path) -> bool:
    try:
        return socket.samefile(other)
    except OSError:
        return False


def up(report: Report, daemon: Daemon | None = None) -> None:
    """Make an engine answer, and install mmdebstrap, so that base images can be made without a registry.

    If no engine answers, Debian's engine is installed if it is missing, and started, detached. Takes half a minute with an
    installation, a few seconds without. Raises EngineError with the command to type.
    """
    daemon = daemon or default_daemon()
    engine = _answering(report)
    if engine is not None:
        _install([tool for tool in _missing() if tool != "dockerd"], report, needed=False)
        return
    _install(_missing(), report, needed=True)
    started = _answering(report)  # a machine with an init system starts the daemon while it is installed
    if started is not None:
        daemon.adopt()
        return
    daemon.start(report)
    if _answering(report) is None:
        raise EngineError(f"starting an engine: it runs and is not found at {daemon.socket}", hint="testronaut-lab engine status")


def down(report: Report, daemon: Daemon | None = None) -> None:
    """Stop the engine that `up` started, with its containers. Any other engine is left alone, and the report says so.

    Blocks for at most half a minute. Raises EngineError if it cannot be stopped.
    """
    daemon = daemon or default_daemon()
    if daemon.our_pid() is None:
        report("not stopping anything: no engine that runs was started by us (`testronaut-lab engine up`)")
        return
    daemon.stop(report)


def _answering(report: Report) -> Engine | None:
    """Report and return the engine that answers, closed; None if there is none.

    Raises EngineError for an engine that cannot be used, and for one that the user named and that does not answer.
    """
    try:
        engine = connect()
    except NoEngine as error:
        if error.denied or any(attempt.endpoint.named for attempt in error.attempts):
            raise
        return None
    engine.close()
    report(f"{engine.info.name} {engine.info.version} answers at {engine.info.endpoint}, API {engine.info.api}")
    return engine


def _missing() -> tuple[str, ...]:
    # Debian keeps daemons in sbin, which may not be on the user's PATH.
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return tuple(tool for tool in _ENGINE_PACKAGES if shutil.which(tool) is None and shutil.which(tool, path=path) is None)


def _install(tools: Sequence[str], report: Report, *, needed: bool) -> None:
    """Install the packages of these programs. If that is not possible, raise EngineError only if they are `needed`."""
    packages = [package for tool in tools for package in _ENGINE_PACKAGES[tool]]
    if not packages:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    typed = f"{as_root('apt-get update')} && {as_root(' '.join(command))}"
    what = f"installing {', '.join(packages)}"
    root = privilege()
    problem = None
    if not _is_debian_like():
        problem = EngineError(
            f"{what}: this machine is not Debian or Ubuntu", hint="install Docker as its site says for this machine"
        )
    elif root is None:
        problem = EngineError(f"{what}: it needs root, and sudo is missing or asks for a password", hint=typed)
    if problem is None:
        for argv in (["apt-get", "update"], command):
            _apt([*(root or ()), "env", "DEBIAN_FRONTEND=noninteractive", *argv], what, typed, report)
    elif needed:
        raise problem
    else:
        report(f"{problem}")


def _apt(argv: Sequence[str], what: str, typed: str, report: Report) -> None:
    ended = run_logged(argv, report, timeout_s=APT_TIMEOUT_S)
    if not ended.ok:
        raise EngineError(f"{what}: {ended.describe(APT_TIMEOUT_S)}", hint=typed)


def _is_debian_like() -> bool:
    try:
        said = platform.freedesktop_os_release()
    except OSError:
        return False
    names = (said.get("ID", ""), *said.get("ID_LIKE", "").split())
    return shutil.which("apt-get") is not None and bool({"debian", "ubuntu"} & set(names))
