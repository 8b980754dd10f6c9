"""How each package manager is driven, as data: to support another one, add a row to STRATEGIES.

A command is an argv. In its words `{name}`, `{spec}`, `{home}`, `{file}`, `{work}` and `{ca}` are filled in (see
`Words`), `{options}` stands for the options that hand the manager the host's CA bundle, if there is one. No word of it is ever
read by a shell: the scripts in `scripts.py` are constant and get names as arguments.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath
from typing import Literal

from testronaut_lab.errors import UsageError
from testronaut_lab.installation import scripts
from testronaut_lab.installation.causes import NO_COMPILER
from testronaut_lab.installation.faults import Fault, Rules

Argv = tuple[str, ...]
# What follows the colon: a package of a registry; or a path on this machine, of one file that is handed to the manager, of an
# archive that is unpacked, or of a file or folder that is copied.
Takes = Literal["package", "file", "archive", "tree"]


@dataclass(frozen=True, slots=True)
class Strategy:
    """One row. `version` goes into the key of the image: raise it when a change here changes what comes out.

    `spec` has the group `name`, may have `version`, and allows nothing that the manager could take for an option, a file, a
    pattern or a removal; for paths it is about the file's own name, and `accepts` says it to people.

    `manager` ends well where the manager is there; where it is not, `needs` are packages that bring it, by the image's own
    manager. `refresh` is done once for each `index`. `installed` prints a line `installed VERSION` (a row without it tells the
    version by the program's own `--version`), `files` the paths of what came along, `packages` a line `package NAME VERSION` for
    each that is in the tool's own folder (those of the system are found by other means), of an `ecosystem`. `available` holds the
    versions there are, as `listed` finds them (oldest first where `ascending`); `unfinished` finds the pre-releases among them,
    `pin` is how one is asked for. In an environment that is `outspoken` that command also tells why an index could not be asked,
    where others do not.

    `progress` finds in what the manager writes which package it is at: groups `doing` and `package`; or `total`, how many there
    will be.

    `beside` is the folder of programs that come with what it needs. `importing` lets the image's own python find it.

    `runtime` tells what runs its programs: of Python `runtime VERSION MACHINE [GLIBC]`, of node `runtime VERSION WANTED`.

    `linked`: it is put into a folder of its own, `{home}`, and its programs are linked into the PATH. `rules` tell its errors.
    """

    name: str
    version: int
    spec: re.Pattern[str]
    accepts: str
    manager: Argv
    install: tuple[Argv, ...]
    files: Argv
    takes: Takes = "package"
    needs: tuple[tuple[str, Argv], ...] = ()
    index: str = ""
    refresh: Argv = ()
    identify: Argv = ()
    installed: Argv = ()
    packages: Argv = ()
    ecosystem: str = ""
    available: Argv = ()
    listed: re.Pattern[str] = re.compile(r"(?!)")
    ascending: bool = False
    unfinished: re.Pattern[str] = re.compile(r"(?!)")
    outspoken: tuple[tuple[str, str], ...] = ()
    pin: str = "{}={}"
    progress: re.Pattern[str] = re.compile(r"(?!)")
    clean: tuple[Argv, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    ca_options: Argv = ()
    beside: str = ""
    importing: Argv = ()
    runtime: Argv = ()
    linked: bool = True
    rules: Rules = ()
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """What is filled into a row. `name` is the package's, `spec` what was asked for of the manager; `home` is the tool's own
    folder, `file` the path of what was handed in, `work` a folder that is gone in the end, `more` packages beside `spec`."""

    name: str = ""
    spec: str = ""
    home: str = ""
    file: str = ""
    work: str = ""
    ca: str = ""
    options: tuple[str, ...] = ()
    more: tuple[str, ...] = ()


def _of_file(row: Strategy, name: str, spec: str, accepts: str) -> Strategy:
    """The row for a package that is a file of this machine: its manager is given the path, and knows no other versions of it."""
    install = tuple(tuple("{file}" if word == "{spec}" else word for word in argv) for argv in row.install)
    return replace(
        row, name=name, takes="file", spec=re.compile(spec), accepts=accepts, install=install, available=(), hint=""
    )  # fmt: skip


# --- Debian's packages ---------------------------------------------------------------------------------------------------

# Without the error mode an index that cannot be fetched is only a warning, and the package then looks unknown.
_APT_REFRESH: Argv = ("apt-get", "{options}", "-o", "APT::Update::Error-Mode=any", "update")
# Without a pty dpkg writes no percentages, which would be a line each; the image is made from a whole container, so that
# nothing is gained by an fsync for each of thousands of files. A name with a dot that is no package's would otherwise be taken
# for a regular expression, and all that match it be installed.
_APT_INSTALL: Argv = (
    "apt-get", "{options}", "-o", "Dpkg::Use-Pty=0", "-o", "Dpkg::Options::=--force-unsafe-io",
    "-o", "APT::Cmd::Pattern-Only=true", "install", "-y", "--no-install-recommends", "--",
)  # fmt: skip

_APT = Strategy(
    name="apt",
    version=2,
    # A trailing - or + would ask apt to remove or install; ++ is a name's own, as in g++.
    spec=re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]*(?:[a-z0-9]|\+\+))(?:=(?P<version>[A-Za-z0-9][A-Za-z0-9.+:~*-]*))?"),
    accepts="NAME or NAME=VERSION, a name in lower case letters, digits, '+', '-' and '.'",
    manager=("apt-get", "--version"),
    index="apt",
    refresh=_APT_REFRESH,
    install=((*_APT_INSTALL, "{spec}"),),
    installed=("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}\\n", "{name}"),
    files=("dpkg", "-L", "{name}"),
    available=("apt-cache", "madison", "{name}"),
    listed=re.compile(r"^ *\S+ \| +(\S+) \|", re.MULTILINE),
    progress=re.compile(r"(?P<doing>Unpacking|Setting up) (?P<package>[^\s:]+)|\d+ upgraded, (?P<total>\d+) newly installed, "),
    clean=(("apt-get", "clean"), ("find", "/var/lib/apt/lists", "-mindepth", "1", "-delete")),
    env=(("DEBIAN_FRONTEND", "noninteractive"), ("LC_ALL", "C.UTF-8")),
    ca_options=("-o", "Acquire::https::CaInfo={ca}"),
    linked=False,
    rules=(
        (Fault.NO_VERSION, re.compile(r"Version '.*' for '.*' was not found")),
        (Fault.NO_PACKAGE, re.compile(r"Unable to locate package|has no installation candidate|Couldn't find")),
        (Fault.UNFIT, re.compile(r"package architecture \(.*\) does not")),
        (Fault.CONFLICT, re.compile(r"trying to overwrite|^ .*\b(?:Conflicts|Breaks): ", re.MULTILINE)),
        (Fault.PREREQUISITE, re.compile(r"unmet dependencies|held broken packages")),
    ),
    hint="check the name: apt-cache search {name}",
)

_DEB = replace(
    _of_file(
        _APT,
        "deb",
        r"(?P<name>[^/\0_]+?)(?:_(?P<version>[^/\0_]+)(?:_[^/\0]*)?)?\.deb",
        "the PATH of a package file, NAME_VERSION_ARCHITECTURE.deb",
    ),
    identify=("dpkg-deb", "-f", "{file}", "Package"),
)

# --- Python's ------------------------------------------------------------------------------------------------------------

_PYTHON_NEEDS: tuple[tuple[str, Argv], ...] = (("apt", ("python3-venv",)),)
_PYTHON_NAME = r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
_PIP_VERSION = r"(?:===?|[<>~!]=|[<>])[A-Za-z0-9][A-Za-z0-9.+!*_-]*"


def _in_environment(row: Strategy, python: str, pip: str) -> Strategy:
    """The questions about a package in an environment, to its `python`; about the index to one that has `pip`."""
    return replace(
        row,
        installed=(python, "-c", scripts.PYTHON_VERSION, "{name}"),
        files=(python, "-c", scripts.PYTHON_FILES, "{name}"),
        beside=python.rpartition("/")[0],
        packages=(python, "-c", scripts.PYTHON_PACKAGES),
        runtime=("python3", "-c", scripts.PYTHON_RUNTIME),
        available=(pip, "-m", "pip", "index", "versions", "--", "{name}"),
    )


_PYTHON = "{home}/bin/python"
_PIP = _in_environment(
    Strategy(
        name="pip",
        version=1,
        # What looks like a file would be taken for one.
        spec=re.compile(
            rf"(?!.*\.(?:whl|zip|tar|gz|bz2|xz|tgz|tbz|txz|lzma)\Z){_PYTHON_NAME}(?:\[[A-Za-z0-9._,-]+\])?"
            rf"(?P<version>{_PIP_VERSION}(?:,{_PIP_VERSION})*)?"
        ),
        accepts="NAME, NAME[EXTRA] or NAME==3.2.*, with one of == >= <= ~= != < > before each version",
        manager=("python3", "-c", "import ensurepip, venv"),
        needs=_PYTHON_NEEDS,
        # An environment of the tool's own: the system's Python is not to be changed (PEP 668), and tools may need two versions.
        install=(
            ("python3", "-m", "venv", "{home}"),
            (
                _PYTHON, "-m", "pip", "install", "--no-input", "--no-cache-dir", "--progress-bar", "off", "--no-color", "--",
                "{spec}",
            ),
        ),
        files=(),
        ecosystem="pip",
        listed=re.compile(r"(?:Available versions:|,) ([0-9][^,\s]*)"),
        outspoken=(("PIP_VERBOSE", "2"),),
        unfinished=re.compile(r"\d(?:a|b|c|rc|\.?dev)\d*"),
        pin="{}=={}",
        progress=re.compile(
            r"(?P<doing>Collecting|Building wheel for|Installing collected packages:) (?P<package>[A-Za-z0-9][A-Za-z0-9._-]*)"
        ),
        env=(("LC_ALL", "C.UTF-8"), ("PIP_DISABLE_PIP_VERSION_CHECK", "1"), ("PIP_ROOT_USER_ACTION", "ignore")),
        rules=(
            # then it asked nobody, and says itself what to do
            (Fault.OTHER, re.compile(r"is not a trusted or secure host and is being ignored")),
            (Fault.NO_PACKAGE, re.compile(r"from versions: none\)")),
            (Fault.NO_VERSION, re.compile(r"from versions: ")),
            (Fault.UNFIT, re.compile(r"is not a supported wheel on this platform|requires a different Python: ")),
            (Fault.CONFLICT, re.compile(r"ResolutionImpossible|conflicting dependencies")),
            (Fault.PREREQUISITE, NO_COMPILER),
        ),
        hint="check the name: pip index versions {name}",
    ),
    python=_PYTHON,
    pip=_PYTHON,
)  # fmt: skip
_PIP = replace(_PIP, importing=("python3", "-c", scripts.PYTHON_IMPORTING, "{home}", "{name}"))

_WHEEL = _of_file(
    _PIP,
    "wheel",
    rf"{_PYTHON_NAME}-(?P<version>[A-Za-z0-9.+!_]+)(?:-[0-9][A-Za-z0-9_]*)?(?:-[A-Za-z0-9_.]+){{3}}\.whl",
    "the PATH of a wheel, NAME-VERSION-PYTHON-ABI-PLATFORM.whl",
)

_PIPX = _in_environment(
    replace(
        _PIP,
        name="pipx",
        importing=(),
        manager=("pipx", "--version"),
        needs=(("apt", ("pipx",)),),
        install=(("pipx", "install", "--pip-args=--no-cache-dir --progress-bar=off", "--", "{spec}"),),
        env=(
            *_PIP.env, ("PIPX_HOME", "{home}"), ("PIPX_BIN_DIR", "/usr/local/bin"), ("USE_EMOJI", "0"),
            ("PIPX_DEFAULT_PYTHON", "python3"),
        ),
    ),
    python="{home}/venvs/{canonical}/bin/python",
    pip="{home}/shared/bin/python",
)  # fmt: skip

# --- npm's ---------------------------------------------------------------------------------------------------------------

_NPM_NAME = r"[a-z0-9][a-z0-9._-]*"

_NPM = Strategy(
    name="npm",
    version=1,
    # A slash outside a scope would name a repository, a colon after the @ another source, such an ending a file.
    spec=re.compile(
        rf"(?!.*\.(?:tgz|tar|gz)\Z)(?P<name>(?:@{_NPM_NAME}/)?{_NPM_NAME})(?:@(?P<version>(?:[~^]|[<>]=?|=)?[A-Za-z0-9*][A-Za-z0-9.*+-]*))?"
    ),
    accepts="NAME, @SCOPE/NAME or NAME@VERSION, a version such as 1.5.0, ^1.5, ~1.5.1, >=1.5 or 1.x",
    manager=("npm", "--version"),
    needs=(("apt", ("npm",)),),
    install=(
        (
            "npm", "install", "--global", "--prefix", "{home}", "--no-audit", "--no-fund", "--no-update-notifier",
            "--no-progress", "--", "{spec}",
        ),
    ),
    installed=("node", "-e", scripts.NODE_VERSION, "{home}"),
    files=("find", "{home}/bin", "-mindepth", "1"),
    beside="{home}/lib/node_modules/{name}/node_modules/.bin",
    packages=("node", "-e", scripts.NODE_PACKAGES, "{home}"),
    runtime=("node", "-e", scripts.NODE_RUNTIME, "{home}"),
    ecosystem="npm",
    available=("npm", "view", "--json", "--", "{name}", "versions"),
    listed=re.compile(r'"([0-9][^"\s]*)"'),
    ascending=True,
    unfinished=re.compile("-"),
    pin="{}@{}",
    # What it fetches is all that it says before its end, and that only when asked for it.
    progress=re.compile(
        r"npm http (?P<doing>fetch) GET \d+ \S+?//[^/\s]+/(?:\S*/)??(?P<package>(?:@[^/\s]+(?:/|%2f))?[^/\s]+)(?:/-/\S*)? "
    ),
    env=(("LC_ALL", "C.UTF-8"), ("npm_config_cache", "{work}/npm"), ("npm_config_loglevel", "http")),
    rules=(
        (Fault.NO_VERSION, re.compile(r"\bETARGET\b")),
        (Fault.NO_PACKAGE, re.compile(r"\bE404\b")),
        (Fault.UNFIT, re.compile(r"\b(?:EBADENGINE|EBADPLATFORM)\b")),
        (Fault.CONFLICT, re.compile(r"\b(?:ERESOLVE|EEXIST)\b")),
        (Fault.PREREQUISITE, NO_COMPILER),
    ),
    hint="check the name: npm view {name}",
)  # fmt: skip

_NPM_PACK = _of_file(
    _NPM,
    "npm-pack",
    r"(?P<name>[^/\0]+?)(?:-(?P<version>[0-9][^/\0]*))?\.(?:tgz|tar\.gz)",
    "the PATH of a package made by npm pack, NAME-VERSION.tgz",
)

# --- without a package manager -------------------------------------------------------------------------------------------

_COPY = Strategy(
    name="copy",
    version=1,
    takes="tree",
    spec=re.compile(r"(?P<name>[^/\0]+)"),
    accepts="the PATH of a program, or of a folder with programs in it or in its bin",
    manager=("sh", "-c", "true"),
    install=(),
    files=("sh", "-c", scripts.EXECUTABLES, "sh", "{home}"),
)

_ARCHIVE = replace(
    _COPY,
    name="archive",
    takes="archive",
    spec=re.compile(
        r"(?P<name>[^/\0]+?)(?:[-_]v?(?P<version>[0-9][^/\0]*?))?\.(?:zip|tar|tar\.gz|tgz|tar\.bz2|tbz2?|tar\.xz|txz)"
    ),
    accepts="the PATH of a .tar, .tar.gz, .tar.bz2, .tar.xz or .zip with programs at its top or in its bin",
)

_SCRIPT = replace(
    _COPY,
    name="script",
    takes="file",
    spec=re.compile(r"(?P<name>[^/\0]+?)(?:\.[a-z0-9]+)?"),
    accepts="the PATH of a script that puts it on the PATH, run as root with network; $1 is a folder of the tool's own",
    files=(),  # what it brought, and where, only the script knows
    install=(("sh", "-c", scripts.RUN_SCRIPT, "sh", "{file}", "{home}"),),
    env=(("DEBIAN_FRONTEND", "noninteractive"), ("LC_ALL", "C.UTF-8")),
)

STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy for strategy in (_APT, _PIP, _PIPX, _NPM, _DEB, _WHEEL, _NPM_PACK, _ARCHIVE, _COPY, _SCRIPT)
}


def strategy_for(name: str) -> Strategy:
    """Raises UsageError, naming those there are."""
    if name not in STRATEGIES:
        raise UsageError(f"the install strategy {name!r} is not supported yet", hint=f"use one of: {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def package_name(strategy: Strategy, spec: str) -> str:
    """The name in a spec like `jq=1.6-2.1`, or in that of a file. Raises UsageError for what the allow-list refuses."""
    match = matched(strategy, spec)
    if match is None:
        raise UsageError(f"installing {strategy.name}:{spec}: this is no package of {strategy.name}: {strategy.accepts}")
    return match["name"]


def matched(strategy: Strategy, spec: str) -> re.Match[str] | None:
    return strategy.spec.fullmatch(spec if strategy.takes == "package" else PurePosixPath(spec).name)


def fill(argv: Sequence[str], words: Words) -> list[str]:
    """An argv of the table with its placeholders filled in, each once: what was filled in is not looked at again."""
    values = {field.name: getattr(words, field.name) for field in fields(words)}
    # As installers of Python packages spell a name where it becomes a folder.
    values["canonical"] = re.sub(r"[-_.]+", "-", words.name).lower()
    several = {"{options}": words.options, "{spec}": ("{spec}", *words.more)}
    filled = [word for part in argv for word in several.get(part, (part,))]
    return [re.sub(r"\{([a-z]+)\}", lambda found: str(values.get(found[1], found[0])), word) for word in filled]
