"""Carries out one installation in one container, tool by tool, by the rows of `strategies.py`.

For each tool it tries the alternatives of the plan in order. An alternative that failed and may have changed the container raises
`StartOver`; a missing package manager raises `ManagerMissing`. `installer.py` then starts again in a new container.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from testronaut_lab.container.image.builder import CA_BUNDLE_TARGET, Executed, InstallContainer
from testronaut_lab.errors import InstallError
from testronaut_lab.installation import scripts
from testronaut_lab.installation.causes import Cause
from testronaut_lab.installation.diagnosis import diagnosed, way_of
from testronaut_lab.installation.faults import HINTS, Fault, classify
from testronaut_lab.installation.inventory import Inventory
from testronaut_lab.installation.payload import Payload
from testronaut_lab.installation.progress import ProgressReader
from testronaut_lab.installation.strategies import Argv, Strategy, Words, fill, matched, package_name, strategy_for
from testronaut_lab.installation.trust import HostTrust
from testronaut_lab.installation.verifier import Proof, verify
from testronaut_lab.model.lastwords import with_last_words, without_said
from testronaut_lab.model.plan import InstallSpec, ToolSpec
from testronaut_lab.model.result import Package, ToolInfo

INSTALL_TIMEOUT_S = 900.0
# Tools that are not packages of the system go below this folder, each into a folder of its own.
TOOLS_FOLDER = "/opt/testronaut-lab"
_WORK = f"{TOOLS_FOLDER}/.work"
# Removes the work folder, and the folder of the tools if it is empty.
_CLEAN_WORK = ("sh", "-c", 'rm -rf "$1" && { rmdir "$2" 2>/dev/null || true; }', "sh", _WORK, TOOLS_FOLDER)
_QUERY_TIMEOUT_S = 60.0
_ATTEMPTS = 3
_SHOWN_VERSIONS = 10
_LAST_LINES = 8
# Lines that do not help: they point to a log in a container that is gone, or to lines that are not shown.
_NOISE = re.compile(
    r"npm http fetch |A complete log of this run|/_logs/|\[end of output\]|issue with the package mentioned above|"
    r"See above for output|originates from a subprocess|^debconf: delaying package"
)
_NOTHING_CHANGED = (Fault.NO_PACKAGE, Fault.NO_VERSION)

Report = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Telling:
    """Callbacks that get (tool, text): `line` for each line of output, `progress` now and then for people who wait."""

    line: Report
    progress: Report = lambda _tool, _text: None


class StartOver(Exception):
    """An alternative failed and may have changed the container. Try the next one in a new container."""


class ManagerMissing(Exception):
    """`spec` needs a package manager that the image lacks. The image's own package manager can install it as `tools`."""

    def __init__(self, spec: InstallSpec, tools: tuple[ToolSpec, ...]) -> None:
        super().__init__()
        self.spec = spec
        self.tools = tools


@dataclass(slots=True)
class Tried:
    """What is known across containers.

    `failures` are the alternatives that failed. `prepared` are the tools that were put into the base because a `ManagerMissing`
    asked for them. `came_first` are the packages that came with them.
    """

    failures: dict[InstallSpec, InstallError] = field(default_factory=dict)
    prepared: set[tuple[ToolSpec, ...]] = field(default_factory=set)
    came_first: dict[InstallSpec, tuple[Package, ...]] = field(default_factory=dict)


