"""What an installation needs of this machine to reach the outside: the CA bundle and the proxies.

Behind a network that re-signs TLS nothing can be downloaded without them. They go into the environment of commands and a
mount, never into an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testronaut_lab.container.builder import CA_BUNDLE_TARGET

_BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE")
_SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_GIVEN_VARIABLES = (*_BUNDLE_VARIABLES, "GIT_SSL_CAINFO")
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True, slots=True)
class HostTrust:
    """`ca_bundle` is a file of the host, to be mounted at CA_BUNDLE_TARGET, or None; `env` is for the commands."""

    ca_bundle: Path | None
    env: tuple[tuple[str, str], ...]


def host_trust(environ: Mapping[str, str], system_bundle: Path = _SYSTEM_BUNDLE) -> HostTrust:
    """What this machine is configured with: the first CA bundle that is named and exists, else the system's; its proxies."""
    named = [Path(environ[name]) for name in _BUNDLE_VARIABLES if environ.get(name)]
    bundle = next((path.resolve() for path in (*named, system_bundle) if path.is_file()), None)
    env = dict.fromkeys(_GIVEN_VARIABLES, CA_BUNDLE_TARGET) if bundle else {}
    proxies = [spelling for name in _PROXY_VARIABLES for spelling in (name, name.upper())]
    env |= {name: environ[name] for name in proxies if environ.get(name)}
    return HostTrust(bundle, tuple(env.items()))
