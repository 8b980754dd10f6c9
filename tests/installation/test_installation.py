"""Installing tools into an image on a real engine: the resulting image, refusals, and the words of a failure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from testronaut_lab.container.engine.connect import Engine, connect
from testronaut_lab.container.image.builder import (
    CA_BUNDLE_TARGET,
    InstallContainer,
    find_tool_image,
    install_container,
    tool_tag,
)
from testronaut_lab.container.image.cache import list_images, remove_images
from testronaut_lab.container.image.local import ImageConfig, ResolvedImage, inspect
from testronaut_lab.container.image.resolve import resolve
from testronaut_lab.container.owner import Claim
from testronaut_lab.errors import InstallError
from testronaut_lab.installation import installation, installer
from testronaut_lab.installation.faults import Fault
from testronaut_lab.installation.installation import retry_delays
from testronaut_lab.installation.installer import InstalledImage, image_key, install
from testronaut_lab.installation.startable import Came
from testronaut_lab.installation.strategies import STRATEGIES, Words
from testronaut_lab.installation.verifier import Proof, Verified, installed_version, verify
from testronaut_lab.model.plan import ImageSpec, InstallSpec, ToolSpec, Verify
from testronaut_lab.model.result import ImageInfo

APT = STRATEGIES["apt"]
PREFIX = "tlabtest-installation"


def tool(name: str, *specs: str, command: str | None = None, checked_by: Verify | None = None) -> ToolSpec:
    return ToolSpec(name, tuple(InstallSpec("apt", spec) for spec in specs or (name,)), command, checked_by)


def proof(container: InstallContainer, tool: ToolSpec, package: str) -> Proof:
    return Proof(container, tool, APT, Words(name=package), {}, Came(f"apt:{package}"))


def quiet(tool: str, line: str) -> None:
    pass


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    connected = connect()
    yield connected
    connected.close()


@pytest.fixture(scope="module")
def base(engine: Engine) -> ResolvedImage:
    return resolve(engine, ImageSpec("debian:bookworm-slim"), lambda line: None)


@pytest.fixture(scope="module")
def container(engine: Engine, base: ResolvedImage) -> Iterator[InstallContainer]:
    """A container with the base's content, for tests that change nothing, or only files of their own."""
    with install_container(engine, base, Claim(f"{PREFIX}-shared")) as started:
        yield started


@pytest.fixture(scope="module")
def log() -> list[str]:
    return []


@pytest.fixture(scope="module")
def installed(engine: Engine, base: ResolvedImage, log: list[str]) -> Iterator[InstalledImage]:
    """A package whose program has another name, and one with a `verify`."""
    ripgrep = tool("ripgrep", checked_by=Verify("rg --version", r"^ripgrep \d+"))
    found = install(engine, base, (ripgrep,), lambda name, line: log.append(f"{name}: {line}"), claim=Claim(PREFIX))
    yield found
    assert remove_images(engine, [image for image in list_images(engine) if image.key == found.key]) == []


@pytest.mark.engine
def test_a_tool_is_there_and_starts_after_its_installation(engine: Engine, installed: InstalledImage) -> None:
    said = engine.client.containers.run(installed.id, ["rg", "--version"], network_mode="none", remove=True)
    assert said.startswith(b"ripgrep")
    [info] = installed.tools
    assert (info.name, info.strategy) == ("ripgrep", "apt")
    assert info.version[0].isdigit()
    assert not installed.cached


@pytest.mark.engine
def test_every_line_of_the_package_manager_is_reported(installed: InstalledImage, log: list[str]) -> None:
    assert any(line.startswith("ripgrep: Setting up ripgrep") for line in log)


@pytest.mark.engine
def test_the_image_tells_its_containers_what_the_base_tells(
    engine: Engine, base: ResolvedImage, installed: InstalledImage
) -> None:
    image = inspect(engine, installed.id)
    assert image is not None
    ours = {key: value for key, value in image.config.labels if key.startswith("org.testronaut.")}
    assert replace(image.config, labels=()) == replace(base.config, labels=())
    assert set(image.config.labels) - set(ours.items()) <= set(base.config.labels)
    assert ours["org.testronaut.key"] == installed.key