class Installation:
    """Carries out one installation in one container."""

    def __init__(
        self,
        container: InstallContainer,
        trust: HostTrust,
        telling: Telling,
        payloads: Mapping[InstallSpec, Payload],
        tried: Tried,
    ) -> None:
        self._container = container
        self._trust = trust
        self._report = telling.line
        self._progress = telling.progress
        self._payloads = payloads
        self._failures = tried.failures
        self._tried = tried
        self._inventory = Inventory(container)
        self._used: list[Strategy] = []
        self._heard: set[str] = set()
        self._there: set[Argv] = set()
        self._fresh: set[str] = set()
        self._work_is_there = False

    def install(self, tool: ToolSpec) -> ToolInfo:
        """Install a tool by the first alternative that works. Raises InstallError with the reason of each that did not.

        Raises StartOver or ManagerMissing if the installation must go on in a new container.
        """
        for spec in tool.install:
            if spec in self._failures:
                continue
            try:
                return self._install_by(tool, spec)
            except InstallError as error:
                self._failures[spec] = error
                if spec is not tool.install[-1]:
                    why = without_said(error.message, self._heard)
                    for line in (*why.splitlines(), "trying the next way to install it"):
                        self._report(tool.name, line)
                    if strategy_for(spec.strategy).linked or error.fault not in _NOTHING_CHANGED:
                        raise StartOver from error
        errors = [self._failures[spec] for spec in tool.install]
        if len(errors) == 1:
            raise errors[0]
        why = "\n".join(f"{i}. {error.message}" for i, error in enumerate(errors, 1)).replace("\n", "\n  ")
        message = f"installing {tool.name}: no alternative of {len(errors)} worked:\n  {why}"
        raise InstallError(message, hint=errors[-1].hint, fault=errors[-1].fault)

    def clean(self) -> None:
        """Remove indexes and caches. Raises InstallError if that fails, because they would get into the image."""
        commands = dict.fromkeys(argv for strategy in self._used for argv in strategy.clean)
        for argv in [*commands, *([_CLEAN_WORK] if self._work_is_there else [])]:
            ended = self._container.run(argv, timeout_s=INSTALL_TIMEOUT_S)
            if not ended.ok:
                raise InstallError(f"cleaning up after the installation with {argv[0]}: {in_words(ended)}")

    def _install_by(self, tool: ToolSpec, spec: InstallSpec) -> ToolInfo:
        strategy = strategy_for(spec.strategy)
        self._require(tool, spec, strategy)
        self._inventory.begin()
        self._used.append(strategy)
        words = self._words(tool, spec, strategy)
        what = f"installing {spec.strategy}:{spec.wanted}"
        if strategy.index and strategy.index not in self._fresh:
            self._progress(tool.name, f"refreshing the package index of {strategy.index}")
            self._run(tool, strategy, strategy.refresh, words, f"{what}: refreshing the package index of {strategy.index}")
            self._fresh.add(strategy.index)
        words = self._hand_over(tool, spec, strategy, words)
        for argv in strategy.install:
            self._run(tool, strategy, argv, words, what, spec)
        env = self._env(strategy, words)
        proof = Proof(self._container, tool, strategy, words, env, way_of(spec), self._version_of(spec, strategy))
        if strategy.linked:
            self._link([*proof.brought(), *proof.from_beside()], what)
        if tool.importable:
            self._import(strategy, words, what)
        self._progress(tool.name, "looking whether it is there and starts")
        verified = verify(proof)
        came = self._inventory.added(strategy, words, env)
        packages = sorted(
            {*self._tried.came_first.get(spec, ()), *came}, key=lambda each: (each.manager, each.name, each.version)
        )
        return ToolInfo(tool.name, verified.version, strategy.name, spec.wanted, verified.program, tuple(packages))

    def _version_of(self, spec: InstallSpec, strategy: Strategy) -> str:
        """The version if neither a manager nor the program tells one: from the file's name, else the file's hash."""
        match, payload = matched(strategy, spec.spec), self._payloads.get(spec)
        named = (match.groupdict().get("version") if match else None) or ""
        return named or (f"sha256:{payload.sha256[:12]}" if payload else "unknown")

    def _require(self, tool: ToolSpec, spec: InstallSpec, strategy: Strategy) -> None:
        """Check that the image has the package manager. Raises ManagerMissing if it can be installed, else InstallError."""
        if strategy.manager in self._there:
            return
        asked = self._container.run(strategy.manager, timeout_s=_QUERY_TIMEOUT_S)
        if asked.ok:
            self._there.add(strategy.manager)
            return
        for system, packages in strategy.needs:
            first = tuple(ToolSpec(name, (InstallSpec(system, name),)) for name in packages)
            manager = strategy_for(system).manager
            if first not in self._tried.prepared and self._container.run(manager, timeout_s=_QUERY_TIMEOUT_S).ok:
                self._report(tool.name, f"{strategy.name} is not in the image; {' '.join(packages)} comes first, by {system}")
                raise ManagerMissing(spec, first)
        ways = " or ".join(f"{system} could install {' '.join(packages)}" for system, packages in strategy.needs)
        said = f"{Fault.PREREQUISITE}: {' '.join(strategy.manager[:2])} does not work in the image: {asked.text}"
        raise InstallError(
            f"installing {spec.strategy}:{spec.spec}: {said}" + (f"\n{ways}, if it were there" if ways else ""),
            hint=HINTS[Fault.PREREQUISITE],
            fault=Fault.PREREQUISITE,
        )

    def _words(self, tool: ToolSpec, spec: InstallSpec, strategy: Strategy) -> Words:
        home = f"{TOOLS_FOLDER}/{re.sub('[^A-Za-z0-9+._-]', '-', tool.name).lstrip('.')}"
        options = fill(strategy.ca_options, Words(ca=CA_BUNDLE_TARGET)) if self._trust.ca_bundle else []
        name = package_name(strategy, spec.spec)
        return Words(name, spec.spec, home, work=_WORK, options=tuple(options), more=spec.more)

    def _hand_over(self, tool: ToolSpec, spec: InstallSpec, strategy: Strategy, words: Words) -> Words:
        """Copy the tool's files into the container, and ask which package they contain."""
        if strategy.linked or spec in self._payloads:
            incoming = f"{_WORK}/in/{words.home.rpartition('/')[2]}"
            self._must(["mkdir", "-p", words.home, _WORK, incoming], f"making the folder of {tool.name}")
            self._work_is_there = True
        if (payload := self._payloads.get(spec)) is None:
            return words
        folder = incoming if payload.file else words.home
        payload.tar.seek(0)
        self._container.put(folder, payload.tar)
        words = replace(words, file=f"{folder}/{payload.file}" if payload.file else "")
        if strategy.identify:
            asked = self._must(fill(strategy.identify, words), f"reading {spec.spec}")
            words = replace(words, name=asked.last_lines[-1] if asked.last_lines else "")
        return words

    def _must(self, argv: Sequence[str], what: str) -> Executed:
        ended = self._container.run(argv, timeout_s=_QUERY_TIMEOUT_S)
        if not ended.ok:
            fault = classify(ended.text, ())
            raise InstallError(f"{what}: {fault}; {in_words(ended)}", hint=HINTS.get(fault), fault=fault)
        return ended

    def _link(self, programs: Sequence[str], what: str) -> None:
        linked = self._container.run(["sh", "-c", scripts.LINK, "sh", *programs], timeout_s=_QUERY_TIMEOUT_S)
        if not linked.ok:
            fault = Fault.CONFLICT
            raise InstallError(f"{what}: {fault}: {linked.text}", hint=HINTS[fault], fault=fault)

    def _import(self, strategy: Strategy, words: Words, what: str) -> None:
        """Let the image's own python find the packages of the tool's environment, and check that it does."""
        ended = self._container.run(fill(strategy.importing, words), timeout_s=_QUERY_TIMEOUT_S)
        if not ended.ok:
            raise InstallError(f"{what}: the image's python does not find it: {in_words(ended)}", fault=Fault.NOT_RUNNING)

    def _env(self, strategy: Strategy, words: Words) -> dict[str, str]:
        own = {name: fill((value,), words)[0] for name, value in strategy.env}
        # Files in a home directory would get into the image. Packages of the system use root's own home.
        home = {"HOME": _WORK} if strategy.linked else {}
        return {**dict(self._trust.env), **home, **own}

    def _run(
        self, tool: ToolSpec, strategy: Strategy, argv: Argv, words: Words, what: str, spec: InstallSpec | None = None
    ) -> None:  # fmt: skip
        """Run a command of the package manager; repeat it, a bounded number of times, if the network fails."""
        delays, reader = retry_delays(random.Random()), ProgressReader(strategy)

        def heard(line: str) -> None:
            self._heard.add(line)
            self._report(tool.name, line)
            if doing := reader.heard(line):
                self._progress(tool.name, doing)

        while True:
            ended = self._container.run(
                fill(argv, words),
                timeout_s=INSTALL_TIMEOUT_S,
                env=self._env(strategy, words),
                on_line=heard,
            )
            if ended.ok:
                return
            fault, evidence = self._told(strategy, words, ended)
            if not delays or fault is not Fault.NETWORK:
                cause = None if spec is None else diagnosed(self._container, strategy, spec, words, ended)
                why = "" if cause is None else f" {cause.text};"
                message = f"{what}: {fault}{':' if why else ';'}{why} {in_words(ended)}{evidence}"
                raise self._failure(strategy, words, message, fault, cause)
            delay_s = delays.pop(0)
            self._report(tool.name, f"{what} failed for a reason of the network; trying again in {delay_s:.1f} s")
            time.sleep(delay_s)

    def _told(self, strategy: Strategy, words: Words, ended: Executed) -> tuple[Fault, str]:
        """Return the kind of a failure, and evidence for it.

        Some managers report an index that does not answer as one without the package. Such a manager is asked again with more
        output (`outspoken`), and its line about the index is the evidence.
        """
        if ended.code is None:
            return Fault.TIMEOUT, ""
        fault = classify(ended.text, strategy.rules)
        if fault is not Fault.NO_PACKAGE or not strategy.outspoken:
            return fault, ""
        lines: list[str] = []
        env = self._env(strategy, words) | dict(strategy.outspoken)
        self._container.run(fill(strategy.available, words), timeout_s=_QUERY_TIMEOUT_S, env=env, on_line=lines.append)
        why = next((line for line in lines if classify(line, ()) is not Fault.OTHER), None)
        return (fault, "") if why is None else (classify(why, ()), f"\n  {why.strip()}")

    def _failure(
        self, strategy: Strategy, words: Words, message: str, fault: Fault, cause: Cause | None = None
    ) -> InstallError:  # fmt: skip
        hint = HINTS.get(fault)
        if fault is Fault.NO_PACKAGE:
            hint = strategy.hint.replace("{name}", words.name) or None
        elif fault is Fault.NO_VERSION and (versions := self._versions(strategy, words)):
            shown = ", ".join(versions[:_SHOWN_VERSIONS])
            older = f" and {len(versions) - _SHOWN_VERSIONS} others" if len(versions) > _SHOWN_VERSIONS else ""
            message += f"\nof {words.name} there is: {shown}{older}"
            hint = f"ask for a version that there is: {strategy.name}:{strategy.pin.format(words.name, versions[0])}"
        return InstallError(message, hint=hint if cause is None else cause.hint, fault=fault)

    def _versions(self, strategy: Strategy, words: Words) -> list[str]:
        """The versions that the package manager lists, the newest first; none if it cannot list them.

        Pre-releases are left out, unless there are only pre-releases.
        """
        if not strategy.available:
            return []
        lines: list[str] = []
        argv, env = fill(strategy.available, words), self._env(strategy, words)
        self._container.run(argv, timeout_s=_QUERY_TIMEOUT_S, env=env, on_line=lines.append)
        found = list(dict.fromkeys(strategy.listed.findall("\n".join(lines))))
        found = [each for each in found if not strategy.unfinished.search(each)] or found
        return found[::-1] if strategy.ascending else found


def retry_delays(rng: random.Random) -> list[float]:
    """The seconds to wait before each further attempt: doubling, with jitter so that many machines do not retry at once."""
    return [2**n * rng.uniform(0.5, 1.5) for n in range(_ATTEMPTS - 1)]


def in_words(ended: Executed) -> str:
    how = f"it took longer than {INSTALL_TIMEOUT_S:.0f} s" if ended.code is None else f"it ended with status {ended.code}"
    telling = [line for line in ended.last_lines if not _NOISE.search(line)] or ended.last_lines
    return with_last_words(how, telling[-_LAST_LINES:])
