"""Other container engines beside the one that runs, each in a container of that one: Debian's Docker and Podman, also rootless.

An image for each Debian release is bootstrapped once and stays on the engine. The container shares with the host the folder
that sessions and the engine's socket are in, the process ids, /dev/shm and the control groups, so that to a caller on the host
the inner engine is one like any other. Its network is its own. Root is not needed, only an engine that lets containers have
most capabilities; `--privileged` would ask for those too that a machine may not have itself.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.types import Mount

from testronaut_lab.container.engine.connect import Endpoint, Engine, open_engine
from testronaut_lab.container.engine.process import privilege, run_logged
from testronaut_lab.container.image import local
from testronaut_lab.container.image.bootstrap import archive_sources, read_sources
from testronaut_lab.container.image.lock import exclusive
from testronaut_lab.container.removal import remove_container
from testronaut_lab.model.releases import Release

Report = Callable[[str], None]

_BOOTSTRAP_TIMEOUT_S = 1200.0
_START_TIMEOUT_S = 60.0
_PIDS = 4096
_REPOSITORY = "testronaut-lab/test-engine"
_CONTAINER = "tlab-test-engine"
_PACKAGES = (
    "iproute2,iptables,nftables,procps,ca-certificates,docker.io,podman,runc,conmon,netavark,aardvark-dns,catatonit,"
    "uidmap,slirp4netns,fuse-overlayfs,rootlesskit"
)
_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_ADMIN NET_RAW "
    "NET_BIND_SERVICE SYS_CHROOT SYS_PTRACE SYS_ADMIN SYS_NICE MKNOD AUDIT_WRITE SETFCAP IPC_LOCK"
).split()

# $1 is the folder, $2 the caller. crun refuses machines that have both versions of control groups: runc.
_DOCKER = """
exec dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/run/pid" --host "unix://$1/socket"
"""
_PODMAN = """
exec podman --root "$1/data" --runroot "$1/run" --cgroup-manager cgroupfs --runtime runc --events-backend file \\
    system service --time 0 "unix://$1/socket"
"""
# The device of a tunnel may be root's alone.
_AS_THE_CALLER = """
chmod 666 /dev/net/tun /dev/fuse
echo "caller:x:$2:$2::$1/home:/bin/sh" >>/etc/passwd
echo "caller:100000:65536" | tee -a /etc/subuid >>/etc/subgid
export USER=caller XDG_RUNTIME_DIR="$1/run"
as_the_caller="setpriv --reuid $2 --regid $2 --clear-groups"
"""
_ROOTLESS_DOCKER = f"""{_AS_THE_CALLER}
exec $as_the_caller rootlesskit --state-dir="$1/run/kit" --net=slirp4netns --mtu=65520 --slirp4netns-sandbox=false \\
    --disable-host-loopback --port-driver=builtin --copy-up=/etc --copy-up=/run --propagation=rslave sh -c '
        rm -f /run/docker /run/containerd /run/xtables.lock
        exec dockerd --rootless --data-root "$1/data" --exec-root "$1/run/docker" --pidfile "$1/run/pid" --host "unix://$1/socket"
    ' - "$1"
"""
_ROOTLESS_PODMAN = f"""{_AS_THE_CALLER}
exec $as_the_caller podman --root "$1/data" --runroot "$1/run/root" --tmpdir "$1/run/tmp" --cgroup-manager cgroupfs \\
    --runtime runc --events-backend file system service --time 0 "unix://$1/socket"
"""
_SCRIPTS: Mapping[tuple[str, bool], str] = {
    ("docker", False): _DOCKER,
    ("podman", False): _PODMAN,
    ("docker", True): _ROOTLESS_DOCKER,
    ("podman", True): _ROOTLESS_PODMAN,
}


@dataclass(frozen=True, slots=True)
class OtherEngine:
    """What can be started: a program of a Debian release, `rootless` or as root.

    `dockerd` is a daemon to use in place of that release's, built without libraries of a machine.
    """

    program: str
    codename: str
    rootless: bool = False
    dockerd: Path | None = None

    @property
    def id(self) -> str:
        source = self.codename if self.dockerd is None else "built"
        return f"{'rootless-' if self.rootless else ''}{self.program}-{source}"


@dataclass(frozen=True, slots=True)
class Started:
    """One that answers. `folder` is seen by it at the same path: what it has to mount lies below it."""

    engine: Engine
    folder: Path
    caller: int

    @property
    def groups(self) -> tuple[int, ...]:
        """Those that may use the engine's socket."""
        return (os.stat(self.engine.socket_path).st_gid,)

    def environment(self) -> dict[str, str]:
        """For a program that uses it and runs as `caller`: everything that it makes is below the folder."""
        home = self.folder / "home"
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TESTRONAUT_LAB_", "XDG_", "DOCKER_"))},
            "DOCKER_HOST": f"unix://{self.engine.socket_path}",
            "HOME": str(home),
            "TMPDIR": str(self.folder / "tmp"),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }


@contextmanager
def started(outer: Engine, other: OtherEngine, caller: int, images: Sequence[str], report: Report) -> Iterator[Started]:
    """Start it for a caller of that uid, with those of these images that are there; it is gone with all it made at the end."""
    image = engine_image(outer, other.codename, report)
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(outer, image, caller))
        inner = stack.enter_context(_running(outer, image, other, folder, caller))
        for name in (name for name in images if local.inspect(outer, name) is not None):
            inner.client.images.load(b"".join(outer.client.images.get(name).save(named=name)))
        yield Started(inner, folder, caller)


