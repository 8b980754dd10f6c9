"""What an installation gets from this machine: certificates, proxies, indexes. Their secrets are in no log."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from support import tool_installing

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image.builder import CA_BUNDLE_TARGET, install_container
from testronaut_lab.container.image.local import inspect
from testronaut_lab.container.owner import Claim
from testronaut_lab.errors import InstallError
from testronaut_lab.installation import hostconfig
from testronaut_lab.installation.hostconfig import apt_settings, npm_settings, pip_settings
from testronaut_lab.installation.trust import HostTrust, host_trust


@pytest.fixture(autouse=True)
def no_apt_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine whose apt has no proxy, unless a test says so."""
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    say(tmp_path, "")


def say(tmp_path: Path, text: str) -> None:
    """Let apt-config say this."""
    program = tmp_path / "bin/apt-config"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
    program.chmod(0o755)


def trust(environ: dict[str, str], tmp_path: Path) -> HostTrust:
    return host_trust({"HOME": str(tmp_path), **environ}, tmp_path / "system.pem", tmp_path / "etc")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_first_bundle_that_exists_is_handed_over(tmp_path: Path) -> None:
    for name in ("named.pem", "system.pem"):
        (tmp_path / name).touch()
    environ = {"SSL_CERT_FILE": str(tmp_path / "gone.pem"), "PIP_CERT": str(tmp_path / "named.pem")}
    found = trust(environ, tmp_path)
    assert found.ca_bundle == tmp_path / "named.pem"
    assert dict(found.env)["NODE_EXTRA_CA_CERTS"] == CA_BUNDLE_TARGET
    assert trust({}, tmp_path).ca_bundle == tmp_path / "system.pem"


def test_without_a_bundle_only_proxies_are_handed_over(tmp_path: Path) -> None:
    found = trust({"https_proxy": "http://p:1", "NO_PROXY": "x", "SECRET": "s"}, tmp_path)
    assert (found.ca_bundle, dict(found.env), found.files) == (None, {"https_proxy": "http://p:1", "NO_PROXY": "x"}, ())


def test_pip_is_told_its_indexes_and_nothing_that_only_holds_here(tmp_path: Path) -> None:
    write(tmp_path / "etc/pip.conf", "[global]\nindex-url = https://old.test/simple\ncert = /here.pem\nconstraint = /c.txt\n")
    write(
        tmp_path / ".config/pip/pip.conf",
        "[global]\nindex-url = https://u:pass%word@pypi.test/simple\nextra-index-url = file:///opt/x\n    https://more.test/simple\n",
    )
    assert pip_settings({"HOME": str(tmp_path), "PIP_TRUSTED_HOST": "pypi.test"}, tmp_path / "etc") == {
        "index-url": "https://u:pass%word@pypi.test/simple",
        "extra-index-url": "https://more.test/simple",
        "trusted-host": "pypi.test",
    }


def test_npm_is_told_its_registries_and_who_we_are_there(tmp_path: Path) -> None:
    write(
        tmp_path / ".npmrc",
        "; a comment\nregistry=https://npm.test/\n@co:registry = https://co.test/\n//npm.test/:_authToken=${TOKEN}\n"
        "cafile=/here.pem\nprefix=/here\n",
    )
    assert npm_settings({"HOME": str(tmp_path), "TOKEN": "s3cret"}, tmp_path / "etc") == {
        "registry": "https://npm.test/",
        "@co:registry": "https://co.test/",
        "//npm.test/:_authToken": "s3cret",
    }


def test_apt_is_told_its_proxies(tmp_path: Path) -> None:
    say(tmp_path, 'Acquire "";\nAcquire::http "";\nAcquire::http::Proxy "http://p.test:1";\nAcquire::Languages "none";\n')
    assert apt_settings() == {"Acquire::http::Proxy": "http://p.test:1"}


def test_a_machine_without_apt_has_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert hostconfig.apt_settings() == {}


def test_settings_become_files_that_only_we_can_read_and_that_are_gone_afterwards(tmp_path: Path) -> None:
    found = trust({"PIP_INDEX_URL": "https://u:secret@pypi.test/simple", "npm_config_registry": "https://npm.test/"}, tmp_path)
    env = dict(found.env)
    with found.mounts() as mounts:
        pip = mounts[env["PIP_CONFIG_FILE"]]
        assert pip.read_text() == "[global]\nindex-url = https://u:secret@pypi.test/simple\n"
        assert stat.S_IMODE(pip.stat().st_mode) == 0o600
        assert mounts[env["NPM_CONFIG_USERCONFIG"]].read_text() == "registry=https://npm.test/\n"
    assert not pip.exists()


def test_secrets_are_masked_wherever_they_turn_up(tmp_path: Path) -> None:
    write(tmp_path / ".npmrc", "//npm.test/:_authToken=npm_abcdef\n")
    found = trust({"https_proxy": "http://me:pa%2Fss@proxy.test:1", "PIP_INDEX_URL": "https://u:hunter2@p.test/s"}, tmp_path)
    said = "GET https://other:x@h/a, token npm_abcdef, pa/ss or pa%2Fss, hunter2; http://me:pa%2Fss@proxy.test:1"
    assert found.mask(said) == "GET https://***@h/a, token ***, *** or ***, ***; http://***@proxy.test:1"


@pytest.mark.engine
def test_an_installation_reads_the_settings_and_its_log_and_image_hold_no_secret(
    engine: Engine, base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = inspect(engine, base_image)
    assert base is not None
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / ".npmrc", "//npm.test/:_authToken=npm_abcdef\n")
    script = "cat $NPM_CONFIG_USERCONFIG; env | grep -i proxy\n" + (
        "printf '#!/bin/sh\\necho 1.0; env; ls /dev' >/usr/local/bin/t; chmod 755 /usr/local/bin/t\n"
    )
    monkeypatch.setenv("ftp_proxy", "ftp://me:secret99@proxy.test:1")
    write(tmp_path / "t.sh", script)
    with tool_installing.open_workshop(engine, base, tmp_path, "tlabtest-trust") as shop:
        made = shop.install("script:t.sh")
        assert "//npm.test/:_authToken=***" in shop.lines
        assert any(line == "ftp_proxy=ftp://***@proxy.test:1" for line in shop.lines)
        said = shop.run(made, "t")
        assert not [word for word in ("proxy", "testronaut-", "abcdef", "secret99") if word in said]
        write(tmp_path / "t.sh", "cat $NPM_CONFIG_USERCONFIG >&2; exit 1\n")
        with pytest.raises(InstallError, match=r"_authToken=\*\*\*"):
            shop.install("script:t.sh")


@pytest.mark.engine
def test_a_mounted_file_is_readable_in_the_container(engine: Engine, base_image: str, tmp_path: Path) -> None:
    base = inspect(engine, base_image)
    assert base is not None
    with HostTrust(None, (), (("/dev/testronaut-x", "text\n"),)).mounts() as mounts:
        with install_container(engine, base, Claim("tlabtest-trust-mount"), mounts) as container:
            assert container.run(["cat", "/dev/testronaut-x"], timeout_s=120).last_lines == ("text",)
