"""Runs the container in which tools are installed: starts it from a base, runs commands, commits it as an image, removes it.

Commands run as root, with a network of their own and the capabilities that package managers need. `installation/` decides which
commands. The engine merges the container's settings into the committed image. So the container has no setting that the base does
not have: environment goes to each command, CA bundles to a mount.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from docker.types import LogConfig, Mount, Ulimit

from testronaut_lab.container import security
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.faults import mounting, translated
from testronaut_lab.container.engine.hijack import HijackedExec, start_exec
from testronaut_lab.container.engine.process import LineSplitter
from testronaut_lab.container.image.local import TOOL_REPOSITORY, ResolvedImage, inspect
from testronaut_lab.container.network import install_network
from testronaut_lab.container.owner import Claim
from testronaut_lab.container.removal import remove_container
from testronaut_lab.container.rootfs import check_seen
from testronaut_lab.errors import EngineError, SessionLost

# /dev is a file system of its own in the container, so mount points in it do not get into the commit.
HOST_FILES = "/dev/testronaut-"
CA_BUNDLE_TARGET = f"{HOST_FILES}ca.pem"

# dpkg and maintainer scripts unpack files of any owner and mode, and become other users (apt fetches as _apt).
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID")
_MEMORY_BYTES = 2 * 1024**3
_PIDS = 512
_EXIT_STATUS_WAIT_S = 5.0
_KEPT_LINES = 40

# The owner's FIFO in the container; without an owner, the keeper makes a FIFO of its own.
_KEEPER_FIFO = f"{HOST_FILES}keeper"
_OWN_FIFO = "/dev/shm/.keeper"


@dataclass(frozen=True, slots=True)
class Executed:
    """How a command in the container ended. `code` is None after the deadline; the container is dead then.

    `last_lines` are the last lines of both streams, in the order in which they came.
    """

    code: int | None
    last_lines: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def text(self) -> str:
        return "\n".join(self.last_lines)


Mask = Callable[[str], str]


class InstallContainer:
    """A started container for one installation, made by `install_container`. Use it from one thread."""

    def __init__(self, engine: Engine, container_id: str, base: ResolvedImage, mask: Mask = str) -> None:
        self._engine = engine
        self._id = container_id
        self._base = base
        self._mask = mask

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Executed:
        """Run an exact argv as root and pass on each line that it writes. A command that fails is a result, not an error.

        At the deadline the whole container is killed. Raises EngineError if the stream or the exit status is lost.
        """
        last_lines: deque[str] = deque(maxlen=_KEPT_LINES)

        def on_each(line: str) -> None:
            line = self._mask(line)
            last_lines.append(line)
            if on_line is not None:
                on_line(line)

        api = self._engine.client.api
        what = f"running {argv[0]} in the install container"
        with translated(what):
            created = api.exec_create(self._id, list(argv), user="0:0", environment=dict(env or {}), workdir="/")
        stream = start_exec(self._engine.socket_path, api._version, created["Id"], self._engine.pace)
        try:
            ended = _follow(stream, on_each, time.monotonic() + timeout_s)
        finally:
            stream.close()
        if not ended:
            with translated("killing the install container"):
                api.kill(self._id)
            return Executed(None, tuple(last_lines))
        return Executed(self._exit_status(created["Id"], what), tuple(last_lines))

    def put(self, folder: str, tar: IO[bytes]) -> None:
        """Unpack a tar into an existing folder, with the owners and modes of the tar."""
        what = f"copying files to {folder} in the install container"
        with translated(what):
            if not self._engine.client.api.put_archive(self._id, folder, tar):
                raise EngineError(f"{what}: the engine refused them")

    def commit(self, tag: str, labels: Mapping[str, str]) -> str:
        """Make an image of the container, with the base's configuration and these labels; return its id.

        The tag exists only once the image is complete.
        """
        config = self._base.config
        conf = {
            # An empty list is needed: without it the image would get the keeper as its entrypoint.
            "Entrypoint": list(config.entrypoint),
            "Cmd": list(config.cmd) or None,
            "User": config.user,
            "Labels": dict(labels),
        }
        repository, _, name = tag.partition(":")
        with translated(f"committing {tag}"):
            return str(self._engine.client.api.commit(self._id, repository=repository, tag=name, conf=conf)["Id"])

    def _exit_status(self, exec_id: str, what: str) -> int:
        """The command's exit status. The engine may know it only a moment after the streams ended."""
        deadline = time.monotonic() + _EXIT_STATUS_WAIT_S
        while True:
            with translated(what):
                said = self._engine.client.api.exec_inspect(exec_id)
            if not said["Running"] and isinstance(said["ExitCode"], int):
                return said["ExitCode"]
            if time.monotonic() > deadline:
                raise EngineError(f"{what}: its streams ended, but the engine does not tell its exit status")
            time.sleep(0.02)


