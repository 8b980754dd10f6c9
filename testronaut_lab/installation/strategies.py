"""How each package manager is driven, as data: to support another one, add a row.

A command is an argv. `{name}`, `{spec}` and `{ca}` are filled in inside its words, `{options}` stands for the options that
hand the manager the host's CA bundle, if there is one. No word of it is ever read by a shell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from testronaut_lab.errors import InstallError

Argv = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Strategy:
    """One package manager. `version` goes into the key of the image: raise it when a change here changes what comes out.

    `spec` has the groups `name` and `version` and allows nothing that the manager could take for an option, a file, a
    pattern or a removal. `installed` prints a line `installed VERSION`, `files` one path a line. `transient` matches what the
    manager says when trying again may help, `unknown` when there is no such package.
    """

    name: str
    version: int
    spec: re.Pattern[str]
    accepts: str
    refresh: Argv
    install: Argv
    installed: Argv
    files: Argv
    clean: tuple[Argv, ...]
    env: tuple[tuple[str, str], ...]
    ca_options: Argv
    transient: re.Pattern[str]
    unknown: re.Pattern[str]
    hint: str


_APT = Strategy(
    name="apt",
    version=1,
    # A trailing - or + would ask apt to remove or install; ++ is a name's own, as in g++.
    spec=re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]*(?:[a-z0-9]|\+\+))(?:=(?P<version>[A-Za-z0-9][A-Za-z0-9.+:~*-]*))?"),
    accepts="NAME or NAME=VERSION, a name in lower case letters, digits, '+', '-' and '.'",
    # Without the error mode an index that cannot be fetched is only a warning, and the package then looks unknown.
    refresh=("apt-get", "{options}", "-o", "APT::Update::Error-Mode=any", "update"),
    # Without a pty dpkg writes no percentages, which would be a line each.
    install=("apt-get", "{options}", "-o", "Dpkg::Use-Pty=0", "install", "-y", "--no-install-recommends", "--", "{spec}"),
    installed=("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}\\n", "{name}"),
    files=("dpkg", "-L", "{name}"),
    clean=(("apt-get", "clean"), ("find", "/var/lib/apt/lists", "-mindepth", "1", "-delete")),
    env=(("DEBIAN_FRONTEND", "noninteractive"), ("LC_ALL", "C.UTF-8")),
    ca_options=("-o", "Acquire::https::CaInfo={ca}"),
    transient=re.compile(
        r"Temporary failure resolving|Could not resolve|Connection failed|[Cc]onnection timed out|Connection refused|"
        r"Unable to connect|Could not connect|Hash Sum mismatch|\b50[0-9]  ?[A-Z]"
    ),
    unknown=re.compile(
        r"Unable to locate package|has no installation candidate|Version '.*' for '.*' was not found|Couldn't find"
    ),
    hint="check the name: apt-cache search {name}",
)

STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in (_APT,)}


def strategy_for(name: str) -> Strategy:
    """Raises InstallError, naming those there are."""
    if name not in STRATEGIES:
        raise InstallError(f"the install strategy {name!r} is not supported yet", hint=f"use one of: {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def package_name(strategy: Strategy, spec: str) -> str:
    """The name in a spec like `jq=1.6-2.1`. Raises InstallError for a spec that the allow-list does not let through."""
    match = strategy.spec.fullmatch(spec)
    if match is None:
        raise InstallError(f"installing {strategy.name}:{spec}: this is no package of {strategy.name}: {strategy.accepts}")
    return match["name"]


def fill(argv: Sequence[str], *, name: str = "", spec: str = "", ca: str = "", options: Sequence[str] = ()) -> list[str]:
    """An argv of the table with its placeholders filled in."""
    words = [word for part in argv for word in (options if part == "{options}" else [part])]
    return [word.replace("{name}", name).replace("{spec}", spec).replace("{ca}", ca) for word in words]
