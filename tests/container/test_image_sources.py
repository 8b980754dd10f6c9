"""Images from a Dockerfile, a saved image, a root file system or a bootstrap, on a real engine."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.command_line import Project
from support.root_tars import LINKS, busybox_of, write_tar

from testronaut_lab import Session
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image import resolve as image_module
from testronaut_lab.container.image.cache import list_images, remove_images
from testronaut_lab.container.image.local import ResolvedImage, inspect
from testronaut_lab.container.image.resolve import resolve
from testronaut_lab.container.stepuser import StepUser, caller_inside
from testronaut_lab.errors import EngineError, UsageError
from testronaut_lab.installation.installer import image_key
from testronaut_lab.model.files import path_text
from testronaut_lab.model.plan import Bootstrap, Build, ImageSource, ImageSpec, InstallSpec, Load, Rootfs, ToolSpec
from testronaut_lab.planfile import parse_image, parse_plan

pytestmark = pytest.mark.engine

SETTINGS = """\
STOPSIGNAL SIGKILL
SHELL ["/bin/bash", "-c"]
ENV GREETING=hello
ENTRYPOINT ["/bin/false"]
CMD ["x"]
USER nobody
VOLUME /data /workspace /tmp
HEALTHCHECK --interval=1s CMD touch /workspace/checked
ONBUILD RUN false
WORKDIR /srv/x"""
BASE = "testronaut-lab/base:debian-bookworm-slim"
FAKE_ARM = b"\x7fELF\x02\x01\x01" + bytes(11) + (183).to_bytes(2, "little") + bytes(44)


@pytest.fixture(scope="module")
def busybox(engine: Engine, busybox_image: str) -> bytes:
    return busybox_of(engine, busybox_image)


class Folder:
    """Where a test has its files; `lines` is what was reported. What it makes on the engine is named by files of its own."""

    def __init__(self, engine: Engine, path: Path, busybox: bytes) -> None:
        self.engine, self.path, self.busybox = engine, path, busybox
        self.lines: list[str] = []
        self.tags: set[str] = set()

    def resolve(self, source: ImageSource, named: str = "it") -> ResolvedImage:
        found = resolve(self.engine, ImageSpec(named, source=source), self.lines.append)
        self.tags.add(found.tag)
        return found

    def root(self, name: str = "root.tar", salt: str = "", mode: str = "w") -> Path:
        """A root file system with unique content, so that its image is unique, too."""
        files = {"bin/busybox": self.busybox, "salt": f"{self.path} {salt}".encode()}
        return write_tar(self.path / name, files, LINKS, mode=mode)

    def dockerfile(self, text: str, **files: str) -> Path:
        folder = self.path / "context"
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(f"{text}\nLABEL test={json.dumps(str(self.path))}\n")
        for name, content in files.items():
            (folder / name.replace("dot", ".")).write_text(content)
        return folder

    def saved(self, *tags: str) -> Path:
        """The output of `docker save` for a new image with each tag. The engine has none of the images afterwards."""
        for number, tag in enumerate(tags):
            with self.root(salt=f"{tag} {number}").open("rb") as root:
                self.engine.client.api.import_image(src=root, repository=tag.partition(":")[0], tag=tag.partition(":")[2])
        file = self.path / "saved.tar"
        names = "&".join(f"names={tag}" for tag in tags)
        api = self.engine.client.api
        file.write_bytes(api._get(api._url("/images/get") + f"?{names}").content)
        for tag in tags:
            self.engine.client.images.remove(tag)
        return file


@pytest.fixture
def folder(engine: Engine, busybox: bytes, base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "files").mkdir()
    folder = Folder(engine, tmp_path / "files", busybox)
    yield folder
    # sessions and runs have noted what their images were made of
    made = [image for image in list_images(engine) if image.tag in folder.tags or image.spec.startswith(str(tmp_path))]
    remove_images(engine, made)


# --- root file systems


def test_a_root_file_system_becomes_an_image_once(folder: Folder) -> None:
    first = folder.resolve(Rootfs(folder.root()), "root.tar")
    again = folder.resolve(Rootfs(folder.root("copy.tar")), "copy.tar")
    assert (first.info.source, first.info.ref) == ("rootfs", "root.tar")
    assert (again.info.id, again.info.ref) == (first.info.id, "copy.tar")
    assert folder.lines == ["importing root.tar"]


@pytest.mark.parametrize(("suffix", "mode"), [(".tar.gz", "w:gz"), (".tar.xz", "w:xz"), (".tar.bz2", "w:bz2")])
def test_a_root_file_system_may_be_compressed(suffix: str, mode: str, folder: Folder) -> None:
    with Session({"rootfs": str(folder.root(f"root{suffix}", mode=mode))}, root=folder.path) as session:
        assert session.run("cat /salt").out == f"{folder.path} "


def key_of(image: ResolvedImage) -> str:
    return image_key(image, [ToolSpec("jq", (InstallSpec("apt", "jq"),))])


def test_another_content_of_the_file_is_another_image_and_key(folder: Folder) -> None:
    one = folder.resolve(Rootfs(folder.root()))
    two = folder.resolve(Rootfs(folder.root(salt="changed")))
    assert one.info.id != two.info.id
    assert key_of(one) != key_of(two)


@pytest.mark.parametrize(("offset", "change"), [(-1024, b"\xff" * 512), (-9000, b"\xff" * 512), (-10240, b"changed")])
def test_a_file_that_changes_while_it_is_imported_leaves_no_image(offset: int, change: bytes, folder: Folder) -> None:
    file = folder.root()
    tag = f"testronaut-lab/rootfs:{hashlib.sha256(file.read_bytes()).hexdigest()[:24]}"

    def importing(line: str) -> None:
        with file.open("r+b") as open_file:
            open_file.seek(offset, os.SEEK_END)
            open_file.write(change)

    with pytest.raises(UsageError, match=r"importing the root file system it: it was changed while it was read"):
        resolve(folder.engine, ImageSpec("it", source=Rootfs(file)), importing)
    assert inspect(folder.engine, tag) is None


# --- hostile files


def header_at(file: Path, number: int) -> int:
    with tarfile.open(file) as tar:
        return tar.getmembers()[number].offset


def broken(folder: Folder, kind: str) -> Path:
    file = folder.path / "broken"
    match kind:
        case "missing":
            pass
        case "empty":
            file.touch()
        case "zeros":
            file.write_bytes(bytes(10240))
        case "text":
            file.write_text("hello world\n" * 1000)
        case "no gzip":
            file.write_bytes(b"\x1f\x8b\x08" + b"x" * 5000)
        case "fifo":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "device":
            file.symlink_to("/dev/zero")
        case "loop":
            file.symlink_to(file)
        case "cut in a file":
            file.write_bytes(folder.root().read_bytes()[:100_000])
        case "cut in a header":
            file.write_bytes(folder.root().read_bytes()[: header_at(folder.root(), -1) + 100])
        case "cut between":
            file.write_bytes(folder.root().read_bytes()[: header_at(folder.root(), -1)])
        case "cut gzip":
            file.write_bytes(gzip.compress(folder.root().read_bytes())[:50_000])
        case "cut xz":
            file.write_bytes(lzma.compress(folder.root().read_bytes(), preset=0)[:50_000])
        case "scribbled":
            data = bytearray(folder.root().read_bytes())
            at = header_at(folder.root(), 1)
            data[at : at + 512] = b"\xff" * 512
            file.write_bytes(data)
    return file


BROKEN = {
    "missing": "cannot open .*broken: No such file or directory",
    "empty": "it is empty",
    "zeros": "there is nothing in it|no manifest.json in it",
    "text": "it is not a tar file, or compressed by something else than gzip, bzip2 or xz",
    "no gzip": "it is not a tar file|it is broken or cut off",
    "fifo": "broken is not a file",
    "folder": "broken is not a file",
    "device": "broken is not a file",
    "loop": "cannot open .*broken: Too many levels of symbolic links",
    "cut in a file": "it is broken or cut off: unexpected end of data",
    "cut in a header": "it is broken or cut off: at byte",
    "cut between": "it is broken or cut off: at byte",
    "cut gzip": "it is broken or cut off: Compressed file ended",
    "cut xz": "it is broken or cut off: Compressed file ended",
    "scribbled": "it is broken or cut off: at byte",
}


@pytest.mark.parametrize("make", [Rootfs, Load])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_no_whole_tar_is_refused_by_what_it_is_and_gets_nowhere(
    kind: str, make: Callable[[Path], ImageSource], folder: Folder
) -> None:
    with pytest.raises(UsageError, match=f"^(importing the root file system|loading the image) it: .*(?:{BROKEN[kind]})"):
        folder.resolve(make(broken(folder, kind)))
    assert folder.lines == []


def test_a_root_file_system_for_another_processor_is_refused(folder: Folder) -> None:
    file = write_tar(folder.path / "arm.tar", {"bin/sh": FAKE_ARM, "salt": str(folder.path).encode()})
    with pytest.raises(UsageError, match=r"it is for arm64, and this engine runs amd64"):
        folder.resolve(Rootfs(file))


def test_names_that_lead_out_of_a_tar_lead_nowhere_on_this_machine(folder: Folder) -> None:
    outside = folder.path / "outside"
    files = {f"../../../../..{outside}": b"x", str(outside): b"x", "bin/busybox": folder.busybox}
    file = write_tar(folder.path / "evil.tar", files, [*LINKS, ("way", str(folder.path)), ("tmp", "/nowhere")])
    with suppress(UsageError):  # Docker refuses it from 28 on
        with Session({"rootfs": str(file)}, root=folder.path) as session:
            assert session.run("echo hi; touch /tmp/x; ls /tmp").out == "hi\nx\n"
    assert not outside.exists()
    assert [entry.name for entry in folder.path.iterdir() if entry.name != ".testronaut"] == ["evil.tar"]


# --- saved images


def test_a_saved_image_is_loaded_once_and_takes_no_name_away(folder: Folder) -> None:
    tag = "tlabtest/saved:1"
    file = folder.saved(tag)
    with folder.root(salt="other").open("rb") as root:
        folder.engine.client.api.import_image(src=root, repository="tlabtest/saved", tag="1")
    try:
        before = folder.engine.client.images.get(tag).id
        loaded = folder.resolve(Load(file), "saved.tar")
        assert folder.resolve(Load(file), "saved.tar") == loaded
        assert (loaded.info.source, loaded.info.ref) == ("load", "saved.tar")
        assert folder.lines == ["loading saved.tar"]
        assert folder.engine.client.images.get(tag).id == before != loaded.info.id
    finally:
        folder.engine.client.images.remove(tag)


def test_a_session_starts_from_a_saved_image(folder: Folder) -> None:
    with Session({"load": str(folder.saved("tlabtest/saved:2"))}, root=folder.path) as session:
        assert session.run("cat /salt").out == f"{folder.path} tlabtest/saved:2 0"


def test_several_images_in_one_file_are_refused_by_name(folder: Folder) -> None:
    with pytest.raises(UsageError, match=r"one image was expected in it, and it holds 2: tlabtest/\w+:3, tlabtest/\w+:3"):
        folder.resolve(Load(folder.saved("tlabtest/one:3", "tlabtest/two:3")))


def test_saved_images_and_root_file_systems_are_told_apart(folder: Folder) -> None:
    with pytest.raises(UsageError, match=r"there is no manifest.json in it") as no_image:
        folder.resolve(Load(folder.root()))
    with pytest.raises(UsageError, match=r"it is not a root file system, but an image that `docker save` wrote") as no_root:
        folder.resolve(Rootfs(folder.saved("tlabtest/saved:4")))
    assert (no_image.value.hint, no_root.value.hint) == ("{rootfs: FILE} is for a root file system", "{load: FILE} is for those")


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (b"[]", "one image was expected in it, and it holds 0"),
        (b"[", "the JSON in it cannot be read"),
        (b"[" * 100_000, "the JSON in it cannot be read"),
        (b'{"a": 1}', "the JSON in it is not what `docker save` writes"),
        (b"[1]", "names no configuration that is in it"),
        (b'[{"Config": "../../../etc/passwd", "Layers": []}]', "names no configuration that is in it"),
    ],
)
def test_a_manifest_that_is_none_is_refused(manifest: bytes, said: str, folder: Folder) -> None:
    with pytest.raises(UsageError, match=f"loading the image it: .*{said}"):
        folder.resolve(Load(write_tar(folder.path / "m.tar", {"manifest.json": manifest})))


def test_a_saved_image_for_another_processor_is_refused(folder: Folder) -> None:
    files = {"manifest.json": b'[{"Config": "c.json", "Layers": []}]', "c.json": b'{"architecture": "s390x"}'}
    with pytest.raises(UsageError, match=r"it is for s390x, and this engine runs amd64"):
        folder.resolve(Load(write_tar(folder.path / "s.tar", files)))


def test_what_the_engine_refuses_to_load_is_told_in_its_words(folder: Folder) -> None:
    files = {"manifest.json": b'[{"Config": "c.json", "Layers": ["gone/layer.tar"]}]', "c.json": b'{"architecture": "amd64"}'}
    with pytest.raises(EngineError, match=r"loading the image it: the engine refused: "):
        folder.resolve(Load(write_tar(folder.path / "s.tar", files)))


# --- Dockerfiles


def test_a_dockerfile_is_built_and_its_lines_are_told(folder: Folder) -> None:
    context = folder.dockerfile(
        f"FROM {BASE}\nCOPY . /in/\nRUN echo made of $(ls /in)", a="1", secret="2", dotdockerignore="secret"
    )
    built = folder.resolve(Build(context), "context")
    assert (built.info.source, built.info.ref) == ("build", "context")
    assert folder.lines[0] == "building context"
    assert "made of Dockerfile a" in folder.lines
    assert folder.resolve(Build(context), "context") == built


def test_a_changed_file_is_another_image_and_key(folder: Folder) -> None:
    one = folder.resolve(Build(folder.dockerfile(f"FROM {BASE}\nCOPY a /a", a="1")))
    two = folder.resolve(Build(folder.dockerfile(f"FROM {BASE}\nCOPY a /a", a="2")))
    assert one.info.id != two.info.id
    assert key_of(one) != key_of(two)


def test_a_build_that_fails_ends_with_its_own_last_lines(folder: Folder) -> None:
    context = folder.dockerfile(f"FROM {BASE}\nRUN echo what went wrong; exit 3")
    with pytest.raises(
        EngineError, match=r"(?s)^building the image it: .*non-zero code: 3; its last lines:.*\n  what went wrong"
    ) as raised:
        folder.resolve(Build(context))
    assert raised.value.hint == f"cat {context}/Dockerfile"


def test_a_dockerfile_that_is_none_is_a_usage_error(folder: Folder) -> None:
    with pytest.raises(UsageError, match=r"the image it: dockerfile parse error (on )?line 1: unknown instruction: FORM"):
        folder.resolve(Build(folder.dockerfile("FORM scratch")))


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore"])
def test_what_is_no_file_is_not_waited_for(name: str, folder: Folder) -> None:
    context = folder.dockerfile(f"FROM {BASE}")
    (context / name).unlink(missing_ok=True)
    os.mkfifo(context / name)
    with pytest.raises(UsageError, match=f"building the image it: .*/{name} is not a file"):
        folder.resolve(Build(context))


def test_a_folder_without_a_dockerfile_is_told(folder: Folder) -> None:
    with pytest.raises(UsageError, match=r"building the image it: there is no Dockerfile in "):
        folder.resolve(Build(folder.path))


def test_a_base_that_cannot_be_had_gets_a_hint(folder: Folder) -> None:
    with pytest.raises(EngineError, match=r"building the image it: .*nosuch\.invalid") as raised:
        folder.resolve(Build(folder.dockerfile("FROM nosuch.invalid/thing:1")))
    assert "testronaut-lab images" in (raised.value.hint or "")


def test_a_fifo_in_the_folder_does_no_harm(folder: Folder) -> None:
    context = folder.dockerfile(f"FROM {BASE}\nCOPY a /a", a="1")
    os.mkfifo(context / "pipe")
    assert folder.resolve(Build(context)).info.source == "build"


# --- bootstraps


def test_a_bootstrap_is_never_pulled_and_no_substitute(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module, "pull", lambda *_: pytest.fail("it was pulled"))
    spec = parse_image({"bootstrap": "bookworm-slim"})
    assert spec == ImageSpec("debian:bookworm-slim", source=Bootstrap())
    found = resolve(folder.engine, spec, folder.lines.append)
    assert (found.info.source, found.info.ref, found.note) == ("bootstrap", "debian:bookworm-slim", None)


# --- images that set things


def step_uid(folder: Folder) -> int:
    """The uid of a step as `id -u` prints it: the caller's, if the caller is not root."""
    return StepUser.choose("lab", caller_inside(folder.engine)).uid


