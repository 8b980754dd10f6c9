"""One plain shell, the truth that a session is compared with: it reads the texts of steps in a container of the same image.

A batch of runs costs one exec. Each run starts in an empty workspace and an empty /tmp, with pipes for its streams and an end
for its stdin, and leaves what it wrote and its exit status. Nothing of the program under test takes part.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from docker.models.containers import Container
from docker.types import Mount, Ulimit

from testronaut_lab.container.engine import Engine
from testronaut_lab.container.security import STEP_ULIMITS

_SCRATCH = ("workspace", "tmp", "home")
# the exec's own shell: whatever a run did is gone before the next, and who still holds a run's stream is waited for
_RUN_ALL = r"""
cd /
for d in /ref/run/*; do
  rm -rf /tmp/* /tmp/.[!.]* /workspace/* /workspace/.[!.]*
  cp="$d/files"
  [ -d "$cp" ] && for f in "$cp"/*; do cat "$f" >"/workspace/${f##*/}"; done
  cd /workspace; unset OLDPWD
  { { ( exec setsid "$1" "$d/all" </dev/null >&3 2>&4 3>&- 4>&- ); echo $? >"$d/code"; } 2>/dev/null 4>&1 |
    cat >"$d/err"; } 3>&1 |
    cat >"$d/out"
  cd /
done
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
        folder.mkdir()
        folder.chmod(0o777)
        lines = []
        for number, text in enumerate(self.texts):
            is_last = number + 1 == len(self.texts)
            if self.dotted or (number in self.apart and not is_last):
                (folder / str(number)).write_text(text)
                lines.append(f". {inside}/{number}\n")
            else:
                lines.append(text if is_last else text.removesuffix("\n") + "\n")
        (folder / "all").write_text("".join(lines))
        if self.files:
            (folder / "files").mkdir()
            for name, text in self.files.items():
                (folder / "files" / name).write_text(text)


@dataclass(frozen=True)
class Seen:
    """What a run wrote, and its exit status."""

    out: str
    err: str
    code: int


class PlainShell:
    """A container in which batches of runs are made, as the user and with the environment that a session's steps have."""

    def __init__(self, container: Container, folder: Path, user: str, shell: str) -> None:
        self._container, self._folder, self._user, self.shell = container, folder, user, shell

    def run(self, runs: Sequence[Run], env: Mapping[str, str]) -> list[Seen]:
        """What each of them did, in order."""
        top = self._folder / "run"
        shutil.rmtree(top, ignore_errors=True)
        top.mkdir()
        names = [f"{number:05}" for number in range(len(runs))]
        for name, run in zip(names, runs, strict=True):
            run.write(top / name, f"/ref/run/{name}")
        done = self._container.exec_run(
            ["sh", "-c", _RUN_ALL, "sh", self.shell], user=self._user, environment=dict(env), workdir="/"
        )
        assert done.output == b"", done.output.decode(errors="replace")
        return [self._seen(top / name) for name in names]

    @staticmethod
    def _seen(folder: Path) -> Seen:
        out, err = ((folder / name).read_bytes().decode(errors="backslashreplace") for name in ("out", "err"))
        return Seen(out, err, int((folder / "code").read_text()))


@contextmanager
def open_plain_shell(engine: Engine, image_id: str, folder: Path, shell: str) -> Iterator[PlainShell]:
    """`shell` is the name of the program; `folder` is where scripts and outputs lie meanwhile."""
    uid, gid = (os.getuid() or 1000, os.getgid() or 1000)
    mounts = [Mount("/ref", str(folder), type="bind")]
    folder.chmod(0o755)
    for name in _SCRATCH:
        (folder / name).mkdir()
        os.chown(folder / name, uid, gid)
        mounts.append(Mount({"home": "/home/lab"}.get(name, f"/{name}"), str(folder / name), type="bind"))
    container = engine.client.containers.run(
        image_id, ["sleep", "1000000"], detach=True, network_mode="none", hostname="lab", cap_drop=["ALL"],
        security_opt=["no-new-privileges"], mounts=mounts, remove=True,
        ulimits=[Ulimit(name=each.name, soft=each.soft, hard=each.hard) for each in STEP_ULIMITS], stop_signal="KILL",
    )  # fmt: skip
    try:
        yield PlainShell(container, folder, f"{uid}:{gid}", shell)
    finally:
        container.remove(force=True)
