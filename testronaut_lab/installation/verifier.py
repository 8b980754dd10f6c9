"""Proves that a tool was installed: the package manager knows its version, and its program exists and starts.

For a package without a program (data, a library), the version alone is the proof.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from testronaut_lab.container.image.builder import Executed, InstallContainer
from testronaut_lab.errors import InstallError
from testronaut_lab.installation import scripts
from testronaut_lab.installation.causes import Cause, of_node
from testronaut_lab.installation.diagnosis import has, read_head
from testronaut_lab.installation.faults import HINTS, Fault
from testronaut_lab.installation.startable import Came, foreign, unstarted
from testronaut_lab.installation.strategies import Strategy, Words, fill
from testronaut_lab.model.plan import ToolSpec, Verify

_QUERY_TIMEOUT_S = 60.0
_START_TIMEOUT_S = 20
_PROGRAM = re.compile(r"/(?:usr/(?:local/)?)?(?:bin|sbin|games)/[^/]+")
# The words of loaders, for programs and for scripts, if something that the program needs is not installed.
_LOADER_ERROR = re.compile(
    r"error while loading shared libraries|symbol lookup error|Error relocating|version `[^']*' not found|"
    r"^(?:ModuleNotFoundError|ImportError|SyntaxError|importlib\.metadata\.PackageNotFoundError): |"
    r"Cannot find module|ERR_MODULE_NOT_FOUND|ERR_REQUIRE_ESM",
    re.MULTILINE,
)
_VERSION = re.compile(r"(?<![\w.])v?(\d+(?:\.\d+)+[\w.+~-]*)")
# Files that a tried program writes to its home must not get into the image: /dev/shm is not committed.
_ENV = {"LC_ALL": "C.UTF-8", "HOME": "/dev/shm"}
_NOT_FOUND, _SIGNALLED = (126, 127), 128
_PLAIN = re.compile(r"[A-Za-z0-9_.\[][A-Za-z0-9+._\[-]*")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Proof:
    """A tool to verify, and how it was installed. `otherwise` is its version if neither manager nor program tells one."""

    container: InstallContainer
    tool: ToolSpec
    strategy: Strategy
    words: Words
    env: dict[str, str]
    came: Came
    otherwise: str = ""

    @property
    def package(self) -> str:
        return self.words.name or self.tool.name

    def from_beside(self) -> list[str]:
        """The path of the wanted program, if only a dependency of the tool brings it; it is on no PATH yet. At most one."""
        if not self.strategy.beside:
            return []
        own = {PurePosixPath(path).name for path in self.brought()}
        wanted = self.tool.command or self.tool.name
        path = f"{fill((self.strategy.beside,), self.words)[0]}/{wanted}"
        return [path] if wanted not in own and _PLAIN.fullmatch(wanted) and _which(self, path) else []

    def of_family(self) -> list[str]:
        """Programs of dependencies whose names begin like the package's: a Debian package may only pull in others."""
        if self.strategy.linked or not self.strategy.installed:
            return []
        lines: list[str] = []
        argv = ["sh", "-c", scripts.DEB_FAMILY, "sh", self.package]
        self.container.run(argv, timeout_s=_QUERY_TIMEOUT_S, env=_ENV, on_line=lines.append)
        return sorted(line for line in lines if _PROGRAM.fullmatch(line))

    def nested(self) -> list[str]:
        """Programs that lie too deep in an archive, by their names in the archive."""
        if self.strategy.takes != "archive":
            return []
        lines: list[str] = []
        argv = ["sh", "-c", scripts.NESTED, "sh", self.words.home]
        self.container.run(argv, timeout_s=_QUERY_TIMEOUT_S, env=_ENV, on_line=lines.append)
        return sorted(line.removeprefix(f"{self.words.home}/") for line in lines if line.startswith(f"{self.words.home}/"))

    def brought(self) -> list[str]:
        """The paths of the programs that came with the tool, sorted; none if the row cannot list them."""
        if not self.strategy.files:
            return []
        lines: list[str] = []
        argv = fill(self.strategy.files, self.words)
        self.container.run(argv, timeout_s=_QUERY_TIMEOUT_S, env=self.env, on_line=lines.append)
        if self.strategy.linked:
            return sorted(line for line in lines if line.startswith(f"{self.words.home}/"))
        return sorted(line for line in lines if _PROGRAM.fullmatch(line))


