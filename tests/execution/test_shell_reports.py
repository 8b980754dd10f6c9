"""Files made where the session's shell reports: each is told and removed, however many there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from testronaut_lab.execution.driver.fast import reports
from testronaut_lab.execution.driver.fast.reports import Reports

QUEUED = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def refuse(_directory: str) -> int:
    raise OSError("not allowed")


@pytest.mark.parametrize("is_allowed_to_ask", [True, False], ids=["makers", "names"])
def test_files_are_told_in_order_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_allowed_to_ask: bool) -> None:
    if not is_allowed_to_ask:
        monkeypatch.setattr(reports, "_fanotify", refuse)
    heard = Reports(str(tmp_path))
    for name in ("b,0,", "a"):
        (tmp_path / name).touch()
    assert ["b,0,", "a"] == [made.name for made in heard.take()]
    assert [] == heard.take() == list(tmp_path.iterdir())
    heard.close()


def test_of_more_files_than_the_kernel_can_tell_of_none_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_fanotify", refuse)
    heard = Reports(str(tmp_path))
    for number in range(QUEUED + 2):
        (tmp_path / str(number)).touch()
    assert {str(number) for number in range(QUEUED + 2)} == {made.name for made in heard.take()}
    assert [] == heard.take() == list(tmp_path.iterdir())
    heard.close()