@pytest.mark.engine
def test_the_image_holds_nothing_of_the_host_nor_of_the_installation(engine: Engine, installed: InstalledImage) -> None:
    script = f"ls -A /var/lib/apt/lists /dev/shm; ls {CA_BUNDLE_TARGET} 2>&1; env | grep -i -e cert -e proxy; true"
    said = engine.client.containers.run(installed.id, ["sh", "-c", script], network_mode="none", remove=True).decode()
    assert said.replace("/var/lib/apt/lists:", "").replace("/dev/shm:", "").split() == (
        f"ls: cannot access '{CA_BUNDLE_TARGET}': No such file or directory".split()
    )


@pytest.mark.engine
def test_the_second_time_it_comes_from_the_cache(engine: Engine, base: ResolvedImage, installed: InstalledImage) -> None:
    ripgrep = tool("ripgrep", checked_by=Verify("rg --version", r"^ripgrep \d+"))
    again = install(engine, base, (ripgrep,), quiet, claim=Claim(PREFIX))
    assert again == replace(installed, cached=True)


@pytest.mark.engine
def test_an_image_under_the_tag_with_another_key_is_not_believed(engine: Engine, installed: InstalledImage) -> None:
    impostor = installed.key[:24] + "0" * 40
    assert find_tool_image(engine, impostor) is not None
    assert installer._cached(engine, impostor) is None


@pytest.mark.engine
def test_nothing_is_left_of_an_installation(engine: Engine, installed: InstalledImage) -> None:
    assert engine.client.containers.list(all=True, filters={"name": f"{PREFIX}-install"}) == []
    assert engine.client.networks.list(names=[f"{PREFIX}-install"]) == []


@pytest.mark.engine
def test_an_image_without_tools_is_the_base(engine: Engine, base: ResolvedImage) -> None:
    assert install(engine, base, (), quiet, claim=Claim(PREFIX)) == InstalledImage(base.info.id, (), cached=True, key="")


@pytest.mark.engine
def test_an_unknown_package_is_told_in_apts_own_words_and_leaves_no_image(engine: Engine, base: ResolvedImage) -> None:
    tools = (tool("no-such-package-here"),)
    with pytest.raises(InstallError, match="E: Unable to locate package no-such-package-here") as caught:
        install(engine, base, tools, quiet, claim=Claim(PREFIX))
    assert caught.value.hint == "check the name: apt-cache search no-such-package-here"
    assert find_tool_image(engine, image_key(base, tools)) is None
    assert engine.client.networks.list(names=[f"{PREFIX}-install"]) == []


@pytest.mark.engine
def test_alternatives_are_tried_in_turn_and_each_failure_is_said(engine: Engine, base: ResolvedImage) -> None:
    tools = (tool("hello", "no-such-package-a", "hello"),)
    lines: list[str] = []
    found = install(engine, base, tools, lambda name, line: lines.append(line), claim=Claim(PREFIX))
    try:
        assert found.tools[0].name == "hello"
        assert any("Unable to locate package no-such-package-a" in line for line in lines)
    finally:
        remove_images(engine, [image for image in list_images(engine) if image.key == found.key])
    with pytest.raises(InstallError, match=r"(?s)no alternative of 2 worked:.*package-a.*package-b"):
        install(engine, base, (tool("x", "no-such-package-a", "no-such-package-b"),), quiet, claim=Claim(PREFIX))


