"""Puts tools into a base image, once: the outcome is an image under a key of what went in, and the next time it is there.

Which commands that takes is data in `strategies.py`, running them is `installation.py`, the container is
`container/image/builder.py`, the proof is `verifier.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image.builder import InstallContainer, find_tool_image, install_container, tool_tag
from testronaut_lab.container.image.local import KEY_LABEL, KIND_LABEL, SPEC_LABEL, ResolvedImage
from testronaut_lab.container.image.lock import exclusive
from testronaut_lab.container.owner import Claim
from testronaut_lab.errors import InstallError
from testronaut_lab.installation import keptlog, provenance
from testronaut_lab.installation.installation import Installation, ManagerMissing, Report, StartOver, Telling, Tried
from testronaut_lab.installation.payload import Payload, packed
from testronaut_lab.installation.strategies import package_name, strategy_for
from testronaut_lab.installation.trust import HostTrust, host_trust
from testronaut_lab.model.plan import InstallSpec, ToolSpec
from testronaut_lab.model.result import Package, ToolInfo

Payloads = Mapping[InstallSpec, Payload]
Failures = Mapping[InstallSpec, InstallError]


@dataclass(frozen=True, slots=True)
class InstalledImage:
    """The image to start steps from, with its tools in the order of the plan. `cached`: it was there already."""

    id: str
    tools: tuple[ToolInfo, ...]
    cached: bool
    key: str


@dataclass(frozen=True, slots=True)
class _Job:
    """What all of one installation has in common."""

    engine: Engine
    telling: Telling
    claim: Claim

    def recorded(self, log: keptlog.Recorder) -> _Job:
        """The same, with each line written down too."""
        said = self.telling.line

        def line(tool: str, text: str) -> None:
            log.add(tool, text)
            said(tool, text)

        return replace(self, telling=Telling(line, self.telling.progress))


def install(
    engine: Engine,
    base: ResolvedImage,
    tools: tuple[ToolSpec, ...],
    report: Report,
    *,
    claim: Claim,
    on_progress: Report = lambda _tool, _text: None,
) -> InstalledImage:
    """The image of `base` with `tools`, from the cache or newly made; `report` gets (tool, line) as things happen.

    `on_progress` gets (tool, what goes on) for people who wait.

    Without tools it is the base. The container and network of the installation are called NAME-install, by the claim's name.
    Raises UsageError for a spec that cannot be one, InstallError with the package manager's own words when a tool cannot be
    had or does not start.
    """
    for tool in tools:
        for spec in tool.install:
            for each in (spec.spec, *spec.more):
                package_name(strategy_for(spec.strategy), each)
    job = _Job(engine, Telling(report, on_progress), claim)
    with _payloads(tools) as (payloads, failures):
        return _install(job, base, tools, payloads, failures)


def image_key(base: ResolvedImage, tools: Sequence[ToolSpec], payloads: Payloads | None = None) -> str:
    """What the outcome depends on, in one hash: the base's contents (not its id or name), the tools, how they are installed.

    A file or folder counts by its content, wherever it is.
    """
    strategies = {spec.strategy: strategy_for(spec.strategy).version for tool in tools for spec in tool.install}
    material = {
        "diff_ids": base.diff_ids,
        "config": asdict(base.config),
        "architecture": base.architecture,
        "tools": [_tool_material(tool, payloads or {}) for tool in tools],
        "strategies": strategies,
        "provenance": provenance.VERSION,
    }
    return hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()


def _spec_material(spec: InstallSpec, payload: Payload | None) -> list[str]:
    if payload is not None:
        return [spec.strategy, payload.file, payload.sha256]
    return [spec.strategy, spec.spec, spec.sha256 or "", *spec.more]


def _tool_material(tool: ToolSpec, payloads: Payloads) -> dict[str, object]:
    material = {**asdict(tool), "install": [_spec_material(spec, payloads.get(spec)) for spec in tool.install]}
    if not tool.importable:
        del material["importable"]  # as it was before there was such a thing
    return material


@contextmanager
def _payloads(tools: Sequence[ToolSpec]) -> Iterator[tuple[Payloads, Failures]]:
    """The files that are handed over, and why one that cannot be is no way to install its tool."""
    found: dict[InstallSpec, Payload] = {}
    failures: dict[InstallSpec, InstallError] = {}
    programs = {spec: tool.command or tool.name for tool in tools for spec in tool.install}
    with ExitStack() as stack:
        for spec, program in programs.items():
            strategy = strategy_for(spec.strategy)
            if strategy.takes != "package" or spec.source is not None:
                try:
                    found[spec] = stack.enter_context(packed(spec, strategy, program))
                except InstallError as error:
                    failures[spec] = error
        yield found, failures


def _install(
    job: _Job, base: ResolvedImage, tools: tuple[ToolSpec, ...], payloads: Payloads, failures: Failures
) -> InstalledImage:
    if not tools:
        return InstalledImage(base.info.id, (), cached=True, key="")
    key = image_key(base, tools, payloads)
    if found := _cached(job.engine, key):
        return found
    names = ", ".join(tool.name for tool in tools)
    wait = "waiting for another process that is installing the same"
    with exclusive(f"tool-{key[:24]}", lambda: job.telling.line(names, wait)):
        if found := _cached(job.engine, key):
            return found
        log = keptlog.Recorder()
        made = _build(job.recorded(log), base, tools, payloads, Tried(dict(failures)), key)
        keptlog.keep(key, log.lines)
        return made


def _cached(engine: Engine, key: str) -> InstalledImage | None:
    found = find_tool_image(engine, key)
    if found is None:
        return None
    labels = dict(found.config.labels)
    made = provenance.of_labels(labels)
    if labels.get(KEY_LABEL) != key or made is None:
        return None
    return InstalledImage(found.info.id, made.tools, cached=True, key=key)


def _build(
    job: _Job, base: ResolvedImage, tools: tuple[ToolSpec, ...], payloads: Payloads, tried: Tried, key: str
) -> InstalledImage:
    """Starts over, from the base, after an alternative that failed and may have left something, and from a base with the
    package manager in it, where that was missing. That base is an image of its own, so that the next tool has it at once."""
    for tool in tools:
        for failure in (tried.failures[spec] for spec in tool.install[:-1] if spec in tried.failures):
            job.telling.line(tool.name, failure.message)
    trust, ground = host_trust(os.environ), base
    while True:
        with trust.mounts() as mounts, _container(job, ground, mounts, trust) as container:
            installation = Installation(container, trust, job.telling, payloads, tried)
            try:
                infos = tuple(installation.install(tool) for tool in tools)
            except StartOver:
                # what came first for a way that failed is not to be in the image of another one
                ground, tried.prepared, tried.came_first = base, set(), {}
                continue
            except ManagerMissing as error:
                missing = error
            else:
                installation.clean()
                job.telling.progress(", ".join(tool.name for tool in tools), "making the image")
                return _commit(container, base, infos, key)
        tried.prepared.add(missing.tools)
        try:
            ground, packages = _with_prerequisites(job, ground, missing.tools)
            tried.came_first[missing.spec] = (*tried.came_first.get(missing.spec, ()), *packages)
        except InstallError as error:
            tried.failures[missing.spec] = error


def _container(
    job: _Job, ground: ResolvedImage, mounts: Mapping[str, Path], trust: HostTrust
) -> AbstractContextManager[InstallContainer]:
    return install_container(job.engine, ground, job.claim, mounts, trust.mask)


def _with_prerequisites(job: _Job, base: ResolvedImage, tools: tuple[ToolSpec, ...]) -> tuple[ResolvedImage, tuple[Package, ...]]:
    """The image with them, and all the packages that they brought."""
    installed = _install(job, base, tools, {}, {})
    found = find_tool_image(job.engine, installed.key)
    if found is None:
        raise InstallError(f"installing {', '.join(tool.name for tool in tools)}: the image with it is gone again")
    # What is built on it is to tell its containers what the base does.
    packages = tuple(package for tool in installed.tools for package in tool.packages)
    return replace(found, info=replace(base.info, id=found.info.id), config=base.config), packages


def _commit(container: InstallContainer, base: ResolvedImage, infos: tuple[ToolInfo, ...], key: str) -> InstalledImage:
    built = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    tools = tuple(replace(info, built=built, key=key) for info in infos)
    labels = {
        KIND_LABEL: "tool",
        KEY_LABEL: key,
        SPEC_LABEL: f"{base.info.ref} + {' '.join(f'{info.strategy}:{info.name}={info.version}' for info in infos)}",
        **provenance.labels(base.info, tools, built),
    }
    return InstalledImage(container.commit(tool_tag(key), labels), tools, cached=False, key=key)
