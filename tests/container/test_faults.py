"""Exceptions of docker's client become our own errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker.errors
import pytest
import requests
import urllib3

from testronaut_lab.container.engine.connect import Engine, connect
from testronaut_lab.container.engine.faults import CLIENT_ERRORS, mounting, translate, translated
from testronaut_lab.errors import EngineError, FilesUnseen, SessionLost, UsageError


def api_error(status: int, said: str) -> docker.errors.APIError:
    response = requests.Response()
    response.status_code = status
    return docker.errors.APIError("raised", response=response, explanation=said)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    connected = connect()
    yield connected
    connected.close()


@pytest.mark.parametrize(
    ("error", "becomes", "meaning"),
    [
        (docker.errors.ImageNotFound("no"), EngineError, "there is no such image"),
        (api_error(404, "No such container: x"), SessionLost, "the container is gone"),
        (api_error(404, "No such exec instance: x"), SessionLost, "the command's container is gone"),
        (api_error(409, "Container x is not running"), SessionLost, "does not run any more"),
        (api_error(409, "container x is not running"), SessionLost, "does not run any more"),  # Docker 28
        (api_error(404, "NotFound: process does not exist x: not found"), SessionLost, "the command's container is gone"),
        (api_error(500, 'exec: "xz": executable file not found in $PATH'), EngineError, "cannot unpack xz"),
        (api_error(500, 'invalid entry name "../x"'), UsageError, "a name in the archive leads out of it"),
        (api_error(404, 'no container with name or ID "x" found: no such container'), SessionLost, "container is gone"),
        (api_error(500, "can only create exec sessions on running containers"), SessionLost, "does not run any more"),
        (api_error(409, "can only kill running containers. x is in state stopped"), SessionLost, "does not run any more"),
        (api_error(409, "Container x is paused"), SessionLost, "is paused"),
        (api_error(500, "write /x: no space left on device"), EngineError, "disk is full"),
        (api_error(400, "client version 1.99 is too new"), EngineError, "do not speak the same version"),
        (docker.errors.NotFound("no"), EngineError, "knows of no such thing"),
        (api_error(500, "boom"), EngineError, "the engine refused: boom"),
        (requests.exceptions.ReadTimeout(), EngineError, "did not answer in time"),
        (requests.exceptions.ConnectionError("Read timed out."), EngineError, "did not answer in time"),
        (requests.exceptions.ConnectionError("reset"), EngineError, "connection to the engine was lost"),
        (urllib3.exceptions.ProtocolError("cut"), EngineError, "connection to the engine was lost"),
        (docker.errors.DockerException("odd"), EngineError, "could not be used: odd"),
    ],
)
def test_each_error_says_what_was_attempted_and_what_it_means(error: Exception, becomes: type, meaning: str) -> None:
    ours = translate(error, "starting container x")
    assert type(ours) is becomes
    assert ours.message.startswith("starting container x: ")
    assert meaning in ours.message
    assert ours.hint


def test_every_error_that_docker_defines_is_translated() -> None:
    defined = [e for e in vars(docker.errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert len(defined) > 10
    assert [error.__name__ for error in defined if not issubclass(error, CLIENT_ERRORS)] == []


def test_our_own_errors_and_bugs_pass_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), translated("dividing"):
        raise ZeroDivisionError
    with pytest.raises(TypeError, match="not an error of docker's client"):
        translate(ValueError("x"), "trying")


@pytest.mark.engine
def test_a_real_engine_that_knows_no_such_container_means_a_lost_session(engine: Engine) -> None:
    with pytest.raises(SessionLost, match="looking at it: the container is gone"), translated("looking at it"):
        engine.client.api.inspect_container("h3-there-is-none")


@pytest.mark.engine
def test_a_real_engine_that_has_no_such_image_says_so(engine: Engine) -> None:
    with pytest.raises(EngineError, match="there is no such image"), translated("starting"):
        engine.client.containers.create("h3-there-is-none:1")


@pytest.mark.parametrize(
    "said",
    [
        'invalid mount config for type "bind": bind source path does not exist: {}',
        "statfs {}: no such file or directory",
        'error mounting "{}" to rootfs at "/etc/passwd": not a directory',
    ],
)
def test_a_mount_that_the_engine_does_not_find_and_that_is_here_is_told_as_unseen(said: str, tmp_path: Path) -> None:
    with pytest.raises(FilesUnseen, match="creating x: the engine cannot see our files") as caught:
        with mounting("creating x", [tmp_path / "other", tmp_path]):
            raise api_error(400, said.format(tmp_path))
    assert "TESTRONAUT_LAB_SESSIONS" in (caught.value.hint or "")


def test_a_mount_that_is_not_here_either_is_what_the_engine_says(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(EngineError, match="the engine refused") as caught, mounting("creating x", [gone]):
        raise api_error(400, f"bind source path does not exist: {gone}")
    assert not isinstance(caught.value, FilesUnseen)