@pytest.fixture
def cut_off(engine: Engine, base: ResolvedImage) -> Iterator[ResolvedImage]:
    """A base whose package archive is at a name that does not resolve."""
    tag = tool_tag("tlabtest-cut-off")
    with install_container(engine, base, Claim(f"{PREFIX}-cut")) as container:
        line = "deb http://archive.invalid/debian bookworm main"
        script = (
            f"rm -rf /etc/apt/sources.list*; echo '{line}' >/etc/apt/sources.list; "
            "echo 'Acquire::Retries \"0\";' >/etc/apt/apt.conf.d/99-no-retries-of-its-own"
        )
        assert container.run(["sh", "-c", script], timeout_s=120).ok
        container.commit(tag, {})
    image = inspect(engine, tag)
    assert image is not None
    yield image
    engine.client.images.remove(tag)


@pytest.mark.engine
def test_an_error_of_the_network_is_tried_again_and_then_told(
    engine: Engine, cut_off: ResolvedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "retry_delays", lambda rng: [0.01, 0.02])
    lines: list[str] = []
    with pytest.raises(InstallError, match="refreshing the package index of apt: the network failed") as caught:
        install(engine, cut_off, (tool("jq"),), lambda name, line: lines.append(line), claim=Claim(PREFIX))
    assert sum("trying again in" in line for line in lines) == 2
    assert "check the network" in (caught.value.hint or "")


@pytest.mark.engine
def test_an_installation_past_its_deadline_is_tried_the_next_way_in_a_new_container(
    engine: Engine, base: ResolvedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "INSTALL_TIMEOUT_S", 0.05)
    with pytest.raises(
        InstallError, match=r"(?s)1\. installing apt:sl:.*it took longer than.*2\. installing apt:hello:.*it took longer than"
    ) as caught:
        install(engine, base, (tool("x", "sl", "hello"),), quiet, claim=Claim(PREFIX))
    assert caught.value.fault == Fault.TIMEOUT


@pytest.mark.engine
def test_a_command_past_its_deadline_keeps_what_it_wrote(engine: Engine, base: ResolvedImage) -> None:
    with install_container(engine, base, Claim(f"{PREFIX}-slow")) as container:
        ended = container.run(["sh", "-c", "echo so far; exec sleep 600"], timeout_s=1.0)
    assert (ended.code, ended.last_lines) == (None, ("so far",))


@pytest.mark.engine
def test_a_command_tells_its_status_and_the_lines_of_both_streams(container: InstallContainer) -> None:
    lines: list[str] = []
    ended = container.run(["sh", "-c", "echo one; echo two >&2; exit 3"], timeout_s=30, on_line=lines.append)
    assert ended.code == 3
    assert sorted(lines) == ["one", "two"]


@pytest.mark.engine
def test_the_ca_bundle_is_mounted_and_readable_in_the_container(engine: Engine, base: ResolvedImage, tmp_path: Path) -> None:
    tmp_path.joinpath("ca.pem").write_text("certificates\n")
    with install_container(engine, base, Claim(f"{PREFIX}-ca"), {CA_BUNDLE_TARGET: tmp_path / "ca.pem"}) as container:
        ended = container.run(["cat", CA_BUNDLE_TARGET], timeout_s=120)
    assert ended.last_lines == ("certificates",)


# --- proof that a tool is there


@pytest.mark.engine
def test_a_package_that_is_not_installed_has_no_version(container: InstallContainer) -> None:
    with pytest.raises(InstallError, match="knows no such installed package"):
        installed_version(proof(container, tool("jq"), "jq"))


@pytest.mark.engine
def test_a_command_that_is_not_there_is_an_error(container: InstallContainer) -> None:
    with pytest.raises(InstallError, match="no command 'nope' on the PATH after installing dpkg"):
        verify(proof(container, tool("dpkg", command="nope"), "dpkg"))


@pytest.mark.engine
def test_a_package_whose_programs_have_other_names_is_proved_by_one_of_them(container: InstallContainer) -> None:
    found = verify(proof(container, tool("util-linux"), "util-linux")).program
    assert found is not None
    assert container.run(["sh", "-c", f"dpkg -L util-linux | grep -x '.*{Path(found).name}'"], timeout_s=120).ok


