"""Job containers as runners of GitLab and GitHub make them: the engine's socket is mounted, and this program runs inside.

The programs of this machine are mounted read-only, so that nothing has to be installed: /usr and the libraries, the Python that
runs the tests, and the source. The sessions folder, the home directory and /dev/shm are the container's own unless shared.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from docker.types import Mount

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.hijack import start_exec
from testronaut_lab.container.removal import remove_container

SOURCE = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Said:
    status: int
    out: str
    err: str


class Job:
    """A started job container; `run` runs one command in it, `kill` ends it with all that runs in it, also twice."""

    def __init__(
        self,
        engine: Engine,
        image_id: str,
        project: Path,
        shared: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        pid_mode: str | None = None,
        cap_add: Sequence[str] = (),
    ) -> None:
        """`project` is at /builds in it, another path than here; `shared` folders are at the same path."""
        self._engine = engine
        self._api = engine.client.api
        programs = {SOURCE, Path(sys.prefix), Path(sys.base_prefix), Path("/usr"), Path("/etc/alternatives")}
        mounts = [Mount(str(path), str(path.resolve()), type="bind", read_only=True) for path in _outermost(programs)]
        mounts += [
            Mount(str(path), str(path.resolve()), type="bind", read_only=True)
            for path in (Path("/lib"), Path("/lib64"))
            if path.exists()
        ]
        mounts += [Mount(str(path), str(path), type="bind") for path in shared]
        mounts.append(Mount("/builds", str(project), type="bind"))
        mounts.append(Mount("/var/run/docker.sock", engine.socket_path, type="bind"))
        self._id = engine.client.containers.create(
            image_id,
            ["sleep", "600"],
            mounts=mounts,
            environment={"HOME": "/root", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(SOURCE), **(env or {})},
            network_mode="none",
            init=True,
            pid_mode=pid_mode,
            cap_add=list(cap_add),
        ).id
        self._api.start(self._id)

    def run(self, *words: str, cwd: str = "/builds") -> Said:
        """Run this Python with these words and wait for its end."""
        created = self._api.exec_create(self._id, [sys.executable, *words], workdir=cwd)
        out, err = self._api.exec_start(created, demux=True)
        status = self._api.exec_inspect(created)["ExitCode"]
        return Said(status, (out or b"").decode(), (err or b"").decode())

    def start(self, *words: str) -> str:
        """Start this Python with these words, and give the first line that it prints."""
        created = self._api.exec_create(self._id, [sys.executable, *words])
        attached = start_exec(self._engine.socket_path, self._api._version, created["Id"], self._engine.pace)
        said = b""
        try:
            while b"\n" not in said:  # an EOFError says that it ended before
                select.select([attached], [], [])
                said += b"".join(data for stream, data in attached.read() if stream == 1)
        finally:
            attached.close()
        return said.decode().partition("\n")[0]

    def kill(self) -> None:
        remove_container(self._engine, self._id)


def _outermost(paths: set[Path]) -> list[Path]:
    """Those that lie in no other one, nested mounts being no use."""
    inner = {path for path in paths for other in paths if path != other and path.is_relative_to(other)}
    return sorted(path for path in paths - inner if path.exists())
