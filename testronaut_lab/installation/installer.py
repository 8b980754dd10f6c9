"""Installs tools into a base image, once: the result is an image under a key, and the next run takes it from the cache.

1. `image_key` hashes everything that the result depends on. If an image with this key exists, it is returned.
2. Under a lock for the key, a container is started from the base, and `Installation` installs the tools in it.
3. `StartOver` begins again in a new container from the base, without the alternatives that failed.
4. `ManagerMissing` installs the package manager into an image of its own first, and begins again from that image.
5. On success the container is cleaned and committed, with its provenance in labels. A failure commits nothing.
`strategies.py` has the commands as data, `installation.py` runs them, `container/image/builder.py` has the container,
`verifier.py` checks the result.
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
    """The image for steps, with its tools in the order of the plan. `cached`: it existed before."""

    id: str
    tools: tuple[ToolInfo, ...]
    cached: bool
    key: str


@dataclass(frozen=True, slots=True)
class _Job:
    """The engine, callbacks and claim of one installation."""

    engine: Engine
    telling: Telling
    claim: Claim

    def recorded(self, log: keptlog.Recorder) -> _Job:
        """The same job, but each line is also recorded in `log`."""
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
    """Return the image of `base` with `tools`, from the cache or newly made; without tools, the base.

    `report` gets (tool, line) for each line of output, `on_progress` gets (tool, text) for people who wait. The container and
    network of the installation are called NAME-install, by the claim's name. Raises UsageError for an invalid spec. Raises
    InstallError, with the package manager's own words, if a tool cannot be installed or does not start.
    """
    for tool in tools:
        for spec in tool.install:
            for each in (spec.spec, *spec.more):
                package_name(strategy_for(spec.strategy), each)
    job = _Job(engine, Telling(report, on_progress), claim)
    with _payloads(tools) as (payloads, failures):
        return _install(job, base, tools, payloads, failures)


def image_key(base: ResolvedImage, tools: Sequence[ToolSpec], payloads: Payloads | None = None) -> str:
    """Hash everything that the result depends on: the base's contents (not its id or name), the tools, how they are installed.

    A file or folder counts by its content, not by its path.
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
        del material["importable"]  # keys of images from before this option stay valid
    return material


@contextmanager
def _payloads(tools: Sequence[ToolSpec]) -> Iterator[tuple[Payloads, Failures]]:
    """Yield the packed files of the tools, and an error for each file that cannot be packed."""
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
    """Install the tools in new containers until one succeeds; commit it.

    After `StartOver` the next container starts from the base; after `ManagerMissing`, from the base with the package manager. The
    base with the package manager is an image of its own, so that other tools find it in the cache.
    """
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
                # packages that the failed alternative needed must not get into the image of the next one
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
    """Return an image with these tools, and all packages that came with them."""
    installed = _install(job, base, tools, {}, {})
    found = find_tool_image(job.engine, installed.key)
    if found is None:
        raise InstallError(f"installing {', '.join(tool.name for tool in tools)}: the image with it is gone again")
    # An image built on it must have the base's configuration.
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
