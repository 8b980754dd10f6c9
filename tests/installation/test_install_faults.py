"""Installations that really fail, each in its own way, with the managers' own words: the kind of the failure, and the hint.

Bases are altered so that they break, and indexes are served from here: nothing depends on the state of anybody's archive.
"""

from __future__ import annotations

import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import SOAK
from support import made_packages
from support.tool_installing import Workshop, open_workshop

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image.builder import install_container, tool_tag
from testronaut_lab.container.image.cache import list_images, remove_images
from testronaut_lab.container.image.local import inspect
from testronaut_lab.container.owner import Claim
from testronaut_lab.errors import InstallError
from testronaut_lab.installation import installation
from testronaut_lab.installation.faults import HINTS, Fault
from testronaut_lab.installation.trust import _BUNDLE_VARIABLES, _PROXY_VARIABLES

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
PREFIX = "tlabtest-faults"
soak = pytest.mark.skipif(not SOAK, reason="with make soak")
# Another process holds the lock of dpkg, with the kind of lock that dpkg uses.
HOLD = r"""#!/usr/bin/perl
use Fcntl;
open(my $lock, "+>>", "/var/lib/dpkg/lock-frontend") or die;
my $wanted = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0);
fcntl($lock, F_SETLK, $wanted) or die;
open(my $held, ">", "/dev/shm/held") or die;
sleep 600;
"""


@pytest.fixture
def shop(engine: Engine, base_image: str, tmp_path: Path) -> Iterator[Workshop]:
    base = inspect(engine, base_image)
    assert base is not None
    with open_workshop(engine, base, tmp_path, PREFIX) as opened:
        yield opened


@contextmanager
def altered(shop: Workshop, script: str, *words: str) -> Iterator[Workshop]:
    """The same shop on a base in which a script was run."""
    tag = tool_tag(f"tlabtest-{Path(shop.folder).name[:10]}")
    with install_container(shop.engine, shop.base, Claim(f"{PREFIX}-base")) as container:
        ended = container.run(["sh", "-ec", script, "sh", *words], timeout_s=120)
        assert ended.ok, ended.text
        container.commit(tag, {})
    image = inspect(shop.engine, tag)
    assert image is not None
    try:
        with open_workshop(shop.engine, image, shop.folder, PREFIX) as opened:
            yield opened
    finally:
        remove_images(shop.engine, [each for each in list_images(shop.engine) if each.spec.startswith(f"{tag} + ")])
        shop.engine.client.images.remove(tag)


def failed(shop: Workshop, *specs: object) -> InstallError:
    with pytest.raises(InstallError) as caught:
        shop.install(*specs)
    return caught.value


def after_update(command: str) -> str:
    return f"echo 'APT::Update::Post-Invoke {{\"{command}\";}};' >/etc/apt/apt.conf.d/99-then"


def test_a_lock_that_somebody_holds_is_told_and_not_tried_again(shop: Workshop) -> None:
    held = after_update("/usr/local/bin/hold >/dev/null 2>&1 </dev/null & while [ ! -e /dev/shm/held ]; do sleep 0.1; done")
    with altered(shop, f'printf %s "$1" >/usr/local/bin/hold; chmod 755 /usr/local/bin/hold; {held}', HOLD) as locked:
        error = failed(locked, "apt:jq")
    assert (error.fault, error.hint) == (Fault.LOCKED, HINTS[Fault.LOCKED])
    assert "Could not get lock /var/lib/dpkg/lock-frontend" in error.message
    assert sum("Could not get lock" in line for line in locked.lines) == 1


def test_a_full_disk_is_told_before_the_download_and_while_something_is_written(shop: Workshop) -> None:
    fill = after_update("head -c 1G /dev/zero >/dev/shm/fill; mkdir -p /dev/shm/archives/partial")
    with altered(shop, f"{fill}; echo 'Dir::Cache::archives \"/dev/shm/archives\";' >/etc/apt/apt.conf.d/99-there") as full:
        error = failed(full, "apt:jq")
    assert (error.fault, error.hint) == (Fault.DISK_FULL, HINTS[Fault.DISK_FULL])
    assert "enough free space in /dev/shm/archives" in error.message
    (shop.folder / "fills.sh").write_text("head -c 1G /dev/zero >/dev/shm/fill\n")
    error = failed(shop, "script:fills.sh")
    assert error.fault is Fault.DISK_FULL
    assert "No space left on device" in error.message


# --- indexes that are served here


@pytest.fixture(scope="module")
def gateway(engine: Engine) -> str:
    """This machine, as containers reach it."""
    config = engine.client.networks.get("bridge").attrs["IPAM"]["Config"][0]
    return str(config.get("Gateway") or next(ipaddress.ip_network(config["Subnet"]).hosts()))


