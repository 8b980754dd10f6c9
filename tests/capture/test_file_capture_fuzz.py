"""Random steps in a real session: the recorded changes equal those that `find` and `sha256sum` show.

The comparison shares nothing with the scan: other programs, and paths instead of descriptors.
"""

from __future__ import annotations

import os
import random
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import SOAK
from support.live_session import Lab

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.model.files import path_bytes
from testronaut_lab.model.result import ExitKind, StepResult

pytestmark = pytest.mark.engine

STEPS = 2000 if SOAK else 100
SEEDS = range(10) if SOAK else range(1)

LOOK = r"""
    find . -mindepth 1 -printf '%p\0%y\0%m\0%l\0'; printf '//\0'
    find . -type f -exec sha256sum -z -- {} +
"""
# Maps a file, writes into the mapping, and ends: no `write` ever names the file. The numbers are x86-64's and arm64's.
MMAP = """
    my ($mmap, $read) = `uname -m` =~ /aarch64/ ? (222, 63) : (9, 0);
    open(my $f, "+<", $ARGV[0]) or exit; my $size = -s $f or exit;
    my $at = syscall($mmap, 0, $size, 3, 1, fileno($f), 0); exit if $at < 0;
    pipe(my $r, my $w); syswrite($w, $ARGV[1]); syscall($read, fileno($r), $at, $size < 2 ? $size : 2);
"""
NAMES = (
    "a", "b", "c", "'sp ace'",
    "-rf", "'\\'", "\"$(printf 'n\\nl')\"", "\"$(printf '\\033]0;x\\007')\"", "\"$(printf '\\377\\376')\"",
    "y" * 255, "\"$(printf '\\342\\200\\256')\"",
)  # fmt: skip
OPERATIONS = (
    "mkdir -p {a}/1/2/3 {a}/4; for i in 1 2 3 4; do echo $i >{a}/1/2/$i; done",
    "mkdir -p {a}; for i in 1 2 3 4 5 6 7 8; do mkdir -p {a}/$i/$i; echo {n} >{a}/$i/$i/f; done",
    "echo {n} >{a}", "echo {n} >{a}", "echo {n} >>{a}", ": >{a}", "cat {a} >x && cat x >{a}; rm -f x",
    "printf {n} | dd of={a} bs=1 seek={n} conv=notrunc", "printf {n} 1<>{a}", "truncate -s {n}00000 {a}",
    "touch -r {a} /tmp/ref; printf {n} 1<>{a}; touch -r /tmp/ref {a}; rm /tmp/ref",
    "perl -e '" + MMAP.replace("\n", " ") + "' {a} {n}{n}", "perl -e '" + MMAP.replace("\n", " ") + "' {a} {n}{n}",
    "mv -T {a} {b}", "mv {a} {b}", "mv {a} /tmp/{t}", "mv /tmp/{t} {a}", "cp -a {a} {b}", "cp -r /tmp/{t} {a}",
    "ln -f {a} {b}", "ln {a} {b}; echo {n} >{b}", "ln -s {b} {a}", "ln -sfn {a} {a}", "ln -sfn .. {a}", "ln -s / {a}",
    "ln -sfn /workspace {a}", "ln {a} /tmp/{t}", "mkdir -p {a}; mkfifo {a}/fifo",
    "rm -rf {a}; mkdir {a}", "rm -rf {a}; echo {n} >{a}", "mv -T {a} s; mkdir {a}; mv s {a}/{t}", "rm -rf {a}", "rm -rf {a} {b}",
    "chmod {m} {a}", "chmod -R {m} {a}", "touch -d @{n} {a}", "echo {n} >/tmp/{t}", "rm -rf /tmp/{t}",
    "(mkdir {a} && cd {a} && mkdir d && cd d && ln -s ../d up && echo {n} >f)",
    "echo {n} >{a}; mkdir {b}; mv {a} {b}/; rm -r {b}", "echo {n} >{a}.new; mv -T {a}.new {a}",
)  # fmt: skip


@dataclass(frozen=True)
class Thing:
    kind: str
    mode: int
    target: bytes | None
    sha256: str | None


@dataclass
class Steps:
    """Makes random scripts; the same scripts for the same seed."""

    seed: int
    there: list[bytes] = field(default_factory=list)  # in the workspace, so that most commands have something to work on
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def script(self) -> str:
        if self.random.random() < 0.06:
            return "chmod 755 /workspace; chmod -R u+rwx . /tmp/*; rm -rf ./* ./.[!.]* /tmp/*"
        # chmod follows links to the workspace, and then no further command could work in it
        return "chmod 755 /workspace\n" + "\n".join(
            f"{{ {self._operation()} ; }} 2>/dev/null </dev/null" for _ in range(self.random.randint(1, 6))
        )

    def _operation(self) -> str:
        choose = self.random.choice
        modes = ("000", "400", "755", "2755", "1777", "4711") if os.getuid() == 0 else ("700", "711", "755", "2755")
        return (
            choose(OPERATIONS)
            .replace("{a}", self._path())
            .replace("{b}", self._path())
            .replace("{n}", str(self.random.randint(1, 9)))
            .replace("{m}", choose(modes))
            .replace("{t}", choose(("o", "p", "q")))
        )

    def _path(self) -> str:
        if self.there and self.random.random() < 0.6:
            path = self.random.choice(self.there).removeprefix(b"/workspace/")
            return "\"$(printf './" + "".join(f"\\{byte:03o}" for byte in path) + "')\""
        return "./" + "/".join(
            self.random.choice(NAMES if self.random.random() < 0.4 else "abc") for _ in range(self.random.choice((1, 1, 1, 2, 3)))
        )


