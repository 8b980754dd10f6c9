"""Finds the packages that an installation added, by comparing the packages in the container before and after each tool.

The package manager of the image lists the system's packages; a command of `strategies.py` lists those in a tool's own folder. A
package whose version changed counts as added.
"""

from __future__ import annotations

import re

from testronaut_lab.container.image.builder import InstallContainer
from testronaut_lab.errors import InstallError
from testronaut_lab.installation import scripts
from testronaut_lab.installation.strategies import Strategy, Words, fill
from testronaut_lab.model.result import Package

_QUERY_TIMEOUT_S = 60.0
_LINE = re.compile(r"(\S+) (\S+) (\S+)")


class Inventory:
    """The packages of one container since the first look."""

    def __init__(self, container: InstallContainer) -> None:
        self._container = container
        self._known: frozenset[Package] | None = None

    def begin(self) -> None:
        """Take the first look; no-op after that. Raises InstallError."""
        if self._known is None:
            self._known = frozenset(self._system())

    def added(self, strategy: Strategy, words: Words, env: dict[str, str]) -> tuple[Package, ...]:
        """Return the packages added since the last look, sorted. Raises InstallError if the container cannot list them."""
        system = frozenset(self._system())
        before, self._known = self._known or frozenset(), system
        own = self._asked(fill(strategy.packages, words), env) if strategy.packages else []
        # rows print `package NAME VERSION`; the manager is the row's ecosystem
        found = {Package(strategy.ecosystem, package.name, package.version) for package in own}
        return tuple(sorted(found | (system - before), key=lambda each: (each.manager, each.name, each.version)))

    def _system(self) -> list[Package]:
        return self._asked(["sh", "-c", scripts.SYSTEM_PACKAGES], {})

    def _asked(self, argv: list[str], env: dict[str, str]) -> list[Package]:
        lines: list[str] = []
        ended = self._container.run(argv, timeout_s=_QUERY_TIMEOUT_S, env=env, on_line=lines.append)
        if not ended.ok:
            raise InstallError(f"listing the packages in the image with {argv[0]}: {ended.text}")
        return [Package(*match.groups()) for match in map(_LINE.fullmatch, lines) if match]
