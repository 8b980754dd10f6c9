"""Finding an engine and agreeing with it on a version of its API."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from testronaut_lab.container.engine import connect as engine_module
from testronaut_lab.container.engine.connect import NEWEST_API, Endpoint, NoEngine, connect, find_endpoints, negotiate
from testronaut_lab.errors import EngineError, ExitStatus

SOMEWHERE = Endpoint("unix:///x.sock", "a test")


def urls(environ: dict[str, str], home: Path) -> list[str]:
    return [endpoint.url for endpoint in find_endpoints(environ, home)]


def write_context(home: Path, name: str, meta: object, *, current: bool = False) -> None:
    folder = home / ".docker/contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps(meta))
    if current:
        (home / ".docker/config.json").write_text(json.dumps({"currentContext": name}))


@pytest.fixture
def only_sockets_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine whose default socket would be `default.sock` in this folder, and is not there."""
    monkeypatch.setattr(engine_module, "DEFAULT_SOCKET", tmp_path / "default.sock")
    return tmp_path


@pytest.fixture
def listening(only_sockets_of: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(only_sockets_of / "default.sock"))
        sock.listen(1)
        yield sock


def test_places_are_tried_in_the_documented_order(tmp_path: Path) -> None:
    assert urls({"XDG_RUNTIME_DIR": "/run/user/7"}, tmp_path) == [
        "unix:///var/run/docker.sock",
        "unix:///run/user/7/docker.sock",
        f"unix://{tmp_path}/.docker/run/docker.sock",
        "unix:///run/user/7/podman/podman.sock",
    ]


def test_without_a_runtime_directory_its_sockets_are_left_out(tmp_path: Path) -> None:
    assert urls({}, tmp_path) == ["unix:///var/run/docker.sock", f"unix://{tmp_path}/.docker/run/docker.sock"]


def test_docker_host_wins_over_a_context(tmp_path: Path) -> None:
    write_context(tmp_path, "work", {"Endpoints": {"docker": {"Host": "unix:///work.sock"}}}, current=True)
    [endpoint] = find_endpoints({"DOCKER_HOST": "unix:///host.sock", "DOCKER_CONTEXT": "work"}, tmp_path)
    assert endpoint == Endpoint("unix:///host.sock", "DOCKER_HOST", named=True)


def test_the_current_context_is_the_only_place_looked_at(tmp_path: Path) -> None:
    write_context(tmp_path, "work", {"Endpoints": {"docker": {"Host": "unix:///work.sock"}}}, current=True)
    [endpoint] = find_endpoints({}, tmp_path)
    assert (endpoint.url, endpoint.named) == ("unix:///work.sock", True)
    assert "docker context 'work'" in endpoint.origin


def test_a_context_named_in_the_environment_wins_over_the_current_one(tmp_path: Path) -> None:
    write_context(tmp_path, "work", {"Endpoints": {"docker": {"Host": "unix:///work.sock"}}}, current=True)
    write_context(tmp_path, "other", {"Endpoints": {"docker": {"Host": "unix:///other.sock"}}})
    assert urls({"DOCKER_CONTEXT": "other"}, tmp_path) == ["unix:///other.sock"]


def test_the_default_context_means_the_usual_places(tmp_path: Path) -> None:
    assert urls({"DOCKER_CONTEXT": "default"}, tmp_path) == urls({}, tmp_path)


def test_docker_config_moves_the_contexts(tmp_path: Path) -> None:
    write_context(tmp_path, "work", {"Endpoints": {"docker": {"Host": "unix:///work.sock"}}}, current=True)
    assert urls({"DOCKER_CONFIG": str(tmp_path / ".docker")}, tmp_path / "elsewhere") == ["unix:///work.sock"]


def test_a_context_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"docker context 'nope'.*names no engine"):
        find_endpoints({"DOCKER_CONTEXT": "nope"}, tmp_path)


def test_a_broken_docker_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text("{")
    with pytest.raises(EngineError, match=r"config\.json"):
        find_endpoints({}, tmp_path)


@pytest.mark.parametrize(
    ("url", "said", "hint"),
    [
        ("tcp://10.0.0.1:2376", "behind a network address is not supported yet", "unset DOCKER_HOST"),
        ("ssh://me@there", "of another machine, by ssh, is not supported yet.*can run on me@there", "unset DOCKER_HOST"),
    ],
)
def test_a_remote_engine_is_refused_by_name_and_not_as_one_that_cannot_see_our_files(
    url: str, said: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=said) as caught:
        connect({"DOCKER_HOST": url}, tmp_path)
    assert "cannot see our files" not in caught.value.message
    assert caught.value.hint == hint


def test_a_context_of_a_remote_engine_is_left_by_docker_s_own_command(tmp_path: Path) -> None:
    write_context(tmp_path, "work", {"Endpoints": {"docker": {"Host": "ssh://me@there"}}}, current=True)
    with pytest.raises(EngineError, match="docker context 'work'") as caught:
        connect({}, tmp_path)
    assert (caught.value.hint or "").endswith("docker context use default")