def test_a_session_is_not_what_its_image_would_have_it_be(folder: Folder) -> None:
    context = folder.dockerfile(f"FROM {BASE}\n{SETTINGS}")
    with Session({"build": str(context)}, root=folder.path) as session:
        result = session.run("echo $GREETING; pwd; id -u; ls -d /data; touch made")
        assert result.out == f"hello\n/workspace\n{step_uid(folder)}\n/data\n"
        containers = folder.engine.client.containers.list(filters={"ancestor": session.image_id})
        assert [each.attrs["Config"]["Healthcheck"]["Test"] for each in containers] == [["NONE"]]
        assert [change.path for change in result.changes] == ["made"]


def test_an_image_needs_no_tmp_and_no_passwd(folder: Folder) -> None:
    with Session({"rootfs": str(folder.root())}, root=folder.path) as session:
        assert session.run("echo hi >/tmp/a && cat /tmp/a && id -u && ls / | grep -c etc").out == f"hi\n{step_uid(folder)}\n1\n"


def test_an_image_without_a_shell_is_told(folder: Folder) -> None:
    file = write_tar(folder.path / "no.tar", {"bin/busybox": folder.busybox, "salt": str(folder.path).encode()})
    with (
        Session({"rootfs": str(file)}, root=folder.path) as session,
        pytest.raises(EngineError, match="the image has no /bin/sh") as raised,
    ):
        session.run("true")
    assert raised.value.hint == "testronaut-lab images"


