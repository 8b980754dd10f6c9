"""What tests share: a real engine, two images (Debian with dash and bash, bare busybox), and sessions in them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import docker
import hypothesis
import pytest
from support import printed_commands
from support.live_session import Lab, open_lab

from testronaut_lab.container.engine.connect import Engine, connect
from testronaut_lab.container.image import local
from testronaut_lab.container.image.lock import exclusive
from testronaut_lab.container.image.resolve import resolve
from testronaut_lab.container.stepuser import CallerInside, StepUser, caller_inside
from testronaut_lab.execution.factory import SessionFactory, SessionSettings
from testronaut_lab.model.events import Problem
from testronaut_lab.model.plan import ImageSpec, InstallSpec, ToolSpec

pytest_plugins = ["pytester"]

# `make soak`: the long tests in their full length
SOAK = os.environ.get("TESTRONAUT_LAB_SOAK") == "1"

# a time limit of milliseconds says more of the machine than of the program
hypothesis.settings.register_profile("lab", deadline=None)
hypothesis.settings.load_profile("lab")

SHELLS = ("dash", "bash", "busybox")
_BUSYBOX_TAG = "testronaut-lab/test-busybox:2"

MakeSession = Callable[..., Lab]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for the engine, by however many fixtures, and a case of a plan have the mark of those that need one."""
    for item in items:
        if "engine" in getattr(item, "fixturenames", ()) or item.path.suffix == ".yaml":
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session", autouse=True)
def own_sessions_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Sessions of tests are kept apart from the user's own, also for programs that tests start."""
    root = tmp_path_factory.mktemp("sessions")
    before = os.environ.get("TESTRONAUT_LAB_SESSIONS")
    os.environ["TESTRONAUT_LAB_SESSIONS"] = str(root)
    yield root
    if before is None:
        del os.environ["TESTRONAUT_LAB_SESSIONS"]
    else:
        os.environ["TESTRONAUT_LAB_SESSIONS"] = before


