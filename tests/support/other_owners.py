"""Other processes with a session, to be killed, and what the engine has of sessions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from testronaut_lab.container.engine.connect import Engine

SESSION = """
import signal, sys
from pathlib import Path
from testronaut_lab.store.blobs import BlobStore
from testronaut_lab.execution.factory import SessionFactory, SessionSettings
bench = SessionFactory(lambda body: None, BlobStore(Path(sys.argv[2])), orphan_timeout_s=float(sys.argv[4]))
session = bench.session(sys.argv[1], SessionSettings(network=sys.argv[3]), {})
print(session.container_name, flush=True)
signal.pause()
"""


class Owner:
    """Another process with a session; with `within`, words before its command line, in another place (`unshare …`)."""

    def __init__(
        self,
        image_id: str,
        blobs: Path,
        network: str = "none",
        *,
        orphan_timeout_s: float = 3600.0,
        within: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        argv = [*within, sys.executable, "-c", SESSION, image_id, str(blobs), network, str(orphan_timeout_s)]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
        )
        assert self.process.stdout is not None
        self.container = self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def containers(engine: Engine) -> list[str]:
    return [name.removeprefix("/") for entry in engine.client.api.containers(all=True) for name in entry["Names"]]


def networks(engine: Engine) -> list[str]:
    return [network["Name"] for network in engine.client.api.networks()]
