"""The provenance of tools in an image and in a run: exactly the packages that were added, also from the cache."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import made_packages
from support.command_line import ARGV, HELLO, Project, environment
from support.tool_installing import Workshop, open_workshop

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image.local import inspect
from testronaut_lab.errors import ExitStatus
from testronaut_lab.installation.provenance import PROVENANCE_LABEL, Provenance, labels, of_labels
from testronaut_lab.model.result import ImageInfo, Package, ToolInfo
from testronaut_lab.report.files.schema import result_schema

PREFIX = "tlabtest-provenance"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PACKAGE = st.builds(Package, TEXT, TEXT, TEXT)
TOOL = st.builds(
    ToolInfo, TEXT, TEXT, TEXT, TEXT, st.none() | TEXT, st.lists(PACKAGE, max_size=60).map(tuple), TEXT, st.just("k" * 64)
)
IMAGE = st.builds(ImageInfo, TEXT, TEXT, TEXT, st.lists(TEXT, max_size=3).map(tuple), st.lists(TEXT, max_size=3).map(tuple))
# Prints one line for each package in the image.
DPKG = ["dpkg-query", "-W", "-f", "dpkg ${binary:Package} ${Version}\n"]


@pytest.fixture
def shop(engine: Engine, base_image: str, tmp_path: Path) -> Iterator[Workshop]:
    base = inspect(engine, base_image)
    assert base is not None
    with open_workshop(engine, base, tmp_path, PREFIX) as opened:
        yield opened


@settings(max_examples=60, deadline=None)
@given(IMAGE, st.lists(TOOL, max_size=3).map(tuple))
def test_what_is_written_into_labels_is_read_back_whole(base: ImageInfo, tools: tuple[ToolInfo, ...]) -> None:
    assert of_labels(labels(base, tools, "2026-11-25T08:00:00Z")) == Provenance(base, tools)


def test_a_few_packages_can_be_read_in_the_label_and_hundreds_stay_small() -> None:
    image = ImageInfo("debian", "sha256:1", "local")
    few = labels(image, [ToolInfo("jq", "1.6", "apt", packages=(Package("dpkg", "libjq1", "1.6-2.1"),))], "now")
    assert "libjq1" in few[PROVENANCE_LABEL]
    crowd = tuple(Package("npm", f"package-number-{number}", f"{number}.0.{number % 7}") for number in range(500))
    many = labels(image, [ToolInfo("x", "1", "npm", packages=crowd)], "now")
    assert len(many[PROVENANCE_LABEL]) < 8192
    found = of_labels(many)
    assert found is not None
    assert found.tools[0].packages == crowd


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", "zlib+base64:", "zlib+base64:!", "zlib+base64:eJw=", '{"base": 1, "tools": []}']
)
def test_a_label_that_is_none_is_no_provenance(text: str) -> None:
    assert of_labels({PROVENANCE_LABEL: text}) is None


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_every_package_that_was_added_is_told_and_told_again_from_the_cache(shop: Workshop) -> None:
    made = shop.install("apt:jq")
    [tool] = made.tools
    before, after = shop.run(replace(made, id=shop.base.info.id), *DPKG), shop.run(made, *DPKG)
    added = sorted(set(after.splitlines()) - set(before.splitlines()))
    assert [f"{each.manager} {each.name} {each.version}" for each in tool.packages] == added
    assert len(added) >= 3
    assert (tool.spec, tool.program, tool.key) == ("jq", "/usr/bin/jq", made.key)
    assert shop.install("apt:jq") == replace(made, cached=True)


@pytest.mark.engine
@pytest.mark.timeout(900)
def test_a_tool_in_a_folder_of_its_own_tells_its_packages_and_those_that_came_first(shop: Workshop) -> None:
    made_packages.wheel(shop.folder, "lab_wheel", "2.5", "def main(): print('from a wheel')\n")
    made = shop.install("wheel:lab_wheel-2.5-py3-none-any.whl")
    told = {(each.manager, each.name) for each in made.tools[0].packages}
    assert {("pip", "lab_wheel"), ("pip", "pip"), ("dpkg", "python3-venv"), ("dpkg", "python3")} <= told
    frozen = shop.run(made, "sh", "-c", "/opt/testronaut-lab/lab-wheel/bin/python -m pip list --format=json 2>/dev/null")
    listed = {(entry["name"], entry["version"]) for entry in json.loads(frozen)}
    assert {(each.name, each.version) for each in made.tools[0].packages if each.manager == "pip"} == {
        (name.replace("-", "_") if name == "lab-wheel" else name, version) for name, version in listed
    }
    before = shop.run(replace(made, id=shop.base.info.id), *DPKG).splitlines()
    added = sorted(set(shop.run(made, *DPKG).splitlines()) - set(before))
    assert [f"dpkg {each.name} {each.version}" for each in made.tools[0].packages if each.manager == "dpkg"] == added


@pytest.mark.engine
@pytest.mark.timeout(900)
def test_of_npm_every_package_below_it_is_told(shop: Workshop) -> None:
    made = shop.install("npm:cowsay@1.5.0")
    listed = shop.run(made, "sh", "-c", "npm ls --all --json --global --prefix /opt/testronaut-lab/cowsay 2>/dev/null; true")

    def walk(tree: dict[str, dict[str, object]]) -> set[tuple[str, str]]:
        found = set()
        for name, entry in tree.items():
            below = entry.get("dependencies", {})
            assert isinstance(below, dict)
            found |= {(name, str(entry["version"]))} | walk(below)
        return found

    told = {(each.name, each.version) for each in made.tools[0].packages if each.manager == "npm"}
    assert told == walk(json.loads(listed)["dependencies"])
    assert ("cowsay", "1.5.0") in told
    assert len(told) > 10


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_the_image_the_result_and_the_bundle_have_it(engine: Engine, tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(HELLO.replace("cases:", "tools: [apt:jq]\ncases:"))
    said = project.here("run", "--json", "-")
    (plan,) = said.json["plans"]  # type: ignore[index,call-overload]
    jsonschema.validate(said.json, result_schema())
    [tool] = plan["tools"]
    assert {"manager": "dpkg", "name": "jq", "version": tool["version"]} in tool["packages"]
    assert plan["image"]["diff_ids"][0].startswith("sha256:")
    image = inspect(engine, f"testronaut-lab/tool:{tool['key'][:24]}")
    assert image is not None
    made = of_labels(dict(image.config.labels))
    assert made is not None
    assert (made.base.diff_ids[0], made.tools[0].built) == (plan["image"]["diff_ids"][0], tool["built"])
    assert project.here("export", "last", "-o", "bundle").status == 0
    manifest = json.loads((tmp_path / "bundle/manifest.json").read_text())
    assert manifest["plans"][0]["tools"] == plan["tools"]
    assert manifest["plans"][0]["image"] == plan["image"]


# --- from the cache


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_a_start_from_the_cache_needs_no_network(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(HELLO.replace("cases:", "tools: [apt:jq]\ncases:").replace("echo hello", "jq -rn '\"hello\"'"))
    assert project.here("run").status == ExitStatus.OK
    alone = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--map-current-user", "--net"]
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    cut = subprocess.run(
        [*alone, *ARGV, "run", "--json", "-"],
        cwd=tmp_path,
        env=environment(nowhere),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert cut.returncode == ExitStatus.OK, cut.stderr
    (plan,) = json.loads(cut.stdout)["plans"]
    assert plan["status"] == "passed"
    assert b"jq 1." in cut.stderr
    assert b"apt, cached" in cut.stderr
    interfaces = subprocess.run([*alone, "cat", "/proc/net/dev"], capture_output=True, text=True, check=True).stdout
    assert [line.split(":")[0].strip() for line in interfaces.splitlines()[2:]] == ["lo"]
