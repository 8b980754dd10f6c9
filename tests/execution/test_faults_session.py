"""The engine and the container fail in the middle of steps: never passed in doubt, never a hang, nothing left behind.

Each trial is a session of its own behind a proxy (`support/engine_proxy.py`); its seed decides what the
step does, what fails and when.
"""

from __future__ import annotations

import os
import random
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import SOAK
from support.engine_proxy import ChaosProxy, Fault, Kind, Line, Way
from support.live_session import Lab, open_lab

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.owner import container_name, folder_id
from testronaut_lab.errors import EngineError
from testronaut_lab.execution.directory import sessions_root
from testronaut_lab.execution.factory import SessionSettings
from testronaut_lab.execution.reap import reap
from testronaut_lab.model.events import OutputChunk
from testronaut_lab.model.result import ExitKind, Status, StepResult

pytestmark = pytest.mark.engine

TIMEOUT_S = 1.0  # of what is to be ended
ENOUGH_S = 20.0  # for what ends by itself
LATEST_S = 40.0  # after the timeout: two questions to an engine that is silent
BIG = 3_000_000


@dataclass(frozen=True)
class Right:
    """A step, and the one right result of it where nothing fails."""

    script: str
    kind: ExitKind = ExitKind.EXITED
    code: int | None = 0
    out: bytes = b"go\nend\n"
    left_behind: int = 0


STEPS = {
    "sleeps": Right("echo go; sleep 0.2; echo end"),
    "writes much": Right(f"echo go; head -c {BIG} /dev/zero; echo end", out=b"go\n" + b"\0" * BIG + b"end\n"),
    "fails": Right("echo go; sleep 0.05; echo end; false", code=1),
    "ends its shell": Right("echo go; sleep 0.1; echo end; exit 3", code=3),
    "kills its shell": Right("echo go; sleep 0.05; echo end; kill -9 $$", code=137),
    "kills every shell": Right("echo go; echo end; sh -c 'kill -9 -1'", code=137),
    "leaves a job": Right("echo go; sleep 300 >/dev/null 2>&1 & echo end", left_behind=1),
    "takes too long": Right("echo go; sleep 300; echo end", ExitKind.TIMEOUT, None, b"go\n"),
    "takes too long and is deaf": Right("trap '' TERM; echo go; setsid sleep 300; echo end", ExitKind.TIMEOUT, None, b"go\n"),
}  # fmt: skip

BLOWS: dict[str, Callable[[Engine, str], object]] = {
    "kill": lambda engine, name: engine.client.api.kill(name),
    "remove": lambda engine, name: engine.client.api.remove_container(name, force=True),
    "stop": lambda engine, name: engine.client.api.stop(name, timeout=0),
    "restart": lambda engine, name: engine.client.api.restart(name, timeout=0),
    "pause": lambda engine, name: engine.client.api.pause(name),
    "pause for a moment": lambda engine, name: (engine.client.api.pause(name), engine.client.api.unpause(name)),
}


@pytest.fixture
def proxy(engine: Engine, base_image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChaosProxy]:
    with tempfile.TemporaryDirectory(prefix="tlab-chaos-") as folder:
        with ChaosProxy(Path(folder, "engine.sock"), engine.socket_path) as made:
            monkeypatch.setenv("DOCKER_HOST", made.url)
            yield made


LINES: tuple[Line, ...] = ("leader", "watchdog", "api", "api", "engine")
KINDS: tuple[Kind, ...] = ("cut", "reset", "stall")
WAYS: tuple[Way, ...] = ("to_us", "to_engine")


def faults(chance: random.Random) -> tuple[Fault, ...]:
    """A stream that breaks at once or while it is used; or one that breaks, and the engine's next answers with it."""
    kind, way = chance.choice(KINDS), chance.choice(WAYS)
    match chance.randrange(4):
        case 0:
            return (Fault(kind, chance.choice(("leader", "watchdog", "engine")), way, 0),)
        case 1 | 2:
            return (Fault(kind, "watchdog", way, chance.randrange(120 if way == "to_us" else 16)),)
        case _:
            broken = Fault(chance.choice(("cut", "reset")), chance.choice(("leader", "watchdog")), way, 0)
            return broken, Fault(kind, chance.choice(("api", "engine")), chance.choice(WAYS), chance.randrange(1500))


def written(lab: Lab) -> list[OutputChunk]:
    return [body for body in lab.events.seen if isinstance(body, OutputChunk) and body.stream == "stdout"]


def check(result: StepResult, right: Right, seen: list[OutputChunk]) -> None:
    """Either exactly right, or an error that says why and has what came out: of bulk only the end is told live."""
    told = (result.exit.kind, result.exit.code, result.stdout, len(result.left_behind))
    if result.status is Status.ERROR:
        assert result.exit.kind in (ExitKind.SESSION_LOST, ExitKind.ENGINE_LOST), told
        assert result.error is not None and result.error.message
        assert right.out.startswith(result.stdout)
        assert all(result.stdout[(chunk.offset_bytes or 0) :][: len(chunk.data)] == chunk.data for chunk in seen)
        assert len(result.stdout) == max(((chunk.offset_bytes or 0) + len(chunk.data) for chunk in seen), default=0)
    else:
        assert told == (right.kind, right.code, right.out, right.left_behind)
        assert (result.status is Status.PASSED) == (right.code == 0)


