"""Finds an engine, connects to it and agrees on a version of its API.

Only local engines over a unix socket are supported, because steps share directories with the host. `setup.py` brings an engine
up; `container/manager.py`, `container/image/resolve.py` and `container/image/builder.py` use it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import docker
import docker.constants
import requests

from testronaut_lab.container.engine.faults import CLIENT_ERRORS, STATUS_HINT, explanation, is_timeout, translated
from testronaut_lab.container.engine.pace import Pace
from testronaut_lab.container.engine.reach import denied_hint, refused
from testronaut_lab.errors import EngineError, ErrorKind
from testronaut_lab.model.result import EngineInfo

DEFAULT_SOCKET = Path("/var/run/docker.sock")
OLDEST_API = "1.40"  # Docker 19.03
NEWEST_API: str = docker.constants.DEFAULT_DOCKER_API_VERSION
CALL_TIMEOUT_S = 60
HURRIED_CALL_TIMEOUT_S = 10.0
_PROBE_TIMEOUT_S = 30.0
_SERVER = re.compile(r"(Docker|Libpod)/(\S+) \(linux\)")
_NAMES = {"Docker": "docker", "Libpod": "podman"}
_API = re.compile(r"\d+\.\d+")

UP_HINT = "testronaut-lab engine up"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an engine may be. `origin` says in words where the address comes from.

    An address that the user `named` (DOCKER_HOST, a docker context) must answer; other addresses may be dead.
    """

    url: str
    origin: str
    named: bool = False

    @property
    def socket_path(self) -> str:
        """The path of the unix socket. Raises EngineError for any other kind of address."""
        scheme, _, path = self.url.partition("://")
        if scheme == "unix" and path.startswith("/"):
            return path
        raise refused(self.url, self.origin)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An endpoint that was tried, and the answer in words. `denied`: a socket exists, but we may not open it."""

    endpoint: Endpoint
    said: str
    denied: bool = False

    def __str__(self) -> str:
        return f"{self.endpoint.url} ({self.endpoint.origin}): {self.said}"


class NoEngine(EngineError):
    """No engine answered. `attempts` are the endpoints that were tried, in order."""

    kind = ErrorKind.NO_ENGINE

    def __init__(self, attempts: tuple[Attempt, ...]) -> None:
        tried = "; ".join(str(attempt) for attempt in attempts)
        super().__init__(f"looking for a container engine: none answered; tried {tried}", hint=_hint(attempts))
        self.attempts = attempts

    @property
    def denied(self) -> bool:
        """Whether a socket exists that we may not open."""
        return any(attempt.denied for attempt in self.attempts)


@dataclass(frozen=True)
class Engine:
    """A connected engine. Make one for a process and pass it on. Several threads may use it, but not a forked process.

    `pace` has the measured speed of this engine.
    """

    client: docker.DockerClient
    info: EngineInfo
    socket_path: str
    speaks_libpod: bool = False
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        self.client.api.hooks["response"].append(self._note)

    @cached_property
    def hurried(self) -> Engine:
        """The same engine, with a short timeout, for calls that a step waits for.

        The timeout is 10 s, or 20 times the slowest answer so far if that is longer.
        """
        base_url, timeout_s = f"unix://{self.socket_path}", self.pace.deadline_s(HURRIED_CALL_TIMEOUT_S)
        client = docker.DockerClient(base_url=base_url, version=self.info.api, timeout=timeout_s)
        return Engine(client, self.info, self.socket_path, self.speaks_libpod, self.pace)

    @cached_property
    def kernel(self) -> str:
        """The kernel's release, as `uname -r` prints it in containers; empty if the engine does not tell."""
        with translated("asking the engine for its kernel"):
            return str(self.client.info().get("KernelVersion") or "")

    def _note(self, response: requests.Response, **_: object) -> None:
        self.pace.note_call(response.url, response.elapsed.total_seconds())
        if (hurried := self.__dict__.get("hurried")) is not None:
            hurried.client.api.timeout = self.pace.deadline_s(HURRIED_CALL_TIMEOUT_S)

    def close(self) -> None:
        self.client.close()
        if (hurried := self.__dict__.pop("hurried", None)) is not None:
            hurried.close()