# --- in plans


@pytest.mark.parametrize("key", ["rootfs", "load", "build"])
def test_a_plan_runs_in_what_lies_beside_it(key: str, folder: Folder) -> None:
    project = Project(folder.path)
    match key:
        case "rootfs":
            path = folder.root()
        case "load":
            path = folder.saved("tlabtest/saved:5")
        case _:
            path = folder.dockerfile(f"FROM {BASE}")
    project.write(
        f'image: {{{key}: ../{path.name}}}\nsteps: [{{run: echo hi, expect: {{stdout: "hi\\n"}}}}]\n', "plans/a.lab.yaml"
    )
    said = project.here("run", "plans", "--json", "-")
    assert (said.status, said.json["plans"][0]["image"]["source"]) == (0, key)  # type: ignore[index,call-overload]
    assert said.json["plans"][0]["image"]["ref"] == f"../{path.name}"  # type: ignore[index,call-overload]


def test_a_plan_whose_file_is_broken_ends_with_2(folder: Folder) -> None:
    project = Project(folder.path)
    (folder.path / "x.tar").write_text("no tar")
    project.write("image: {rootfs: x.tar}\nsteps: ['true']\n")
    said = project.here("run")
    assert said.status == 2
    assert "importing the root file system x.tar: it is not a tar file" in said.out


