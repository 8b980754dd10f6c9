"""Files, folders, archives and scripts of this machine as tools: the resulting image, refusals, and changes of the key."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import docker.errors
import pytest
from support import made_packages
from support.command_line import HELLO, Project
from support.tool_installing import Workshop, open_workshop

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image.local import ImageConfig, ResolvedImage, inspect
from testronaut_lab.errors import ExitStatus, InstallError, UsageError
from testronaut_lab.installation import installation, payload
from testronaut_lab.installation.faults import HINTS, Fault
from testronaut_lab.installation.installer import image_key
from testronaut_lab.installation.payload import packed
from testronaut_lab.installation.strategies import STRATEGIES
from testronaut_lab.model.plan import InstallSpec, ToolSpec
from testronaut_lab.model.result import ImageInfo
from testronaut_lab.report.text.installing import nothing_started

pytestmark = pytest.mark.engine
PREFIX = "tlabtest-files"


@pytest.fixture
def shop(engine: Engine, base_image: str, tmp_path: Path) -> Iterator[Workshop]:
    base = inspect(engine, base_image)
    assert base is not None
    with open_workshop(engine, base, tmp_path, PREFIX) as opened:
        yield opened


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def digest(path: Path, spec: str = "x", *, strategy: str = "copy", strip: int = 0) -> str:
    with packed(InstallSpec(strategy, spec, path, strip=strip), STRATEGIES[strategy], "x") as payload:
        return payload.sha256


def test_a_program_is_copied_under_the_name_of_the_tool_and_tells_its_version(shop: Workshop) -> None:
    write(shop.folder / "build/tool-linux", made_packages.program("tool 4.5.6"))
    made = shop.install({"name": "tool", "install": "copy:build/tool-linux"})
    assert [(tool.name, tool.version, tool.strategy) for tool in made.tools] == [("tool", "4.5.6", "copy")]
    assert shop.run(made, "tool") == "tool 4.5.6\n"


def test_a_folder_is_copied_with_its_links_and_what_it_needs_beside_it(shop: Workshop) -> None:
    write(shop.folder / "dist/bin/one", '#!/bin/sh\ncat "$(dirname "$(readlink -f "$0")")/../share/text"\n')
    write(shop.folder / "dist/share/text", "beside\n")
    (shop.folder / "dist/bin/two").symlink_to("one")
    made = shop.install("copy:dist")
    assert (shop.run(made, "one"), shop.run(made, "two")) == ("beside\n", "beside\n")
    assert made.tools[0].version.startswith("sha256:")


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_is_unpacked_without_its_leading_folder(shop: Workshop, kind: str) -> None:
    path = shop.folder / f"arc-1.0.{kind}"
    files = {"arc-1.0/bin/arc": made_packages.program("from an archive"), "arc-1.0/README": "read me\n"}
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(zipfile.ZipInfo(name), text)  # without modes, as from another system
    else:
        path.write_bytes(made_packages.tarball(files))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest().upper()
    made = shop.install({"name": "arc", "install": {"archive": path.name, "sha256": sha256, "strip": 1}})
    assert (made.tools[0].version, shop.run(made, "arc")) == ("1.0", "from an archive\n")


def test_a_script_installs_with_its_own_interpreter_or_sh(shop: Workshop) -> None:
    text = "printf '#!/bin/sh\\necho scripted 1.2\\n' >/usr/local/bin/scripted; chmod 755 /usr/local/bin/scripted\n"
    write(shop.folder / "install.sh", text)
    made = shop.install({"name": "scripted", "install": "script:install.sh"})
    assert (made.tools[0].version, shop.run(made, "scripted")) == ("1.2", "scripted 1.2\n")
    write(shop.folder / "fails.sh", "#!/bin/bash\necho because >&2; exit 3\n")
    with pytest.raises(InstallError, match=r"(?s)installing script:fails\.sh: it failed; it ended with status 3.*because"):
        shop.install("script:fails.sh")


@pytest.mark.parametrize(
    ("says", "fault", "times"),
    [
        ("E: Could not get lock /var/lib/dpkg/lock", Fault.LOCKED, 1),
        ("tar: write error: No space left on device", Fault.DISK_FULL, 1),
        ("connect: Connection refused", Fault.NETWORK, 3),
    ],
)
def test_only_what_the_network_broke_is_tried_again(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, says: str, fault: Fault, times: int
) -> None:
    monkeypatch.setattr(installation, "retry_delays", lambda rng: [0.01, 0.01])
    write(shop.folder / "install.sh", f"echo '{says}' >&2; exit 1\n")
    with pytest.raises(InstallError, match=f"installing script:install.sh: {fault}; it ended with status 1") as caught:
        shop.install("script:install.sh")
    assert (caught.value.fault, caught.value.hint) == (fault, HINTS[fault])
    assert shop.lines.count(says) == times


def test_a_script_that_brings_nothing_is_an_error(shop: Workshop) -> None:
    write(shop.folder / "install.sh", "true\n")
    with pytest.raises(InstallError, match="script brought no program called nothing"):
        shop.install({"name": "nothing", "install": "script:install.sh"})


def test_what_failed_leaves_nothing_for_the_way_that_works(shop: Workshop) -> None:
    write(shop.folder / "bad/tool", "#!/no/such/interpreter\n")
    write(shop.folder / "bad/other", made_packages.program("left"))
    write(shop.folder / "good", made_packages.program("good"))
    made = shop.install({"name": "tool", "install": ["copy:bad", "copy:good"]})
    assert shop.run(made, "tool") == "good\n"
    assert any("verifying tool: it is installed and does not start" in line for line in shop.lines)
    assert shop.run(made, "sh", "-c", "ls /opt/testronaut-lab/*").split() == ["bin"]


def test_a_program_that_is_there_already_is_not_replaced(shop: Workshop) -> None:
    for name in ("a", "b"):
        write(shop.folder / name / "same", made_packages.program(name))
    with pytest.raises(InstallError, match="same is there already") as caught:
        shop.install("copy:a", "copy:b")
    assert caught.value.fault == Fault.CONFLICT


def test_a_command_that_did_not_come_with_it_proves_nothing(shop: Workshop) -> None:
    write(shop.folder / "dir/other", made_packages.program("mine"))
    with pytest.raises(InstallError, match=r"no command 'sed' on the PATH after installing dir, which brings .*/mine/other"):
        shop.install({"name": "mine", "command": "sed", "install": "copy:dir"})


def test_the_program_of_a_package_that_only_stands_for_others_is_theirs(shop: Workshop) -> None:
    made_packages.deb(shop.folder, "fam-core", "1.0", "fam 1.0")
    made_packages.deb(shop.folder, "fam", "1.0", "", "Depends: fam-core (>= 0.9), libc6")
    made_packages.deb(shop.folder, "solo", "1.0", "", "Depends: fam-core")
    made = shop.install("deb:fam-core_1.0_all.deb", "deb:fam_1.0_all.deb", "deb:solo_1.0_all.deb")
    assert [tool.program for tool in made.tools] == ["/usr/bin/fam-core", "/usr/bin/fam-core", None]


def test_a_package_without_a_program_is_an_error_only_where_one_is_named(shop: Workshop) -> None:
    made_packages.deb(shop.folder, "data", "1.0", "")
    [tool] = shop.install("deb:data_1.0_all.deb").tools
    assert (tool.program, tool.version, nothing_started(tool)) == (
        None, "1.0", "nothing: it brings no program; deb knows it, in version 1.0"
    )  # fmt: skip
    with pytest.raises(InstallError, match="there is no command 'dat' on the PATH"):
        shop.install({"command": "dat", "install": "deb:data_1.0_all.deb"})


def test_a_library_can_be_imported_by_the_images_own_python_if_that_is_asked_for(shop: Workshop) -> None:
    made_packages.wheel(shop.folder, "somelib", "1.2", "def main(): print('somelib 1.2')")
    made = shop.install({"install": "wheel:somelib-1.2-py3-none-any.whl", "importable": True})
    assert shop.run(made, "python3", "-c", "import somelib; somelib.main()") == "somelib 1.2\n"
    plain = shop.install("wheel:somelib-1.2-py3-none-any.whl")
    with pytest.raises(docker.errors.ContainerError):
        shop.run(plain, "python3", "-c", "import somelib")


def test_a_missing_shared_library_is_named(shop: Workshop) -> None:
    library = "$(ldd /usr/bin/sed | sed -n 's/.*libacl.* => \\([^ ]*\\) .*/\\1/p')"
    write(shop.folder / "install.sh", f'cp /usr/bin/sed /usr/local/bin/needy; rm "{library}"\n')
    with pytest.raises(InstallError, match=r"shared libraries that are missing: libacl\.so") as caught:
        shop.install({"name": "needy", "install": "script:install.sh"})
    assert (caught.value.hint or "").startswith("install what brings libacl.so")


def test_a_file_of_any_name_is_what_it_is_and_never_run_as_something_else(shop: Workshop) -> None:
    names = ["bash; touch pwned", "-x", "$(touch pwned)", "a b"]
    for name in names:
        write(shop.folder / "-in; touch pwned" / name, made_packages.program("as it is"))
    made = shop.install("copy:-in; touch pwned")
    assert [shop.run(made, "/usr/local/bin/" + name) for name in names] == ["as it is\n"] * 4
    assert "pwned" not in shop.run(made, "ls", "/", "/tmp", "/opt", "/usr/local/bin").split("\n")


# --- what goes in


def test_another_content_name_or_mode_is_another_key_and_a_time_is_not(tmp_path: Path) -> None:
    file = write(tmp_path / "d/a", "1")
    before = digest(tmp_path / "d")
    os.utime(file, (1, 1))
    assert digest(tmp_path / "d") == before
    file.chmod(0o644)
    modes = digest(tmp_path / "d")
    file.write_text("2")
    contents = digest(tmp_path / "d")
    file.rename(tmp_path / "d/b")
    assert len({before, modes, contents, digest(tmp_path / "d")}) == 4


def test_a_changed_file_makes_another_image_and_a_moved_one_does_not(shop: Workshop) -> None:
    write(shop.folder / "one/tool", made_packages.program("one"))
    write(shop.folder / "moved/tool", made_packages.program("one"))
    first = shop.install("copy:one/tool")
    assert shop.install("copy:moved/tool").cached
    write(shop.folder / "one/tool", made_packages.program("two"))
    second = shop.install("copy:one/tool")
    assert (second.cached, shop.run(first, "tool"), shop.run(second, "tool")) == (False, "one\n", "two\n")


def test_another_content_of_a_wheel_is_another_key(tmp_path: Path) -> None:
    spec, keys = InstallSpec("wheel", "a-1-py3-none-any.whl", tmp_path / "a-1-py3-none-any.whl"), set[str]()
    base = ResolvedImage(ImageInfo("x", "sha256:1", "local"), ("sha256:2",), "amd64", ImageConfig())
    for content in (b"one", b"two", b"one"):
        (tmp_path / "a-1-py3-none-any.whl").write_bytes(content)
        with packed(spec, STRATEGIES["wheel"], "a") as payload:
            keys.add(image_key(base, [ToolSpec("a", (spec,))], {spec: payload}))
    assert len(keys) == 2


def test_a_wrong_sha256_is_an_error_before_anything_is_started(shop: Workshop) -> None:
    write(shop.folder / "tool", made_packages.program("x"))
    with pytest.raises(InstallError, match=r"its sha256 is [0-9a-f]{64}, expected 0{64}"):
        shop.install({"name": "tool", "install": {"copy": "tool", "sha256": "0" * 64}})


def test_a_wrong_sha256_is_a_reason_for_the_next_way(shop: Workshop) -> None:
    write(shop.folder / "tool", made_packages.program("x"))
    made = shop.install({"name": "tool", "install": [{"copy": "tool", "sha256": "0" * 64}, "copy:tool"]})
    assert shop.run(made, "tool") == "x\n"
    assert any("its sha256 is" in line for line in shop.lines)
    write(shop.folder / "other", "#!/no/such\n")
    with pytest.raises(InstallError, match=r"(?s)1\. .*its sha256 is.*2\. verifying tool"):
        shop.install({"name": "tool", "install": [{"copy": "tool", "sha256": "0" * 64}, "copy:other"]})


def members(path: Path, strategy: str, *, strip: int = 0) -> dict[str, tuple[str, int, bytes]]:
    with packed(InstallSpec(strategy, path.name, path, strip=strip), STRATEGIES[strategy], "x") as payload:
        with tarfile.open(fileobj=payload.tar) as tar:
            contents = {each.name: tar.extractfile(each) for each in tar if each.isreg()}
            return {
                each.name: (each.linkname, each.mode, file.read() if (file := contents.get(each.name)) else b"")
                for each in tar.getmembers()
            }


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.xz", "zip"])
def test_a_folder_and_its_archives_hold_the_same(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "in/d"
    write(folder / "bin/a", "a")
    write(folder / "share/text", "t").chmod(0o640)
    (folder / "bin/link").symlink_to("../share/text")
    os.mkfifo(folder / "pipe")
    path = folder
    if kind.startswith("tar"):
        path = tmp_path / f"d.{kind}"
        with tarfile.open(path, "w:xz" if kind.endswith("xz") else "w") as tar:
            tar.add(folder, "d")
            hard = tarfile.TarInfo("d/bin/hard")
            hard.type, hard.linkname, hard.mode = tarfile.LNKTYPE, "d/bin/a", 0o755
            tar.addfile(hard)
    elif kind == "zip":
        path = tmp_path / "d.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in ("bin", "bin/a", "share", "share/text"):
                archive.write(folder / file, f"d/{file}")
            link = zipfile.ZipInfo("d/bin/link")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "../share/text")
    expected = {
        "bin": ("", 0o755, b""),
        "bin/a": ("", 0o755, b"a"),
        "bin/link": ("../share/text", 0o777, b""),
        "share": ("", 0o755, b""),
        "share/text": ("", 0o644, b"t"),
    }
    if kind.startswith("tar"):
        expected["bin/hard"] = ("", 0o755, b"a")
    assert members(path, "copy" if kind == "folder" else "archive", strip=int(kind != "folder")) == expected


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out"])
def test_an_archive_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.tar").write_bytes(made_packages.tarball({name: "x"}, "w"))
    with pytest.raises(InstallError, match="leads out"):
        digest(tmp_path / "x.tar", "x.tar", strategy="archive")


def test_an_archive_that_unpacks_to_more_than_any_tool_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MAX_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("bin/a", "bin/b"):
            archive.writestr(name, b"\0" * (600 << 10))
    assert (tmp_path / "bomb.zip").stat().st_size < 10_000
    with pytest.raises(InstallError, match="handing over bin/b: with it this is more than 1 MiB"):
        digest(tmp_path / "bomb.zip", "bomb.zip", strategy="archive")


def test_what_is_no_archive_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"nothing of the kind")
    with pytest.raises(InstallError, match="cannot be unpacked"):
        digest(tmp_path / "x.tar", "x.tar", strategy="archive")
    (tmp_path / "x.tar").write_bytes(made_packages.tarball({"a/b": "x"}, "w"))
    with pytest.raises(InstallError, match="nothing is left of it with strip: 2"):
        digest(tmp_path / "x.tar", "x.tar", strategy="archive", strip=2)


def test_a_link_that_leads_out_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/link").symlink_to("../secret")
    with pytest.raises(InstallError, match=r"the link 'link' leads out, to '\.\./secret'"):
        digest(tmp_path / "d")


def test_a_file_that_cannot_be_read_is_a_wrong_plan(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"installing copy:x: cannot read .*gone"):
        digest(tmp_path / "gone")


# --- the build in hand


def test_install_puts_the_build_in_hand_in_the_place_of_the_plans_tool(tmp_path: Path) -> None:
    project = Project(tmp_path)
    write(tmp_path / "build/greet", made_packages.program("hello"))
    project.write(HELLO.replace("cases:", "tools: [{name: greet, install: 'apt:no-such-package-of-ours'}]\ncases:").replace(
        "run: echo hello", "run: greet"))  # fmt: skip
    said = project.here("run", "--install", f"copy:{tmp_path}/build/greet", "--json", "-")
    assert said.status == ExitStatus.OK, said.err
    (plan,) = said.json["plans"]  # type: ignore[index,call-overload]
    assert [(tool["name"], tool["strategy"]) for tool in plan["tools"]] == [("greet", "copy")]


@pytest.mark.parametrize("spec", ["pip:git+ssh://git@host/x", "apt:bash; touch /pwned", "apt:-oA::B=c", "apt:bash-", "copy:gone"])
def test_what_cannot_be_meant_ends_with_2(tmp_path: Path, spec: str) -> None:
    project = Project(tmp_path)
    project.write(HELLO)
    said = project.here("run", "--install", spec)
    assert said.status == ExitStatus.USAGE
    assert spec.partition(":")[2] in said.err