def directories(engine: Engine, lab: Lab) -> dict[bytes, str]:
    """The host's directories, by their mount points in the session."""
    mounts = engine.client.api.inspect_container(lab.session.container_name)["Mounts"]
    return {m["Destination"].encode(): m["Source"] for m in mounts if m["Destination"] in ("/workspace", "/tmp")}


def look(places: dict[bytes, str]) -> dict[bytes, Thing]:
    """Everything in the workspace and /tmp."""
    return {place + path[1:]: thing for place, folder in places.items() for path, thing in look_into(folder).items()}


def look_into(folder: str) -> dict[bytes, Thing]:
    said = subprocess.run(["sh", "-c", LOOK], cwd=folder, capture_output=True, check=True).stdout
    listed, _, hashed = (b"\0" + said).partition(b"\0//\0")  # no path starts so
    sums = {line[66:]: line[:64].decode() for line in hashed.split(b"\0") if line}
    fields = listed.split(b"\0")[1:]
    return {
        path: Thing(kind.decode(), int(mode, 8), target if kind == b"l" else None, sums.get(path))
        for path, kind, mode, target in zip(*(fields[i::4] for i in range(4)), strict=True)
    }


def differences(before: dict[bytes, Thing], after: dict[bytes, Thing]) -> dict[bytes, tuple[str, Thing]]:
    found: dict[bytes, tuple[str, Thing]] = {}
    for path in before.keys() | after.keys():
        if path not in after:
            found[path] = ("deleted", before[path])
        elif path not in before:
            found[path] = ("added", after[path])
        elif before[path] != after[path]:
            same_type = _type(before[path].kind) == _type(after[path].kind)
            found[path] = ("modified" if same_type else "retyped", after[path])
    return found


def recorded(result: StepResult) -> dict[bytes, tuple[object, ...]]:
    return {
        b"/workspace/" + path_bytes(change.path): (
            change.change.value,
            change.type.value,
            change.mode,
            None if change.target is None else path_bytes(change.target),
            change.sha256,
        )
        for change in result.changes
    }


def told(found: dict[bytes, tuple[str, Thing]]) -> dict[bytes, tuple[object, ...]]:
    return {
        path: (what, _type(thing.kind), *((None,) * 3 if what == "deleted" else (thing.mode, thing.target, thing.sha256)))
        for path, (what, thing) in found.items()
        if path.startswith(b"/workspace/")
    }


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", SEEDS)
def test_what_random_steps_change_is_what_find_and_sha256sum_tell(fresh: Lab, engine: Engine, seed: int) -> None:
    steps = Steps(seed)
    places = directories(engine, fresh)
    before = look(places)
    changed = 0
    for number in range(STEPS // len(SEEDS)):
        # opening a FIFO blocks until another process opens its other end
        steps.there = sorted(path for path, thing in before.items() if path.startswith(b"/workspace/") and thing.kind != "p")
        script = steps.script()
        result = fresh.run(script, timeout_s=120)
        assert result.exit.kind is ExitKind.EXITED, (seed, number, script)
        after = look(places)
        expected = differences(before, after)
        assert told(expected) == recorded(result), (seed, number, script)
        outside = {path: what for path, (what, _) in expected.items() if path.startswith(b"/tmp/")}
        assert outside == {path_bytes(change.path): change.change for change in result.outside}, (seed, number, script)
        shas = [change.sha256 for change in result.changes if change.sha256 is not None]
        assert all((fresh.blobs / sha[:2] / sha[2:]).exists() for sha in shas)
        changed += len(expected)
        before = after
        fresh.events.seen.clear()
    assert changed > STEPS // len(SEEDS)  # most random commands have an effect


def _type(kind: str) -> str:
    return {"f": "file", "d": "dir", "l": "link"}.get(kind, "other")


SWAP = """
    mkdir -p real/d; echo harmless >real/secret; echo harmless >real/d/secret; ln -s {host} link; mkfifo fifo
    while :; do
        for other in link fifo; do mv -T real x; mv -T $other real; mv -T real $other; mv -T x real; done
        ln -sfn {host}/secret f; mv -T f real/d/f; echo harmless >g; mv -T g real/d/f
    done
"""


@pytest.mark.timeout(3600)
def test_a_program_in_the_container_that_swaps_what_is_scanned_shows_nothing_of_the_host(fresh: Lab, tmp_path: Path) -> None:
    (tmp_path / "host/d").mkdir(parents=True)
    for name in ("secret", "d/secret"):
        (tmp_path / "host" / name).write_text("canary of the host")
    fresh.run(
        "( " + SWAP.format(host=tmp_path / "host") + ") >/dev/null 2>&1 </dev/null & while ! [ -L link ]; do :; done"
    ).check()
    changed = 0
    for _ in range(10_000 if SOAK else 200):
        result = fresh.run(":")
        changed += len(result.changes)
        with suppress(FileNotFoundError):
            assert fresh.session.read("real/secret") == b"harmless\n"
    fresh.run("kill $!")
    assert changed > 100
    assert all(b"canary" not in path.read_bytes() for path in fresh.blobs.rglob("*") if path.is_file())