def test_an_address_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"an address like 'npipe:////\./pipe/x' is not supported"):
        connect({"DOCKER_HOST": "npipe:////./pipe/x"}, tmp_path)


def test_nothing_found_names_each_place_and_what_it_said(only_sockets_of: Path) -> None:
    with pytest.raises(NoEngine) as caught:
        connect({}, only_sockets_of)
    assert caught.value.message.count("there is no such socket") == 2
    assert (caught.value.hint, caught.value.exit_status) == ("testronaut-lab engine up", ExitStatus.ENGINE)


def test_a_named_engine_that_is_dead_is_not_replaced_by_another(tmp_path: Path) -> None:
    with pytest.raises(NoEngine, match="DOCKER_HOST") as caught:
        connect({"DOCKER_HOST": f"unix://{tmp_path}/dead.sock"}, tmp_path)
    assert "DOCKER_HOST names it" in (caught.value.hint or "")


def test_a_socket_that_nobody_listens_on_says_so(only_sockets_of: Path, listening: socket.socket) -> None:
    listening.close()
    with pytest.raises(NoEngine, match="nothing listens there"):
        connect({}, only_sockets_of)


def test_a_socket_we_may_not_open_gets_a_hint_about_the_group(monkeypatch: pytest.MonkeyPatch, only_sockets_of: Path) -> None:
    def denied(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(engine_module, "_knock", denied)  # root may open every socket
    with pytest.raises(NoEngine, match="permission denied") as caught:
        connect({}, only_sockets_of)
    assert caught.value.denied
    assert "usermod -aG docker" in (caught.value.hint or "")


def test_something_else_on_the_socket_is_no_engine(
    monkeypatch: pytest.MonkeyPatch, only_sockets_of: Path, listening: socket.socket
) -> None:
    monkeypatch.setattr(engine_module, "_PROBE_TIMEOUT_S", 0.2)
    with pytest.raises(NoEngine, match=r"took the connection and did not answer within 0\.2 s"):
        connect({}, only_sockets_of)


def test_an_engine_whose_oldest_api_is_newer_than_ours_is_told_by_both_numbers(
    only_sockets_of: Path, listening: socket.socket
) -> None:
    said = json.dumps({"Version": "99.0", "ApiVersion": "1.99", "MinAPIVersion": "1.90"}).encode()
    head = b"HTTP/1.1 200 OK\r\nServer: Docker/99.0 (linux)\r\nApi-Version: 1.99\r\nConnection: close\r\n"
    answer = head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)

    def serve() -> None:
        for _ in ("is somebody there?", "ping", "version"):
            with listening.accept()[0] as asked:
                if asked.recv(4096):
                    asked.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    with pytest.raises(EngineError, match=rf"too new: it speaks API 1\.90 and up, we speak {NEWEST_API}") as caught:
        connect({}, only_sockets_of)
    assert (caught.value.hint or "").startswith("pip install --upgrade docker")


@pytest.mark.parametrize("body", [b"{}", b"[]", b"7", b"null", b"<html>"])
@pytest.mark.parametrize("status", [b"200 OK", b"502 Bad Gateway"])
def test_another_server_on_the_socket_is_no_engine(
    status: bytes, body: bytes, only_sockets_of: Path, listening: socket.socket
) -> None:
    answer = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n%s" % (status, body)

    def serve() -> None:
        for _ in ("is somebody there?", "ping", "version"):
            with listening.accept()[0] as asked:
                if asked.recv(4096):
                    asked.sendall(answer)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    with pytest.raises(NoEngine, match="did not answer as an engine does"):
        connect({}, only_sockets_of)


@pytest.mark.parametrize(("newest", "agreed"), [("1.41", "1.41"), ("1.40", "1.40"), ("1.99", NEWEST_API)])
def test_the_newest_version_that_both_speak_is_agreed_on(newest: str, agreed: str) -> None:
    assert negotiate("1.24", newest, SOMEWHERE) == agreed


def test_an_engine_that_is_too_old_is_refused() -> None:
    with pytest.raises(EngineError, match=r"too old: it speaks API 1\.39"):
        negotiate("1.12", "1.39", SOMEWHERE)


def test_an_engine_that_is_too_new_is_refused() -> None:
    with pytest.raises(EngineError, match=r"too new: it speaks API 1\.98"):
        negotiate("1.98", "1.99", SOMEWHERE)


def test_a_version_that_is_no_number_is_refused() -> None:
    with pytest.raises(EngineError, match="'soon' is not a number"):
        negotiate("1.12", "soon", SOMEWHERE)


@pytest.mark.engine
def test_a_real_engine_is_found_and_says_who_it_is() -> None:
    engine = connect()
    try:
        assert engine.info.name in ("docker", "podman")
        assert engine.client.ping()
        assert engine.socket_path in engine.info.endpoint
    finally:
        engine.close()


@pytest.mark.engine
def test_a_ping_tells_the_same_as_the_engines_own_word(monkeypatch: pytest.MonkeyPatch) -> None:
    pinged = connect()
    pinged.close()
    monkeypatch.setattr(engine_module, "_greeting", lambda _endpoint: {})
    asked = connect()
    asked.close()
    assert pinged.info == asked.info
