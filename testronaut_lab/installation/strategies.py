"""The commands of each package manager, as data. To support another manager, add a row to STRATEGIES.

A command is an argv. `{name}`, `{spec}`, `{home}`, `{file}`, `{work}` and `{ca}` in its words are replaced (see `Words`).
`{options}` stands for the options that give the manager the host's CA bundle, if there is one. No shell ever reads these words:
the scripts in `scripts.py` are constant and get names as arguments. `installation.py` runs the commands.
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
# What SPEC in STRATEGY:SPEC is: a package of a registry; or a path on this machine: a file for the manager, an archive that is
# unpacked, or a file or folder that is copied.
Takes = Literal["package", "file", "archive", "tree"]


@dataclass(frozen=True, slots=True)
class Strategy:
    """One row of the table.

    version: part of the image's key. Raise it when a change of the row changes the resulting image.
    spec: matches a valid SPEC (for paths, the file's name), with the group `name` and maybe `version`. It must refuse anything
        that the manager could take for an option, a file, a pattern or a removal. `accepts` says the same to people.
    manager: exits with 0 if the image has the manager. `needs` are the packages that bring it, by a manager of the system.
    install: the commands that install. `refresh` runs before, once for each `index`; `clean` runs at the end.
    identify: prints the package's name, for a package that is a file.
    installed: prints `installed VERSION`. Without it, the program's own `--version` gives the version.
    files: prints the paths that came with the tool. `beside` is the folder with the programs of its dependencies.
    packages: prints `package NAME VERSION` for each package in the tool's own folder; `ecosystem` names their manager.
    available: prints the available versions, which `listed` finds, oldest first if `ascending`. `unfinished` finds pre-releases,
        `pin` formats NAME and VERSION as a SPEC. With the environment `outspoken` it also tells why an index did not answer.
    progress: matches a line of output, with the groups `doing` and `package`, or `total` for the number of packages.
    importing: lets the image's own python find the package.
    runtime: prints `runtime VERSION MACHINE [GLIBC]` for Python, `runtime VERSION WANTED` for node.
    linked: the tool gets a folder of its own, `{home}`, and its programs are linked into the PATH.
    rules: classify the manager's errors.
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
    """The values for the placeholders of a row.

    `name` is the package's name, `spec` the SPEC for the manager, `home` the tool's own folder, `file` the path of the tool's
    file in the container, `work` a folder that is removed at the end, `more` are further packages beside `spec`.
    """

    name: str = ""
    spec: str = ""
    home: str = ""
    file: str = ""
    work: str = ""
    ca: str = ""
    options: tuple[str, ...] = ()
    more: tuple[str, ...] = ()


def _of_file(row: Strategy, name: str, spec: str, accepts: str) -> Strategy:
    """The row for a package that is a file of this machine. The manager gets its path, and knows no other version of it."""
    install = tuple(tuple("{file}" if word == "{spec}" else word for word in argv) for argv in row.install)
    return replace(
        row, name=name, takes="file", spec=re.compile(spec), accepts=accepts, install=install, available=(), hint=""
    )  # fmt: skip


# --- Debian's packages ---------------------------------------------------------------------------------------------------

# Without the error mode, an index that cannot be fetched is only a warning, and then the package looks unknown.
_APT_REFRESH: Argv = ("apt-get", "{options}", "-o", "APT::Update::Error-Mode=any", "update")
# Use-Pty=0: dpkg writes no percentages, each of which would be a line. force-unsafe-io: an fsync for each of thousands of files
# gains nothing, because only a finished container becomes an image. Pattern-Only: apt takes an unknown name with a dot for a
# regular expression, and would install every package that matches.
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
    """Fill in the commands that ask the environment's `python` about a package, and `pip` about the index."""
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
        # pip would take a name that looks like a file for a file.
        spec=re.compile(
            rf"(?!.*\.(?:whl|zip|tar|gz|bz2|xz|tgz|tbz|txz|lzma)\Z){_PYTHON_NAME}(?:\[[A-Za-z0-9._,-]+\])?"
            rf"(?P<version>{_PIP_VERSION}(?:,{_PIP_VERSION})*)?"
        ),
        accepts="NAME, NAME[EXTRA] or NAME==3.2.*, with one of == >= <= ~= != < > before each version",
        manager=("python3", "-c", "import ensurepip, venv"),
        needs=_PYTHON_NEEDS,
        # Each tool gets an environment of its own: the system's Python must not be changed (PEP 668), and two tools may need
        # different versions of a package.
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
            # pip then asked no index; its own message says what to do
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
    # npm takes a slash outside a scope for a repository, a colon after the @ for another source, these endings for a file.
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
    # npm writes nothing but its fetches before its end, and those only with loglevel=http.
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
    files=(),  # only the script knows which files it installed
    install=(("sh", "-c", scripts.RUN_SCRIPT, "sh", "{file}", "{home}"),),
    env=(("DEBIAN_FRONTEND", "noninteractive"), ("LC_ALL", "C.UTF-8")),
)

STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy for strategy in (_APT, _PIP, _PIPX, _NPM, _DEB, _WHEEL, _NPM_PACK, _ARCHIVE, _COPY, _SCRIPT)
}


def strategy_for(name: str) -> Strategy:
    """Return the row of a strategy. Raises UsageError, which names all strategies, if there is none."""
    if name not in STRATEGIES:
        raise UsageError(f"the install strategy {name!r} is not supported yet", hint=f"use one of: {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def package_name(strategy: Strategy, spec: str) -> str:
    """The package's name in a SPEC like `jq=1.6-2.1` or in a file's name. Raises UsageError for a SPEC that is not allowed."""
    match = matched(strategy, spec)
    if match is None:
        raise UsageError(f"installing {strategy.name}:{spec}: this is no package of {strategy.name}: {strategy.accepts}")
    return match["name"]


def matched(strategy: Strategy, spec: str) -> re.Match[str] | None:
    return strategy.spec.fullmatch(spec if strategy.takes == "package" else PurePosixPath(spec).name)


def fill(argv: Sequence[str], words: Words) -> list[str]:
    """Replace the placeholders in an argv of the table, once: placeholders in the values are not replaced."""
    values = {field.name: getattr(words, field.name) for field in fields(words)}
    # The spelling of a Python package's name in a folder's name.
    values["canonical"] = re.sub(r"[-_.]+", "-", words.name).lower()
    several = {"{options}": words.options, "{spec}": ("{spec}", *words.more)}
    filled = [word for part in argv for word in several.get(part, (part,))]
    return [re.sub(r"\{([a-z]+)\}", lambda found: str(values.get(found[1], found[0])), word) for word in filled]
