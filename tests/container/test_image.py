"""From an image reference to a local image: local, pulled from a registry, bootstrapped from a package archive."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from support.small_registry import Registry, serving

from testronaut_lab.container.engine.connect import Engine, connect
from testronaut_lab.container.image import bootstrap as bootstrap_module
from testronaut_lab.container.image import pull as pull_module
from testronaut_lab.container.image import resolve as image_module
from testronaut_lab.container.image.bootstrap import AptSource, archive_sources, read_sources
from testronaut_lab.container.image.cache import list_images, remove_images
from testronaut_lab.container.image.local import ResolvedImage, inspect
from testronaut_lab.container.image.lock import exclusive
from testronaut_lab.container.image.resolve import resolve
from testronaut_lab.errors import EngineError, UsageError
from testronaut_lab.model.plan import ImageSpec
from testronaut_lab.model.releases import Release, release_of

KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = AptSource("http://mirror.test/debian", "bookworm", ("main", "contrib"), KEY)
HOST_SOURCES = (
    AptSource("https://other.test/linux/apt", "bookworm", ("main",)),
    MIRROR,
    replace(MIRROR, suite="bookworm-updates"),
    AptSource("http://mirror.test/debian-security", "bookworm-security", ("main",), KEY),
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    connected = connect()
    yield connected
    connected.close()


def quiet(line: str) -> None:
    pass


# --- a registry


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with serving(Registry()) as address:
        yield address


@pytest.mark.engine
def test_an_image_that_is_not_there_is_pulled_and_then_local(engine: Engine, registry: str) -> None:
    ref, lines = f"{registry}/thing:1", []
    try:
        pulled = resolve(engine, ImageSpec(ref), lines.append)
        assert (pulled.info.source, pulled.info.ref, pulled.note) == ("pull", ref, None)
        assert lines[0] == f"pulling {ref}"
        assert any("Downloaded newer image" in line for line in lines)
        local = resolve(engine, ImageSpec(ref), quiet)
        assert (local.info.source, local.info.id) == ("local", pulled.info.id)
        assert resolve(engine, ImageSpec(ref, pull="always"), quiet).info.source == "pull"
    finally:
        engine.client.images.remove(ref)


@pytest.mark.engine
def test_an_image_that_the_registry_does_not_have_is_an_error_with_its_answer(engine: Engine, registry: str) -> None:
    with pytest.raises(EngineError, match=r"no image of that name; pulling: .*(not found|manifest unknown)") as caught:
        resolve(engine, ImageSpec(f"{registry}/thing:2"), quiet)
    assert "bootstrap" not in caught.value.message
    assert "check the name" in (caught.value.hint or "")


@pytest.mark.engine
def test_an_image_that_must_not_be_pulled_is_not(engine: Engine, registry: str) -> None:
    with pytest.raises(EngineError, match=r"not allowed \(pull: never\)"):
        resolve(engine, ImageSpec(f"{registry}/thing:1", pull="never"), quiet)


@pytest.mark.engine
def test_an_unreachable_registry_and_no_release_is_an_error_that_says_both(engine: Engine) -> None:
    with pytest.raises(EngineError, match=r"connection refused; bootstrapping: possible for Debian and Ubuntu"):
        resolve(engine, ImageSpec("127.0.0.1:9/thing:1"), quiet)


@pytest.mark.engine
def test_a_reference_that_is_none_is_an_error_of_whoever_wrote_it(engine: Engine) -> None:
    with pytest.raises(UsageError, match=r"that is not a name of an image: .*invalid reference format"):
        resolve(engine, ImageSpec("-Not a Ref-"), quiet)


def test_an_error_in_the_middle_of_a_pull_is_not_a_pulled_image() -> None:
    messages = [{"status": "Pulling", "id": "x"}, {"error": "unexpected EOF"}]
    progress = pull_module.progress(messages)
    assert next(progress) == "x Pulling"
    with pytest.raises(pull_module.PullRefused, match="unexpected EOF") as caught:
        next(progress)
    assert caught.value.unreachable


def test_how_far_a_download_is_shows_only_now_and_then() -> None:
    messages = [{"status": "Downloading", "id": "x", "progress": f"{n}%"} for n in range(100)]
    assert list(pull_module.progress(messages)) == ["x Downloading 0%"]


# --- a bootstrap


@pytest.fixture(scope="module")
def base(engine: Engine) -> ResolvedImage:
    """debian:bookworm-slim: whatever this machine can get; bootstrapped once where there is no registry."""
    return resolve(engine, ImageSpec("debian:bookworm-slim"), quiet)


@pytest.mark.engine
def test_the_base_image_is_a_debian_that_runs_programs(engine: Engine, base: ResolvedImage) -> None:
    said = engine.client.containers.run(base.info.id, ["cat", "/etc/os-release"], remove=True)
    assert b"VERSION_CODENAME=bookworm" in said
    assert any(variable.startswith("PATH=") for variable in base.config.env)
    assert base.diff_ids
    assert (base.note is not None) == (base.info.source == "bootstrap")


@pytest.fixture
def fake_mmdebstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine with no registry in reach whose mmdebstrap makes an empty file system in no time, and notes its arguments."""

    def unreachable(engine: Engine, ref: str, report: object) -> None:
        raise pull_module.PullRefused("dial tcp: lookup registry: no such host")

    monkeypatch.setattr(image_module, "pull", unreachable)
    monkeypatch.setattr(bootstrap_module, "read_sources", lambda: HOST_SOURCES)
    monkeypatch.setattr(bootstrap_module, "_host_release", lambda: ("debian", "bookworm"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    script = tmp_path / "mmdebstrap"
    script.write_text(f'#!/bin/sh\nfor a; do echo "$a"; done >>{tmp_path}/arguments\necho I: working >&2\ntar -c -T /dev/null\n')
    script.chmod(0o755)
    yield tmp_path
    connected = connect()
    remove_images(connected, [image for image in list_images(connected) if image.spec in ("debian:forky", "debian:14-slim")])
    connected.close()


@pytest.mark.engine
def test_without_a_registry_a_release_is_bootstrapped_and_noted(engine: Engine, fake_mmdebstrap: Path) -> None:
    lines: list[str] = []
    found = resolve(engine, ImageSpec("debian:14-slim"), lines.append)
    assert found.info.source == "bootstrap"
    assert found.note == "debian:14-slim was bootstrapped from the Debian archive; no registry could be reached"
    assert found.config.cmd == ("bash",)
    assert found.config.env == ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    assert dict(found.config.labels)["org.testronaut.release"] == "debian forky"
    assert "I: working" in lines
    arguments = (fake_mmdebstrap / "arguments").read_text().splitlines()
    assert "--dpkgopt=path-exclude=/usr/share/man/*" in arguments
    assert f"deb [signed-by={KEY}] http://mirror.test/debian forky main contrib" in arguments


@pytest.mark.engine
def test_an_earlier_bootstrap_is_used_again_and_noted(engine: Engine, fake_mmdebstrap: Path) -> None:
    first = resolve(engine, ImageSpec("debian:forky"), quiet)
    again = resolve(engine, ImageSpec("debian:forky", pull="never"), quiet)
    assert again.info == first.info
    assert "earlier" in (again.note or "")
    assert resolve(engine, ImageSpec("debian:forky", pull="always"), quiet).info == first.info


@pytest.mark.engine
def test_two_that_need_the_same_base_build_it_once(engine: Engine, fake_mmdebstrap: Path) -> None:
    lines: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: resolve(engine, ImageSpec("debian:forky"), lines.append), range(2)))
    assert found[0].info.id == found[1].info.id
    assert (fake_mmdebstrap / "arguments").read_text().splitlines().count("--variant=minbase") == 1