@pytest.mark.engine
def test_a_package_without_programs_is_proved_by_its_version(container: InstallContainer) -> None:
    shown = container.run(["dpkg-query", "-W", "-f", "${Version}", "base-files"], timeout_s=120).text
    assert verify(proof(container, tool("libc6"), "base-files")) == Verified(shown, None)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("script", "evidence"),
    [
        ("#!/no/such/interpreter\n", "ended with 12[67]"),
        ("#!/bin/sh\nexec no-such-program\n", "ended with 127"),
        ("#!/bin/sh\necho 'x: error while loading shared libraries: libx.so' >&2; exit 1\n", "loading shared libraries"),
        ("#!/bin/sh\nkill -SEGV $$\n", "ended with 139"),
    ],
)
def test_a_program_that_does_not_start_is_an_error_with_the_evidence(
    container: InstallContainer, script: str, evidence: str
) -> None:
    write = ["sh", "-c", 'printf %s "$1" >/usr/local/bin/broken; chmod 755 /usr/local/bin/broken', "sh", script]
    assert container.run(write, timeout_s=120).ok
    with pytest.raises(InstallError, match=f"(?s)it is installed and does not start:.*{evidence}"):
        verify(proof(container, tool("broken"), "dpkg"))


@pytest.mark.engine
def test_a_program_that_knows_neither_option_has_started(container: InstallContainer) -> None:
    assert verify(proof(container, tool("false", command="false"), "coreutils")).program == "/usr/bin/false"


@pytest.mark.engine
def test_a_program_may_be_named_by_its_path(container: InstallContainer) -> None:
    verify(proof(container, tool("x", command="/usr/bin/sed"), "sed"))
    with pytest.raises(InstallError, match="no command '/usr/bin/nope'"):
        verify(proof(container, tool("x", command="/usr/bin/nope"), "sed"))


@pytest.mark.engine
def test_a_program_off_the_path_is_an_error_that_names_it(container: InstallContainer) -> None:
    listing = ["sh", "-c", "echo /usr/games/only-here >/var/lib/dpkg/info/hostname.list"]
    assert container.run(listing, timeout_s=120).ok
    with pytest.raises(InstallError, match="brings /usr/games/only-here, none of which is on the PATH") as caught:
        verify(proof(container, tool("hostnames"), "hostname"))
    assert caught.value.hint == "name it with its path: command: /usr/games/only-here"


@pytest.mark.engine
def test_a_check_of_the_plan_that_fails_is_an_error(container: InstallContainer) -> None:
    with pytest.raises(InstallError, match="with 'exit 4': it ended with 4"):
        verify(proof(container, tool("sed", checked_by=Verify("exit 4")), "sed"))
    with pytest.raises(InstallError, match=r"'\^9' does not match: sed"):
        verify(proof(container, tool("sed", checked_by=Verify("sed --version", "^9")), "sed"))


# --- the key


def test_waits_grow_and_differ_between_machines() -> None:
    first, second = retry_delays(random.Random(1)), retry_delays(random.Random(2))
    assert len(first) == 2
    assert first != second
    assert 0.5 <= first[0] <= 1.5
    assert 1.0 <= first[1] <= 3.0


def test_the_key_depends_on_contents_and_tools_and_not_on_names_of_the_image() -> None:
    image = ResolvedImage(ImageInfo("a:1", "sha256:1", "local"), ("sha256:x",), "amd64", ImageConfig())
    key = image_key(image, (tool("jq"),))
    assert key == image_key(replace(image, info=ImageInfo("b:2", "sha256:2", "pull"), note="a substitute"), (tool("jq"),))
    others = [
        image_key(replace(image, diff_ids=("sha256:y",)), (tool("jq"),)),
        image_key(replace(image, architecture="arm64"), (tool("jq"),)),
        image_key(image, (tool("jq", "jq=1.6*"),)),
        image_key(image, (tool("jq", checked_by=Verify("jq --version")),)),
    ]
    assert len({key, *others}) == 5
