"""What an installation needs of this machine to reach the outside: the CA bundle, the proxies, where its indexes are.

Behind a network that re-signs TLS or keeps mirrors of its own nothing can be downloaded without them. They go into the
environment of commands and into mounts, never into an image, and their secrets into no log.
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
# Shorter ones would blot out half of what is said.
_SECRET_LENGTH = 4
_MASKED = "***"


@dataclass(frozen=True, slots=True)
class HostTrust:
    """`ca_bundle` is a file of the host, to be mounted at CA_BUNDLE_TARGET, or None; `env` is for the commands.

    `files` are texts to be there under a path that is in no image; `secrets` is what no log may hold.
    """

    ca_bundle: Path | None
    env: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()

    def mask(self, line: str) -> str:
        """The line without the secrets, and without who we are in any URL."""
        line = _USER_IN_URL.sub(_MASKED, line)
        for secret in self.secrets:
            line = line.replace(secret, _MASKED)
        return line

    @contextmanager
    def mounts(self) -> Iterator[dict[str, Path]]:
        """What to mount: path in the container → file of the host, there for as long as the `with`."""
        with tempfile.TemporaryDirectory(prefix="testronaut-lab-") as folder:
            found = {CA_BUNDLE_TARGET: self.ca_bundle} if self.ca_bundle else {}
            for target, text in self.files:
                file = Path(folder, Path(target).name)
                file.touch(0o600)
                file.write_text(text, encoding="utf-8")
                found[target] = file
            yield found


def host_trust(environ: Mapping[str, str], system_bundle: Path = _SYSTEM_BUNDLE, system: Path = Path("/etc")) -> HostTrust:
    """What this machine is configured with: the first CA bundle that is named and exists, else the system's; its proxies;
    the indexes of pip and npm and the proxies of apt."""
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
    """Tokens, and of the users in URLs their passwords; the longest first, since one may hold another."""
    users = [user.partition(":") for value in values for user in _USER_IN_URL.findall(value)]
    passwords = [password for _, _, password in users]
    found = {*tokens, *passwords, *map(unquote, passwords)}
    return tuple(sorted((secret for secret in found if len(secret) >= _SECRET_LENGTH), key=lambda each: (-len(each), each)))