@pytest.mark.engine
def test_a_bootstrap_that_fails_is_quoted_and_leaves_no_image(engine: Engine, fake_mmdebstrap: Path) -> None:
    (fake_mmdebstrap / "mmdebstrap").write_text("#!/bin/sh\necho E: no keyring >&2\nexit 25\n")
    with pytest.raises(EngineError, match=r"(?s)mmdebstrap: it exited with status 25.*E: no keyring"):
        resolve(engine, ImageSpec("debian:forky"), quiet)
    assert inspect(engine, "testronaut-lab/base:debian-forky") is None


@pytest.mark.engine
def test_a_file_system_that_cannot_be_imported_is_an_error(engine: Engine, fake_mmdebstrap: Path) -> None:
    (fake_mmdebstrap / "mmdebstrap").write_text("#!/bin/sh\nseq 100000\n")
    with pytest.raises(EngineError, match="importing testronaut-lab/base:debian-forky"):
        resolve(engine, ImageSpec("debian:forky"), quiet)


@pytest.mark.engine
def test_what_a_bootstrap_mounts_is_not_mounted_on_this_machine(engine: Engine, fake_mmdebstrap: Path) -> None:
    mounted = fake_mmdebstrap / "mounted"
    (fake_mmdebstrap / "mmdebstrap").write_text(
        f"#!/bin/sh\nmkdir {mounted}; mount -t tmpfs none {mounted} && >{mounted}/x\nexit 25\n"
    )
    with pytest.raises(EngineError, match="exited with status 25"):
        resolve(engine, ImageSpec("debian:forky"), quiet)
    assert list(mounted.iterdir()) == []


@pytest.mark.engine
def test_a_missing_mmdebstrap_gets_a_hint(engine: Engine, fake_mmdebstrap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake_mmdebstrap / "mmdebstrap").unlink()
    monkeypatch.setenv("PATH", str(fake_mmdebstrap))
    with pytest.raises(EngineError, match="mmdebstrap is not installed") as caught:
        resolve(engine, ImageSpec("debian:forky"), quiet)
    assert "testronaut-lab engine up" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("ref", "release"),
    [
        ("debian:bookworm", Release("debian", "bookworm")),
        ("debian:bookworm-slim", Release("debian", "bookworm", slim=True)),
        ("debian:12", Release("debian", "bookworm")),
        ("docker.io/library/debian:13-slim", Release("debian", "trixie", slim=True)),
        ("ubuntu:24.04", Release("ubuntu", "noble")),
        ("ubuntu:noble", Release("ubuntu", "noble")),
        ("ubuntu:noble-slim", None),
        ("debian", None),
        ("debian:nosuch", None),
        ("me/debian:bookworm", None),
        ("debian:bookworm-20240101", None),
        ("alpine:3", None),
    ],
)
def test_which_references_are_releases(ref: str, release: Release | None) -> None:
    assert release_of(ref) == release


