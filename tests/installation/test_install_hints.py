"""Installations that really fail because something does not fit the image: the cause in the message, and a hint that works.

All packages are made here. test_install_causes.py covers failures that need the network, by recorded output.
"""

from __future__ import annotations

import os
import struct
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support import made_packages
from support.tool_installing import Workshop, open_workshop

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image.local import inspect
from testronaut_lab.errors import InstallError
from testronaut_lab.installation.faults import Fault

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
PREFIX = "tlabtest-hints"
LOADER = b"/lib64/ld-linux-x86-64.so.2\0"
TAKE = "take the build of it for Linux on amd64 or x86_64"


@pytest.fixture
def shop(engine: Engine, base_image: str, tmp_path: Path) -> Iterator[Workshop]:
    base = inspect(engine, base_image)
    assert base is not None
    with open_workshop(engine, base, tmp_path, PREFIX) as opened:
        yield opened


def failed(shop: Workshop, *specs: object) -> InstallError:
    with pytest.raises(InstallError) as caught:
        shop.install(*specs)
    return caught.value


def elf(machine: int = 62, loader: bytes = LOADER) -> bytes:
    """A real program, for another processor or with another loader."""
    program = bytearray(Path("/bin/true").read_bytes())
    struct.pack_into("<H", program, 18, machine)
    at = program.index(LOADER)
    program[at : at + len(LOADER)] = loader.ljust(len(LOADER), b"\0")
    return bytes(program)


def typed(text: str) -> Any:
    """The tools that a hint tells the user to write, as parsed from a plan."""
    return YAML(typ="safe").load(text)


STARTS = "verifying tool: it is installed and does not start: "
PROGRAMS: list[tuple[Callable[[], bytes], str, str]] = [
    (lambda: elf(183), "it is a program for arm64, and the image is for amd64", TAKE),
    (lambda: b"\xcf\xfa\xed\xfe\7\0\0\1" + bytes(99), "it is a program for macOS, and the image is Linux", TAKE),
    (lambda: b"MZ\x90\0" + bytes(99), "it is a program for Windows, and the image is Linux", TAKE),
    (
        lambda: elf(loader=b"/lib/ld-musl-x86_64.so.1"),
        "it was built for Alpine (musl): it needs the loader /lib/ld-musl-x86_64.so.1, which the image does not have",
        "install what it needs before it: tools: [apt:musl, 'copy:tool']",
    ),
    (
        lambda: b"#!/usr/bin/ruby\nputs 1\n",
        "its first line asks for /usr/bin/ruby (#!/usr/bin/ruby), which the image does not have",
        "install what it needs before it: tools: [apt:ruby, 'copy:tool']",
    ),
    (
        lambda: b"#!/usr/bin/env -S node --no-warnings\n1\n",
        "its first line asks for node (#!/usr/bin/env -S node --no-warnings), which the image does not have",
        "install what it needs before it: tools: [apt:nodejs, 'copy:tool']",
    ),
    (
        lambda: b"#!/opt/own/lang\n1\n",
        "its first line asks for /opt/own/lang (#!/opt/own/lang), which the image does not have",
        "put what brings lang before it in `tools`",
    ),
]  # fmt: skip


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="says what is not for x86-64")
def test_a_program_that_is_not_for_this_image_is_told_by_its_own_first_bytes(shop: Workshop) -> None:
    for content, cause, hint in PROGRAMS:
        (shop.folder / "tool").write_bytes(content())
        error = failed(shop, "copy:tool")
        assert (error.fault, error.message.split("\n")[0], error.hint) == (Fault.NOT_RUNNING, STARTS + cause, hint)


def test_the_hint_for_a_missing_interpreter_works_as_it_is_written(shop: Workshop) -> None:
    (shop.folder / "tool").write_text("#!/usr/bin/gawk --version\n")
    hint = failed(shop, "copy:tool").hint or ""
    assert shop.install(*typed(hint.partition(": ")[2])["tools"]).tools[1].program == "/usr/local/bin/tool"


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        ("copy", "#!/usr/bin/env sh\necho 1.5\n"),
        ("script", "#!/bin/sh\nln -s /bin/true /usr/local/bin/tool\n"),
        ("script", "set -e\nln -s /bin/true /usr/local/bin/tool\n"),
    ],
)
def test_lines_that_end_as_on_windows_are_told_with_the_command_that_mends_them(shop: Workshop, strategy: str, text: str) -> None:
    path = shop.folder / "a tool"
    path.write_bytes(text.replace("\n", "\r\n").encode())
    wanted = {"name": "tool", "install": f"{strategy}:{path.name}"}
    error = failed(shop, wanted)
    assert "its lines end with CR LF, as on Windows, and the CR is taken for a part of each line" in error.message
    assert error.hint == f"sed -i 's/\\r$//' '{path}'"
    subprocess.run(["sh", "-c", error.hint], check=True)
    assert shop.install(wanted).tools[0].name == "tool"


