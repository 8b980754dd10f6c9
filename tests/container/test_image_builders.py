"""Two processes that need the same image, and processes that are killed while they make one: real ones, on a real engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import ARGV, Project, environment
from support.root_tars import LINKS, busybox_of, content_of, write_tar

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image.cache import ManagedImage, list_images, remove_images
from testronaut_lab.container.image.resolve import origin_of, resolve
from testronaut_lab.container.owner import container_name, folder_id
from testronaut_lab.execution.directory import sessions_root
from testronaut_lab.model.plan import Build, ImageSource, ImageSpec, Load, Rootfs

pytestmark = pytest.mark.engine

BASE = "testronaut-lab/base:debian-bookworm-slim"
VERSION = f"1.{os.getpid():08}"  # of this worker's tool, so that workers do not count and remove each other's images
SCRIPT = f"printf '#!/bin/sh\\necho mine {VERSION}\\n' >/usr/local/bin/mine; chmod 755 /usr/local/bin/mine\n"


@pytest.fixture
def project(engine: Engine, base_image: str, tmp_path: Path) -> Iterator[Project]:
    """With a script of its own that takes two seconds to install `mine`, so that no image is there before."""
    project = Project(tmp_path)
    (tmp_path / "mine.sh").write_text(f"# {tmp_path}\necho begun; sleep 2; {SCRIPT}")
    before = {image.tag for image in mine(engine)}
    yield project
    remove_images(engine, [image for image in mine(engine) if image.tag not in before])


def mine(engine: Engine) -> list[ManagedImage]:
    return [image for image in list_images(engine) if f"script:mine={VERSION}" in image.spec]


def left_overs(engine: Engine) -> list[str]:
    """Containers and networks of sessions of these tests; their sessions root is their own."""
    prefix = container_name("", folder_id(sessions_root()))
    containers = [each.name for each in engine.client.containers.list(all=True, filters={"name": prefix})]
    return [str(name) for name in [*containers, *(each.name for each in engine.client.networks.list(names=[prefix]))]]


def test_two_processes_that_need_the_same_tool_install_it_once_and_the_second_says_that_it_waits(
    engine: Engine, project: Project
) -> None:
    before = len(mine(engine))
    started = [
        subprocess.Popen(
            [*ARGV, "install", "script:mine.sh"], cwd=project.root, env=environment(), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    waited = ["waiting for another process that is installing the same" in text for text in said]
    installed = ["│  begun" in text for text in said]
    assert (sorted(waited), waited) == ([False, True], [not each for each in installed])
    assert len(mine(engine)) == before + 1


RESOLVING = """
import sys
from pathlib import Path
from testronaut_lab.container.engine.connect import connect
from testronaut_lab.container.image.resolve import resolve
from testronaut_lab.model.plan import ImageSpec, Rootfs
engine = connect()
print("ready", flush=True)
sys.stdin.readline()
print(resolve(engine, ImageSpec("it", source=Rootfs(Path(sys.argv[1]))), print).info.id)
"""


def test_processes_that_need_the_same_root_file_system_import_it_once(engine: Engine, busybox_image: str, tmp_path: Path) -> None:
    files = {"bin/busybox": busybox_of(engine, busybox_image), "salt": str(tmp_path).encode()}
    command = [sys.executable, "-c", RESOLVING, str(write_tar(tmp_path / "root.tar", files, LINKS))]
    started = [
        subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].splitlines() for process in started]
    try:
        assert len({lines[-1] for lines in said}) == 1
        assert sum("importing it" in lines for lines in said) == 1
    finally:
        assert remove_images(engine, [image for image in list_images(engine) if image.id == said[0][-1]]) == []


# --- killed while a tool is installed

# The command line, with one method replaced: it kills its own process instead of its work, or after it.
DOOMED = """
import os, signal, sys
from testronaut_lab.container.image import builder
when, method = sys.argv[1].split()
del sys.argv[1]
original = getattr(builder.InstallContainer, method)
def dies(*args, **kwargs):
    if when == "after":
        original(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(builder.InstallContainer, method, dies)
from testronaut_lab.cli import main
main()
"""


def killed(project: Project, moment: str) -> None:
    command = [sys.executable, "-c", DOOMED, moment, "install", "script:mine.sh"]
    ended = subprocess.run(command, cwd=project.root, env=environment(), capture_output=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


@pytest.mark.parametrize("moment", ["before run", "after put", "before commit", "after commit"])
def test_an_installation_that_is_killed_leaves_nothing_that_the_next_one_would_believe(
    moment: str, engine: Engine, project: Project
) -> None:
    before = len(mine(engine))
    killed(project, moment)
    assert len(left_overs(engine)) >= 2
    said = project("install", "script:mine.sh")
    assert said.status == 0, said.out
    assert "which an earlier run that was killed had left behind" in said.out + said.err
    assert ("from the cache" in said.out, "│  begun" in said.out) == (
        (True, False) if moment == "after commit" else (False, True)
    )
    assert left_overs(engine) == []
    assert len(mine(engine)) == before + 1


def test_an_installation_that_is_killed_in_its_script_is_done_again(engine: Engine, project: Project) -> None:
    with project.started("install", "script:mine.sh", until="begun") as process:
        process.kill()
        process.wait(10)
    assert "│  begun" in project("install", "script:mine.sh").out
    assert left_overs(engine) == []


# --- killed while an image is made of a file or folder

# Resolves an image, and is killed after so many bytes of it were sent, or after a line of the build.
DOOMED_SOURCE = """
import os, signal, sys
from pathlib import Path
from testronaut_lab.container.image import archive, tar
from testronaut_lab.container.engine.connect import connect
from testronaut_lab.container.image.resolve import resolve
from testronaut_lab.model.plan import Build, ImageSpec, Load, Rootfs

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

class Dying:
    def __init__(self, file):
        self.file, self.left = file, 3
    def __iter__(self):
        return iter(lambda: self.read(65536), b"")
    def read(self, size=-1):
        self.left -= 1
        return self.file.read(65536) if self.left else die()

def some_pieces(*args):
    yield from list(pieces(*args))[:6]
    die()

def report(line):
    print(line, flush=True)
    if line == "begun":
        die()

tar.OpenTar.from_start, start = lambda self: Dying(start(self)), tar.OpenTar.from_start
archive._renamed, pieces = some_pieces, archive._renamed
source = {"Build": Build, "Load": Load, "Rootfs": Rootfs}[sys.argv[1]](Path(sys.argv[2]))
resolve(connect(), ImageSpec("it", source=source), report)
"""


def sources(engine: Engine, busybox_image: str, folder: Path) -> dict[str, ImageSource]:
    root = write_tar(folder / "root.tar", {"bin/busybox": busybox_of(engine, busybox_image), "salt": str(folder).encode()}, LINKS)
    with root.open("rb") as tar:
        engine.client.api.import_image(src=tar, repository="tlabtest/killed", tag="1")
    (folder / "saved.tar").write_bytes(b"".join(engine.client.images.get("tlabtest/killed:1").save()))
    engine.client.images.remove("tlabtest/killed:1")
    (folder / "context").mkdir()
    (folder / "context" / "Dockerfile").write_text(
        f"FROM {BASE}\nLABEL salt={folder}\nRUN echo begun; sleep 1; echo done >/done\n"
    )
    return {"Rootfs": Rootfs(root), "Load": Load(folder / "saved.tar"), "Build": Build(folder / "context")}


@pytest.mark.parametrize("kind", ["Rootfs", "Load", "Build"])
def test_an_image_whose_making_is_killed_is_not_there_and_is_made_the_next_time(
    kind: str, engine: Engine, busybox_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = sources(engine, busybox_image, tmp_path)[kind]
    spec = ImageSpec("it", source=source)
    command = [sys.executable, "-c", DOOMED_SOURCE, kind, origin_of(spec)]
    ended = subprocess.run(command, env=environment(), capture_output=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    lines: list[str] = []
    made = resolve(engine, spec, lines.append)
    try:
        assert lines[0] in ("importing it", "loading it", "building it")
        path, content = ("/done", b"done\n") if kind == "Build" else ("/salt", str(tmp_path).encode())
        assert content_of(engine, made.info.id, path) == content
    finally:
        assert remove_images(engine, [image for image in list_images(engine) if image.tag == made.tag]) == []
