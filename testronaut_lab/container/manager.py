"""Creates, starts, attaches to, inspects, kills and removes containers on a real engine.

No name of docker's client leaves this package. `security.py` has the profile as data, `execution/directory.py` makes the host's
directories, `execution/reap.py` removes what dead owners left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import docker
from docker.types import Mount
from docker.types import Ulimit as DockerUlimit

from testronaut_lab.container import security
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.faults import mounting, translated
from testronaut_lab.container.engine.hijack import HijackedExec, HijackedTerminal, start_exec, start_terminal
from testronaut_lab.container.limits import lacking_limits
from testronaut_lab.container.protocol import Attached, AttachedTerminal, ContainerState, StepContainerSpec
from testronaut_lab.container.removal import remove_container
from testronaut_lab.errors import EngineError

_FIRST = -20
_PID_WAIT_S = 1.0
_PID_LOOK_S = 0.005


class StepContainer:
    """A started container for steps; see `protocol.Container`."""

    def __init__(self, engine: Engine, container_id: str, name: str) -> None:
        self._engine = self._patient = engine
        self._id = container_id
        self._name = name

    @property
    def id(self) -> str:
        return self._id

    @property
    def name(self) -> str:
        return self._name

    def attach(self, argv: Sequence[str], *, user: str, env: Mapping[str, str], cwd: str) -> HijackedExec:
        exec_id = self._create_exec(argv, user, env, cwd, tty=False)
        return start_exec(self._engine.socket_path, self._engine.info.api, exec_id, self._engine.pace)

    def attach_terminal(self, argv: Sequence[str], *, user: str, env: Mapping[str, str], cwd: str) -> HijackedTerminal:
        exec_id = self._create_exec(argv, user, env, cwd, tty=True)
        return start_terminal(self._engine.socket_path, self._engine.info.api, exec_id, self._engine.pace)

    def resize(self, attached: AttachedTerminal, cols: int, rows: int) -> None:
        with translated(f"resizing a terminal in container {self.name}"):
            self._engine.client.api.exec_resize(attached.id, height=rows, width=cols)

    def exit_code(self, attached: Attached) -> int | None:
        with translated(f"asking how a command in container {self.name} ended"):
            exec_ = self._engine.client.api.exec_inspect(attached.id)
        return None if exec_["Running"] else exec_["ExitCode"]

    def raise_priority(self, attached: Attached) -> None:
        pid = self._exec_pid(attached)
        try:
            # the engine may run on another kernel, or the pid may have been reused: check that the process is the container's
            if pid and self.id in Path(f"/proc/{pid}/cgroup").read_text():
                os.setpriority(os.PRIO_PROCESS, pid, _FIRST)
        except OSError:
            return

    def _exec_pid(self, attached: Attached) -> int:
        """The command's pid on the host; 0 if the engine does not know it. A busy engine may learn it only after a while."""
        deadline = time.monotonic() + _PID_WAIT_S
        while True:
            with translated(f"looking for a command of container {self.name}"):
                pid = int(self._engine.client.api.exec_inspect(attached.id)["Pid"])
            if pid or time.monotonic() > deadline:
                return pid
            time.sleep(_PID_LOOK_S)

    def _create_exec(self, argv: Sequence[str], user: str, env: Mapping[str, str], cwd: str, *, tty: bool) -> str:
        with translated(f"starting a shell in container {self.name}"):
            created = self._engine.client.api.exec_create(
                self.id, list(argv), stdin=True, stdout=True, stderr=True, tty=tty, user=user, environment=dict(env), workdir=cwd
            )
        return str(created["Id"])

    def state(self) -> ContainerState:
        with translated(f"looking at container {self.name}"):
            try:
                state = self._engine.client.api.inspect_container(self.id)["State"]
            except docker.errors.NotFound:
                return ContainerState(exists=False, running=False)
        return ContainerState(
            exists=True,
            running=state["Running"],
            paused=state["Paused"],
            exit_code=state["ExitCode"],
            oom_killed=state["OOMKilled"],
            pid=state["Pid"],
        )

    def kill(self) -> None:
        with translated(f"killing container {self.name}"):
            try:
                self._engine.client.api.kill(self.id)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                if error.status_code != 409:  # it does not run
                    raise

    def end_soon(self) -> None:
        self._engine = self._patient.hurried

    def patience_s(self, usual_s: float) -> float:
        return self._patient.pace.deadline_s(usual_s)

    def remove(self) -> None:
        with translated(f"removing container {self.name}"):
            remove_container(self._patient, self.id)


