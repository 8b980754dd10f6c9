"""Left-overs of the dead are removed, never what the living have, nor what belongs to somebody of whom nothing is known."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import docker
import pytest
import requests
from conftest import MakeSession
from support.other_owners import Owner, containers, networks

from testronaut_lab.container import manager, removal
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image.builder import install_container
from testronaut_lab.container.image.local import ResolvedImage, inspect
from testronaut_lab.container.left_overs import left_overs
from testronaut_lab.container.network import create_network
from testronaut_lab.container.stepuser import StepUser
from testronaut_lab.errors import CaptureError
from testronaut_lab.execution.directory import SessionDir
from testronaut_lab.execution.reap import reap

pytestmark = pytest.mark.engine

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may make a pid namespace without a user namespace")

MakeOwner = Callable[..., Owner]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sessions root of the test's own."""
    monkeypatch.setenv("TESTRONAUT_LAB_SESSIONS", str(tmp_path / "sessions"))
    return tmp_path / "sessions"


@pytest.fixture
def make_owner(base_image: str, root: Path, engine: Engine, tmp_path: Path) -> Iterator[MakeOwner]:
    """Makes other processes that have a session: `make_owner("internet", within=…)`. All is gone afterwards."""
    owners: list[Owner] = []

    def make(network: str = "none", **how: object) -> Owner:
        owners.append(Owner(base_image, tmp_path / "blobs", network, **how))  # type: ignore[arg-type]
        return owners[-1]

    yield make
    for owner in owners:
        owner.kill()
    for owner in owners:
        if owner.container in containers(engine):
            engine.client.api.remove_container(owner.container, force=True)
        if f"{owner.container}-net" in networks(engine):
            engine.client.api.remove_network(f"{owner.container}-net")


@pytest.fixture
def owner(make_owner: MakeOwner) -> Owner:
    return make_owner("internet")


def job(sessions: Path, at: Path) -> tuple[str, ...]:
    """Words that run a command as in a job container: in a pid namespace of its own, `sessions` mounted at the path `at`."""
    at.mkdir(parents=True, exist_ok=True)
    sessions.mkdir(exist_ok=True)
    words = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
    return (*words, "sh", "-ec", 'mount --bind "$1" "$2"; shift 2; exec "$@"', "job", str(sessions), str(at))


