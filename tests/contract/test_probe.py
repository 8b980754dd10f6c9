"""Which driver a session gets: the fast one where FIFOs reach the container, the plain one where only files do."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest
from support.live_session import Events

from testronaut_lab.errors import FilesUnseen, UsageError
from testronaut_lab.execution import factory
from testronaut_lab.execution.context import StepRequest
from testronaut_lab.execution.driver import probe
from testronaut_lab.execution.driver.channel import Channel
from testronaut_lab.execution.driver.fast import ptrace
from testronaut_lab.execution.factory import SessionFactory, SessionSettings
from testronaut_lab.model.events import EngineFound
from testronaut_lab.model.result import EngineInfo
from testronaut_lab.store.blobs import BlobStore


def _told(engine: EngineInfo) -> str:
    return ", ".join(filter(None, (engine.driver, engine.copies)))


class _FilesOnly(Channel):
    """As on an engine in another kernel: the container sees a FIFO of its own under each name."""

    def fifo(self, name: str, mode: int, flags: int) -> int:
        fd = super().fifo(f"{name}.{secrets.token_hex(4)}", mode, flags)
        os.mkfifo(f"{self.path}/{name}")
        os.chmod(f"{self.path}/{name}", mode)
        return fd


class _Nothing(_FilesOnly):
    """As on a remote engine: what is written here is not there."""

    def put(self, name: str, text: bytes) -> None:
        super().put(f"{name}.not", text)


def drivers_of(tmp_path: Path, image_id: str, sessions: int = 1) -> tuple[list[str], list[str]]:
    """The drivers of one bench's sessions, each of which can run a step, and those that were told of, with the way of copies."""
    events = Events()
    bench = SessionFactory(events.emit, BlobStore(tmp_path))
    names = []
    try:
        for _ in range(sessions):
            session = bench.session(image_id, SessionSettings(), {})
            try:
                assert session.run(StepRequest("s", "x::s", run="echo on")).out == "on\n"
                names.append(session._driver.name)
            finally:
                session.close()
    finally:
        bench.close()
    return names, [_told(event.engine) for event in events.seen if isinstance(event, EngineFound)]


@pytest.fixture(autouse=True)
def nothing_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TESTRONAUT_LAB_DRIVER", raising=False)


@pytest.mark.engine
def test_a_session_is_driven_fast_where_fifos_work(tmp_path: Path, base_image: str) -> None:
    drivers, told = drivers_of(tmp_path, base_image)
    assert (drivers, told) in [(["fast"], ["fast", f"fast, {copies}"]) for copies in ("traced", "forked")]


@pytest.mark.engine
def test_how_the_shell_is_copied_is_told_once(tmp_path: Path, base_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ptrace, "is_supported", lambda: False)
    assert drivers_of(tmp_path, base_image, sessions=2) == (["fast", "fast"], ["fast", "fast, forked"])


@pytest.mark.engine
def test_on_a_kernel_that_does_not_tell_calls_copies_are_forked(
    tmp_path: Path, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ptrace, "_CALL", "/proc/self/none")
    assert drivers_of(tmp_path, base_image) == (["fast"], ["fast", "fast, forked"])


@pytest.mark.engine
def test_nothing_is_probed_where_the_fast_driver_starts(tmp_path: Path, base_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    monkeypatch.setattr(probe, "look_through", lambda *args: looked.append(args))
    drivers_of(tmp_path, base_image)
    assert looked == []


@pytest.mark.engine
def test_sessions_are_driven_plainly_where_only_files_are_shared(
    tmp_path: Path, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory, "Channel", _FilesOnly)
    assert drivers_of(tmp_path, base_image, sessions=2) == (["plain", "plain"], ["fast", "plain"])


@pytest.mark.engine
def test_an_engine_that_shares_nothing_is_refused(tmp_path: Path, base_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "Channel", _Nothing)
    with pytest.raises(FilesUnseen, match="the engine cannot see our files: what was put into its run directory is here"):
        drivers_of(tmp_path, base_image)


@pytest.mark.engine
def test_a_driver_can_be_forced(tmp_path: Path, base_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTRONAUT_LAB_DRIVER", "plain")
    assert drivers_of(tmp_path, base_image) == (["plain"], ["plain"])


def test_a_word_that_names_no_driver_is_refused() -> None:
    with pytest.raises(UsageError, match="quick"):
        probe.forced({**os.environ, "TESTRONAUT_LAB_DRIVER": "quick"})
