"""One plain shell, the truth that a session is compared with: it reads the texts of steps in a container of the same image.

The container's first process waits for runs and starts a new shell for each, in an empty workspace and an empty /tmp, with FIFOs
for its streams and an empty file for its stdin. Nothing of the program under test takes part.
"""

from __future__ import annotations

import os
import select
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from docker.types import Mount, Ulimit

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.security import STEP_ULIMITS, step_tmpfs

_MEMORY_BYTES = 512 * 1024 * 1024
_SCRATCH = ("workspace", "tmp", "home")
# A shell is the leader of a session of its own, so that `kill 0` in a text ends nobody else.
_RUNNER = r"""
unset OLDPWD SHLVL
exec 9>/ref/done 2>/dev/null
while read -r d; do
  ( exec setsid "$1" "/ref/$d/all" </ref/empty >"/ref/$d/out" 2>"/ref/$d/err" 9>&- )
  echo $? >&9
done </ref/next
"""


@dataclass(frozen=True)
class Run:
    """Texts that one shell reads, one after the other: inline, as one script has them, or each by `.` from a file of its own.

    `apart` are the numbers of texts that `.` reads in either case, because what follows would be read as a part of them.
    """

    texts: tuple[str, ...]
    dotted: bool
    apart: frozenset[int] = frozenset()
    files: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path, inside: str) -> None:
        lines = []
        for number, text in enumerate(self.texts):
            is_last = number + 1 == len(self.texts)
            if self.dotted or (number in self.apart and not is_last):
                (folder / str(number)).write_text(text)
                lines.append(f". {inside}/{number}\n")
            else:
                lines.append(text if is_last else text.removesuffix("\n") + "\n")
        (folder / "all").write_text("".join(lines))


@dataclass(frozen=True)
class Seen:
    """What a run wrote, and its exit status."""

    out: str
    err: str
    code: int


class PlainShell:
    """Makes runs, one after the other, as the user and with the environment that a session's steps have."""

    def __init__(self, folder: Path, owner: tuple[int, int], shell: str) -> None:
        self._folder, self._owner, self.shell = folder, owner, shell
        self._next, self._done = (os.open(folder / name, os.O_RDWR | os.O_CLOEXEC) for name in ("next", "done"))
        self._runs = 0

    def close(self) -> None:
        os.close(self._next)
        os.close(self._done)

    def run(self, run: Run) -> Seen:
        """Make a run. Returns when its shell has ended, and everybody who held one of its streams."""
        self._runs += 1
        name = f"run-{self._runs}"
        here = self._folder / name
        here.mkdir()
        run.write(here, f"/ref/{name}")
        clear([self._folder / each for each in _SCRATCH])
        for path, text in run.files.items():
            (self._folder / "workspace" / path).write_text(text)
            os.chown(self._folder / "workspace" / path, *self._owner)
        try:
            out, err = self._read(here, name)
        finally:
            shutil.rmtree(here)
        return Seen(out, err, int(os.read(self._done, 100)))

    def _read(self, here: Path, name: str) -> tuple[str, str]:
        written = {}
        for stream in ("out", "err"):
            os.mkfifo(here / stream)
            os.chmod(here / stream, 0o666)
            written[os.open(here / stream, os.O_RDONLY | os.O_NONBLOCK)] = b""
        poll = select.poll()
        for fd in written:
            poll.register(fd, select.POLLIN)
        os.write(self._next, f"{name}\n".encode())
        is_open = set(written)
        while is_open:
            for fd, _ in poll.poll():
                data = os.read(fd, 1 << 16)
                written[fd] += data
                if not data:
                    poll.unregister(fd)
                    is_open.remove(fd)
        for fd in written:
            os.close(fd)
        out, err = (data.decode(errors="backslashreplace") for data in written.values())
        return out, err


def clear(folders: list[Path]) -> None:
    """Remove what is in them."""
    for folder in folders:
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)


@contextmanager
def open_plain_shell(engine: Engine, image_id: str, folder: Path, shell: str, env: Mapping[str, str]) -> Iterator[PlainShell]:
    """`shell` is the name of the program; `folder` is where scripts lie meanwhile."""
    uid, gid = owner = (os.getuid() or 1000, os.getgid() or 1000)
    folder.chmod(0o755)
    mounts = [Mount("/ref", str(folder), type="bind")]
    for name in _SCRATCH:
        (folder / name).mkdir()
        os.chown(folder / name, *owner)
        mounts.append(Mount({"home": "/home/lab"}.get(name, f"/{name}"), str(folder / name), type="bind"))
    (folder / "empty").touch()
    for name in ("next", "done"):
        os.mkfifo(folder / name)
        os.chown(folder / name, *owner)
    plain = PlainShell(folder, owner, shell)
    container = engine.client.containers.run(
        image_id, ["sh", "-c", _RUNNER, "sh", shell], detach=True, network_mode="none", hostname="lab", cap_drop=["ALL"],
        security_opt=["no-new-privileges"], mounts=mounts, remove=True, user=f"{uid}:{gid}", environment=dict(env),
        read_only=True, tmpfs=step_tmpfs(_MEMORY_BYTES), working_dir="/workspace", stop_signal="KILL",
        ulimits=[Ulimit(name=each.name, soft=each.soft, hard=each.hard) for each in STEP_ULIMITS],
    )  # fmt: skip
    try:
        yield plain
    finally:
        container.remove(force=True)
        plain.close()