@pytest.mark.parametrize(
    ("names", "found", "strip"),
    [
        (["a-1.0/bin/a", "a-1.0/bin/helper", "a-1.0/lib/x"], "a-1.0/bin/a", 1),
        (["a-1.0/a"], "a-1.0/a", 1),
        (["x/y/bin/other"], "x/y/bin/other", 2),
    ],
)
def test_an_archive_whose_programs_are_further_down_is_told_with_its_strip(
    shop: Workshop, names: list[str], found: str, strip: int
) -> None:
    (shop.folder / "a-1.0.tgz").write_bytes(made_packages.tarball(dict.fromkeys(names, made_packages.program("1.0"))))
    error = failed(shop, "archive:a-1.0.tgz")
    assert f"verifying a: the archive has no program at its top or in its bin, but {found}" == error.message
    hint = f"{{name: a, install: {{archive: a-1.0.tgz, strip: {strip}}}}}"
    assert error.hint == f"leave out its leading folder{'s' if strip > 1 else ''}: {hint}"
    program = shop.install(typed(hint)).tools[0].program or ""
    assert program.rpartition("/")[2] == found.rpartition("/")[2]


def test_a_strip_that_leaves_nothing_is_told_with_the_command_that_lists_the_names(shop: Workshop) -> None:
    path = shop.folder / "a-1.0.tgz"
    path.write_bytes(made_packages.tarball({"a-1.0/bin/a": "x"}))
    hint = failed(shop, {"name": "a", "install": {"archive": path.name, "strip": 5}}).hint or ""
    listed = subprocess.run(["sh", "-c", hint.partition(": ")[2]], capture_output=True, text=True, check=True).stdout
    assert "a-1.0/bin/a" in listed


def wheel(folder: Path, tags: str, more: str = "") -> str:
    """A wheel for these tags, with more lines in its METADATA."""
    made = made_packages.wheel(folder, "lab_tool", "1.0", "def main(): print('1.0')\n")
    tagged = folder / f"lab_tool-1.0-{tags}.whl"
    with zipfile.ZipFile(made) as old:
        texts = {name: old.read(name).decode() for name in old.namelist()}
    with zipfile.ZipFile(tagged, "w") as new:
        for name, text in texts.items():
            text = text + more if name.endswith("METADATA") else text.replace("py3-none-any", tags)
            new.writestr(name, "\n".join(f"{line.split(',')[0]},," for line in text.split()) if name.endswith("RECORD") else text)
    return f"wheel:{tagged.name}"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="says what is not for x86-64")
def test_a_wheel_that_is_not_for_this_image_is_told_by_what_it_was_built_for(shop: Workshop) -> None:
    error = failed(shop, wheel(shop.folder, "cp311-cp311-manylinux2014_aarch64"))
    fetch = "pip download --no-deps --only-binary=:all: --python-version 3.11 --platform manylinux2014_x86_64 lab-tool==1.0"
    assert (error.fault, error.hint) == (Fault.UNFIT, fetch)
    cause = "it was built for the processor aarch64, and the image is CPython 3.11 on x86_64"
    assert f": {Fault.UNFIT}: {cause}; it ended with status 1" in error.message
    error = failed(shop, wheel(shop.folder, "py3-none-any", "Requires-Python: >=3.12\n"))
    assert (error.fault, error.hint) == (Fault.UNFIT, "--image debian:trixie-slim")
    assert "it needs Python >=3.12, and the image has 3.11.2" in error.message


def test_a_package_that_needs_another_is_told_with_what_it_needs(shop: Workshop) -> None:
    made_packages.deb(shop.folder, "labneeds", "1.0", "x", "Depends: lab-no-such")
    error = failed(shop, "deb:labneeds_1.0_all.deb")
    assert error.fault is Fault.PREREQUISITE
    assert "labneeds needs lab-no-such, which the image's package index does not have" in error.message
    hint = "put the package that it needs before it: tools: ['deb:lab-no-such_VERSION_all.deb', 'deb:labneeds_1.0_all.deb']"
    assert error.hint == hint
    made_packages.deb(shop.folder, "lab-no-such", "1.0", "y")
    specs = typed(hint.partition(": ")[2].replace("VERSION", "1.0"))["tools"]
    assert [tool.name for tool in shop.install(*specs).tools] == ["lab-no-such", "labneeds"]


def test_a_package_of_a_newer_release_and_one_of_another_processor_are_told(shop: Workshop) -> None:
    made_packages.deb(shop.folder, "labnew", "1.0", "x", "Depends: libc6 (>= 2.99)")
    error = failed(shop, "deb:labnew_1.0_all.deb")
    assert "labnew needs libc6 (>= 2.99), and the image's release has libc6 2.36" in error.message
    assert error.hint == "take a build of labnew for the image's release"
    made_packages.deb(shop.folder, "labarm", "1.0", "x", architecture="arm64")
    error = failed(shop, "deb:labarm_1.0_arm64.deb")
    assert "it is a package for arm64, and the image is for amd64" in error.message
    assert (error.fault, error.hint) == (Fault.UNFIT, "take the package whose name ends in _amd64.deb")


def test_a_package_of_npm_for_another_system_or_a_newer_node_is_told(shop: Workshop) -> None:
    made_packages.npm_pack(shop.folder, "labmac", "1.0.0", "x", {"os": ["darwin"], "cpu": ["arm64"]})
    error = failed(shop, "npm-pack:labmac-1.0.0.tgz")
    assert error.fault is Fault.UNFIT
    assert "it is a package for darwin on arm64, and the image is linux on x64" in error.message
    made_packages.npm_pack(
        shop.folder, "labnew", "1.0.0", "x", {"engines": {"node": ">=20"}}, "import { nosuch } from 'node:util';\n"
    )
    error = failed(shop, "npm-pack:labnew-1.0.0.tgz")
    assert "it is installed and does not start: it needs node >=20, and the image has v18." in error.message
    assert error.hint == "--image debian:trixie-slim"
