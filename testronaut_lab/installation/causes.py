"""Finds from a package manager's output why a package does not fit the image, and what the user can type about it. Pure.

`faults.py` classifies a failure; `startable.py` finds why an installed program does not start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Cause:
    """Why it failed: `text` is a sentence for the message, `hint` says what to do."""

    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Release:
    """A Debian release for images, and the versions in it."""

    image: str
    python: tuple[int, int]
    node: int
    glibc: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Runtime:
    """The image's python: its version, the processor as `uname -m` prints it, and the version of glibc, () for another libc."""

    python: tuple[int, ...]
    machine: str
    glibc: tuple[int, ...] = ()


RELEASES: Final = (
    Release("debian:bookworm-slim", (3, 11), 18, (2, 36)),
    Release("debian:trixie-slim", (3, 13), 20, (2, 41)),
)
_SYSTEMS: Final = {"win": "Windows", "macosx": "macOS", "ios": "iOS", "android": "Android"}
_INTERPRETERS: Final = {"cp": "CPython", "pp": "PyPy"}
_WHEEL: Final = re.compile(r"([A-Za-z0-9._]+)-([^-\s]+)(?:-\d[^-\s]*)?-([A-Za-z0-9_.]+)-([A-Za-z0-9_.]+)-([A-Za-z0-9_.]+)\.whl")
NO_COMPILER: Final = re.compile(
    r"(?:command|execute) '(?:\S*-)?(?:gcc|g\+\+|cc|c\+\+|clang)'(?::| failed:) No such file|Python\.h: No such file"
    r"|[Uu]nknown compiler|no acceptable C compiler|[Cc]ompiler .{0,20}(?:cannot|could not) be found"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """The requested `tool` as STRATEGY:SPEC, and the version of the image's `python`, empty if it is not known."""

    tool: str
    python: str = ""


def of_package(said: str, asked: Asked) -> Cause | None:
    """Find in the output of apt, pip or npm why a package does not fit; None if it does not say."""
    found = ((pattern.search(said), tell) for pattern, tell in _TELLING)
    return next((tell(match, asked) for match, tell in found if match is not None), None)


def of_wheel(name: str, runtime: Runtime) -> Cause | None:
    """Say why a wheel of this file name does not fit the image's python. Of several platform tags, the last one counts."""
    named = _WHEEL.fullmatch(name)
    if named is None:
        return None
    package, version, python, abi, platforms = named.groups()
    platform = platforms.split(".")[-1]
    here = f"CPython {_dotted(runtime.python[:2])} on {runtime.machine}"
    fetch = f"pip download --no-deps --only-binary=:all: --python-version {_dotted(runtime.python[:2])} "
    fetch += f"--platform manylinux2014_{runtime.machine} {package.replace('_', '-')}=={version}"
    if (system := next((name for mark, name in _SYSTEMS.items() if platform.startswith(mark)), None)) is not None:
        return Cause(f"it was built for {system}, and the image is {here}, Linux", fetch)
    processor = re.search(r"(x86_64|i686|aarch64|armv\d\w|ppc64le|s390x|riscv64)$", platform)
    if processor is not None and processor[1] != runtime.machine:
        return Cause(f"it was built for the processor {processor[1]}, and the image is {here}", fetch)
    built = re.search(r"(cp|pp)(\d)(\d+)", python)
    if built is not None and (int(built[2]), int(built[3])) != runtime.python[:2] and abi != "abi3":
        return Cause(f"it was built for {_INTERPRETERS[built[1]]} {built[2]}.{built[3]}, and the image has {here}", fetch)
    libc = re.search(r"manylinux_(\d+)_(\d+)_", platform)
    if libc is not None and runtime.glibc and (wanted := (int(libc[1]), int(libc[2]))) > runtime.glibc:
        needs = f"it needs glibc {_dotted(wanted)}, and the image has {_dotted(runtime.glibc)}"
        return Cause(needs, newer(lambda release: release.glibc >= wanted) or fetch)
    if "musllinux" in platform and runtime.glibc:
        return Cause(f"it was built for musl, as Alpine has it, and the image has glibc {_dotted(runtime.glibc)}", fetch)
    return None


def of_node(wanted: str, there: str) -> Cause | None:
    """Say that a program needs a newer node; None if it does not. Versions are as npm writes them: `>=22`, `v18.20.4`."""
    numbers = [re.search(r"\d+", text) for text in (wanted, there)]
    least, ours = (int(number[0]) if number else 0 for number in numbers)
    if least <= ours:
        return None
    image = newer(lambda release: release.node >= least) or f"--image node:{least}-slim"
    return Cause(f"it needs node {wanted}, and the image has {there}", image)


def newer(fits: Callable[[Release], bool]) -> str:
    """The option for the first Debian release that fits; empty if none does."""
    return next((f"--image {release.image}" for release in RELEASES if fits(release)), "")


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _python(wanted: str, there: str, before: str = "") -> Cause:
    least = re.search(r">=?\s*(\d+)\.(\d+)", wanted)
    numbers = (int(least[1]), int(least[2])) if least else (0, 0)
    image = newer(lambda release: release.python >= numbers) or f"--image python:{_dotted(numbers)}-slim"
    hint = image if least else "use an image with an older python, or a newer version of the package"
    return Cause(f"{before}it needs Python {wanted}, and the image has {there or 'another'}", hint)


def _of_python(match: re.Match[str], _asked: Asked) -> Cause:
    return _python(match["wanted"], match["there"])


def _of_ignored(match: re.Match[str], asked: Asked) -> Cause | None:
    """Find the requested version in pip's list of the versions that it ignored: `VERSION Requires-Python >=3.12; …`."""
    version = re.search(r"==\s*([A-Za-z0-9.]+)$", asked.tool)
    wanted = dict(re.findall(r"(\S+) Requires-Python ([^;\n]+)", match["list"]))
    if version is None or version[1] not in wanted:
        return None
    return _python(wanted[version[1]].strip(), asked.python, f"there is {version[1]}, but ")


def _of_depends(match: re.Match[str], asked: Asked) -> Cause:
    package, needs, why = match["package"], match["needs"].strip(), match["why"].strip()
    name = needs.split()[0]
    if there := re.match(r"(\S+) is (?:to be )?installed", why):
        text = f"{package} needs {needs}, and the image's release has {name} {there[1]}"
        libc = re.match(r"libc6 \(>= (\d+)\.(\d+)", needs)
        wanted = (int(libc[1]), int(libc[2])) if libc else None
        image = newer(lambda release: release.glibc >= wanted) if wanted is not None else ""
        return Cause(text, image or f"take a build of {package} for the image's release")
    text = f"{package} needs {needs}, which the image's package index does not have"
    return Cause(text, f"put the package that it needs before it: tools: ['deb:{name}_VERSION_all.deb', '{asked.tool}']")


def _of_architecture(match: re.Match[str], _asked: Asked) -> Cause:
    ours = match["ours"]
    text = f"it is a package for {match['other']}, and the image is for {ours}"
    return Cause(text, f"take the package whose name ends in _{ours}.deb")


def _of_platform(match: re.Match[str], _asked: Asked) -> Cause:
    wanted, there = (" on ".join(re.findall(r'"([a-z0-9_!-]+)"[,}\]]', match[each])) for each in ("wanted", "there"))
    return Cause(f"it is a package for {wanted}, and the image is {there}", "take the package for this system, or one for all")


def _of_compiler(_match: re.Match[str], asked: Asked) -> Cause:
    text = "there is no build of it for the image's python, and no compiler in the image to make one"
    return Cause(text, f"put a compiler before it: tools: [apt:build-essential, apt:python3-dev, '{asked.tool}']")


_TELLING: Final[Sequence[tuple[re.Pattern[str], Callable[[re.Match[str], Asked], Cause | None]]]] = (
    (re.compile(r"requires a different Python: (?P<there>\S+) not in '(?P<wanted>[^']+)'"), _of_python),
    (re.compile(r"require a different python version: (?P<list>[^\n]+)"), _of_ignored),
    (re.compile(r"^ *(?P<package>\S+) : (?:Pre-)?Depends: (?P<needs>.+?) but (?P<why>.+)$", re.MULTILINE), _of_depends),
    (re.compile(r"package architecture \((?P<other>\S+)\) does not match system \((?P<ours>\S+)\)"), _of_architecture),
    (re.compile(r"Unsupported platform for \S+: wanted (?P<wanted>\{.*?\}) \(current: (?P<there>\{.*?\})\)"), _of_platform),
    (NO_COMPILER, _of_compiler),
)  # fmt: skip
