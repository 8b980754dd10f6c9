"""cgroup v2 with systemd, on a machine that has neither: a kernel of its own in User-Mode Linux runs a chosen part of the tests.

`python tests/engines/userlinux.py` makes a disk with Debian's Docker and our libraries (once, then it is cached), boots it,
runs `CHOSEN` as root in it, measures a session beside `docker run`, and writes the section "cgroup v2 with systemd" of
docs/engines.md. One CPU, no network, and every system call is slow: the tests there are about control groups, not about time.
Needs root, and of Debian the packages user-mode-linux and mmdebstrap.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path
from v2section import chosen, read_outcome, section, write_section

from testronaut_lab.container.engine.connect import connect
from testronaut_lab.container.image.bootstrap import archive_sources, read_sources
from testronaut_lab.container.image.resolve import resolve
from testronaut_lab.model.plan import ImageSpec
from testronaut_lab.model.releases import Release

ROOT = Path(__file__).parents[2]
CODENAME = "trixie"
PACKAGES = "systemd-sysv,dbus,udev,kmod,iproute2,iptables,procps,ca-certificates,docker.io,docker-cli,python3"
KERNEL_MODULES = "overlay bridge veth br_netfilter nf_nat xt_MASQUERADE xt_conntrack xt_addrtype"
MODULES = Path("/usr/lib/uml/modules")
DEVELOPMENT = ("hypothesis", "pytest-asyncio", "pytest-timeout")  # what the tests there need beside the extra `pytest`
NEEDED = {"linux.uml": "user-mode-linux", "mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"}
DISK_BYTES = 6 * 2**30
MEMORY = "3072M"
BOOT_TIMEOUT_S = 3600.0
ROUNDS, STEPS = 3, 20  # of what is measured: everything takes ten times as long there

_UNIT = """\
[Unit]
After=basic.target dbus.service
[Service]
Type=oneshot
ExecStart=/bin/sh /opt/start
TimeoutStartSec=infinity
"""
_START = """\
mkdir -p /share
mount -t hostfs -o "$(tr ' ' '\\n' </proc/cmdline | sed -n 's/^share=//p')" none /share
bash /share/job >/share/log 2>&1
echo $? >/share/status
sync
poweroff -f
"""
_JOB = """\
set -eu
modprobe -a {modules}
systemctl start docker
docker load -i /share/images.tar
cd /share/source
export PYTHONPATH=/opt/lab:/share/source PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8
export HOME=/root HYPOTHESIS_STORAGE_DIRECTORY=/root/hypothesis
{{ uname -r; systemctl --version | head -n 1; docker version -f '{{{{.Server.Version}}}}'
  docker info -f '{{{{.CgroupVersion}}}} {{{{.CgroupDriver}}}}'; cat /sys/fs/cgroup/cgroup.controllers; }} >/share/machine
python3 -m pytest -p no:cacheprovider -v --tb=short --timeout 1200 --durations=0 \\
  -m engine --junitxml=/share/junit.xml {tests} || true
python3 tests/engines/figures.py {rounds} {steps} >/share/figures.json
"""


def main() -> None:
    missing = {package for program, package in NEEDED.items() if shutil.which(program) is None}
    if os.geteuid() != 0:
        sys.exit("making the disk of another machine needs root\nhint: sudo make engines V2=1")
    if missing:
        sys.exit(f"{', '.join(sorted(missing))}: not installed\nhint: apt-get install -y {' '.join(sorted(missing))}")
    disk = cached_disk()
    with tempfile.TemporaryDirectory(prefix="tlab-userlinux-") as folder:
        share = Path(folder)
        save_image(share / "images.tar")
        tests = " ".join(chosen())
        copy_source(share / "source")
        (share / "job").write_text(_JOB.format(modules=KERNEL_MODULES, tests=tests, rounds=ROUNDS, steps=STEPS))
        boot(disk, share)
        outcome = read_outcome(share)
        if outcome.failed:
            print((share / "log").read_text(errors="replace").partition("= FAILURES =")[2])
    write_section(section(outcome))
    print(section(outcome))
    sys.exit(1 if outcome.failed else 0)


def save_image(file: Path) -> None:
    """Write the base image of the running engine to a tar file, by its local name."""
    engine = connect()
    try:
        image = engine.client.images.get(resolve(engine, ImageSpec("debian:bookworm-slim"), print).info.id)
        name = str(image.tags[0])
        with file.open("wb") as tar:
            tar.writelines(image.save(named=name))
    finally:
        engine.close()


def copy_source(folder: Path) -> None:
    """What git knows and does not ignore, as it is now: whoever works on it meanwhile changes nothing."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def cached_disk() -> Path:
    """The disk with everything in it but us; made in two minutes where there is none of just this content."""
    libraries = requirements()
    content = "\0".join(
        (CODENAME, PACKAGES, _UNIT, _START, *libraries, (ROOT / "constraints.txt").read_text(), str(list(MODULES.iterdir())))
    )
    cache = user_cache_path("testronaut-lab") / "userlinux"
    disk = cache / f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.ext4"
    if disk.exists():
        return disk
    cache.mkdir(parents=True, exist_ok=True)
    for old in cache.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        root, half = Path(folder) / "root", Path(folder) / "disk"
        make_root(root, libraries)
        with half.open("wb") as file:
            file.truncate(DISK_BYTES)
        run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(half))
        half.rename(disk)
    return disk