@dataclass(frozen=True, slots=True)
class Verified:
    """`program` is the path of the program that started, None for a package without a program."""

    version: str
    program: str | None


def verify(proof: Proof) -> Verified:
    """Verify a tool: its version, its program, its `verify` command.

    Raises InstallError, with the evidence, if the manager knows no version, the program is missing or does not start, or the
    `verify` command fails.
    """
    version = installed_version(proof) if proof.strategy.installed else ""
    program = _program(proof)
    if program is not None:
        told = _start(proof, program)
        version = version or told
    if proof.tool.verify is not None:
        _check(proof, proof.tool.verify)
    return Verified(version or proof.otherwise, program)


def installed_version(proof: Proof) -> str:
    """The version that the package manager reports. Raises InstallError if it knows of none."""
    asked = proof.container.run(
        fill(proof.strategy.installed, proof.words), timeout_s=_QUERY_TIMEOUT_S, env={**proof.env, **_ENV}
    )
    match = re.search(r"^installed (\S+)$", asked.text, re.MULTILINE)
    if not asked.ok or match is None:
        name = proof.strategy.name
        raise InstallError(
            f"installing {proof.package}: {name} reported success and knows no such installed package:\n  {asked.text}",
            hint=proof.strategy.hint.replace("{name}", proof.package) or None,
            fault=Fault.NO_PACKAGE,
        )
    return match[1]


def _program(proof: Proof) -> str | None:
    """The path of the tool's program: the plan's `command`, or the tool's name, or the package's first program on the PATH.

    For a tool with a folder of its own, it must come from there: another program of that name would prove nothing.
    """
    brought = proof.brought()
    brought += proof.from_beside() or ([] if brought else proof.of_family())
    own = {PurePosixPath(path).name for path in brought} if proof.strategy.files and proof.strategy.linked else None
    wanted = proof.tool.command or proof.tool.name
    if (own is None or wanted in own or wanted.startswith("/")) and (found := _which(proof, wanted)):
        return found
    shown = ", ".join(brought[:_SHOWN]) + (f" and {len(brought) - _SHOWN} more" if len(brought) > _SHOWN else "")
    if not brought and (nested := _nearest(proof.nested(), wanted)):
        parts = PurePosixPath(nested).parts
        strip = len(parts) - (2 if parts[-2] == "bin" else 1)
        message = f"the archive has no program at its top or in its bin, but {nested}"
        hint = f"{{name: {proof.tool.name}, install: {{archive: {proof.words.spec}, strip: {strip}}}}}"
        raise _missing(proof, message, f"leave out its leading folder{'s' if strip > 1 else ''}: {hint}")
    if proof.tool.command is not None:
        raise _missing(
            proof,
            f"there is no command {proof.tool.command!r} on the PATH after installing {proof.package}"
            + (f", which brings {shown}" if brought else ""),
            f"name the program that {proof.package} brings: command: {PurePosixPath(brought[0]).name if brought else 'NAME'}",
        )
    for path in brought:
        if found := _which(proof, PurePosixPath(path).name):
            return found
    if brought:
        message = f"{proof.package} brings {shown}, none of which is on the PATH"
        raise _missing(proof, message, f"name it with its path: command: {brought[0]}")
    if not proof.strategy.installed:
        raise _missing(proof, f"{proof.strategy.name} brought no program called {wanted}", "name the program: command: NAME")
    return None


def _nearest(nested: list[str], wanted: str) -> str | None:
    """The wanted program, else one in a bin folder, else the one nearest to the top."""
    paths = [PurePosixPath(each) for each in nested]
    ranked = sorted(paths, key=lambda path: (path.name != wanted, path.parent.name != "bin", len(path.parts), path))
    return str(ranked[0]) if ranked and len(ranked[0].parts) > 1 else None


