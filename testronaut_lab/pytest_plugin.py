"""The pytest plugin: fixture `lab`, sessions that end with their test, and the marker `lab`.

Loaded by every pytest where the package is installed, so it imports nothing heavy before a test asks for a session.
Running plan files as tests, and goldens, are not here.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testronaut_lab.lab import Session


class LabFactory:
    """Makes sessions: `lab("debian:bookworm-slim", "apt:jq")`. Each starts on first use and is closed at the test's end."""

    def __init__(self, root: Path, closing: ExitStack) -> None:
        self._root = root
        self._closing = closing

    def __call__(self, image: str, *tools: str) -> Session:
        from testronaut_lab.lab import Session

        return self._closing.enter_context(Session(image, *tools, root=self._root))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab: runs commands in a container; deselect with -m 'not lab' where there is no engine")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make safe what is said of a test with sessions: `assert r.ok, r.err` and `print(r.out)` put a tool's bytes into it."""
    report = yield
    if "lab" in getattr(item, "fixturenames", ()):
        report.longrepr = _made_safe(report.longrepr)  # type: ignore[assignment]  # it is what it was, but for its text
        report.sections = [(name, _without_colours(text)) for name, text in report.sections]
    return report


def _made_safe(part: object) -> object:
    """The parts of pytest's failure text, each of its own type, with every string in them safe to show."""
    from testronaut_lab.report.safe import safe_text

    if isinstance(part, str):
        return safe_text(part)
    if isinstance(part, list | tuple):
        return type(part)(map(_made_safe, part))
    if is_dataclass(part) and not isinstance(part, type):
        for field in fields(part):
            setattr(part, field.name, _made_safe(getattr(part, field.name)))
    return part


def _without_colours(text: str) -> str:
    from testronaut_lab.report.styled import styled

    return "".join(piece for piece, _look in styled(text))


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[LabFactory]:
    """Sessions in containers: call it with an image and tools."""
    with ExitStack() as closing:
        yield LabFactory(request.config.rootpath, closing)
