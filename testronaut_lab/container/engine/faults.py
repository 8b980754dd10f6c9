"""Translates the exceptions of docker's client to our own errors, by one table. Use `translated` around every engine call.

This module decides the text of an error, not what the error means for a running step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker.errors
import requests.exceptions
import urllib3.exceptions

from testronaut_lab.errors import EngineError, FilesUnseen, LabError, SessionLost, UsageError

STATUS_HINT = "testronaut-lab engine status"

# APIError is a requests.HTTPError too. The errors of urllib3 come from streams, where requests does not wrap them.
CLIENT_ERRORS = (
    docker.errors.DockerException,
    docker.errors.StreamParseError,
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
)


# The engine's words for a mount whose source does not exist on its host.
_UNSEEN = ("bind source path does not exist", "no such file or directory", "not a directory")


@dataclass(frozen=True, slots=True)
class _Fault:
    """An error of one of `types` with `word` in its text becomes `becomes("WHAT: meaning")`."""

    types: tuple[type[Exception], ...]
    word: str
    becomes: Callable[..., LabError]
    meaning: str
    hint: str | None = STATUS_HINT


_API = (docker.errors.APIError,)
_TIMEOUTS = (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
_CONNECTION = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError)

_IMAGE_HINT = "a name such as debian:bookworm-slim"

# First match wins.
_FAULTS = (
    _Fault(CLIENT_ERRORS, "invalid reference format", UsageError, "that is not a name of an image", _IMAGE_HINT),
    _Fault(CLIENT_ERRORS, "resource id was not provided", UsageError, "it has no name", _IMAGE_HINT),  # docker's client itself
    _Fault(_API, 'exec: "xz"', EngineError, "the engine's machine cannot unpack xz", "sudo apt-get install xz-utils"),
    _Fault(_API, "invalid entry name", UsageError, "a name in the archive leads out of it", "tar -tf FILE"),  # Docker 28
    _Fault((docker.errors.ImageNotFound,), "", EngineError, "there is no such image on the engine", "testronaut-lab images"),
    _Fault(_API, "no such container", SessionLost, "the container is gone"),
    _Fault(_API, "no such exec", SessionLost, "the command's container is gone"),
    _Fault(_API, "process does not exist", SessionLost, "the command's container is gone"),  # Docker 28, of an ended command
    _Fault(_API, "is not running", SessionLost, "the container does not run any more"),
    _Fault(_API, "on running containers", SessionLost, "the container does not run any more"),  # Podman
    _Fault(_API, "kill running containers", SessionLost, "the container does not run any more"),
    _Fault(_API, "is paused", SessionLost, "the container is paused"),
    _Fault(
        _API,
        'exec: "/bin/sh"',
        EngineError,
        "the image has no /bin/sh that starts, and the first process of a session needs it",
        "testronaut-lab images",
    ),
    _Fault(_API, "no space left", EngineError, "the engine's disk is full", "testronaut-lab clean"),
    _Fault(_API, "is too old", EngineError, "engine and client do not speak the same version of the API"),
    _Fault(_API, "is too new", EngineError, "engine and client do not speak the same version of the API"),
    _Fault((docker.errors.NotFound,), "", EngineError, "the engine knows of no such thing"),
    _Fault(_API, "", EngineError, "the engine refused"),
    _Fault(_TIMEOUTS, "", EngineError, "the engine did not answer in time"),
    _Fault(_CONNECTION, "read timed out", EngineError, "the engine did not answer in time"),
    _Fault(_CONNECTION, "", EngineError, "the connection to the engine was lost"),
    _Fault(CLIENT_ERRORS, "", EngineError, "the engine could not be used"),
)


def translate(error: Exception, what: str) -> LabError:
    """Return our error for an exception of docker's client. `what` names the attempt ("starting container x")."""
    said = explanation(error)
    for fault in _FAULTS:
        if isinstance(error, fault.types) and fault.word in said.lower():
            return fault.becomes(f"{what}: {fault.meaning}: {said}", hint=fault.hint)
    raise TypeError(f"not an error of docker's client: {error!r}")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise LabError for every exception of docker's client in the block. Our own errors and plain bugs pass unchanged."""
    try:
        yield
    except CLIENT_ERRORS as error:
        raise translate(error, what) from error


def is_timeout(error: Exception) -> bool:
    """Whether the engine did not answer in time; requests wraps some of these in a ConnectionError."""
    return isinstance(error, _TIMEOUTS) or (isinstance(error, _CONNECTION) and "timed out" in str(error))


def is_refusal(error: LabError) -> bool:
    """Whether the engine answered and refused. An engine that does not even refuse is gone."""
    return isinstance(error.__cause__, docker.errors.APIError)


@contextmanager
def mounting(what: str, sources: Iterable[Path]) -> Iterator[None]:
    """Like `translated`, for a container that mounts these files. Raises FilesUnseen if the engine cannot see one of them."""
    try:
        yield
    except CLIENT_ERRORS as error:
        said = explanation(error)
        if any(word in said for word in _UNSEEN):
            for source in sources:
                if str(source) in said and source.exists():
                    raise FilesUnseen(what, str(source)) from error
        raise translate(error, what) from error


def explanation(error: Exception) -> str:
    """The engine's own words if it answered, else the text of the error, on one line."""
    said = error.explanation if isinstance(error, docker.errors.APIError) and error.explanation else str(error)
    return " ".join(str(said).split()) or type(error).__name__