def start_step_container(engine: Engine, spec: StepContainerSpec) -> StepContainer:
    """Create and start a container under the step profile. Raises EngineError, and then leaves nothing behind.

    If the engine refuses and says that it lacks some limits (such as a rootless engine to which systemd delegates no `cpu`), this
    tries again without those limits. `limits.py` reports that they do not hold.
    """
    try:
        return _started(engine, spec)
    except EngineError:
        bare = replace(spec, capabilities=tuple(each for each in spec.capabilities if each not in security.LOOK_CAPABILITIES))
        if bare != spec:  # an engine in a container may lack these capabilities itself
            return start_step_container(engine, bare)
        lacking = lacking_limits(engine)
        if not lacking:
            raise
        return _started(engine, spec, lacking)


def _started(engine: Engine, spec: StepContainerSpec, without: Collection[str] = ()) -> StepContainer:
    sources = [mount.source for mount in spec.mounts]
    with mounting(f"creating container {spec.name} from {spec.image}", sources):
        container_id = _create(engine, spec, without)
    started = StepContainer(engine, container_id, spec.name)
    with ExitStack() as undo:
        undo.callback(started.remove)
        with mounting(f"starting container {spec.name} from {spec.image}", sources):
            engine.client.api.start(container_id)
        undo.pop_all()
    return started


def _create(engine: Engine, spec: StepContainerSpec, without: Collection[str]) -> str:
    api = engine.client.api
    limits = {
        "limits.memory": {"mem_limit": spec.memory_bytes, "memswap_limit": spec.memory_bytes},
        "limits.cpus": {"nano_cpus": int(spec.cpus * 1e9)},
        "limits.pids": {"pids_limit": spec.pids + security.PIDS_RESERVE},
    }
    host_config = api.create_host_config(
        **{option: value for name, options in limits.items() if name not in without for option, value in options.items()},
        network_mode=spec.network,
        read_only=spec.read_only,
        cap_drop=list(security.NO_CAPABILITIES),
        cap_add=list(spec.capabilities),
        security_opt=list(security.SECURITY_OPTIONS),
        shm_size=security.tmpfs_bytes(spec.memory_bytes),
        tmpfs=security.step_tmpfs(spec.memory_bytes, is_podman=engine.speaks_libpod),
        ulimits=[DockerUlimit(name=u.name, soft=u.soft, hard=u.hard) for u in security.STEP_ULIMITS],
        mounts=[Mount(m.target, str(m.source), type="bind", read_only=m.read_only) for m in spec.mounts],
        init=False,
        log_config=docker.types.LogConfig(type="none"),
    )
    if spec.user_namespace:  # docker's client accepts only the host's user namespace
        host_config["UsernsMode"] = spec.user_namespace
    created = api.create_container(
        spec.image,
        command=[],
        name=spec.name,
        entrypoint=list(spec.keeper),
        user="0:0",
        hostname=spec.hostname,
        working_dir="/",
        labels=dict(spec.labels),
        stop_signal="SIGKILL",  # the keeper ignores TERM, so a stop by hand would wait for its timeout
        healthcheck={"test": ["NONE"]},  # the image's health check would count as a process of a step
        host_config=host_config,
    )
    return str(created["Id"])


def remove_by_name(engine: Engine, name: str) -> None:
    """Remove a container by its name or id. No-op if there is none."""
    with translated(f"removing container {name}"):
        remove_container(engine, name)