def find_endpoints(environ: Mapping[str, str] | None = None, home: Path | None = None) -> list[Endpoint]:
    """Return where to look for an engine, in order: DOCKER_HOST, docker's current context, the default and rootless sockets.

    If the user named an engine, it is the only one. Raises EngineError for a docker context that cannot be read.
    """
    environ = os.environ if environ is None else environ
    home = home or Path(environ.get("HOME") or Path.home())
    if host := environ.get("DOCKER_HOST"):
        return [Endpoint(host, "DOCKER_HOST", named=True)]
    if context := _context(environ, home):
        return [context]
    return [Endpoint(f"unix://{path}", origin) for path, origin in _sockets(environ, home)]


def connect(environ: Mapping[str, str] | None = None, home: Path | None = None) -> Engine:
    """Connect to the first endpoint that answers. Raises NoEngine, with every endpoint that was tried and its answer.

    Raises EngineError at once for an engine that answers but cannot be used (its API is too old or too new).
    """
    attempts: list[Attempt] = []
    for endpoint in find_endpoints(environ, home):
        try:
            return open_engine(endpoint)
        except OSError as error:
            attempts.append(Attempt(endpoint, _in_words(error), error.errno in (errno.EACCES, errno.EPERM)))
    raise NoEngine(tuple(attempts))


def open_engine(endpoint: Endpoint) -> Engine:
    """Connect to this endpoint. Raises OSError if it does not speak to us, EngineError if it cannot be used."""
    _knock(endpoint.socket_path)
    where = f"{endpoint.url} ({endpoint.origin})"
    headers = _greeting(endpoint)
    speaks_libpod = "Libpod-Api-Version" in headers
    server, api = _SERVER.fullmatch(headers.get("Server", "")), headers.get("Api-Version", "")
    if server and _API.fullmatch(api) and _number(OLDEST_API) <= _number(api) <= _number(NEWEST_API):
        client = docker.DockerClient(base_url=endpoint.url, version=api, timeout=CALL_TIMEOUT_S)
        info = EngineInfo(name=_NAMES[server[1]], version=server[2], api=api, endpoint=where)
        return Engine(client, info, endpoint.socket_path, speaks_libpod)
    said = _version(endpoint)
    api = negotiate(str(said.get("MinAPIVersion", "1.12")), str(said["ApiVersion"]), endpoint)
    client = docker.DockerClient(base_url=endpoint.url, version=api, timeout=CALL_TIMEOUT_S)
    components = [str(part.get("Name", "")) for part in said.get("Components") or []]  # type: ignore[attr-defined]
    name = "podman" if any("podman" in component.lower() for component in components) else "docker"
    info = EngineInfo(name=name, version=str(said["Version"]), api=api, endpoint=where)
    return Engine(client, info, endpoint.socket_path, speaks_libpod)


def negotiate(oldest: str, newest: str, endpoint: Endpoint) -> str:
    """The newest version of the API that we share with an engine that speaks `oldest` to `newest`.

    Raises EngineError if there is none.
    """
    agreed = min(newest, NEWEST_API, key=_number)
    if _number(agreed) < _number(OLDEST_API):
        raise EngineError(
            f"connecting to {endpoint.url}: the engine is too old: it speaks API {newest}, {OLDEST_API} is needed",
            hint="install Docker 19.03 or newer",
        )
    if _number(agreed) < _number(oldest):
        raise EngineError(
            f"connecting to {endpoint.url}: the engine is too new: it speaks API {oldest} and up, we speak {NEWEST_API}",
            hint="pip install --upgrade docker testronaut-lab",
        )
    return agreed


