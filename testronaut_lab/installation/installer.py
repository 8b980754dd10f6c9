"""Puts tools into a base image, once: the outcome is an image under a key of what went in, and the next time it is there.

Which commands that takes is data in `strategies.py`, the container is `container/builder.py`, the proof is `verifier.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from testronaut_lab.container.builder import (
    CA_BUNDLE_TARGET,
    Executed,
    InstallContainer,
    find_tool_image,
    install_container,
    tool_tag,
)
from testronaut_lab.container.engine import Engine
from testronaut_lab.container.image import KEY_LABEL, KIND_LABEL, SPEC_LABEL, ResolvedImage
from testronaut_lab.container.lock import exclusive
from testronaut_lab.errors import InstallError
from testronaut_lab.installation.strategies import Argv, Strategy, fill, package_name, strategy_for
from testronaut_lab.installation.trust import HostTrust, host_trust
from testronaut_lab.installation.verifier import installed_version, verify
from testronaut_lab.model.plan import InstallSpec, ToolSpec
from testronaut_lab.model.result import ToolInfo

INSTALL_TIMEOUT_S = 900.0
TOOLS_LABEL = "org.testronaut.tools"
_ATTEMPTS = 3

Report = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class InstalledImage:
    """The image to start steps from, with its tools in the order of the plan. `cached`: it was there already."""

    id: str
    tools: tuple[ToolInfo, ...]
    cached: bool
    key: str


def install(
    engine: Engine, base: ResolvedImage, tools: tuple[ToolSpec, ...], report: Report, *, name_prefix: str
) -> InstalledImage:
    """The image of `base` with `tools`, from the cache or newly made; `report` gets (tool, line) as things happen.

    Without tools it is the base. The container and network of the installation are called NAME_PREFIX-install. Raises
    InstallError with the package manager's own words when a tool cannot be had or does not start.
    """
    if not tools:
        return InstalledImage(base.info.id, (), cached=True, key="")
    for tool in tools:
        for spec in tool.install:
            package_name(strategy_for(spec.strategy), spec.spec)
    key = image_key(base, tools)
    if found := _cached(engine, key):
        return found
    names = ", ".join(tool.name for tool in tools)
    with exclusive(f"tool-{key[:24]}", lambda: report(names, "waiting for another process that is installing the same")):
        return _cached(engine, key) or _build(engine, base, tools, key, report, name_prefix)


def image_key(base: ResolvedImage, tools: Sequence[ToolSpec]) -> str:
    """What the outcome depends on, in one hash: the base's contents (not its id or name), the tools, how they are installed."""
    strategies = {spec.strategy: strategy_for(spec.strategy).version for tool in tools for spec in tool.install}
    material = {
        "diff_ids": base.diff_ids,
        "config": asdict(base.config),
        "architecture": base.architecture,
        "tools": [asdict(tool) for tool in tools],
        "strategies": strategies,
    }
    return hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()


def retry_delays(rng: random.Random) -> list[float]:
    """Seconds to wait before each further attempt, doubling, with jitter so that many machines do not come back at once."""
    return [2**n * rng.uniform(0.5, 1.5) for n in range(_ATTEMPTS - 1)]


def _cached(engine: Engine, key: str) -> InstalledImage | None:
    found = find_tool_image(engine, key)
    if found is None:
        return None
    labels = dict(found.config.labels)
    if labels.get(KEY_LABEL) != key or TOOLS_LABEL not in labels:
        return None
    tools = tuple(ToolInfo(**tool) for tool in json.loads(labels[TOOLS_LABEL]))
    return InstalledImage(found.info.id, tools, cached=True, key=key)


def _build(
    engine: Engine, base: ResolvedImage, tools: tuple[ToolSpec, ...], key: str, report: Report, name_prefix: str
) -> InstalledImage:
    trust = host_trust(os.environ)
    with install_container(engine, base, name_prefix, trust.ca_bundle) as container:
        installation = _Installation(container, trust, report)
        infos = tuple(installation.install(tool) for tool in tools)
        installation.clean()
        labels = {
            KIND_LABEL: "tool",
            KEY_LABEL: key,
            SPEC_LABEL: f"{base.info.ref} + {' '.join(f'{info.strategy}:{info.name}={info.version}' for info in infos)}",
            TOOLS_LABEL: json.dumps([asdict(info) for info in infos], sort_keys=True),
        }
        return InstalledImage(container.commit(tool_tag(key), labels), infos, cached=False, key=key)