def cleaned(within: tuple[str, ...], root: Path, *owners: Owner) -> list[str]:
    """What a process with these words before it removes of the owners' things: other tests may have left something too."""
    code = (
        "from testronaut_lab.container.engine.connect import connect; from testronaut_lab.execution.reap import reap; "
        "print(*reap(connect()).removed)"
    )
    env = {**os.environ, "TESTRONAUT_LAB_SESSIONS": str(root)}
    said = subprocess.run([*within, sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    return of(said.stdout.split(), *owners)


def removed(engine: Engine, root: Path, *owners: Owner) -> list[str]:
    """The same in this process."""
    return of(reap(engine, root).removed, *owners)


def of(names: Iterable[str], *owners: Owner) -> list[str]:
    return [name for name in names if name.startswith(tuple(owner.container for owner in owners))]


def test_what_a_killed_owner_left_is_removed(engine: Engine, root: Path, owner: Owner) -> None:
    assert owner.container in containers(engine)
    owner.kill()
    assert removed(engine, root, owner) == [owner.container, f"{owner.container}-net"]
    assert owner.container not in containers(engine)
    assert f"{owner.container}-net" not in networks(engine)
    assert list(root.glob("[!.]*")) == []


def test_what_a_living_owner_has_is_left_alone_and_not_told(engine: Engine, root: Path, owner: Owner) -> None:
    reaped = reap(engine, root)
    assert of(reaped.removed, owner) == of((left.name for left in reaped.left_alone), owner) == []
    assert owner.container in containers(engine)
    assert f"{owner.container}-net" in networks(engine)


def test_sessions_of_another_folder_are_left_alone_and_named(engine: Engine, root: Path, owner: Owner, tmp_path: Path) -> None:
    owner.kill()
    reaped = reap(engine, tmp_path / "elsewhere")
    assert of(reaped.removed, owner) == []
    (left,) = [left for left in reaped.left_alone if left.name == owner.container]
    assert left.reason == "of another owner, who may be alive; it ends by itself some time after its owner"
    assert owner.container in containers(engine)


def test_a_container_whose_directories_are_gone_is_removed_when_its_process_is_gone(
    engine: Engine, root: Path, owner: Owner
) -> None:
    (session,) = root.glob("[!.]*")
    session.rename(root.parent / session.name)
    assert removed(engine, root, owner) == []
    owner.kill()
    assert removed(engine, root, owner) == [owner.container, f"{owner.container}-net"]


def test_a_copy_of_a_folder_removes_nothing_of_the_first(
    engine: Engine, root: Path, make_owner: MakeOwner, tmp_path: Path
) -> None:
    owner = make_owner()
    shutil.copytree(root, tmp_path / "copy", symlinks=True, ignore=shutil.ignore_patterns("run"))
    assert removed(engine, tmp_path / "copy", owner) == []
    assert owner.container in containers(engine)


@needs_root
def test_a_job_removes_nothing_of_the_folder_that_is_at_its_path_elsewhere(
    engine: Engine, root: Path, make_owner: MakeOwner, tmp_path: Path
) -> None:
    owner = make_owner()
    words = job(tmp_path / "two", root)
    assert cleaned(words, root, owner) == []
    owner.kill()
    assert cleaned(words, root, owner) == []
    assert cleaned((), root, owner) == [owner.container]


@needs_root
def test_of_two_jobs_and_their_host_each_removes_only_its_own(
    engine: Engine, root: Path, make_owner: MakeOwner, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    jobs = [job(folder, folder) for folder in folders]
    first, second = [
        make_owner(within=words, env={"TESTRONAUT_LAB_SESSIONS": str(folder)})
        for words, folder in zip(jobs, folders, strict=True)
    ]
    on_host = make_owner()
    first.kill()
    assert [cleaned(jobs[1], folders[1], first, second, on_host), cleaned((), root, first, second, on_host)] == [[], []]
    assert cleaned(jobs[0], folders[0], first, second, on_host) == [first.container]
    assert {second.container, on_host.container} <= set(containers(engine))
    on_host.kill()
    assert [cleaned(jobs[0], folders[0], first, second, on_host), cleaned((), root, first, second, on_host)] == [
        [],
        [on_host.container],
    ]


@needs_root
def test_a_job_and_its_host_that_share_a_folder_remove_only_the_dead(
    engine: Engine, root: Path, make_owner: MakeOwner, tmp_path: Path
) -> None:
    in_job = make_owner(within=job(root, root))
    on_host = make_owner()
    assert [cleaned((), root, in_job, on_host), cleaned(job(root, root), root, in_job, on_host)] == [[], []]
    in_job.kill()
    assert cleaned((), root, in_job, on_host) == [in_job.container]
    on_host.kill()
    assert cleaned(job(root, root), root, in_job, on_host) == [on_host.container]


@needs_root
def test_of_a_job_whose_folder_is_gone_nothing_proves_that_it_is_dead(
    engine: Engine, root: Path, make_owner: MakeOwner, tmp_path: Path
) -> None:
    """An image with a sessions folder in it gives two jobs folders of the same id; the process is of another pid namespace."""
    owner = make_owner(within=job(root, root))
    owner.kill()
    (tmp_path / "two").mkdir()
    os.link(root / ".folder", tmp_path / "two/.folder")
    reaped = reap(engine, tmp_path / "two")
    assert of(reaped.removed, owner) == []
    assert of((left.name for left in reaped.left_alone), owner) == [owner.container]


def test_a_copy_of_a_folder_removes_no_session_that_was_kept_in_the_first(
    engine: Engine, root: Path, make_session: MakeSession, tmp_path: Path
) -> None:
    lab = make_session()
    name = lab.session.container_name
    lab.session.close(keep=True)
    shutil.copytree(root, tmp_path / "copy", symlinks=True, ignore=shutil.ignore_patterns("run"))
    assert name not in reap(engine, tmp_path / "copy", kept=True).removed
    assert name in reap(engine, root, kept=True).removed


def test_sessions_that_begin_while_others_reap_are_left_alone(engine: Engine, root: Path, make_session: MakeSession) -> None:
    removed: list[str] = []
    over = threading.Event()

    def keep_reaping() -> None:
        while not over.is_set():
            removed.extend(reap(engine, root).removed)

    reapers = [threading.Thread(target=keep_reaping) for _ in range(2)]
    for reaper in reapers:
        reaper.start()
    try:
        labs = [make_session(network="internet") for _ in range(3)]
        said = [lab.out("echo on") for lab in labs]
    finally:
        over.set()
        for reaper in reapers:
            reaper.join()
    assert said == ["on\n"] * 3
    assert [name for name in removed if name.startswith(tuple(lab.session.container_name for lab in labs))] == []


def test_a_folder_whose_id_is_something_else_is_named(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / ".folder").mkdir()
    with pytest.raises(CaptureError, match="looking whose the sessions folder"):
        reap(engine, tmp_path)


def test_what_the_keeper_has_ended_is_removed_by_anybody(
    engine: Engine, root: Path, make_owner: MakeOwner, tmp_path: Path
) -> None:
    owner = make_owner("internet", orphan_timeout_s=1)
    owner.kill()
    assert engine.client.api.wait(owner.container)["StatusCode"] == 0
    reap(engine, tmp_path / "elsewhere")
    assert owner.container not in containers(engine)
    assert f"{owner.container}-net" not in networks(engine)


def test_what_somebody_stopped_is_still_its_owners(engine: Engine, root: Path, make_owner: MakeOwner, tmp_path: Path) -> None:
    owner = make_owner()
    engine.client.api.kill(owner.container)
    engine.client.api.wait(owner.container)
    assert removed(engine, tmp_path / "elsewhere", owner) == removed(engine, root, owner) == []


def test_a_session_that_is_kept_stays_for_a_look(engine: Engine, root: Path, make_session: MakeSession) -> None:
    lab = make_session()
    name = lab.session.container_name
    lab.session.close(keep=True)
    assert name not in reap(engine, root).removed
    assert name in containers(engine)
    assert name in reap(engine, root, kept=True).removed
    assert name not in containers(engine)


def test_what_cannot_be_removed_is_told_and_keeps_nobody_from_the_rest(
    engine: Engine, root: Path, make_owner: MakeOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = [make_owner(), make_owner()]
    for owner in owners:
        owner.kill()
    first, second = sorted(owner.container for owner in owners)
    real = removal.remove_container

    def refuse(engine: Engine, container: str) -> None:
        if engine.client.api.inspect_container(container)["Name"] == f"/{first}":
            engine.client.api.remove_container(container, force=False, link=True)  # no engine does this
        real(engine, container)

    monkeypatch.setattr(manager, "remove_container", refuse)
    reaped = reap(engine, root)
    assert (of(reaped.removed, *owners), len(reaped.failures)) == ([second], 1)
    assert "the engine refused" in reaped.failures[0].message
    assert first.rpartition("-")[2] in [path.name for path in root.iterdir()]


# --- installations


@pytest.fixture
def base(engine: Engine, base_image: str) -> ResolvedImage:
    found = inspect(engine, base_image)
    assert found is not None
    return found


def test_an_installation_is_its_owners_by_the_labels_of_its_network(engine: Engine, root: Path, base: ResolvedImage) -> None:
    session = SessionDir.create(StepUser.choose("lab"), root)
    claim = session.claim(3600)
    with install_container(engine, base, claim):
        assert f"{claim.name}-install" not in reap(engine, root).removed
        session.remove()
        assert reap(engine, root).removed.count(f"{claim.name}-install") == 2
        create_network(engine, f"{claim.name}-install", {})  # what ends the `with` has something to remove


@pytest.mark.parametrize(("kind", "status"), [(docker.errors.NotFound, 404), (docker.errors.APIError, 500)])  # Docker's, Podman's
def test_what_goes_while_it_is_looked_at_is_no_error(
    kind: type[docker.errors.APIError], status: int, owner: Owner, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.client.api.kill(owner.container)
    (container_id,) = (each["Id"] for each in engine.client.api.containers(all=True, filters={"name": owner.container}))
    inspect_container = engine.client.api.inspect_container

    def inspect_or_miss(container: str) -> object:
        if container != container_id:
            return inspect_container(container)
        response = requests.Response()
        response.status_code = status
        raise kind("raised", response, f"no container with ID {container} found in database: no such container")

    monkeypatch.setattr(engine.client.api, "inspect_container", inspect_or_miss)
    assert owner.container in [each.name for each in left_overs(engine)]
    monkeypatch.setattr(engine.client.api, "inspect_container", inspect_container)


def test_an_image_that_is_made_has_no_owner(engine: Engine, root: Path, base: ResolvedImage) -> None:
    session = SessionDir.create(StepUser.choose("lab"), root)
    with install_container(engine, base, session.claim(3600)) as container:
        image = container.commit("testronaut-lab/tool:tlabtest-owner", {"own": "label"})
    session.remove()
    try:
        config = engine.client.api.inspect_image(image)["Config"]
        assert config["Labels"] == {**dict(base.config.labels), "own": "label"}
        assert (config.get("Entrypoint") or None, config.get("Volumes")) == (None, None)
    finally:
        engine.client.images.remove("testronaut-lab/tool:tlabtest-owner")


def test_an_installation_whose_owner_is_gone_ends(engine: Engine, root: Path, base: ResolvedImage) -> None:
    session = SessionDir.create(StepUser.choose("lab"), root)
    claim = session.claim(1)
    with install_container(engine, base, claim):
        session.remove()
        assert engine.client.api.wait(f"{claim.name}-install")["StatusCode"] == 0


# --- what older versions left


@pytest.fixture
def older(engine: Engine, base_image: str) -> Iterator[str]:
    """A container as an older version made it: its name has the hash of a path, and nothing else tells whose it is."""
    session = secrets.token_hex(4)
    name = f"tlab-0123abcd-{session}"
    engine.client.containers.create(base_image, ["true"], name=name, labels={"org.testronaut.session": session})
    yield name
    if name in containers(engine):
        engine.client.api.remove_container(name, force=True)


def test_what_an_older_version_left_is_named_with_what_to_type(engine: Engine, root: Path, older: str) -> None:
    reaped = reap(engine, root)
    (left,) = [left for left in reaped.left_alone if left.name == older]
    assert (older in reaped.removed, left.reason.endswith(f"docker rm -f {older}")) == (False, True)


def test_what_an_older_version_left_is_removed_where_its_directory_proves_it_dead(engine: Engine, root: Path, older: str) -> None:
    session = root / older.rpartition("-")[2]
    session.mkdir(parents=True)
    (session / "lease").touch()
    assert older in reap(engine, root).removed
    assert not session.exists()