def _greeting(endpoint: Endpoint) -> Mapping[str, str]:
    """The headers of the answer to a ping: they name the engine, its version and its newest API.

    A ping takes 1 ms. The full version takes 9 ms, because the engine asks all its parts.
    """
    client = docker.APIClient(base_url=endpoint.url, version=OLDEST_API, timeout=_PROBE_TIMEOUT_S)
    try:
        headers: Mapping[str, str] = client.get(f"{client.base_url}/_ping", timeout=_PROBE_TIMEOUT_S).headers
    except CLIENT_ERRORS as error:
        raise _no_engine_there(error) from error
    finally:
        client.close()
    return headers


def _version(endpoint: Endpoint) -> Mapping[str, object]:
    client = docker.APIClient(base_url=endpoint.url, version=OLDEST_API, timeout=_PROBE_TIMEOUT_S)
    try:
        said: object = client.version(api_version=False)
    except (*CLIENT_ERRORS, LookupError, TypeError) as error:  # docker's client fails so on unexpected JSON of an error
        raise _no_engine_there(error) from error
    finally:
        client.close()
    if not isinstance(said, dict) or "ApiVersion" not in said or "Version" not in said:
        raise OSError(f"it did not answer as an engine does: {said!r:.200}")
    return said


def _no_engine_there(error: Exception) -> OSError:
    if is_timeout(error):
        return TimeoutError(f"it took the connection and did not answer within {_PROBE_TIMEOUT_S:g} s")
    return OSError(f"it did not answer as an engine does: {explanation(error)}")


def _knock(path: str) -> None:
    # A plain connect tells ENOENT, EACCES and ECONNREFUSED apart. Docker's client hides them three exceptions deep, and leaves
    # its socket open if it cannot connect.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_PROBE_TIMEOUT_S)
        sock.connect(path)


def _sockets(environ: Mapping[str, str], home: Path) -> list[tuple[Path, str]]:
    places = [(DEFAULT_SOCKET, "the default socket")]
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime:
        places.append((Path(runtime) / "docker.sock", "rootless docker's socket"))
    places.append((home / ".docker/run/docker.sock", "docker's socket in the home directory"))
    if runtime:
        places.append((Path(runtime) / "podman/podman.sock", "podman's socket"))
    return places


def _context(environ: Mapping[str, str], home: Path) -> Endpoint | None:
    """The endpoint of docker's current context; None for the default context."""
    folder = Path(environ.get("DOCKER_CONFIG") or home / ".docker")
    name, origin = environ.get("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
    if not name:
        config = folder / "config.json"
        name, origin = _text_at(config, ("currentContext",), missing=""), f"the current context in {config}"
    if not name or name == "default":
        return None
    meta = folder / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
    url = _text_at(meta, ("Endpoints", "docker", "Host"), missing=None)
    if not url:
        raise EngineError(f"looking for docker context {name!r} ({origin}): {meta} names no engine", hint="docker context ls")
    return Endpoint(url, f"docker context {name!r}, {origin}", named=True)


def _text_at(file: Path, keys: tuple[str, ...], *, missing: str | None) -> str | None:
    try:
        node = json.loads(file.read_text())
    except FileNotFoundError:
        return missing
    except (OSError, ValueError) as error:
        raise EngineError(f"reading docker's configuration {file}: {error}", hint=f"cat {shlex.quote(str(file))}") from error
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, str) else missing


def _hint(attempts: tuple[Attempt, ...]) -> str:
    for attempt in attempts:
        if attempt.denied:
            return denied_hint(Path(attempt.endpoint.socket_path))
    named = [attempt.endpoint.origin for attempt in attempts if attempt.endpoint.named]
    return f"start that engine, or choose another one ({named[0]} names it); {STATUS_HINT}" if named else UP_HINT


def _in_words(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return "there is no such socket"
        case errno.ECONNREFUSED:
            return "nothing listens there"
        case errno.EACCES | errno.EPERM:
            return "permission denied"
    return f"it did not take the connection within {_PROBE_TIMEOUT_S:g} s" if str(error) == "timed out" else str(error)


def _number(version: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version.split("."))
    except ValueError as error:
        raise EngineError(f"the engine's API version {version!r} is not a number", hint=STATUS_HINT) from error