@pytest.fixture(scope="module")
def certificate(engine: Engine, base_image: str, gateway: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Signed by itself, with its key, for `gateway`."""
    made = engine.client.containers.run(
        base_image,
        ["sh", "-c", "openssl req -x509 -newkey rsa:2048 -nodes -keyout - -out - -days 2 -subj /CN=lab "
         f"-addext subjectAltName=IP:{gateway} -addext basicConstraints=critical,CA:TRUE 2>/dev/null"],
        network_mode="none", remove=True,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(made)
    return path


class Busy(http.server.BaseHTTPRequestHandler):
    """Finds nothing, or, as `status` says, cannot say."""

    status = 404

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def served(certificate: Path | None = None, status: int = 404) -> Iterator[int]:
    """The port of a server of this machine, with TLS where there is a certificate."""
    handler = type("Handler", (Busy,), {"status": status})
    with http.server.ThreadingHTTPServer(("", 0), handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """pip and npm of this machine are set to an index, and do not try again by themselves; the network's own settings are out."""
    for name in (*_BUNDLE_VARIABLES, *_PROXY_VARIABLES, *(name.upper() for name in _PROXY_VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(installation, "retry_delays", lambda rng: [0.01, 0.01])

    def set_to(url: str) -> None:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        (home / ".npmrc").write_text(f"registry={url}/\nfetch-retries=0\n")
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
        for name, value in (("PIP_INDEX_URL", f"{url}/simple"), ("PIP_RETRIES", "0"), ("no_proxy", "*")):
            monkeypatch.setenv(name, value)
        if url.startswith("http:"):
            monkeypatch.setenv("PIP_TRUSTED_HOST", url.removeprefix("http://").partition(":")[0])
        monkeypatch.delenv("NPM_CONFIG_USERCONFIG", raising=False)
        monkeypatch.delenv("npm_config_registry", raising=False)

    return set_to


MANAGED = ["pip:cowsay==6.1", pytest.param("npm:cowsay@1.6.0", marks=soak)]


@pytest.mark.parametrize("spec", MANAGED)
def test_a_certificate_that_nobody_vouches_for_is_told_and_one_that_is_named_is_taken(
    shop: Workshop, certificate: Path, gateway: str, configured: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    with served(certificate) as port:
        configured(f"https://{gateway}:{port}")
        error = failed(shop, spec)
        assert (error.fault, error.hint) == (Fault.TLS, HINTS[Fault.TLS])
        assert not any("trying again" in line for line in shop.lines)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert failed(shop, spec).fault is Fault.NO_PACKAGE


def test_a_certificate_is_told_of_apt_too(shop: Workshop, certificate: Path, gateway: str) -> None:
    with served(certificate) as port:
        source = f"deb https://{gateway}:{port}/debian bookworm main"
        with altered(shop, 'rm -rf /etc/apt/sources.list*; echo "$1" >/etc/apt/sources.list', source) as apart:
            error = failed(apart, "apt:jq")
    assert error.fault is Fault.TLS
    assert "ertificate verification failed" in error.message


@pytest.mark.parametrize("spec", MANAGED)
def test_an_index_that_is_not_there_is_tried_three_times(
    shop: Workshop, gateway: str, configured: Callable[[str], None], spec: str
) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
    configured(f"http://{gateway}:{port}")
    error = failed(shop, spec)
    assert (error.fault, error.hint) == (Fault.NETWORK, HINTS[Fault.NETWORK])
    assert sum("failed for a reason of the network; trying again in" in line for line in shop.lines) == 2


def test_an_index_that_is_too_busy_is_the_network(shop: Workshop, gateway: str, configured: Callable[[str], None]) -> None:
    with served(status=503) as port:
        configured(f"http://{gateway}:{port}")
        assert failed(shop, "pip:cowsay==6.1").fault is Fault.NETWORK


def test_an_index_that_pip_does_not_trust_is_not_taken_for_a_package_that_there_is_not(
    shop: Workshop, gateway: str, configured: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with served() as port:
        configured(f"http://{gateway}:{port}")
        monkeypatch.delenv("PIP_TRUSTED_HOST")
        error = failed(shop, "pip:cowsay==6.1")
    assert (error.fault, error.hint) == (Fault.OTHER, None)
    assert "is not a trusted or secure host" in error.message


def test_an_index_that_never_answers_is_given_up(
    shop: Workshop, gateway: str, configured: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_packages.wheel(shop.folder, "lab_first", "1.0", "def main(): print('the manager is there')\n")
    shop.install("wheel:lab_first-1.0-py3-none-any.whl")
    monkeypatch.setattr(installation, "INSTALL_TIMEOUT_S", 15.0)
    with socket.create_server(("", 0)) as silent:
        configured(f"http://{gateway}:{silent.getsockname()[1]}")
        monkeypatch.setenv("PIP_TIMEOUT", "600")
        error = failed(shop, "pip:cowsay==6.1")
    assert (error.fault, error.hint) == (Fault.TIMEOUT, HINTS[Fault.TIMEOUT])
    assert "it took longer than 15 s" in error.message


# --- packages that cannot be had together


def test_a_file_of_another_package_is_a_conflict(shop: Workshop) -> None:
    made_packages.deb(shop.folder, "perl", "0.1", "not perl", rename="labperl")
    error = failed(shop, "deb:labperl_0.1_all.deb")
    assert error.fault is Fault.CONFLICT
    assert "trying to overwrite '/usr/bin/perl'" in error.message
