"""Root file systems without root: made in a user namespace, and what to type where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from testronaut_lab.container import namespaces
from testronaut_lab.container.image import bootstrap as bootstrap_module
from testronaut_lab.container.image.bootstrap import bootstrap
from testronaut_lab.errors import EngineError
from testronaut_lab.model.releases import release_of

BOOKWORM = release_of("debian:bookworm-slim")
assert BOOKWORM is not None


def machine(root: Path, *, subuid: str = "ann:100000:65536\n", subgid: str | None = None, **switches: str) -> Path:
    """The files of a machine that `missing` reads; by default as on Debian."""
    files = {"etc/subuid": subuid, "etc/subgid": subuid if subgid is None else subgid}
    for name, value in {"user/max_user_namespaces": "63000", **{k.replace("__", "/"): v for k, v in switches.items()}}.items():
        files[f"proc/sys/{name}"] = f"{value}\n"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of programs before all others, with newuidmap and newgidmap."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("newuidmap", "newgidmap"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_a_debian_user_misses_nothing(tmp_path: Path) -> None:
    assert namespaces.missing("ann", machine(tmp_path)) is None


def test_a_user_may_be_named_by_number(tmp_path: Path) -> None:
    assert namespaces.missing("ann", machine(tmp_path, subuid=f"{os.getuid()}:1:65536\n")) is None


@pytest.mark.parametrize(
    ("subuid", "subgid", "hint"),
    [
        ("", "", "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ann"),
        ("bob:100000:65536\n", "", "sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ann"),
        ("ann:100000:65536\n", "bob:100000:65536\n", "sudo usermod --add-subgids 165536-231071 ann"),
        ("ann:1:10\nno line\n\n", "ann:100000:65536\n", "sudo usermod --add-subuids 165536-231071 ann"),
    ],
)
def test_ids_that_are_missing_are_given_behind_those_of_others(tmp_path: Path, subuid: str, subgid: str, hint: str) -> None:
    found = namespaces.missing("ann", machine(tmp_path, subuid=subuid, subgid=subgid))
    assert found is not None and found[1] == hint


@pytest.mark.parametrize(
    ("switch", "off", "hint"),
    [
        ("user__max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=15000"),
        ("kernel__unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1"),
        ("kernel__apparmor_restrict_unprivileged_userns", "1", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
    ],
)
def test_a_kernel_that_forbids_namespaces_is_named_with_its_setting(tmp_path: Path, switch: str, off: str, hint: str) -> None:
    found = namespaces.missing("ann", machine(tmp_path, **{switch: off}))
    assert found is not None and found[1] == hint and "only root" in found[0]


def test_a_missing_newuidmap_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert namespaces.missing("ann", machine(tmp_path)) == ("newuidmap is not installed", "sudo apt-get install -y uidmap")


def test_temporary_files_are_where_all_ids_reach_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    assert namespaces.folder_for_all() == "/tmp"
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    assert namespaces.folder_for_all() == "/var/tmp"


def test_mmdebstrap_that_fails_without_root_says_what_is_missing(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (programs / "mmdebstrap").write_text("#!/bin/sh\necho E: $1 does not work >&2\nexit 1\n")
    (programs / "mmdebstrap").chmod(0o755)
    monkeypatch.setattr(bootstrap_module, "privilege", lambda: None)
    monkeypatch.setattr(bootstrap_module, "missing", lambda: ("ann has no ids", "sudo usermod ann"))
    with pytest.raises(EngineError, match=r"(?s)without root: ann has no ids; it exited with status 1.*--mode=unshare") as caught:
        bootstrap(BOOKWORM, lambda line: None)
    assert caught.value.hint == "sudo usermod ann"


@pytest.mark.skipif(os.getuid() == 0, reason="root needs no namespace; `make test` as root has an ordinary user run it")
@pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="mmdebstrap is not installed: testronaut-lab engine up")
def test_an_ordinary_user_makes_a_base_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(bootstrap_module, "privilege", lambda: None)  # also where the user has sudo
    private = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    try:
        with bootstrap(BOOKWORM, print) as tar, tarfile.open(fileobj=tar) as files:
            owners = {member.name: member.uid for member in files}
    finally:
        private.rmdir()
    assert (owners["./etc/passwd"], owners["./usr/bin/apt"]) == (0, 0)