def _missing(proof: Proof, message: str, hint: str) -> InstallError:
    return InstallError(f"verifying {proof.tool.name}: {message}", hint=hint, fault=Fault.NOT_RUNNING)


def _which(proof: Proof, command: str) -> str | None:
    asked = proof.container.run(["sh", "-c", scripts.WHICH, "sh", command], timeout_s=_QUERY_TIMEOUT_S, env=_ENV)
    path = asked.last_lines[-1] if asked.ok and asked.last_lines else ""
    return path if path.startswith("/") else None


def _start(proof: Proof, program: str) -> str:
    """Start the program; return the version that it prints, or "". A program that rejects both options has still started."""
    head = read_head(proof.container, program)
    if (cause := foreign(head)) is not None:
        raise _unstarted(proof, f" {cause.text}", cause.hint)
    evidence: list[str] = []
    said = ""
    for option in ("--version", "--help"):
        tried = _run_briefly(proof, [program, option])
        if _started(tried):
            told = _VERSION.search(tried.text) if tried.ok and option == "--version" else None
            return told[1] if told else ""
        words = "the same" if evidence and tried.text == said else tried.text.replace("\n", "\n    ")
        evidence.append(f"{program} {option} ended with {tried.code}: {words}")
        said = tried.text
    cause = unstarted(head, said, proof.came, lambda name: has(proof.container, name)) or _of_runtime(proof)
    if cause is not None:
        raise _unstarted(proof, "\n  ".join([f" {cause.text}", *evidence]), cause.hint)
    asked = proof.container.run(["sh", "-c", scripts.MISSING_LIBRARIES, "sh", program], timeout_s=_QUERY_TIMEOUT_S, env=_ENV)
    libraries = ", ".join(asked.last_lines) if asked.ok else ""
    shown = [*evidence, *([f"shared libraries that are missing: {libraries}"] if libraries else [])]
    hint = f"install what brings {libraries}" if libraries else HINTS[Fault.NOT_RUNNING]
    raise _unstarted(proof, "\n  ".join(["", *shown]), hint)


def _unstarted(proof: Proof, why: str, hint: str) -> InstallError:
    message = f"verifying {proof.tool.name}: it is installed and does not start:{why}"
    return InstallError(message, hint=hint, fault=Fault.NOT_RUNNING)


def _of_runtime(proof: Proof) -> Cause | None:
    """Say whether the package needs a newer node. For Python no check is needed: pip refuses such a package."""
    if proof.strategy.ecosystem != "npm":
        return None
    asked = proof.container.run(fill(proof.strategy.runtime, proof.words), timeout_s=_QUERY_TIMEOUT_S, env=proof.env)
    found = re.search(r"^runtime (\S+) (.+)$", asked.text, re.MULTILINE)
    return None if found is None else of_node(found[2].strip(), found[1])


def _started(tried: Executed) -> bool:
    if tried.code is None or (not tried.ok and _LOADER_ERROR.search(tried.text)):
        return False
    return tried.code not in _NOT_FOUND and tried.code < _SIGNALLED


def _check(proof: Proof, wanted: Verify) -> None:
    tried = _run_briefly(proof, ["sh", "-c", wanted.run])
    what = f"verifying {proof.tool.name} with {wanted.run!r}"
    if tried.code != 0:
        raise InstallError(f"{what}: it ended with {tried.code}: {tried.text}", fault=Fault.NOT_RUNNING)
    if wanted.matches is not None and not re.search(wanted.matches, tried.text):
        raise InstallError(f"{what}: {wanted.matches!r} does not match: {tried.text}", fault=Fault.NOT_RUNNING)


def _run_briefly(proof: Proof, argv: list[str]) -> Executed:
    """Run a program for at most 20 s (status 124: it has started): the deadline of `run` would kill the container."""
    limited = ["timeout", "-k", "2", str(_START_TIMEOUT_S), *argv]
    return proof.container.run(limited, timeout_s=_QUERY_TIMEOUT_S, env=_ENV)
