"""The pytest plugin: fixture `lab`, sessions that end with their test, and the marker `lab`.

Loaded by every pytest where the package is installed, so it imports nothing heavy before a test asks for a session.
Running plan files as tests, and goldens, are not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
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


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[LabFactory]:
    """Sessions in containers: call it with an image and tools."""
    with ExitStack() as closing:
        yield LabFactory(request.config.rootpath, closing)