def requirements() -> Sequence[str]:
    """What the package and the chosen tests need, as pip reads it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *optional["pytest"], *(each for each in optional["dev"] if each.startswith(DEVELOPMENT))]


def make_root(root: Path, libraries: Sequence[str]) -> None:
    """A Debian that does the job at its start and then switches itself off."""
    host = platform.freedesktop_os_release()
    sources = archive_sources(Release("debian", CODENAME), read_sources(), host.get("ID", ""), host.get("VERSION_CODENAME", ""))
    run(
        "unshare", "--mount", "--propagation", "private", "mmdebstrap", "--variant=minbase", f"--include={PACKAGES}",
        '--aptopt=Acquire::Languages "none"', "--dpkgopt=path-exclude=/usr/share/doc/*", CODENAME, str(root), sources[0].line(),
    )  # fmt: skip
    version = (root / "usr/bin/python3").readlink().name.removeprefix("python")
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--target", str(root / "opt/lab"), "--python-version", version,
        "--only-binary", ":all:", "--constraint", str(ROOT / "constraints.txt"), *libraries,
    )  # fmt: skip
    shutil.copytree(MODULES, root / "usr/lib/modules", dirs_exist_ok=True)
    for kernel in MODULES.iterdir():
        run("chroot", str(root), "depmod", kernel.name)
    run("chroot", str(root), "update-alternatives", "--quiet", "--set", "iptables", "/usr/sbin/iptables-legacy")
    run("chroot", str(root), "systemctl", "--quiet", "disable", "docker.service", "docker.socket", "containerd.service")
    (root / "etc/fstab").write_text("/dev/ubda / ext4 defaults 0 0\n")
    unit = root / "etc/systemd/system/job.service"
    unit.write_text(_UNIT)
    (root / "opt/start").write_text(_START)
    wanted = unit.parent / "multi-user.target.wants" / unit.name
    wanted.parent.mkdir(exist_ok=True)
    wanted.symlink_to(f"/{unit.relative_to(root)}")


def boot(disk: Path, share: Path) -> None:
    """Boot it with `share` as its folder, and wait until it has switched itself off. The disk is not changed."""
    argv = (
        "linux.uml", f"mem={MEMORY}", f"ubd0={share / 'changes'},{disk}", "root=/dev/ubda", "rw", f"share={share}",
        "con=null", "con0=null,fd:1", "ssl=null",
    )  # fmt: skip
    console = share / "console"
    with console.open("wb") as file:
        machine = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, "TMPDIR": "/dev/shm"},
            start_new_session=True,
        )
        try:
            machine.wait(BOOT_TIMEOUT_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(machine.pid, signal.SIGKILL)
    status = share / "status"
    if not status.exists() or status.read_text().strip() != "0":
        said = (share / "log").read_text(errors="replace") if (share / "log").exists() else console.read_text(errors="replace")
        sys.exit(f"the machine did not do its job; its last words:\n{said[-4000:]}")


def run(*argv: str) -> None:
    """Raises CalledProcessError; what the command says is shown."""
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
