"""Pulls an image from a registry, reports the engine's lines, and gives up at a deadline whatever the registry does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing

import docker.auth
from docker.utils import parse_repository_tag

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.faults import CLIENT_ERRORS, explanation

PULL_TIMEOUT_S = 900.0
STALL_TIMEOUT_S = 60.0
_PROGRESS_EVERY_S = 2.0

# The engine's words if it reached no registry at all; anything else is a registry's answer.
UNREACHABLE = re.compile(
    r"no such host|connection refused|i/o timeout|timeout exceeded|timed out|handshake|x509|certificate|unreachable|"
    r"no route to host|name resolution|server misbehaving|connection reset|proxyconnect|deadline exceeded|\bEOF\b",
    re.IGNORECASE,
)


class PullRefused(Exception):
    """The pull failed. `unreachable`: no registry answered."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.unreachable = bool(UNREACHABLE.search(said))


def pull(engine: Engine, ref: str, report: Callable[[str], None]) -> None:
    """Pull an image. Raises PullRefused with the engine's words; 60 s without progress count as unreachable."""
    report(f"pulling {ref}")
    deadline = time.monotonic() + PULL_TIMEOUT_S
    try:
        with closing(_messages(engine, ref)) as messages:
            for line in progress(messages):
                report(line)
                if time.monotonic() > deadline:
                    raise PullRefused(f"it took longer than {PULL_TIMEOUT_S:.0f} s, and was given up")
    except CLIENT_ERRORS as error:
        said = explanation(error)
        if "read timed out" in said.lower():
            said = f"timed out: nothing came for {STALL_TIMEOUT_S:.0f} s"
        raise PullRefused(said) from error


def progress(messages: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """Yield the lines of a pull, the progress of downloads only every 2 s. Raises PullRefused if the pull ends with an error."""
    shown = 0.0
    for message in messages:
        if "error" in message:
            raise PullRefused(str(message["error"]))
        if "progress" in message:
            if time.monotonic() - shown < _PROGRESS_EVERY_S:
                continue
            shown = time.monotonic()
        parts = (message.get("id"), message.get("status"), message.get("progress"))
        yield " ".join(str(part) for part in parts if part)


def _messages(engine: Engine, ref: str) -> Generator[Mapping[str, object]]:
    """Like `pull` of docker's client, but with a timeout: the client waits for ever if the registry is silent."""
    api = engine.client.api
    repository, tag = parse_repository_tag(ref)
    registry, _ = docker.auth.resolve_repository_name(repository)
    header = docker.auth.get_config_header(api, registry)
    response = api._post(
        api._url("/images/create"),
        params={"tag": tag or "latest", "fromImage": repository},
        headers={"X-Registry-Auth": header} if header else {},
        stream=True,
        timeout=STALL_TIMEOUT_S,
    )
    with response:
        api._raise_for_status(response)
        yield from api._stream_helper(response, decode=True)
