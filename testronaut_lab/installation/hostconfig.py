"""Reads how this machine's pip, npm and apt reach their indexes, so that a container can reach them, too.

It reads only settings of where an index is and how it is reached. Paths of this machine, constraints and preferences are left
out. `trust.py` writes the settings to files that a container can read during an installation.
"""

from __future__ import annotations

import configparser
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

_PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
_PIP_URLS = ("index-url", "extra-index-url")
_NPM_KEYS = re.compile(
    r"registry|@[^:=\s]+:registry|//\S+:(?:_authToken|_auth|_password|username|email|always-auth)|strict-ssl|"
    r"proxy|https-proxy|noproxy|fetch-retries|fetch-timeout"
)
_NPM_SECRETS = re.compile(r":(?:_authToken|_auth|_password)\Z")
_VARIABLE = re.compile(r"\$\{([^}]+)\}")
_APT_PROXY = re.compile(r'(Acquire::(?:https?|ftp)::Proxy(?:::\S+)?) "(.*)";')
_APT_TIMEOUT_S = 10.0


def pip_settings(environ: Mapping[str, str], system: Path = Path("/etc")) -> dict[str, str]:
    """The settings of pip, from its files, in the order in which pip reads them, and from the environment."""
    home = Path(environ.get("HOME") or "/")
    files = [system / "xdg/pip/pip.conf", system / "pip.conf", home / ".pip/pip.conf"]
    files.append(Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf")
    if named := environ.get("PIP_CONFIG_FILE"):
        files.append(Path(named))
    found: dict[str, str] = {}
    for file in files:
        found |= _ini(file)
    for key in _PIP_KEYS:
        if value := environ.get(f"PIP_{key.upper().replace('-', '_')}"):
            found[key] = value
    for key in _PIP_URLS:
        # An index on this machine's disk is not in the container.
        if urls := [url for url in found.pop(key, "").split() if url.startswith(("http://", "https://"))]:
            found[key] = "\n ".join(urls)
    return found


def npm_settings(environ: Mapping[str, str], system: Path = Path("/etc")) -> dict[str, str]:
    """The settings of npm for registries, with their credentials. `${NAME}` is replaced as npm does on this machine."""
    files = [system / "npmrc", Path(environ.get("NPM_CONFIG_USERCONFIG") or Path(environ.get("HOME") or "/") / ".npmrc")]
    found: dict[str, str] = {}
    for line in (line for file in files for line in _lines(file)):
        key, equals, value = (part.strip() for part in line.partition("="))
        if equals and _NPM_KEYS.fullmatch(key):
            found[key] = _VARIABLE.sub(lambda name: environ.get(name[1], name[0]), value.strip("\"'"))
    if registry := environ.get("npm_config_registry") or environ.get("NPM_CONFIG_REGISTRY"):
        found["registry"] = registry
    return found


def apt_settings() -> dict[str, str]:
    """The proxies of apt, as `apt-config` prints them; none if this machine has no apt."""
    try:
        said = subprocess.run(
            ["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_APT_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return {match[1]: match[2] for match in map(_APT_PROXY.fullmatch, said.stdout.splitlines()) if match and match[2]}


def npm_secrets(settings: Mapping[str, str]) -> list[str]:
    return [value for key, value in settings.items() if _NPM_SECRETS.search(key)]


def _ini(file: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string("\n".join(_lines(file)))
    except configparser.Error:
        return {}  # pip refuses such a file on this machine; the container must not fail because of it
    sections = [section for section in ("global", "install") if parser.has_section(section)]
    return {key: value for section in sections for key, value in parser.items(section) if key in _PIP_KEYS}


def _lines(file: Path) -> Iterable[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
