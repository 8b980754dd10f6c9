"""Causes found in real output of package managers (2026-11), in file names and in the first bytes of files."""

from __future__ import annotations

import struct

import pytest

from testronaut_lab.container.image.builder import Executed
from testronaut_lab.installation.causes import Asked, Cause, Runtime, of_node, of_package, of_wheel
from testronaut_lab.installation.installation import in_words
from testronaut_lab.installation.startable import Came, Head, foreign, unstarted
from testronaut_lab.installation.strategies import STRATEGIES
from testronaut_lab.model.lastwords import with_last_words, without_said

TRIXIE = "--image debian:trixie-slim"
OTHER = "ERROR: Package 'x' requires a different Python: 3.11.2 not in '{}'"
IGNORED = (
    "ERROR: Ignored the following versions that require a different python version: "
    "6.0 Requires-Python >=3.12; 6.1 Requires-Python >=3.12"
)
UNMET = "The following packages have unmet dependencies:\n {}\nE: Unable to correct problems, you have held broken packages."

SAID = [
    ("pip:x==1", OTHER.format(">=3.13"),
     Cause("it needs Python >=3.13, and the image has 3.11.2", TRIXIE)),
    ("pip:x==1", OTHER.format(">=3.14"),
     Cause("it needs Python >=3.14, and the image has 3.11.2", "--image python:3.14-slim")),
    ("pip:x==1", OTHER.format("<3.9"),
     Cause("it needs Python <3.9, and the image has 3.11.2",
           "use an image with an older python, or a newer version of the package")),
    ("pip:django==6.0", IGNORED + "\nERROR: No matching distribution found for django==6.0",
     Cause("there is 6.0, but it needs Python >=3.12, and the image has 3.11", TRIXIE)),
    ("pip:django==7.0", IGNORED, None),
    ("pip:psutil==5.6.7", "building extension\n      error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory",
     Cause("there is no build of it for the image's python, and no compiler in the image to make one",
           "put a compiler before it: tools: [apt:build-essential, apt:python3-dev, 'pip:psutil==5.6.7']")),
    ("deb:a.deb", UNMET.format("a : Depends: no-such but it is not installable"),
     Cause("a needs no-such, which the image's package index does not have",
           "put the package that it needs before it: tools: ['deb:no-such_VERSION_all.deb', 'deb:a.deb']")),
    ("deb:a.deb", UNMET.format("a : Depends: libc6 (>= 2.38) but 2.36-9+deb12u14 is to be installed"),
     Cause("a needs libc6 (>= 2.38), and the image's release has libc6 2.36-9+deb12u14", TRIXIE)),
    ("deb:a.deb", UNMET.format("a : Depends: libc6 (>= 2.99) but 2.36-9+deb12u14 is to be installed"),
     Cause("a needs libc6 (>= 2.99), and the image's release has libc6 2.36-9+deb12u14",
           "take a build of a for the image's release")),
    ("deb:a.deb", "dpkg: error processing archive a.deb (--unpack):\n package architecture (arm64) does not match system (amd64)",
     Cause("it is a package for arm64, and the image is for amd64", "take the package whose name ends in _amd64.deb")),
    ("npm:a", 'npm ERR! notsup Unsupported platform for a@1.0.0: wanted {"os":"darwin","arch":"arm64"} (current: '
     '{"os":"linux","arch":"x64"})',
     Cause("it is a package for darwin on arm64, and the image is linux on x64",
           "take the package for this system, or one for all")),
    ("npm:a", "npm ERR! code E404", None),
]  # fmt: skip


@pytest.mark.parametrize(("tool", "said", "cause"), SAID)
def test_what_a_manager_says_of_what_does_not_fit(tool: str, said: str, cause: Cause | None) -> None:
    assert of_package(said, Asked(tool, "3.11")) == cause


HERE = Runtime((3, 11, 2), "x86_64", (2, 36))


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ("cp311-cp311-manylinux2014_aarch64", "it was built for the processor aarch64, and the image is CPython 3.11 on x86_64"),
        ("py3-none-win_amd64", "it was built for Windows, and the image is CPython 3.11 on x86_64, Linux"),
        ("cp312-cp312-macosx_11_0_arm64", "it was built for macOS, and the image is CPython 3.11 on x86_64, Linux"),
        ("cp39-cp39-manylinux_2_17_x86_64.manylinux2014_x86_64",
         "it was built for CPython 3.9, and the image has CPython 3.11 on x86_64"),
        ("py3-none-manylinux_2_39_x86_64", "it needs glibc 2.39, and the image has 2.36"),
        ("cp311-cp311-musllinux_1_2_x86_64", "it was built for musl, as Alpine has it, and the image has glibc 2.36"),
        ("cp39-abi3-manylinux_2_28_x86_64", None), ("py3-none-any", None),
    ],
)  # fmt: skip
def test_what_a_wheel_was_built_for_is_in_its_name(tags: str, text: str | None) -> None:
    cause = of_wheel(f"lab_tool-1.0-{tags}.whl", HERE)
    assert (None if cause is None else cause.text) == text