def lines_for(release: Release, sources: tuple[AptSource, ...] = HOST_SOURCES) -> list[str]:
    return [source.line() for source in archive_sources(release, sources, "debian", "bookworm")]


def test_another_release_comes_from_the_hosts_own_mirror() -> None:
    assert lines_for(Release("debian", "trixie")) == [
        f"deb [signed-by={KEY}] http://mirror.test/debian trixie main contrib",
        f"deb [signed-by={KEY}] http://mirror.test/debian trixie-updates main contrib",
        f"deb [signed-by={KEY}] http://mirror.test/debian-security trixie-security main",
    ]


def test_a_release_without_updates_gets_none() -> None:
    assert len(lines_for(Release("debian", "sid"))) == 1


def test_a_host_that_follows_an_alias_has_a_mirror_too() -> None:
    assert lines_for(Release("debian", "trixie"), (AptSource("http://m.test/debian", "stable", ("main",), trusted=True),)) == [
        "deb [trusted=yes] http://m.test/debian trixie main"
    ]


def test_a_distribution_without_a_mirror_is_an_error() -> None:
    with pytest.raises(EngineError, match="name no Ubuntu archive"):
        lines_for(Release("ubuntu", "noble"))


def test_a_key_that_no_package_ships_is_brought_into_the_image() -> None:
    command = bootstrap_module._command(Release("debian", "trixie"), [replace(MIRROR, signed_by="/etc/apt/keyrings/co.gpg")])
    assert '--setup-hook=mkdir -p "$1"/etc/apt/keyrings' in command
    assert "--setup-hook=copy-in /etc/apt/keyrings/co.gpg /etc/apt/keyrings" in command


def test_apt_sources_of_both_forms_are_read(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(
        "# deb http://off.test/debian bookworm main\n"
        "deb-src http://src.test/debian bookworm main\n"
        "deb cdrom:[Debian]/ bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg trusted=yes] http://a.test/debian bookworm main contrib # mine\n"
    )
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/b.sources").write_text(
        "Types: deb deb-src\n# a comment\nURIs: http://b.test/debian\nSuites: bookworm\n bookworm-updates\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"
        "Types: deb\nURIs: http://c.test/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n"
    )
    (tmp_path / "sources.list.d/d.list.disabled").write_text("deb http://d.test/debian bookworm main\n")
    assert read_sources(tmp_path) == (
        AptSource("http://a.test/debian", "bookworm", ("main", "contrib"), "/k.gpg", trusted=True),
        AptSource("http://b.test/debian", "bookworm", ("main",)),
        AptSource("http://b.test/debian", "bookworm-updates", ("main",)),
    )


# --- the images that were made here


@pytest.mark.engine
def test_what_was_made_is_listed_and_removed_unless_it_is_in_use(engine: Engine, fake_mmdebstrap: Path) -> None:
    made = resolve(engine, ImageSpec("debian:forky"), quiet)
    [listed] = [image for image in list_images(engine) if image.id == made.info.id]
    assert (listed.tag, listed.kind, listed.spec) == ("testronaut-lab/base:debian-forky", "base", "debian:forky")
    container = engine.client.containers.create(made.info.id, name="h3-image-in-use")
    try:
        [(kept, reason)] = remove_images(engine, [listed])
        assert (kept, "h3-image" in reason or "container" in reason) == (listed, True)
    finally:
        container.remove()
    assert remove_images(engine, [listed, listed]) == []
    assert inspect(engine, listed.tag) is None


@pytest.mark.engine
def test_what_others_built_on_ours_is_not_listed(engine: Engine, fake_mmdebstrap: Path) -> None:
    made = resolve(engine, ImageSpec("debian:forky"), quiet)
    engine.client.images.get(made.info.id).tag("h3-somebody/else", "1")
    try:
        assert [image.tag for image in list_images(engine) if image.id == made.info.id] == ["testronaut-lab/base:debian-forky"]
    finally:
        engine.client.images.remove("h3-somebody/else:1")


def test_a_lock_that_is_taken_is_waited_for_and_said(tmp_path: Path) -> None:
    waited, order = threading.Event(), []

    def second() -> None:
        with exclusive("x", waited.set, tmp_path):
            order.append("second")

    with exclusive("x", quiet_wait, tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def quiet_wait() -> None:
    pass


def test_a_place_where_no_lock_can_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match="making the lock x"), exclusive("x", quiet_wait, tmp_path / "file"):
        pass