class _OutOfTime(InstallError):
    """A command passed its deadline; its container was killed, so that no alternative can be tried in it."""


class _Installation:
    """One installation under way: which package managers have fresh indexes, and how to run their commands."""

    def __init__(self, container: InstallContainer, trust: HostTrust, report: Report) -> None:
        self._container = container
        self._trust = trust
        self._report = report
        self._used: set[str] = set()
        self._fresh: set[str] = set()

    def install(self, tool: ToolSpec) -> ToolInfo:
        """By the first of its alternatives that works. Raises InstallError that says of each why it did not."""
        failures: list[InstallError] = []
        for spec in tool.install:
            try:
                return self._install_by(tool, spec)
            except _OutOfTime:
                raise
            except InstallError as error:
                failures.append(error)
                if len(tool.install) > 1:
                    self._report(tool.name, error.message)
        if len(failures) == 1:
            raise failures[0]
        why = "\n  ".join(failure.message for failure in failures)
        raise InstallError(f"installing {tool.name}: no alternative of {len(failures)} worked:\n  {why}", hint=failures[-1].hint)

    def clean(self) -> None:
        """Take indexes and caches out again. Raises InstallError if that fails: they would be in the image."""
        for strategy in map(strategy_for, sorted(self._used)):
            for argv in strategy.clean:
                ended = self._container.run(fill(argv), timeout_s=INSTALL_TIMEOUT_S, env=dict(strategy.env))
                if not ended.ok:
                    raise InstallError(f"cleaning up after {strategy.name}: {_in_words(ended)}")

    def _install_by(self, tool: ToolSpec, spec: InstallSpec) -> ToolInfo:
        strategy = strategy_for(spec.strategy)
        package = package_name(strategy, spec.spec)
        self._used.add(strategy.name)
        if strategy.name not in self._fresh:
            self._run(tool, strategy, spec, strategy.refresh, f"refreshing the package index of {strategy.name}")
            self._fresh.add(strategy.name)
        self._run(tool, strategy, spec, strategy.install, f"installing {strategy.name}:{spec.spec}")
        version = installed_version(self._container, strategy, package)
        verify(self._container, tool, strategy, package)
        return ToolInfo(tool.name, version, strategy.name)

    def _run(self, tool: ToolSpec, strategy: Strategy, spec: InstallSpec, argv: Argv, what: str) -> None:
        """Run a command of the package manager, again while it fails for reasons of the network."""
        options = fill(strategy.ca_options, ca=CA_BUNDLE_TARGET) if self._trust.ca_bundle else []
        words = fill(argv, spec=spec.spec, options=options)
        env = {**dict(self._trust.env), **dict(strategy.env)}
        delays = retry_delays(random.Random())
        while True:
            ended = self._container.run(
                words, timeout_s=INSTALL_TIMEOUT_S, env=env, on_line=lambda line: self._report(tool.name, line)
            )
            if ended.ok:
                return
            if not delays or not _is_transient(strategy, ended):
                raise _failure(strategy, spec, what, ended)
            delay_s = delays.pop(0)
            self._report(tool.name, f"{what} failed for a reason of the network; trying again in {delay_s:.1f} s")
            time.sleep(delay_s)


def _is_transient(strategy: Strategy, ended: Executed) -> bool:
    return ended.code is not None and strategy.transient.search(ended.text) is not None


def _failure(strategy: Strategy, spec: InstallSpec, what: str, ended: Executed) -> InstallError:
    message = f"{what}: {_in_words(ended)}"
    if ended.code is None:
        return _OutOfTime(message, hint="check the network of this machine, or its proxy settings")
    if _is_transient(strategy, ended):
        return InstallError(message, hint="check the network of this machine, or its proxy settings")
    if strategy.unknown.search(ended.text):
        return InstallError(message, hint=strategy.hint.replace("{name}", package_name(strategy, spec.spec)))
    return InstallError(message)


def _in_words(ended: Executed) -> str:
    how = f"it took longer than {INSTALL_TIMEOUT_S:.0f} s" if ended.code is None else f"it ended with status {ended.code}"
    return f"{how}; its last words:\n  " + "\n  ".join(ended.last_lines[-8:] or ("(nothing)",))