@contextmanager
def here(outer: Engine, caller: int) -> Iterator[Started]:
    """The engine that runs anyway, for a caller of that uid, with a folder that is gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tlab-", dir="/var/tmp"))
    try:
        for name in ("tmp", "home"):
            (folder / name).mkdir(mode=0o700)
        _give(folder, caller)
        yield Started(outer, folder, caller)
    finally:
        shutil.rmtree(folder)


def engine_image(outer: Engine, codename: str, report: Report) -> str:
    """The id of an image with the engines of a Debian release; made in two minutes where it is not there."""
    tag = f"{_REPOSITORY}:{codename}"
    with exclusive(f"test-engine-{codename}", lambda: report(f"another process makes {tag}")):
        found = local.inspect(outer, tag)
        if found is None:
            report(f"making {tag} with mmdebstrap, once")
            _bootstrap(outer, codename, report)
            found = local.inspect(outer, tag)
            assert found is not None
    return found.info.id


def _bootstrap(outer: Engine, codename: str, report: Report) -> None:
    release = platform.freedesktop_os_release()
    sources = archive_sources(
        Release("debian", codename), read_sources(), release.get("ID", ""), release.get("VERSION_CODENAME", "")
    )
    apart = (*root, "unshare", "--mount", "--propagation", "private") if (root := privilege()) is not None else ()
    command = (
        *apart, "mmdebstrap", "--variant=minbase", f"--include={_PACKAGES}", "--format=tar", '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::Check-Valid-Until "false"',  # a clock may be ahead of a mirror; signatures are checked all the same

        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*", codename, "-", sources[0].line(),
    )  # fmt: skip
    with tempfile.TemporaryFile() as tar:
        ended = run_logged(command, report, timeout_s=_BOOTSTRAP_TIMEOUT_S, stdout=tar)
        if not ended.ok:
            raise RuntimeError(f"making an image of {codename}: {ended.describe(_BOOTSTRAP_TIMEOUT_S)}")
        tar.seek(0)
        outer.client.api.import_image_from_data(tar, _REPOSITORY, codename)


@contextmanager
def _folder(outer: Engine, image: str, caller: int) -> Iterator[Path]:
    """The caller's, with a short name, because sockets are in it. Root of a container empties it: what engines keep is theirs."""
    folder = Path(tempfile.mkdtemp(prefix="tlab-", dir="/var/tmp"))
    try:
        for name in ("data", "exec", "run", "tmp", "home"):
            (folder / name).mkdir(mode=0o700)
        _give(folder, caller)
        yield folder
    finally:
        # Podman's own clearing up goes on for a moment, and makes files anew
        empty = 'for turn in $(seq 100); do find "$1" -mindepth 1 -delete && exit; sleep 0.2; done; exit 1'
        outer.client.containers.run(
            image,
            ["sh", "-c", empty, "-", str(folder)],
            mounts=[_same(folder)],
            remove=True,
            network_mode="none",
        )
        shutil.rmtree(folder)


@contextmanager
def _running(outer: Engine, image: str, other: OtherEngine, folder: Path, caller: int) -> Iterator[Engine]:
    name = f"{_CONTAINER}-{folder.name}"
    devices = ["/dev/net/tun", "/dev/fuse"] if other.rootless else []
    built = [Mount("/usr/sbin/dockerd", str(other.dockerd), type="bind", read_only=True)] if other.dockerd else []
    api = outer.client.api
    host_config = api.create_host_config(
        cap_add=_CAPABILITIES,
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        device_cgroup_rules=["a *:* rwm"],
        devices=devices,
        pids_limit=_PIDS,  # rootless ones without control groups are in ours, with all that they run
        pid_mode="host",
        mounts=[_same(folder), _same(Path("/dev/shm")), _same(Path("/sys")), _same(Path("/sys/fs/cgroup")), *built],
    )
    api.create_container(
        image,
        ["sh", "-euc", _SCRIPTS[other.program, other.rootless], "engine", str(folder), str(caller)],
        name=name,
        environment={"HOME": str(folder / "home"), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"},
        host_config={**host_config, "MaskedPaths": [], "ReadonlyPaths": []},
    )
    container = outer.client.containers.get(name)
    container.start()
    try:
        inner = _answering(container, folder / "socket", other, caller)
        try:
            yield inner
        finally:
            # their processes are in groups of their own, and would outlive the engine
            for left in inner.client.api.containers(all=True):
                remove_container(inner, left["Id"])
            inner.close()
    finally:
        container.stop(timeout=10)
        remove_container(outer, name)


def _answering(container: docker.models.containers.Container, socket: Path, other: OtherEngine, caller: int) -> Engine:
    """The engine, as soon as it answers, and its socket the caller's to use."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            if not other.rootless and socket.exists():
                container.exec_run(["sh", "-c", f"chgrp {caller} {socket}; chmod 660 {socket}"])
            return open_engine(Endpoint(f"unix://{socket}", "a test's"))
        except OSError as error:
            container.reload()
            if container.status != "running" or time.monotonic() > deadline:
                raise RuntimeError(f"{other.id} does not answer ({error}): {container.logs(tail=20).decode()}") from error
            time.sleep(0.1)


def _give(folder: Path, caller: int) -> None:
    for path in (folder, *folder.iterdir()):
        if path.stat().st_uid != caller:
            os.chown(path, caller, caller)


def _same(path: Path) -> Mount:
    return Mount(str(path), str(path), type="bind")
