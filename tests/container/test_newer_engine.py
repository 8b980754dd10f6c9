"""An engine that speaks no API older than 1.44, like Docker 29: the real engine behind a proxy that refuses older versions."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from support.engine_proxy import ChaosProxy, Way

from testronaut_lab import Session
from testronaut_lab.container.engine.connect import NEWEST_API, Engine, connect

pytestmark = pytest.mark.engine

_OLDEST, _NEWEST = (1, 44), "1.52"
_ASKED = re.compile(rb"^(?P<method>[A-Z]+ )/v(?P<major>\d+)\.(?P<minor>\d+)/")


class NewerEngine(ChaosProxy):
    """Claims to speak 1.44 to 1.52, and refuses older calls. The engine behind it gets the calls in its own version."""

    behind = b"1.41"

    def translate(self, way: Way, data: bytes) -> bytes:
        if way == "to_engine":
            return _ASKED.sub(self._asked, data, count=1)
        said = re.sub(rb"(?im)^Api-Version: [\d.]+", b"Api-Version: " + _NEWEST.encode(), data, count=1)
        said = re.sub(rb'"ApiVersion":"1\.\d\d"', f'"ApiVersion":"{_NEWEST}"'.encode(), said)
        return re.sub(rb'"MinAPIVersion":"1\.\d\d"', b'"MinAPIVersion":"1.44"', said)

    def _asked(self, found: re.Match[bytes]) -> bytes:
        is_spoken = (int(found["major"]), int(found["minor"])) >= _OLDEST
        return found["method"] + b"/v" + (self.behind if is_spoken else b"9.99") + b"/"  # the real one refuses 9.99 itself


@pytest.fixture
def newer(engine: Engine, base_image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewerEngine]:
    with tempfile.TemporaryDirectory(prefix="tlab-newer-") as folder:
        with NewerEngine(Path(folder, "engine.sock"), engine.socket_path) as made:
            made.behind = min(engine.info.api, "1.44").encode()
            monkeypatch.setenv("DOCKER_HOST", made.url)
            yield made


def test_it_refuses_older_words(newer: NewerEngine) -> None:
    client = docker.APIClient(base_url=newer.url, version="1.43")
    with pytest.raises(docker.errors.APIError, match=r"9\.99 is too new"):
        client.containers()
    client.close()


def test_a_session_on_it_is_like_any_other(newer: NewerEngine) -> None:
    found = connect()
    assert found.info.api == NEWEST_API
    found.close()
    with Session("debian:bookworm-slim") as session:
        session.run("greet() { echo hi; }")
        assert session.run("greet; echo x >out").out == "hi\n"
        assert session.run("tty", tty=True).out.startswith("/dev/pts/")
        assert session.run("sleep 300", timeout=0.3).exit.kind == "timeout"
