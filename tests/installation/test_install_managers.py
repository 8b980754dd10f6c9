"""Real packages from real managers: one of each in every run of the tests, the others with `make soak`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import SOAK
from support import made_packages
from support.tool_installing import Workshop, open_workshop

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image.builder import install_container, tool_tag
from testronaut_lab.container.image.cache import list_images, remove_images
from testronaut_lab.container.image.local import ResolvedImage, inspect
from testronaut_lab.container.owner import Claim
from testronaut_lab.errors import InstallError, UsageError
from testronaut_lab.installation.faults import Fault
from testronaut_lab.installation.strategies import STRATEGIES

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]  # the first one of a manager installs the manager, once
PREFIX = "tlabtest-managers"
JSON = '{"a": 1}'
soak = pytest.mark.skipif(not SOAK, reason="with make soak")


@pytest.fixture
def shop(engine: Engine, base_image: str, tmp_path: Path) -> Iterator[Workshop]:
    base = inspect(engine, base_image)
    assert base is not None
    with open_workshop(engine, base, tmp_path, PREFIX) as opened:
        yield opened


FAST = [  # one of each manager
    (["apt:jq"], "1.6", ["jq", "-n", "6*7"], "42\n"),
    (["pip:cowsay==6.*"], "6.", ["cowsay", "-t", "moo"], "| moo |"),
    (["pipx:cowsay>=6,<7"], "6", ["cowsay", "-t", "moo"], "| moo |"),
    (["npm:cowsay@^1.5"], "1.", ["cowsay", "moo"], "< moo >"),
]
SLOW = [
    (["pip:httpie==3.2.*"], "3.2", ["http", "--offline", "--print=H", "GET", "x.test/a"], "GET /a HTTP/1.1"),
    (["apt:ripgrep"], "", ["rg", "--no-config", "-c", "root", "/etc/passwd"], "1\n"),
    (["apt:sqlite3"], "3", ["sqlite3", ":memory:", "select 6*7"], "42\n"),
    (["apt:miller"], "", ["mlr", "-n", "--ojson", "put", "end{emit {'a': 6 * 7}}".replace("'", '"')], '"a": 42'),
    (["apt:git"], "", ["git", "hash-object", "/dev/null"], "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\n"),
    ([{"command": "flake8", "install": {"pip": ["flake8", "flake8-bugbear"]}}], "", ["flake8", "--version"], "flake8-bugbear"),
    (["pip:csvkit"], "", ["sh", "-c", "printf 'a,b\\n1,2\\n' | csvcut -c b"], "b\n2\n"),
    (["pip:yq", "apt:jq"], "", ["sh", "-c", "echo 'a: 1' | yq .a"], "1\n"),
    (["npm:prettier"], "", ["sh", "-c", "echo 'a  =  1' | prettier --parser babel"], "a = 1;\n"),
    (["npm:json"], "", ["sh", "-c", f"echo '{JSON}' | json a"], "1\n"),
    (["npm:@biomejs/biome@2.x"], "2", ["biome", "--version"], "Version: 2"),
]


@pytest.mark.parametrize(("written", "version", "argv", "says"), FAST + (SLOW if SOAK else []), ids=lambda value: str(value)[:30])
def test_a_package_installs_is_verified_and_runs(
    shop: Workshop, written: list[str], version: str, argv: list[str], says: str
) -> None:
    made = shop.install(*written)
    assert made.tools[0].version.startswith(version)
    assert made.tools[0].strategy == written[0].partition(":")[0]
    assert says in shop.run(made, *argv)


@pytest.mark.parametrize("spec", ["npm:cowsay@^99", *(["apt:jq=9*", "pip:cowsay==99"] if SOAK else [])])
def test_a_version_that_there_is_not_is_told_with_those_there_are(shop: Workshop, spec: str) -> None:
    with pytest.raises(InstallError, match=r"there is: \d") as caught:
        shop.install(spec)
    assert caught.value.fault == Fault.NO_VERSION
    assert (caught.value.hint or "").startswith(f"ask for a version that there is: {spec.partition('=')[0].partition('@')[0]}")


@soak
@pytest.mark.parametrize("strategy", ["pip", "npm"])
def test_a_package_that_there_is_not_is_told_with_what_to_look_at(shop: Workshop, strategy: str) -> None:
    with pytest.raises(InstallError, match="no such package") as caught:
        shop.install(f"{strategy}:no-such-package-of-testronaut-lab")
    assert caught.value.fault == Fault.NO_PACKAGE
    assert (caught.value.hint or "").startswith("check the name: ")


def test_the_next_way_is_tried_and_why_the_others_failed_is_said(shop: Workshop) -> None:
    ways = ["npm:no-such-package-of-testronaut-lab", "apt:jq=9*", "apt:jq=1.6*"]
    made = shop.install({"name": "jq", "install": ways})
    assert [(tool.name, tool.strategy, tool.version[:3]) for tool in made.tools] == [("jq", "apt", "1.6")]
    said = "\n".join(shop.lines)
    assert "installing npm:no-such-package-of-testronaut-lab: no such package" in said
    assert "installing apt:jq=9*: no such version" in said
    assert "of jq there is: 1.6" in said
    assert shop.run(made, "ls", "/opt") == ""
    assert shop.run(made, "sh", "-c", "command -v npm node; true") == ""
    assert {package.name.partition(":")[0] for package in made.tools[0].packages} == {"jq", "libjq1", "libonig5"}


def test_a_name_that_apt_could_take_for_a_pattern_is_one_name(shop: Workshop) -> None:
    with pytest.raises(InstallError) as caught:
        shop.install("apt:b.sh")
    assert caught.value.fault == Fault.NO_PACKAGE
    assert not any("for regex" in line or line.startswith("Setting up") for line in shop.lines)


# --- packages that are made here


def test_a_deb_is_installed_with_its_version_and_is_a_file_and_no_package(shop: Workshop) -> None:
    made_packages.deb(shop.folder, "labdeb", "1.2-3", "from a deb")
    (shop.folder / "plans").mkdir()
    shop.folder /= "plans"
    with pytest.raises(UsageError, match="no package of apt"):
        shop.tools("apt:../labdeb_1.2-3_all.deb")
    made = shop.install("deb:../labdeb_1.2-3_all.deb")
    assert [(tool.name, tool.version, tool.strategy) for tool in made.tools] == [("labdeb", "1.2-3", "deb")]
    assert shop.run(made, "labdeb") == "from a deb\n"


def test_a_wheel_is_installed_with_its_version_and_nothing_else_is_left(shop: Workshop) -> None:
    made_packages.wheel(shop.folder, "lab_wheel", "2.5", "def main(): print('from a wheel')\n")
    made = shop.install("wheel:lab_wheel-2.5-py3-none-any.whl")
    assert [(tool.name, tool.version, tool.strategy) for tool in made.tools] == [("lab-wheel", "2.5", "wheel")]
    assert shop.run(made, "lab-wheel") == "from a wheel\n"
    folders = "/opt/testronaut-lab /usr/local/bin /dev /dev/shm /tmp /var/tmp /var/lib/apt/lists"
    listed = shop.run(made, "sh", "-c", f"ls -A {folders}; ls -d /root/.[a-z]*; true")
    assert listed.count("lab-wheel") == 2
    assert not [word for word in (".work", ".cache", ".npm", "testronaut-ca", "testronaut-pip", ".whl") if word in listed]


@soak
def test_a_wheel_whose_program_does_not_start_is_an_error_with_the_evidence(shop: Workshop) -> None:
    made_packages.wheel(shop.folder, "labbad", "1.0", "import what_nobody_has\ndef main(): pass\n")
    with pytest.raises(InstallError, match=r"(?s)does not start:.*No module named 'what_nobody_has'") as caught:
        shop.install("wheel:labbad-1.0-py3-none-any.whl")
    assert caught.value.fault == Fault.NOT_RUNNING


def test_an_npm_tarball_is_installed_with_its_version(shop: Workshop) -> None:
    made_packages.npm_pack(shop.folder, "lab-npm", "3.1.0", "from npm")
    made = shop.install("npm-pack:lab-npm-3.1.0.tgz")
    assert [(tool.name, tool.version, tool.strategy) for tool in made.tools] == [("lab-npm", "3.1.0", "npm-pack")]
    assert shop.run(made, "lab-npm") == "from npm\n"


# --- prerequisites


@pytest.fixture
def without_apt(shop: Workshop) -> Iterator[Workshop]:
    tag = tool_tag("tlabtest-without-apt")
    with install_container(shop.engine, shop.base, Claim(f"{PREFIX}-bare")) as container:
        assert container.run(["rm", "/usr/bin/apt-get"], timeout_s=120).ok
        container.commit(tag, {})
    image = inspect(shop.engine, tag)
    assert image is not None
    with open_workshop(shop.engine, image, shop.folder, PREFIX) as opened:
        yield opened
    shop.engine.client.images.remove(tag)


def test_an_image_without_any_manager_is_told_what_is_missing(without_apt: Workshop) -> None:
    with pytest.raises(
        InstallError, match=r"(?s)1\. .*prerequisite.*python3.*apt could install python3-venv.*2\. .*apt-get"
    ) as caught:
        without_apt.install({"name": "x", "install": ["pip:xyz", "apt:xyz"]})
    assert caught.value.fault == Fault.PREREQUISITE


@soak
def test_a_manager_that_does_not_work_with_its_packages_there_is_no_endless_matter(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(STRATEGIES["pip"], manager=("false",), needs=(("apt", ("hostname",)),))
    monkeypatch.setitem(STRATEGIES, "pip", broken)
    with pytest.raises(InstallError, match="a prerequisite is missing: false does not work in the image") as caught:
        shop.install("pip:xyz")
    assert caught.value.fault == Fault.PREREQUISITE
    remove_images(shop.engine, [image for image in list_images(shop.engine) if "apt:hostname=" in image.spec])


@soak
def test_a_base_whose_root_has_no_home_still_gets_tools(engine: Engine, shop: Workshop) -> None:
    tag = tool_tag("tlabtest-no-home")
    with install_container(engine, shop.base, Claim(f"{PREFIX}-nohome")) as container:
        script = "sed -i 's,^root:.*,root:x:0:0::/nowhere:/bin/sh,' /etc/passwd && rm -rf /root"
        assert container.run(["sh", "-c", script], timeout_s=120).ok
        container.commit(tag, {})
    base: ResolvedImage | None = inspect(engine, tag)
    assert base is not None
    try:
        with open_workshop(engine, base, shop.folder, PREFIX) as opened:
            made_packages.wheel(shop.folder, "lab_wheel", "2.5", "def main(): print('from a wheel')\n")
            made = opened.install("wheel:lab_wheel-2.5-py3-none-any.whl")
            assert opened.run(made, "lab-wheel") == "from a wheel\n"
            assert "No such file" in opened.run(made, "sh", "-c", "ls /nowhere /root 2>&1; true")
    finally:
        remove_images(engine, [image for image in list_images(engine) if image.spec.startswith(f"{tag} + ")])
        engine.client.images.remove(tag)