def left_over(engine: Engine, name: str) -> list[str]:
    containers = [entry["Names"][0] for entry in engine.client.api.containers(all=True, filters={"name": name})]
    return containers + [path.name for path in Path(os.environ["TESTRONAUT_LAB_SESSIONS"]).glob("[!.]*")]


def try_step(lab: Lab, right: Right, chance: random.Random, blow: Callable[[], object]) -> StepResult:
    """Run it while `blow` falls before it or at a random moment of it."""
    timers: list[threading.Timer] = []

    def later() -> None:
        timers.append(threading.Timer(chance.choice((0.0, chance.uniform(0, 0.3))), blow))
        timers[-1].start()

    if chance.random() < 0.2:
        blow()
    else:
        lab.when(b"go", later)
    started = time.monotonic()
    timeout_s = TIMEOUT_S if right.kind is ExitKind.TIMEOUT else ENOUGH_S
    result = lab.run(right.script, timeout_s=timeout_s)
    taken_s = time.monotonic() - started
    for timer in timers:
        timer.join()
    assert taken_s < timeout_s + LATEST_S, result
    return result


@pytest.mark.parametrize("seed", range(150 if SOAK else 14))
def test_a_step_behind_a_broken_line_is_right_or_an_error(
    seed: int, proxy: ChaosProxy, engine: Engine, base_image: str, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    name, right = chance.choice(list(STEPS.items()))
    planned = faults(chance)
    with open_lab(base_image, tmp_path, SessionSettings()) as lab:
        result = try_step(lab, right, chance, lambda: proxy.arm(*planned))
        print(f"{name}; {proxy.struck}; {result.exit}, {result.duration_s:.2f} s, {result.notes}, {result.error}")
        check(result, right, written(lab))
        proxy.heal()
        check_next(lab, result)
    assert left_over(engine, lab.session.container_name) == []


@pytest.mark.parametrize("seed", range(80 if SOAK else 8))
def test_a_step_in_a_broken_container_is_right_or_an_error(
    seed: int, lacking: Mapping[str, str], proxy: ChaosProxy, engine: Engine, base_image: str, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    name, right = chance.choice(list(STEPS.items()))
    blows = [(name, blow) for name, blow in BLOWS.items() if not name.startswith("pause") or "pause" not in lacking]
    blow_name, blow = chance.choice(blows)
    planned = faults(chance) if chance.random() < 0.3 else ()
    with open_lab(base_image, tmp_path, SessionSettings()) as lab:
        proxy.arm(*planned)
        result = try_step(lab, right, chance, lambda: blow(engine, lab.session.container_name))
        print(f"{name}; {blow_name}, {proxy.struck}; {result.exit}, {result.duration_s:.2f} s, {result.notes}, {result.error}")
        check(result, right, written(lab))
        proxy.heal()
    assert left_over(engine, lab.session.container_name) == []


@pytest.mark.parametrize("seed", range(60 if SOAK else 5))
def test_a_session_that_starts_behind_a_broken_line_is_right_or_leaves_nothing(
    seed: int, proxy: ChaosProxy, engine: Engine, base_image: str, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    held = fifos()
    proxy.arm(Fault(chance.choice(("cut", "reset")), chance.choice(LINES), chance.choice(WAYS), chance.randrange(3000)))
    try:
        with open_lab(base_image, tmp_path, SessionSettings()) as lab:
            proxy.heal()
            check(lab.run("echo go; echo end", timeout_s=ENOUGH_S), Right(""), written(lab))
    except EngineError as error:
        print(f"{proxy.struck}; {error}")
    proxy.heal()
    reap(engine)
    assert (fifos(), left_over(engine, container_name("", folder_id(sessions_root())))) == (held, [])


@pytest.mark.parametrize("line", ["leader", "watchdog"])
def test_a_line_that_stalls_does_not_make_a_good_step_bad(line: Line, proxy: ChaosProxy, base_image: str, tmp_path: Path) -> None:
    with open_lab(base_image, tmp_path, SessionSettings()) as lab:
        lab.when(b"go", lambda: proxy.arm(Fault("stall", line, "to_us", 0)))
        result = lab.run("echo go; read x </run/lab/empty; echo end")
        assert (result.status, result.out, result.notes) == (Status.PASSED, "go\nend\n", ())


def test_a_session_whose_lines_were_cut_goes_on_with_its_state(proxy: ChaosProxy, base_image: str, tmp_path: Path) -> None:
    with open_lab(base_image, tmp_path, SessionSettings()) as lab:
        lab.run("plain=kept; cd /tmp").check()
        lab.when(b"go", lambda: proxy.arm(Fault("cut", "leader", "to_us", 0), Fault("cut", "watchdog", "to_us", 0)))
        lab.run("echo go; sleep 0.1").check()
        assert lab.run("sleep 300", timeout_s=0.2).exit.kind is ExitKind.TIMEOUT
        assert lab.run("exit 4").exit.code == 4
        assert lab.out("echo $plain $PWD") == "kept /tmp\n"
        assert lab.run("true").left_behind == ()


def fifos() -> int:
    """How many this process holds open."""
    held = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them
            held += stat.S_ISFIFO(os.stat(f"/proc/self/fd/{fd}").st_mode)
    return held


def check_next(lab: Lab, result: StepResult) -> None:
    """A session that was not lost runs the next step; one that was says so."""
    if result.status is Status.ERROR:
        with pytest.raises(EngineError, match="before this step"):
            lab.run("echo on")
        return
    after = lab.run("echo on")
    assert (after.status, after.out, after.left_behind) == (Status.PASSED, "on\n", ()), after