@pytest.fixture(autouse=True)
def printed_by_pytest(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What our plugin prints in runs of pytest that a test makes has commands that work, as what the command line prints."""
    if "pytester" not in request.fixturenames:
        return
    for variable in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
        monkeypatch.delenv(variable)  # a pytest of a test's own is no worker of the one that runs the test
    for name in ("runpytest_inprocess", "runpytest_subprocess"):
        monkeypatch.setattr(pytest.Pytester, name, _checked(getattr(pytest.Pytester, name)))


def _checked(run: Callable[..., pytest.RunResult]) -> Callable[..., pytest.RunResult]:
    def run_and_check(pytester: pytest.Pytester, *words: str, **options: object) -> pytest.RunResult:
        result = run(pytester, *words, **options)
        place = printed_commands.Place(pytester.path, pytester.path, dict(os.environ), ("pytest",))
        printed_commands.check("\n".join([*result.outlines, *result.errlines]), place)
        return result

    return run_and_check


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    connected = connect()
    yield connected
    connected.close()


@pytest.fixture
def root_allowed(engine: Engine) -> None:
    """For tests whose steps are root."""
    if os.getuid() != 0 and caller_inside(engine) is CallerInside.ITSELF:
        pytest.skip("`user: root` is for callers that are root, and for rootless engines")


@pytest.fixture(scope="session")
def step_user(engine: Engine) -> StepUser:
    """Who a step is by default on this engine."""
    return StepUser.choose("lab", caller_inside(engine))


@pytest.fixture(scope="session")
def lacking(engine: Engine, step_user: StepUser, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What this engine cannot give a test, each with the reason; found out by trying."""
    found = {}
    with open_lab(base_image, tmp_path_factory.mktemp("blobs"), SessionSettings()) as lab:
        problems = [body.message for body in lab.events.seen if isinstance(body, Problem)]
        if any("not enforced" in problem for problem in problems):
            found["limits"] = "the engine enforces no limits of memory, processors and processes here (docs/limits.md)"
        if engine.speaks_libpod:
            found["unread input"] = "Podman cannot remove a container in which nobody reads what is typed (docs/engines.md)"
        if "Init" not in engine.client.api.inspect_container(lab.session.container_name)["HostConfig"]:
            found["words"] = "the engine tells a container's configuration in words of its own; what it does is in other tests"
        try:
            engine.client.api.pause(lab.session.container_name)
            engine.client.api.unpause(lab.session.container_name)
        except docker.errors.APIError:
            found["pause"] = "the engine cannot pause a container here"
    if step_user.uid == 0:
        found["identity"] = "steps have the id of the container's root, their caller's (docs/engines.md)"
    return found


@pytest.fixture(autouse=True)
def needs(request: pytest.FixtureRequest) -> None:
    """Skips a test that is marked with what the engine lacks."""
    for marker in request.node.iter_markers("needs"):
        if reason := request.getfixturevalue("lacking").get(marker.args[0]):
            pytest.skip(reason)


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> str:
    """The id of a Debian, local, pulled or bootstrapped."""
    return resolve(engine, ImageSpec("debian:bookworm-slim"), print).info.id


@pytest.fixture(scope="session")
def busybox_image(engine: Engine, own_sessions_root: Path) -> str:
    """The id of an image with nothing but busybox in it; the binary is Debian's."""
    with exclusive("test-busybox", lambda: None):
        found = local.inspect(engine, _BUSYBOX_TAG)
        if found is None:
            said = engine.client.api.import_image_from_data(
                _busybox_root(_busybox_binary(engine)), *_BUSYBOX_TAG.split(":"), changes=["ENV PATH=/bin"]
            )
            found = local.inspect(engine, _BUSYBOX_TAG)
            assert found is not None, said
    return found.info.id


def _busybox_binary(engine: Engine) -> bytes:
    bench = SessionFactory(lambda _: None, _NoBlobs())
    try:
        tool = ToolSpec("busybox-static", (InstallSpec("apt", "busybox-static"),), command="busybox")
        tool_image = bench.prepare(0, ImageSpec("debian:bookworm-slim"), (tool,))
    finally:
        bench.close()
    container = engine.client.containers.create(tool_image, ["true"])
    try:
        pieces, _ = container.get_archive("/bin/busybox")
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
            file = tar.extractfile("busybox")
            assert file is not None
            return file.read()
    finally:
        container.remove(force=True)


def _busybox_root(binary: bytes) -> bytes:
    """A root file system: /bin/busybox, a link for each program that a test needs, mount points."""
    names = (
        "sh cat ls sleep true false mkdir rmdir rm mv ln chmod touch id env setsid seq head tail wc dd printf kill grep yes ps"
    )
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in (".", "bin", "etc", "home", "proc", "root", "run", "tmp", "var/tmp", "workspace"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        info = tarfile.TarInfo("bin/busybox")
        info.size, info.mode = len(binary), 0o755
        tar.addfile(info, io.BytesIO(binary))
        for name in names.split():
            info = tarfile.TarInfo(f"bin/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(info)
    return out.getvalue()


class _NoBlobs:
    """For what runs no step."""

    def new_spool(self) -> Path:
        raise AssertionError("nothing is captured here")

    def adopt(self, spool: Path, sha256: str) -> Path:
        raise AssertionError("nothing is captured here")

    def read(self, sha256: str) -> bytes:
        raise AssertionError("nothing is captured here")


@pytest.fixture(scope="module")
def open_shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Lab]]:
    """Opens a session for the rest of the module: dash, bash or busybox, by name."""
    with ExitStack() as stack:

        def open_(shell: str) -> Lab:
            image_id = request.getfixturevalue("busybox_image" if shell == "busybox" else "base_image")
            settings = SessionSettings(shell="bash" if shell == "bash" else "sh")
            return stack.enter_context(open_lab(image_id, tmp_path_factory.mktemp("blobs"), settings))

        yield open_


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest, open_shared: Callable[[str], Lab]) -> Lab:
    """A session that the tests of a module share, once for each shell: leave it as you found it."""
    return open_shared(request.param)


@pytest.fixture(scope="module")
def dash(open_shared: Callable[[str], Lab]) -> Lab:
    """A session that the tests of a module share, where the shell makes no difference: leave it as you found it."""
    return open_shared("dash")


@pytest.fixture
def make_session(base_image: str, tmp_path: Path) -> Iterator[MakeSession]:
    """Makes sessions of one test's own: `make_session(image_id=…, env=…, **settings)`."""
    with ExitStack() as stack:

        def make(image_id: str = base_image, env: Mapping[str, str] | None = None, **settings: object) -> Lab:
            made = SessionSettings(**settings)  # type: ignore[arg-type]
            return stack.enter_context(open_lab(image_id, tmp_path / "blobs", made, env))

        yield make


@pytest.fixture
def fresh(make_session: MakeSession) -> Lab:
    """A session of the test's own, with everything as a plan has it by default."""
    return make_session()
