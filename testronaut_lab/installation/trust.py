"""Collects what an installation needs to reach the network of this machine: the CA bundle, the proxies, the indexes.

A network that re-signs TLS, or has mirrors of its own, refuses downloads without them. They go into the environment of commands
and into mounts, never into an image. Their secrets never go into a log. `hostconfig.py` reads the settings.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from testronaut_lab.container.image.builder import CA_BUNDLE_TARGET, HOST_FILES
from testronaut_lab.installation.hostconfig import apt_settings, npm_secrets, npm_settings, pip_settings

_BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE")
_SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_GIVEN_VARIABLES = (*_BUNDLE_VARIABLES, "GIT_SSL_CAINFO")
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@]+(?=@)")
# Masking shorter secrets would mask half of the output.
_SECRET_LENGTH = 4
_MASKED = "***"


@dataclass(frozen=True, slots=True)
class HostTrust:
    """`ca_bundle` is a file of the host, to mount at CA_BUNDLE_TARGET, or None. `env` is for the commands.

    `files` are pairs of a path in the container, outside any image, and its text. `secrets` must not get into a log.
    """

    ca_bundle: Path | None
    env: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()

    def mask(self, line: str) -> str:
        """Mask the secrets in the line, and user and password in every URL."""
        line = _USER_IN_URL.sub(_MASKED, line)
        for secret in self.secrets:
            line = line.replace(secret, _MASKED)
        return line

    @contextmanager
    def mounts(self) -> Iterator[dict[str, Path]]:
        """Yield the mounts, path in the container → file of the host. The files exist during the `with`."""
        with tempfile.TemporaryDirectory(prefix="testronaut-lab-") as folder:
            found = {CA_BUNDLE_TARGET: self.ca_bundle} if self.ca_bundle else {}
            for target, text in self.files:
                file = Path(folder, Path(target).name)
                file.touch(0o600)
                file.write_text(text, encoding="utf-8")
                found[target] = file
            yield found


def host_trust(environ: Mapping[str, str], system_bundle: Path = _SYSTEM_BUNDLE, system: Path = Path("/etc")) -> HostTrust:
    """Read the configuration of this machine: CA bundle, proxies, indexes of pip and npm, proxies of apt.

    The CA bundle is the first one that a variable names and that exists, else the system's.
    """
    named = [Path(environ[name]) for name in _BUNDLE_VARIABLES if environ.get(name)]
    bundle = next((path.resolve() for path in (*named, system_bundle) if path.is_file()), None)
    env = dict.fromkeys(_GIVEN_VARIABLES, CA_BUNDLE_TARGET) if bundle else {}
    proxies = [spelling for name in _PROXY_VARIABLES for spelling in (name, name.upper())]
    env |= {name: environ[name] for name in proxies if environ.get(name)}
    pip, npm, apt = pip_settings(environ, system), npm_settings(environ, system), apt_settings()
    written = (
        ("PIP_CONFIG_FILE", "pip.conf", "[global]\n", pip, "{} = {}\n"),
        ("NPM_CONFIG_USERCONFIG", "npmrc", "", npm, "{}={}\n"),
        ("APT_CONFIG", "apt.conf", "", apt, '{} "{}";\n'),
    )
    files: list[tuple[str, str]] = []
    for variable, name, head, settings, form in written:
        if settings:
            env[variable] = f"{HOST_FILES}{name}"
            files.append((env[variable], head + "".join(form.format(key, value) for key, value in settings.items())))
    values = [*env.values(), *pip.values(), *npm.values(), *apt.values()]
    return HostTrust(bundle, tuple(env.items()), tuple(files), _secrets(values, npm_secrets(npm)))


def _secrets(values: Sequence[str], tokens: Sequence[str]) -> tuple[str, ...]:
    """Tokens, and passwords in URLs. The longest comes first, because one may contain another."""
    users = [user.partition(":") for value in values for user in _USER_IN_URL.findall(value)]
    passwords = [password for _, _, password in users]
    found = {*tokens, *passwords, *map(unquote, passwords)}
    return tuple(sorted((secret for secret in found if len(secret) >= _SECRET_LENGTH), key=lambda each: (-len(each), each)))
