"""What the watchdog kills, how fast, and what it leaves alone: on a real container, at a full table of processes too."""

from __future__ import annotations

import re
import statistics

import pytest
from _pytest.mark import ParameterSet
from conftest import SOAK, MakeSession
from support.live_session import Lab

from testronaut_lab.model.plan import Limits
from testronaut_lab.model.result import ExitKind

pytestmark = pytest.mark.engine

TIMEOUT_S = 0.3
FILLED_WITHIN_S = 60.0
KILLED_WITHIN_S = 0.5
# keeper, watchdog, leader, driver, the one that waits for a promoted driver, parked copies: one that comes, one that goes,
# one that has gone and waits for the keeper to reap it
OUR_SHELLS = 8
BOMB = "bomb() { bomb | bomb & }; bomb; read x <>/tmp/never"
# each escapes a careless kill in its own way; `read` from a FIFO that nobody writes to never comes back
ESCAPES = {
    "own session": "setsid sleep 300 & read x <>/tmp/never",
    "double fork": "( ( sleep 300 & ) & ); read x <>/tmp/never",
    "deaf": "trap '' TERM INT HUP QUIT; sh -c 'while :; do sleep 1; done' & read x <>/tmp/never",
    "all of it": "setsid sh -c \"trap '' TERM HUP; ( ( while :; do sleep 0.01; done ) & ) & exec sleep 300\"",
    "respawns": "again() { sleep 0.02; again & }; again & read x <>/tmp/never",
    "fork bomb in the shell": BOMB,
    "fork bomb in perl": "perl -e 'while (1) { fork }'",
    "fork bomb in perl, each in its own session": "perl -MPOSIX -e 'while (1) { fork; POSIX::setsid() }'",
    "fork bomb of short lives": "perl -e '$SIG{CHLD} = \"IGNORE\"; while (1) { fork or do { fork; exit } }'",
}
# these fill the table of processes, and are ended for it before their time is up, which has to be long where others run too
FILLS = {"fork bomb in the shell", "fork bomb in perl", "fork bomb in perl, each in its own session"}
# and these only where the machine is so busy that the dead are not reaped as fast as others are born
MAY_FILL = {"fork bomb of short lives"}


def marked(name: str) -> ParameterSet:
    """Without a limit of processes a bomb fills the machine's table, which is everybody's."""
    return pytest.param(name, marks=pytest.mark.needs("limits") if name in FILLS | MAY_FILL else ())


def alive(lab: Lab) -> list[str]:
    """The names of all processes but those that are dead and wait for the keeper to reap them."""
    stats = lab.out("cat /proc/[0-9]*/stat 2>/dev/null || :")  # one may go between the list and the look
    return [name for name, state in re.findall(r"^\d+ \((\w+)\) (\w)", stats, re.MULTILINE) if state not in "ZX"]


@pytest.mark.parametrize("name", [marked(name) for name in ESCAPES])
def test_nothing_of_a_step_lives_after_its_end(fresh: Lab, name: str) -> None:
    expected = {ExitKind.PIDS_LIMIT} if name in FILLS else {ExitKind.TIMEOUT}
    expected |= {ExitKind.PIDS_LIMIT} if name in MAY_FILL else set()
    timeout_s = FILLED_WITHIN_S if name in FILLS else TIMEOUT_S
    fresh.run("mkfifo /tmp/never").check()
    late_s: list[float] = []
    for _ in range(20 if SOAK else 3):
        result = fresh.run(ESCAPES[name], timeout_s=timeout_s)
        late_s.append(result.duration_s - timeout_s)
        assert result.exit.kind in expected and result.left_behind == ()
        names = alive(fresh)
        assert set(names) == {"sh"} and names.count("sh") <= OUR_SHELLS
    print(f"killed after {statistics.median(late_s) * 1e3:.0f} ms in the middle, {max(late_s) * 1e3:.0f} ms at most")
    if SOAK:  # alone on a machine; one that is busy elsewhere is late with everything
        assert statistics.median(late_s) < KILLED_WITHIN_S
    assert name in FILLS | MAY_FILL or min(late_s) >= 0


@pytest.mark.parametrize("name", [marked(name) for name in ESCAPES])
def test_jobs_of_earlier_steps_outlive_it(make_session: MakeSession, name: str) -> None:
    lab = make_session(limits=Limits(pids=60))
    lab.run(
        "mkfifo in out /tmp/never; ( while read x <in; do echo $x >out; done ) >/dev/null 2>&1 & sleep 300 >/dev/null & job=$!"
    ).check()
    lab.run(ESCAPES[name], timeout_s=TIMEOUT_S)
    assert lab.out("kill -0 $job && echo alive >in; cat out") == "alive\n"