@contextmanager
def install_container(
    engine: Engine, base: ResolvedImage, claim: Claim, files: Mapping[str, Path] | None = None, mask: Mask = str
) -> Iterator[InstallContainer]:
    """Yield a container to install in, on a bridge of its own. Both are called `NAME-install`, and are removed at the end.

    NAME is the claim's. `files` maps paths in the container to files of the host; the paths must begin with HOST_FILES, to stay
    out of a commit. `mask` is applied to every line of a command before it is passed on.
    """
    name = f"{claim.name}-install"
    # Only the network has the labels of the owner. Labels of the container would get into the image, and a container that a user
    # starts from the image would look as if this process had left it behind.
    with install_network(engine, name, claim.labels):
        mounted = dict(files or {})
        if claim.fifo is not None:
            mounted[_KEEPER_FIFO] = claim.fifo
        with mounting(f"creating container {name} from {base.info.ref}", mounted.values()):
            container_id = _create(engine, base, name, _keeper(claim), mounted)
        try:
            with mounting(f"starting container {name} from {base.info.ref}", mounted.values()):
                engine.client.api.start(container_id)
            yield InstallContainer(engine, container_id, base, mask)
        except SessionLost:
            if claim.fifo is not None:
                check_seen(engine, container_id, _KEEPER_FIFO, claim.fifo)
            raise
        finally:
            with translated(f"removing container {name}"):
                remove_container(engine, container_id)


def find_tool_image(engine: Engine, key: str) -> ResolvedImage | None:
    """The image committed under `tool_tag(key)`; None if there is none."""
    return inspect(engine, tool_tag(key))


def tool_tag(key: str) -> str:
    return f"{TOOL_REPOSITORY}:{key[:24]}"


def _keeper(claim: Claim) -> tuple[str, ...]:
    if claim.fifo is not None:
        return security.keeper(_KEEPER_FIFO, claim.orphan_timeout_s)
    shell, option, script = security.keeper(_OWN_FIFO)
    return shell, option, f"mkfifo {_OWN_FIFO}; {script}"


def _create(engine: Engine, base: ResolvedImage, name: str, keeper: Sequence[str], files: Mapping[str, Path]) -> str:
    assert all(target.startswith(HOST_FILES) for target in files)
    mounts = [Mount(target, str(source), type="bind", read_only=True) for target, source in files.items()]
    config = base.config
    container = engine.client.containers.create(
        base.info.id,
        name=name,
        entrypoint=list(keeper),
        # A user that the base does not set would get into the commit. Each command names its user anyway.
        user="0:0" if config.user else None,
        working_dir=config.working_dir or None,
        network=name,
        cap_drop=["ALL"],
        cap_add=list(_CAPABILITIES),
        security_opt=["no-new-privileges"],
        mem_limit=_MEMORY_BYTES,
        memswap_limit=_MEMORY_BYTES,
        pids_limit=_PIDS,
        ulimits=[Ulimit(name="core", soft=0, hard=0), Ulimit(name="nofile", soft=4096, hard=4096)],
        mounts=mounts,
        init=False,
        log_config=LogConfig(type="none"),
    )
    return str(container.id)


def _follow(stream: HijackedExec, on_line: Callable[[str], None], deadline: float) -> bool:
    """Pass on the lines of both streams. Returns whether the streams ended before the deadline."""
    streams = {1: LineSplitter(on_line), 2: LineSplitter(on_line)}
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    try:
        while (left_s := deadline - time.monotonic()) > 0:
            if poll.poll(left_s * 1000):
                for number, data in stream.read():
                    streams[number].feed(data)
    except EOFError:
        return True
    finally:
        for lines in streams.values():
            lines.end()
    return False