def test_paths_are_resolved_from_the_plan(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    plan = parse_plan({"image": {"build": "box"}, "steps": ["true"]}, root=tmp_path)
    assert plan.image == ImageSpec("box", source=Build(tmp_path / "box"))


@pytest.mark.parametrize("key", ["rootfs", "load", "build"])
def test_names_that_are_no_text_or_would_move_the_cursor_are_told_harmlessly(key: str, folder: Folder) -> None:
    odd = Path(os.fsdecode(os.fsencode(folder.path) + b"/\xff\x1b[31m"))
    odd.mkdir()
    project, name = Project(odd), "a\x1b[2J\n[bold]"
    match key:
        case "rootfs":
            folder.root().rename(odd / name)
        case "load":
            folder.saved("tlabtest/saved:6").rename(odd / name)
        case _:
            folder.dockerfile(f"FROM {BASE}").rename(odd / name)
    project.write(json.dumps({"image": {key: name}, "steps": ["true"]}), "a.lab.json")
    said = project.here("run", "a.lab.json")
    assert (said.status, "\x1b" in said.out + said.err) == (0, False)
    assert rf"a\x1b[2J …  {key}" in said.out
    told = project.here("images", "--json").json
    [listed] = [each for each in told["images"] if each["spec"] == path_text(os.fsencode(odd / name))]  # type: ignore[index,call-overload,union-attr]
    folder.tags.add(listed["tag"])  # type: ignore[arg-type,index,call-overload]
    assert "\x1b" not in project.here("images").out
