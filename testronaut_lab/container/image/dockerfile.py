"""Builds images from a folder with a Dockerfile, by the engine alone, without the docker program.

We ask for a build each time. The engine's build cache knows what was built before, so a build without changes takes a moment.
Files in `.dockerignore` are left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import stat
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Final

import docker.errors
from docker.utils import tar

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.engine.faults import explanation, translated
from testronaut_lab.container.image.local import BUILD_REPOSITORY, KIND_LABEL, SOURCE_LABEL, ResolvedImage, look_up
from testronaut_lab.container.image.lock import exclusive
from testronaut_lab.container.image.pull import UNREACHABLE
from testronaut_lab.errors import EngineError, UsageError
from testronaut_lab.model.files import path_text

BUILD_TIMEOUT_S = 1800.0
SILENCE_TIMEOUT_S = 900
_SHOWN_LINES = 8
_LABELS: Final = {KIND_LABEL: "build", SOURCE_LABEL: "build"}
_NO_SUCH_BASE: Final = re.compile(
    rf"{UNREACHABLE.pattern}|manifest unknown|pull access denied|failed to resolve|repository does not exist", re.IGNORECASE
)

Report = Callable[[str], None]


class _Failed(Exception):
    """The build ended without an image."""


def built(engine: Engine, named: str, folder: Path, report: Report) -> ResolvedImage:
    """Build and return the image of `folder/Dockerfile`. `report` gets each line of the build.

    Raises UsageError for a folder that cannot be sent or a Dockerfile that cannot be read. Raises EngineError, with the last
    lines of the build, if the build fails or takes longer than half an hour.
    """
    what = f"building the image {named}"
    _check_folder(folder, what)
    wait = f"waiting for another process that is building {named}"
    with exclusive(f"build-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:24]}", lambda: report(wait)):
        report(f"building {named}")
        image_id = _build(engine, folder, what, report)
        name = image_id.removeprefix("sha256:")[:24]
        tag = f"{BUILD_REPOSITORY}:{name}"
        with translated(what):
            engine.client.api.tag(image_id, BUILD_REPOSITORY, name)
    image = look_up(engine, tag, named, "build", tag=tag)
    if image is None:
        raise EngineError(f"{what}: the engine has no {tag} afterwards", hint="testronaut-lab images")
    return image


def _check_folder(folder: Path, what: str) -> None:
    """Raise UsageError unless the Dockerfile is a regular file: reading a FIFO, for example, would block."""
    for name, needed in (("Dockerfile", True), (".dockerignore", False)):
        path = folder / name
        try:
            mode = path.stat().st_mode
        except FileNotFoundError as error:
            if not needed and not path.is_symlink():
                continue
            raise UsageError(f"{what}: there is no {name} in {_shown(folder)}", hint=f"ls -l {_quoted(folder)}") from error
        except OSError as error:
            raise UsageError(f"{what}: cannot look at {_shown(path)}: {error.strerror}") from error
        if not stat.S_ISREG(mode):
            raise UsageError(f"{what}: {_shown(path)} is not a file", hint=f"ls -ld {_quoted(path)}")


def _build(engine: Engine, folder: Path, what: str, report: Report) -> str:
    """Build; return the id of the image."""
    last_lines: deque[str] = deque(maxlen=_SHOWN_LINES)

    def tell(line: str) -> None:
        last_lines.append(line)
        report(line)

    with translated(what):
        try:
            with tar(str(folder), exclude=_ignored(folder)) as context:
                with closing(_messages(engine, context)) as messages:
                    return _followed(messages, tell)
        except docker.errors.APIError as error:
            if error.status_code == 400:
                raise UsageError(f"{what}: {explanation(error)}", hint=_look_at(folder)) from error
            raise
        except _Failed as failed:
            said = "; its last lines:\n  " + "\n  ".join(last_lines) if last_lines else ""
            raise EngineError(f"{what}: {failed}{said}", hint=_hint(str(failed), folder)) from failed
        except (OSError, UnicodeError) as error:  # docker's client could not read a file of the folder
            raise UsageError(f"{what}: cannot send {_shown(folder)} to the engine: {error}", hint=_look_at(folder)) from error


def _ignored(folder: Path) -> list[str]:
    """The patterns of `.dockerignore`, as docker's client reads them."""
    try:
        text = (folder / ".dockerignore").read_text()
    except FileNotFoundError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def _messages(engine: Engine, context: IO[bytes]) -> Generator[Mapping[str, object]]:
    """Like `build` of docker's client, but this also closes a connection that was not read to its end."""
    api = engine.client.api
    headers = {"Content-Type": "application/tar"}
    api._set_auth_headers(headers)
    params = {"rm": True, "forcerm": True, "labels": json.dumps(_LABELS)}
    response = api._post(api._url("/build"), data=context, params=params, headers=headers, stream=True, timeout=SILENCE_TIMEOUT_S)
    with response:
        api._raise_for_status(response)
        yield from api._stream_helper(response, decode=True)


def _followed(messages: Iterable[Mapping[str, object]], tell: Report) -> str:
    deadline = time.monotonic() + BUILD_TIMEOUT_S
    image_id = ""
    for message in messages:
        if "error" in message:
            raise _Failed(" ".join(str(message["error"]).split()))
        aux = message.get("aux")
        if isinstance(aux, dict) and "ID" in aux:
            image_id = str(aux["ID"])
        for line in str(message.get("stream", message.get("status", ""))).splitlines():
            if line.strip() and "progress" not in message:
                tell(line.rstrip())
        if time.monotonic() > deadline:
            raise _Failed(f"it took longer than {BUILD_TIMEOUT_S:.0f} s, and was given up")
    if not image_id:
        raise _Failed("the engine did not say what it built")
    return image_id


def _look_at(folder: Path) -> str:
    return f"cat {_quoted(folder / 'Dockerfile')}"


def _shown(path: Path) -> str:
    return path_text(os.fsencode(path))


def _quoted(path: Path) -> str:
    return shlex.quote(_shown(path))


def _hint(said: str, folder: Path) -> str:
    if _NO_SUCH_BASE.search(said):
        return "FROM one of the images that `testronaut-lab images` lists, or that `docker images` does"
    return _look_at(folder)