def test_the_command_that_fetches_the_right_wheel_is_told() -> None:
    fetch = "pip download --no-deps --only-binary=:all: --python-version 3.11 --platform manylinux2014_x86_64 lab-tool==1.0"
    cause = of_wheel("lab_tool-1.0-2-cp311-cp311-manylinux2014_aarch64.whl", HERE)
    assert cause is not None and cause.hint == fetch


def test_a_node_that_is_too_old_is_told_and_one_that_is_not_is_no_cause() -> None:
    assert of_node(">=20.1", "v18.20.4") == Cause("it needs node >=20.1, and the image has v18.20.4", TRIXIE)
    assert of_node("^24", "v18.20.4") == Cause("it needs node ^24, and the image has v18.20.4",
                                               "--image node:24-slim")  # fmt: skip
    assert of_node(">=16", "v18.20.4") is None and of_node("*", "v18.20.4") is None


def head(machine: int) -> Head:
    return Head(b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", machine) + bytes(100), "x86_64")


def test_a_program_for_another_processor_is_foreign_and_one_that_it_runs_too_is_not() -> None:
    assert foreign(head(243)) == Cause(
        "it is a program for riscv64, and the image is for amd64", "take the build of it for Linux on amd64 or x86_64"
    )
    assert foreign(head(3)) is None and foreign(head(62)) is None and foreign(Head(b"", "")) is None


def test_a_glibc_that_is_too_old_is_told_with_a_release_that_has_it() -> None:
    said = "x: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.{}' not found (required by x)\n"
    for needed, hint in (("38", TRIXIE), ("99", "take a static build of it, or one for an older system")):
        cause = unstarted(head(62), said.format("34") + said.format(needed), Came("copy:x"), lambda _: True)
        text = f"it was built for a newer system: it needs glibc 2.{needed}, and the image has an older one"
        assert cause == Cause(text, hint)


@pytest.mark.parametrize("line", [b"#!/bin/sh", b"#! /usr/bin/env  sh -e", b"#!/usr/bin/env -S A=1 sh", b"#!"])
def test_a_first_line_whose_interpreter_is_there_is_no_cause(line: bytes) -> None:
    assert unstarted(Head(line + b"\nx\n", "x86_64"), "", Came("copy:x"), {"/bin/sh", "sh"}.__contains__) is None


@pytest.mark.parametrize(
    ("strategy", "versions", "finished"),
    [
        ("pip", ["1.0", "1.1a1", "1.1b2", "1.1rc1", "1.1.dev3", "1.1.post1", "2.0"], ["1.0", "1.1.post1", "2.0"]),
        ("npm", ["1.0.0", "2.0.0-beta.1", "2.0.0", "3.0.0-dev.20261021.1"], ["1.0.0", "2.0.0"]),
        ("apt", ["1.6-2.1", "1.7~rc1-1"], ["1.6-2.1", "1.7~rc1-1"]),
    ],
)
def test_pre_releases_are_told_from_versions(strategy: str, versions: list[str], finished: list[str]) -> None:
    assert [each for each in versions if not STRATEGIES[strategy].unfinished.search(each)] == finished


def test_a_list_of_hundreds_of_versions_is_shown_without_its_middle_and_is_still_known_again() -> None:
    line = "ERROR: no such version (from versions: " + ", ".join(map(str, range(500))) + ")"
    message = with_last_words("it ended with status 1", [line])
    assert len(message) < 400 and message.endswith("498, 499)")
    assert without_said(message, [line]) == "it ended with status 1"


def test_the_last_words_are_those_that_say_something() -> None:
    said = (
        "npm http fetch GET 200 x",
        "npm ERR! code E1",
        "npm ERR! A complete log of this run can be found in:",
        "npm ERR!  /_logs/x",
    )
    assert in_words(Executed(1, said)).endswith("its last words:\n  npm ERR! code E1")
    assert in_words(Executed(1, said[:1])).endswith("its last words:\n  npm http fetch GET 200 x")
